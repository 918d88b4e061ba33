//! Device rules as a BPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
//!
//! The kernel calls the program at every `mknod(2)` and every `open(2)` of a device node with a
//! `struct bpf_cgroup_dev_ctx`. The program returns 1 to allow and 0 to deny. For each rule it
//! compares the type, the access and the numbers, and returns if all match. Reference: the kernel's
//! `Documentation/bpf/standardization/instruction-set`.

use super::policy::{EVERYTHING, Policy, Rule};

/// One instruction, as the kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    /// The destination register in the lower four bits, the source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Codes: a class, an operation, and whether the operand is an immediate value.
const LOAD_WORD: u8 = 0x61;
const MOVE32_REGISTER: u8 = 0xbc;
const MOVE32: u8 = 0xb4;
const AND32: u8 = 0x54;
const SHIFT_RIGHT32: u8 = 0x74;
/// Jumps if equal, comparing 32 bits.
const JUMP_EQUAL: u8 = 0x16;
/// Jumps if not equal, comparing 32 bits.
const JUMP_UNEQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

// Registers. The kernel defines those of the verdict and the context.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 1;

// Values of BPF_DEVCG_DEV_*.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

const fn instruction(code: u8, destination: u8, source: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | (source << 4), offset: 0, immediate }
}

const fn load(destination: u8, offset: i16) -> Instruction {
    Instruction { offset, ..instruction(LOAD_WORD, destination, CONTEXT, 0) }
}

