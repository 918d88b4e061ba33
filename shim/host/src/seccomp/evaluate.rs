//! An interpreter of seccomp's classic BPF: what a filter makes of a call.
//!
//! It knows nothing of the compiler and takes the program as bytes, so that it can judge the
//! filters of other makers too.

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Data {
    /// The number of the system call.
    pub nr: u32,
    /// The architecture, as `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The address of the instruction.
    pub ip: u64,
    /// The arguments.
    pub args: [u64; 6],
}

impl Data {
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

/// Returns what a program returns for a system call.
///
/// # Errors
/// The kernel's checker refuses the program.
pub fn evaluate(program: &[u8], data: &Data) -> Result<u32, String> {
    run(program, |offset| data.word(offset))
}

/// Runs a program on what `load` knows of a call, by offset in `struct seccomp_data`.
pub(crate) fn run(program: &[u8], load: impl Fn(u32) -> Option<u32>) -> Result<u32, String> {
    let mut accumulator = 0;
    let mut at = 0_usize;
    loop {
        let Some(&[c0, c1, jt, jf, k0, k1, k2, k3]) =
            program.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.first_chunk::<8>())
        else {
            return Err(format!("instruction {at} is outside of the program"));
        };
        let k = u32::from_le_bytes([k0, k1, k2, k3]);
        let condition = match u16::from_le_bytes([c0, c1]) {
            0x20 => {
                accumulator = load(k).ok_or_else(|| format!("load of offset {k} at {at}"))?;
                None
            }
            0x54 => {
                accumulator &= k;
                None
            }
            0x05 => {
                at += usize::try_from(k).map_err(|e| e.to_string())?;
                None
            }
            0x06 => return Ok(k),
            0x15 => Some(accumulator == k),
            0x25 => Some(accumulator > k),
            0x35 => Some(accumulator >= k),
            0x45 => Some(accumulator & k != 0),
            code => return Err(format!("code {code:#x} at {at}")),
        };
        at += 1 + match condition {
            Some(true) => usize::from(jt),
            Some(false) => usize::from(jf),
            None => 0,
        };
    }
}
