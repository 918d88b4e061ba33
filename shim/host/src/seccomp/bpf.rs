//! The instructions of classic BPF, and an assembler.
//!
//! Jumps in classic BPF only go forward, and a conditional jump skips at most 255 instructions. So
//! the assembler works from the end of the program to its start: every target exists before a jump
//! to it, and a target out of reach gets a stepping stone, a return or an unconditional jump, right
//! after the conditional jump. References: `bpf(4)` of the BSDs, the kernel's
//! `Documentation/networking/filter.rst`, and `seccomp(2)` for the subset that is accepted.

use std::collections::BTreeMap;

use pidone_config::{Code, Error, Result};

/// The most instructions that the kernel accepts: `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `BPF_LD | BPF_W | BPF_ABS`: loads 32 bits of `struct seccomp_data` into the accumulator.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// The largest distance of a conditional jump.
const REACH: u32 = 255;

/// One instruction: the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How many instructions are skipped if a condition holds.
    pub jt: u8,
    /// How many instructions are skipped if the condition does not hold.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

impl Instruction {
    /// Returns the instruction as in the memory of a little-endian machine.
    #[must_use]
    pub fn to_le_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_le_bytes();
        let [k0, k1, k2, k3] = self.k.to_le_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }
}

/// The unsigned comparison of a conditional jump, of the accumulator with the operand.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(super) enum Compare {
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    Equal = 0x15,
    /// `BPF_JMP | BPF_JGE | BPF_K`.
    GreaterOrEqual = 0x35,
}

/// Where the program continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The program returns this value.
    Return(u32),
    /// The program continues at an instruction, numbered from the end of the program.
    At(u32),
}

/// A program that is built from its end to its start.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The instructions in reverse order.
    reversed: Vec<Instruction>,
    /// The return instruction of each value that is nearest to the start.
    returns: BTreeMap<u32, u32>,
}

impl Assembler {
    /// Emits an instruction that loads the 32 bits at `offset` and continues at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Target) -> Target {
        self.adjoin(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Emits an instruction that masks the accumulator and continues at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Target) -> Target {
        self.adjoin(next);
        self.push(AND, 0, 0, mask)
    }

    /// Emits a conditional jump, unless both targets are the same.
    pub(super) fn branch(&mut self, compare: Compare, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // A stepping stone for `no` increases the distance to `yes` by one.
        let yes = self.within(REACH - 1, yes);
        let no = self.within(REACH, no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        let byte = |distance| u8::try_from(distance).expect("stepping stones keep it within reach");
        self.push(compare as u16, byte(jt), byte(jf), k)
    }

    /// Returns the program that starts at `entry`.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` for more than [`MAX_INSTRUCTIONS`].
    pub(super) fn finish(mut self, entry: Target) -> Result<Vec<Instruction>> {
        self.adjoin(entry);
        let count = self.reversed.len();
        if count > MAX_INSTRUCTIONS {
            let reason = format!("{count} instructions, the kernel takes {MAX_INSTRUCTIONS}");
            return Err(Error::reason(Code::ConfigInvalid, "compile", "seccomp", reason));
        }
        self.reversed.reverse();
        Ok(self.reversed)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Target {
        let place = self.place();
        if code == RETURN {
            self.returns.insert(k, place);
        }
        self.reversed.push(Instruction { code, jt, jf, k });
        Target::At(place)
    }

    /// Returns the number of the next instruction.
    fn place(&self) -> u32 {
        u32::try_from(self.reversed.len()).expect("fewer than 2^32 instructions")
    }

    /// Returns how many instructions the next one must skip to reach `place`.
    fn distance(&self, place: u32) -> u32 {
        self.place() - place - 1
    }

    /// Returns an instruction at most `reach` away from the next one that is `target` or a stepping
    /// stone to it, which is emitted if necessary.
    fn within(&mut self, reach: u32, target: Target) -> u32 {
        let (known, stone) = match target {
            Target::Return(value) => (self.returns.get(&value).copied(), (RETURN, value)),
            Target::At(place) => (Some(place), (JUMP, self.distance(place))),
        };
        if let Some(place) = known
            && self.distance(place) <= reach
        {
            return place;
        }
        self.push(stone.0, 0, 0, stone.1);
        self.place() - 1
    }

    /// Ensures that the next instruction continues at `target`.
    fn adjoin(&mut self, target: Target) {
        self.within(0, target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::evaluate::{SeccompData, evaluate};

    fn run(program: &[Instruction], nr: u32) -> u32 {
        let bytes: Vec<u8> = program.iter().flat_map(|i| i.to_le_bytes()).collect();
        evaluate(&bytes, &SeccompData { nr, ..SeccompData::default() }).unwrap()
    }

    #[test]
    fn an_instruction_has_the_kernels_layout() {
        let instruction = Instruction { code: 0x15, jt: 1, jf: 2, k: 0xc000_003e };
        assert_eq!(instruction.to_le_bytes(), [0x15, 0, 1, 2, 0x3e, 0, 0, 0xc0]);
    }

    #[test]
    fn targets_out_of_reach_are_reached_by_stepping_stones() {
        let mut asm = Assembler::default();
        let mut chain = Target::Return(1000);
        for number in (0..600).rev() {
            chain = asm.branch(Compare::Equal, number, Target::Return(number), chain);
        }
        let far = asm.branch(Compare::Equal, 7, Target::Return(7), Target::Return(8));
        // The start of the chain and the end of the program are out of reach now.
        let far = asm.branch(Compare::GreaterOrEqual, 600, Target::At(0), far);
        let entry = asm.branch(Compare::GreaterOrEqual, 5, far, chain);
        let entry = asm.load(0, entry);
        let program = asm.finish(entry).unwrap();
        assert_eq!(run(&program, 3), 3);
        assert_eq!(run(&program, 7), 7);
        assert_eq!(run(&program, 9), 8);
        assert_eq!(run(&program, 600), 599);
        assert_eq!(run(&program, 4), 4);
    }

    #[test]
    fn a_stepping_stone_for_one_target_keeps_the_other_within_reach() {
        for padding in 240..270 {
            let mut asm = Assembler::default();
            let yes = asm.load(4, Target::Return(1));
            (0..padding).fold(yes, |next, _| asm.load(4, next));
            let entry = asm.branch(Compare::Equal, 7, yes, Target::Return(2));
            let entry = asm.load(0, entry);
            let program = asm.finish(entry).unwrap();
            assert_eq!((run(&program, 7), run(&program, 8)), (1, 2));
        }
    }

    #[test]
    fn a_branch_with_equal_targets_needs_no_instruction() {
        let mut asm = Assembler::default();
        let target = asm.branch(Compare::Equal, 1, Target::Return(5), Target::Return(5));
        assert_eq!(asm.finish(target).unwrap().len(), 1);
    }

    #[test]
    fn more_instructions_than_the_kernels_limit_are_an_error() {
        let program = |length| {
            let mut asm = Assembler::default();
            let mut target = Target::Return(0);
            for _ in 1..length {
                target = asm.load(0, target);
            }
            asm.finish(target)
        };
        assert_eq!(program(4096).unwrap().len(), 4096);
        assert_eq!(
            program(4097).unwrap_err().to_string(),
            "compile `seccomp`: 4097 instructions, the kernel takes 4096"
        );
    }
}