/// Compiles the rules.
///
/// The last matching rule decides, so the program checks them from last to first. A rule that
/// denies decides if it covers any part of the access. A rule that allows decides if it covers all
/// that is left of it.
pub(super) fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut program = vec![
        // access_type holds the access in the upper, the type in the lower half.
        load(TYPE, 0),
        instruction(MOVE32_REGISTER, ACCESS, TYPE, 0),
        instruction(SHIFT_RIGHT32, ACCESS, 0, 16),
        instruction(AND32, TYPE, 0, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in policy.rules.iter().rev() {
        program.extend(compile_rule(rule));
    }
    program.extend(verdict(policy.allow));
    program
}

/// Compiles one rule to code that returns if the rule decides, else continues after it.
fn compile_rule(Rule { allow, device, access }: &Rule) -> Vec<Instruction> {
    let kind = if device.block { BLOCK } else { CHARACTER };
    let mut code = vec![instruction(JUMP_UNEQUAL, TYPE, 0, kind)];
    for (register, number) in [(MAJOR, device.major), (MINOR, device.minor)] {
        if let Some(number) = number {
            code.push(instruction(JUMP_UNEQUAL, register, 0, number.cast_signed()));
        }
    }
    match (*access, allow) {
        (EVERYTHING, _) => {}
        (access, true) => {
            code.push(instruction(AND32, ACCESS, 0, i32::from(EVERYTHING & !access)));
            code.push(instruction(JUMP_UNEQUAL, ACCESS, 0, 0));
        }
        (access, false) => {
            code.push(instruction(MOVE32_REGISTER, SCRATCH, ACCESS, 0));
            code.push(instruction(AND32, SCRATCH, 0, i32::from(access)));
            code.push(instruction(JUMP_EQUAL, SCRATCH, 0, 0));
        }
    }
    code.extend(verdict(*allow));
    let length = i16::try_from(code.len()).expect("a rule has at most eight instructions");
    for (index, instruction) in (1..).zip(&mut code) {
        if matches!(instruction.code, JUMP_EQUAL | JUMP_UNEQUAL) {
            instruction.offset = length - index;
        }
    }
    code
}

/// Returns code that allows or denies the access.
fn verdict(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE32, VERDICT, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::policy::{Device, MKNOD, READ, WRITE};
    use super::*;

    /// Runs a program as the kernel would, for the instructions that the compiler uses.
    fn run(program: &[Instruction], access: u8, kind: i32, major: u32, minor: u32) -> u32 {
        let context = [(u32::from(access) << 16) | kind.cast_unsigned(), major, minor];
        let mut registers = [0_u32; 11];
        let mut at = 0;
        loop {
            let instruction = program[at];
            let destination = usize::from(instruction.registers & 15);
            let source = usize::from(instruction.registers >> 4);
            let immediate = instruction.immediate.cast_unsigned();
            let mut jump = false;
            match instruction.code {
                LOAD_WORD => {
                    assert_eq!(source, usize::from(CONTEXT));
                    let offset = usize::try_from(instruction.offset).unwrap();
                    registers[destination] = context[offset / 4];
                }
                MOVE32_REGISTER => registers[destination] = registers[source],
                MOVE32 => registers[destination] = immediate,
                AND32 => registers[destination] &= immediate,
                SHIFT_RIGHT32 => registers[destination] >>= immediate,
                JUMP_EQUAL => jump = registers[destination] == immediate,
                JUMP_UNEQUAL => jump = registers[destination] != immediate,
                EXIT => return registers[0],
                code => panic!("unknown code {code:#x}"),
            }
            at += 1;
            if jump {
                at += usize::try_from(instruction.offset).unwrap();
            }
        }
    }

    /// Evaluates the rules without a program.
    fn expected(policy: &Policy, access: u8, kind: i32, major: u32, minor: u32) -> bool {
        let about = |rule: &&Rule| {
            rule.device.block == (kind == BLOCK)
                && rule.device.major.is_none_or(|wanted| wanted == major)
                && rule.device.minor.is_none_or(|wanted| wanted == minor)
        };
        [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
            let mut deciding = policy.rules.iter().filter(about).filter(|r| r.access & bit != 0);
            deciding.next_back().map_or(policy.allow, |rule| rule.allow)
        })
    }

    fn assert_agrees(policy: &Policy) {
        let program = compile(policy);
        for access in 1..8 {
            for (major, minor) in
                [(1, 3), (1, 5), (5, 7), (6, 9), (8, 0), (0, 0), (u32::MAX, u32::MAX)]
            {
                for kind in [BLOCK, CHARACTER] {
                    assert_eq!(
                        run(&program, access, kind, major, minor) == 1,
                        expected(policy, access, kind, major, minor),
                        "{policy:?} {access} {kind} {major}:{minor}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_program_decides_as_its_rules() {
        let character = |major, minor| Device { block: false, major, minor };
        let rules = [
            (character(Some(1), Some(3)), EVERYTHING),
            (character(Some(1), Some(5)), READ),
            (character(Some(5), None), READ | WRITE),
            (character(None, Some(9)), WRITE),
            (character(Some(u32::MAX), Some(u32::MAX)), READ),
            (character(None, None), MKNOD),
            (Device { block: true, major: Some(8), minor: None }, READ | MKNOD),
        ];
        for count in 0..=rules.len() {
            for allow in [false, true] {
                let rules = rules[..count].iter();
                let rules =
                    rules.map(|&(device, access)| Rule { allow: !allow, device, access }).collect();
                assert_agrees(&Policy { allow, rules });
            }
        }
    }

    proptest! {
        #[test]
        fn later_rules_override_earlier_ones(
            allow: bool,
            rules in prop::collection::vec(
                (any::<bool>(), any::<bool>(), 0..4usize, 0..4usize, 1..8u8),
                0..12,
            ),
        ) {
            let number = |index: usize| [None, Some(1), Some(3), Some(5)][index];
            let rules = rules.into_iter().map(|(allow, block, major, minor, access)| {
                let device = Device { block, major: number(major), minor: number(minor) };
                Rule { allow, device, access }
            });
            assert_agrees(&Policy { allow, rules: rules.collect() });
        }
    }

    #[test]
    fn instructions_have_the_kernels_layout() {
        assert_eq!(size_of::<Instruction>(), 8);
        let policy = Policy { allow: true, rules: Vec::new() };
        assert_eq!(compile(&policy).len(), 8);
    }

    #[test]
    fn a_rule_about_all_access_does_not_compare_it() {
        let device = Device { block: true, major: None, minor: None };
        let length = |allow, access| compile_rule(&Rule { allow, device, access }).len();
        assert_eq!((length(true, EVERYTHING), length(false, EVERYTHING)), (3, 3));
        assert_eq!((length(true, READ), length(false, READ)), (5, 6));
    }
}
