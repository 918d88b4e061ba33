//! An interpreter of seccomp's classic BPF: what a filter returns for a system call.
//!
//! It does not depend on the compiler and takes the program as bytes, so that tests and benches can
//! evaluate the filters of other programs too.

use std::fmt;

/// What a filter sees of a system call: `struct seccomp_data`, `seccomp(2)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeccompData {
    /// The number of the system call.
    pub nr: u32,
    /// The architecture, `AUDIT_ARCH_*`: see [`Arch::audit`](super::Arch::audit).
    pub arch: u32,
    /// The instruction pointer.
    pub ip: u64,
    /// The arguments.
    pub args: [u64; 6],
}

impl SeccompData {
    /// Returns the 32 bits at an offset of the structure, `None` if the kernel refuses to load
    /// them.
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64| {
            let shift = if offset.is_multiple_of(8) { 0 } else { 32 };
            u32::try_from(value >> shift & 0xffff_ffff).ok()
        };
        match offset {
            _ if !offset.is_multiple_of(4) => None,
            0 => Some(self.nr),
            4 => Some(self.arch),
            8 | 12 => half(self.ip),
            _ => half(*self.args.get(usize::try_from(offset / 8 - 2).ok()?)?),
        }
    }
}

/// Why a program cannot be evaluated. Each reason has the index of the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidProgram {
    /// The program ends before this instruction.
    End {
        /// The index of the missing instruction.
        at: usize,
    },
    /// The instruction loads from an offset without a value.
    Load {
        /// The index of the instruction.
        at: usize,
        /// The offset in `struct seccomp_data`.
        offset: u32,
    },
    /// The interpreter does not know the instruction.
    Code {
        /// The index of the instruction.
        at: usize,
        /// The code of the instruction.
        code: u16,
    },
}

impl fmt::Display for InvalidProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End { at } => write!(f, "instruction {at} is outside of the program"),
            Self::Load { at, offset } => write!(f, "load of offset {offset} at {at}"),
            Self::Code { at, code } => write!(f, "code {code:#x} at {at}"),
        }
    }
}

impl std::error::Error for InvalidProgram {}

/// Returns the value that a program returns for a system call: `SECCOMP_RET_*`, `seccomp(2)`.
///
/// `program` is an array of `struct sock_filter` in little-endian order, such as
/// [`Filter::bytes`](super::Filter::bytes). It may have only the instructions that this crate and
/// libseccomp emit: loads, AND, jumps and returns of a constant.
///
/// # Errors
/// An instruction that is unknown or outside of the program, or loads what the kernel refuses.
pub fn evaluate(program: &[u8], data: &SeccompData) -> Result<u32, InvalidProgram> {
    evaluate_with(program, |offset| data.word(offset))
}

/// Evaluates a program with a function that returns the 32 bits at an offset of `struct
/// seccomp_data`, `None` to fail.
pub(super) fn evaluate_with(
    program: &[u8],
    load: impl Fn(u32) -> Option<u32>,
) -> Result<u32, InvalidProgram> {
    let mut accumulator = 0;
    let mut at = 0_usize;
    loop {
        let bytes = at.checked_mul(8).and_then(|start| program.get(start..)?.first_chunk::<8>());
        let Some(&[c0, c1, jt, jf, k0, k1, k2, k3]) = bytes else {
            return Err(InvalidProgram::End { at });
        };
        let k = u32::from_le_bytes([k0, k1, k2, k3]);
        let condition = match u16::from_le_bytes([c0, c1]) {
            0x20 => {
                accumulator = load(k).ok_or(InvalidProgram::Load { at, offset: k })?;
                None
            }
            0x54 => {
                accumulator &= k;
                None
            }
            0x05 => {
                at = at.saturating_add(usize::try_from(k).unwrap_or(usize::MAX));
                None
            }
            0x06 => return Ok(k),
            0x15 => Some(accumulator == k),
            0x25 => Some(accumulator > k),
            0x35 => Some(accumulator >= k),
            0x45 => Some(accumulator & k != 0),
            code => return Err(InvalidProgram::Code { at, code }),
        };
        let skipped = match condition {
            Some(true) => usize::from(jt),
            Some(false) => usize::from(jf),
            None => 0,
        };
        at = at.saturating_add(1 + skipped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> [u8; 8] {
        let ([c0, c1], [k0, k1, k2, k3]) = (code.to_le_bytes(), k.to_le_bytes());
        [c0, c1, jt, jf, k0, k1, k2, k3]
    }

    fn value(program: &[[u8; 8]]) -> Result<u32, InvalidProgram> {
        let args = [1, 2, 3, 4, 5, 0x0000_0006_0000_0007];
        evaluate(program.as_flattened(), &SeccompData { nr: 8, arch: 9, ip: 10, args })
    }

    #[test]
    fn a_load_reads_32_bits_of_the_data() {
        for (offset, word) in [(0, 8), (4, 9), (8, 10), (12, 0), (16, 1), (56, 7), (60, 6)] {
            let program = [
                instruction(0x20, 0, 0, offset),
                instruction(0x15, 0, 1, word),
                instruction(0x06, 0, 0, 1),
                instruction(0x06, 0, 0, 2),
            ];
            assert_eq!(value(&program), Ok(1), "{offset}");
        }
        for offset in [2, 64, u32::MAX] {
            let error = value(&[instruction(0x20, 0, 0, offset)]).unwrap_err();
            assert_eq!(error, InvalidProgram::Load { at: 0, offset });
        }
    }

    #[test]
    fn a_program_that_the_kernel_refuses_is_an_error() {
        assert_eq!(value(&[]).unwrap_err().to_string(), "instruction 0 is outside of the program");
        let far = [instruction(0x05, 0, 0, u32::MAX)];
        assert_eq!(value(&far), Err(InvalidProgram::End { at: 1 << 32 }));
        let unknown = value(&[instruction(0x16, 0, 0, 0)]).unwrap_err();
        assert_eq!(unknown.to_string(), "code 0x16 at 0");
    }
}
