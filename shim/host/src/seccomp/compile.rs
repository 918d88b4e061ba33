//! Compiling a profile to a filter for the kernel.
//!
//! The filter checks the architecture, then finds the number of the system call in a balanced tree
//! of ranges, and compares arguments last. A linear list, as libseccomp makes it by default,
//! executes hundreds of instructions for a call near its end, and has three times as many to load.
//! A call whose rules have no conditions is decided by number and architecture alone, so that
//! the kernel (since Linux 5.11) caches the calls that are always allowed and skips the filter for
//! them.

use std::collections::HashMap;

use pidone_config::seccomp::{ARM_PRIVATE, Arch, X32_SYSCALL_BIT};
use pidone_config::seccomp::{Action, Condition, Operator, Profile, Rule, Syscall, flag};
use pidone_config::{Code, Error, Result};

use super::argument;
use super::bpf::{Assembler, Compare, Instruction, MAX_INSTRUCTIONS, Target};
use super::ranges::Ranges;
use super::syscalls::Entry;

/// The offset of the number in `struct seccomp_data`.
const NUMBER: u32 = 0;
/// The offset of the architecture in `struct seccomp_data`.
const ARCH: u32 = 4;
/// The number (-1) with which a tracer skips a call. It belongs to no ABI.
const SKIPPED: u32 = u32::MAX;

/// A compiled profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    instructions: Vec<Instruction>,
    flags: u32,
    unknown: Vec<String>,
}

impl Filter {
    /// Returns the program.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Returns the program as an array of `struct sock_filter`, in the byte order of a
    /// little-endian machine, for `seccomp(2)`.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.instructions.iter().flat_map(|instruction| instruction.to_le_bytes()).collect()
    }

    /// Returns the flags for `seccomp(2)`: `SECCOMP_FILTER_FLAG_*`.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether loading the filter returns a listener, whose notifications must be handled.
    #[must_use]
    pub fn needs_listener(&self) -> bool {
        self.flags & flag::NEW_LISTENER != 0
    }

    /// Returns the names that the compiler does not know on any architecture. Their rules have no
    /// effect, since a profile may be newer than this program, and a call that is refused by
    /// default stays refused.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

/// Compiles a profile.
///
/// If the default action refuses, a call with a higher number than all calls of the profile returns
/// `ENOSYS`. The profile is older than such a call, and with `EPERM` programs would not fall back
/// to an older call.
///
/// # Errors
/// `Code::ConfigInvalid` for an argument above 5, a number that an architecture cannot have, or
/// more rules than the kernel accepts.
///
/// ```
/// use pidone_host::seccomp::{Action, Arch, Profile, Rule, SeccompData, Syscall};
/// use pidone_host::seccomp::{compile, evaluate, syscall_number};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut profile = Profile::new(Action::Allow);
/// profile.rules.push(Rule {
///     syscalls: vec![Syscall::Name("mount".into())],
///     action: Action::Errno(1),
///     conditions: Vec::new(),
/// });
/// let filter = compile(&profile)?;
///
/// let nr = syscall_number("mount", Arch::NATIVE).ok_or("unknown")?;
/// let data = SeccompData { nr, arch: Arch::NATIVE.audit(), ..SeccompData::default() };
/// assert_eq!(evaluate(&filter.bytes(), &data)?, Action::Errno(1).bits());
/// # Ok(())
/// # }
/// ```
pub fn compile(profile: &Profile) -> Result<Filter> {
    let mut unknown = Vec::new();
    let calls = resolve(profile, &mut unknown)?;
    let mut compiler = Compiler {
        asm: Assembler::default(),
        default: Target::Return(profile.default.bits()),
        made: HashMap::new(),
    };
    let lists = |arch: &Arch| profile.architectures.contains(arch);
    let mut audits = Vec::new();
    for arch in &profile.architectures {
        if !audits.contains(&arch.audit()) {
            audits.push(arch.audit());
        }
    }
    let foreign = Target::Return(Action::KillThread.bits());
    let mut entry = foreign;
    // The program is built from its end, and checks the first architecture of the profile first.
    for audit in audits.into_iter().rev() {
        let mut ranges = Ranges::new(foreign);
        for arch in Arch::ALL.into_iter().filter(|arch| arch.audit() == audit).filter(lists) {
            compiler.numbers(profile, arch, &calls, &mut ranges)?;
        }
        if audit == Arch::X32.audit() && !lists(&Arch::X32) {
            ranges.from(X32_SYSCALL_BIT, foreign);
            ranges.from(SKIPPED, compiler.default);
        }
        let numbers = ranges.search(&mut compiler.asm, NUMBER);
        entry = compiler.asm.branch(Compare::Equal, audit, numbers, entry);
    }
    entry = compiler.asm.load(ARCH, entry);
    let instructions = compiler.asm.finish(entry)?;
    Ok(Filter { instructions, flags: flags(profile), unknown })
}

fn flags(profile: &Profile) -> u32 {
    let actions = profile.rules.iter().map(|rule| rule.action);
    let notifies = actions.chain([profile.default]).any(|action| action == Action::Notify);
    let mut flags = profile.flags & !(flag::NEW_LISTENER | flag::TSYNC_ESRCH);
    if !notifies {
        // The kernel refuses this flag without a listener.
        flags &= !flag::WAIT_KILLABLE_RECV;
    } else if flags & flag::TSYNC != 0 {
        flags |= flag::NEW_LISTENER | flag::TSYNC_ESRCH;
    } else {
        flags |= flag::NEW_LISTENER;
    }
    flags
}

/// A system call of a rule.
struct Call<'a> {
    rule: &'a Rule,
    syscall: Known,
}

enum Known {
    Name(Entry),
    Number(u32),
}

/// Returns the rules in order of precedence, with one item for each system call.
fn resolve<'a>(profile: &'a Profile, unknown: &mut Vec<String>) -> Result<Vec<Call<'a>>> {
    let (conditional, plain): (Vec<&Rule>, Vec<&Rule>) =
        profile.rules.iter().partition(|rule| !rule.conditions.is_empty());
    let mut calls = Vec::new();
    for rule in plain.into_iter().chain(conditional) {
        if let Some(condition) = rule.conditions.iter().find(|condition| condition.index > 5) {
            let name = format!("argument {}", condition.index);
            let reason = "a system call has the arguments 0 to 5";
            return Err(Error::reason(Code::ConfigInvalid, "compile", name, reason));
        }
        for syscall in &rule.syscalls {
            let syscall = match syscall {
                Syscall::Number(number) => Known::Number(*number),
                Syscall::Name(name) => match Entry::find(name) {
                    Some(entry) => Known::Name(entry),
                    None => {
                        unknown.push(name.clone());
                        continue;
                    }
                },
            };
            calls.push(Call { rule, syscall });
        }
    }
    Ok(calls)
}

/// Whether a default action refuses a call rather than allows it. `Action::Trace` does not: a
/// tracer is expected to handle calls that it does not know.
fn refuses(default: Action) -> bool {
    !matches!(default, Action::Allow | Action::Log | Action::Trace(_))
}

/// The part of a rule that applies to one system call on one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Choice<'a> {
    conditions: &'a [Condition],
    action: Action,
}

impl Choice<'_> {
    /// Returns the argument, if the only condition is one without a mask.
    fn single(&self) -> Option<u8> {
        match self.conditions {
            [condition] if condition.operator != Operator::MaskedEqual => Some(condition.index),
            _ => None,
        }
    }
}

/// Returns the choices for one architecture, sorted by number and then by precedence.
fn choices<'a>(
    profile: &Profile,
    arch: Arch,
    calls: &[Call<'a>],
) -> Result<Vec<(u32, Choice<'a>)>> {
    let mut choices = Vec::with_capacity(calls.len());
    for Call { rule, syscall } in calls {
        let (number, multiplexed) = match syscall {
            Known::Name(entry) => (entry.number(arch), entry.multiplexed(arch)),
            Known::Number(number) if arch.has(*number) => (Some(*number), None),
            Known::Number(number) => {
                let name = format!("{number} on {arch:?}");
                let reason = "no system call of this architecture has this number";
                return Err(Error::reason(Code::ConfigInvalid, "compile", name, reason));
            }
        };
        if let Some(number) = number {
            choices.push((number, Choice { conditions: &rule.conditions, action: rule.action }));
        }
        if let Some((number, conditions)) = multiplexed {
            // The arguments of the call are in memory, which a filter cannot read, so conditions on
            // them cannot be checked. A rule that is at least as strict as the default therefore
            // always applies, and any other never. libseccomp drops the conditions in both cases,
            // and so allows calls that they exclude (CVE-2026-31431).
            let stricter = rule.action.precedence() <= profile.default.precedence();
            let holds = rule.conditions.is_empty() || stricter;
            let action = if holds { rule.action } else { profile.default };
            choices.push((number, Choice { conditions, action }));
        }
    }
    // The sort is stable, so rules of equal precedence keep their order.
    choices.sort_by_key(|(number, choice)| {
        (*number, choice.action == profile.default, !choice.conditions.is_empty())
    });
    Ok(choices)
}

struct Compiler<'a> {
    asm: Assembler,
    default: Target,
    /// The entries of code that was emitted, by whether arguments are wide and by its choices.
    made: HashMap<(bool, Vec<Choice<'a>>), Target>,
}

impl<'a> Compiler<'a> {
    /// Adds the ranges for the numbers of one architecture.
    fn numbers(
        &mut self,
        profile: &Profile,
        arch: Arch,
        calls: &[Call<'a>],
        ranges: &mut Ranges,
    ) -> Result<()> {
        let choices = choices(profile, arch, calls)?;
        let private = if arch == Arch::Arm { ARM_PRIVATE } else { u32::MAX };
        let (ordinary, above) =
            choices.split_at(choices.partition_point(|choice| choice.0 < private));

        ranges.from(if arch == Arch::X32 { X32_SYSCALL_BIT } else { 0 }, self.default);
        self.add(arch, ordinary, ranges)?;
        if let Some((newest, _)) = ordinary.last()
            && refuses(profile.default)
        {
            let enosys = Action::Errno(u16::try_from(libc::ENOSYS).expect("errnos are small"));
            ranges.from(newest + 1, Target::Return(enosys.bits()));
        }
        if arch == Arch::Arm {
            ranges.from(private, self.default);
        }
        self.add(arch, above, ranges)
    }

    fn add(
        &mut self,
        arch: Arch,
        choices: &[(u32, Choice<'a>)],
        ranges: &mut Ranges,
    ) -> Result<()> {
        for group in choices.chunk_by(|a, b| a.0 == b.0) {
            let (number, first) = group[0];
            let target = if first.conditions.is_empty() {
                Target::Return(first.action.bits())
            } else if group.len() > MAX_INSTRUCTIONS {
                // Each would need an instruction, and compiling them takes quadratic time.
                let name = format!("system call {number} on {arch:?}");
                let reason = format!("more than {MAX_INSTRUCTIONS} rules");
                return Err(Error::reason(Code::ConfigInvalid, "compile", name, reason));
            } else {
                self.first(arch.wide(), group.iter().map(|(_, choice)| *choice).collect())
            };
            ranges.at(number, target, self.default);
        }
        Ok(())
    }

    /// Emits code that takes the action of the first choice whose conditions hold, else the
    /// default, and returns its entry.
    fn first(&mut self, wide: bool, choices: Vec<Choice<'a>>) -> Target {
        let key = (wide, choices);
        if let Some(target) = self.made.get(&key) {
            return *target;
        }
        let mut next = self.default;
        let mut rest = &key.1[..];
        while let Some((last, before)) = rest.split_last() {
            let single = last.single();
            if single.is_some() {
                // Adjacent choices with one condition on the same argument become one search.
                let same = |choice: &&Choice<'_>| choice.single() == single;
                let run = rest.iter().rev().take_while(same).count();
                let (before, run) = rest.split_at(rest.len() - run);
                let run: Vec<(Condition, Target)> = run
                    .iter()
                    .map(|choice| (choice.conditions[0], Target::Return(choice.action.bits())))
                    .collect();
                next = argument::first(&mut self.asm, wide, &run, next);
                rest = before;
            } else {
                let action = Target::Return(last.action.bits());
                next = last.conditions.iter().rev().fold(action, |yes, condition| {
                    argument::test(&mut self.asm, wide, condition, yes, next)
                });
                rest = before;
            }
        }
        self.made.insert(key, next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::evaluate::{SeccompData, evaluate};
    use pidone_config::seccomp::Operator;

    const AMD64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const KILL: u32 = 0;
    const TRAP: u32 = 0x0003_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;

    fn rule(names: &[&str], action: Action, conditions: &[Condition]) -> Rule {
        let syscalls = names.iter().map(|name| Syscall::Name((*name).into())).collect();
        Rule { syscalls, action, conditions: conditions.to_vec() }
    }

    fn when(index: u8, operator: Operator, value: u64) -> Condition {
        Condition { index, operator, value, value_two: 0 }
    }

    fn profile(architectures: &[Arch], default: Action, rules: Vec<Rule>) -> Profile {
        Profile { architectures: architectures.to_vec(), default, rules, flags: 0 }
    }

    fn run(filter: &Filter, arch: u32, nr: u32, first: u64) -> u32 {
        let data = SeccompData { nr, arch, ip: 0, args: [first, 0, 0, 0, 0, 0] };
        evaluate(&filter.bytes(), &data).unwrap()
    }

    #[test]
    fn calls_of_an_unlisted_architecture_kill() {
        let filter = compile(&profile(&[Arch::X86_64], Action::Allow, Vec::new())).unwrap();
        assert_eq!(run(&filter, AMD64, 5, 0), ALLOW);
        assert_eq!(run(&filter, AMD64, X32_SYSCALL_BIT | 5, 0), KILL);
        assert_eq!(run(&filter, I386, 5, 0), KILL);
        // A tracer sets this number to skip a call.
        assert_eq!(run(&filter, AMD64, u32::MAX, 0), ALLOW);
        let nothing = compile(&profile(&[], Action::Allow, Vec::new())).unwrap();
        assert_eq!(run(&nothing, AMD64, 5, 0), KILL);
    }

    #[test]
    fn every_architecture_uses_its_own_numbers() {
        let rules = vec![rule(&["execve"], Action::Allow, &[])];
        let list = [Arch::X86_64, Arch::X86, Arch::X32];
        let filter = compile(&profile(&list, Action::Errno(1), rules)).unwrap();
        for (arch, number) in [(AMD64, 59), (I386, 11), (AMD64, X32_SYSCALL_BIT | 520)] {
            assert_eq!(run(&filter, arch, number, 0), ALLOW);
            assert_eq!(run(&filter, arch, number - 1, 0), EPERM);
        }
    }

    #[test]
    fn calls_newer_than_the_profile_return_enosys_if_the_default_refuses() {
        for default in [Action::Errno(1), Action::KillProcess, Action::KillThread, Action::Trap] {
            let rules = vec![rule(&["futex_waitv"], Action::Allow, &[])];
            let filter = compile(&profile(&[Arch::X86_64], default, rules)).unwrap();
            assert_eq!(run(&filter, AMD64, 448, 0), default.bits());
            assert_eq!(run(&filter, AMD64, 449, 0), ALLOW);
            assert_eq!(run(&filter, AMD64, 450, 0), ENOSYS);
            assert_eq!(run(&filter, AMD64, 0x3fff_ffff, 0), ENOSYS);
        }
        for default in [Action::Allow, Action::Log, Action::Trace(3)] {
            let rules = vec![rule(&["futex_waitv"], Action::Errno(1), &[])];
            let filter = compile(&profile(&[Arch::X86_64], default, rules)).unwrap();
            assert_eq!(run(&filter, AMD64, 450, 0), default.bits());
        }
    }

    #[test]
    fn private_calls_of_arm_do_not_count_as_the_newest() {
        let rules = vec![rule(&["mseal", "set_tls"], Action::Allow, &[])];
        let filter = compile(&profile(&[Arch::Arm], Action::Errno(1), rules)).unwrap();
        let arm = Arch::Arm.audit();
        assert_eq!(run(&filter, arm, 463, 0), ENOSYS);
        assert_eq!(run(&filter, arm, 0xf_0004, 0), EPERM);
        assert_eq!(run(&filter, arm, 0xf_0005, 0), ALLOW);
    }

    #[test]
    fn rules_without_conditions_precede_and_those_with_the_default_action_are_ignored() {
        let zero = when(0, Operator::Equal, 0);
        let rules = vec![
            rule(&["read", "write"], Action::Trap, &[zero]),
            rule(&["write"], Action::Allow, &[]),
            rule(&["read"], Action::Errno(1), &[]),
            rule(&["write"], Action::KillProcess, &[]),
        ];
        let filter = compile(&profile(&[Arch::X86_64], Action::Errno(1), rules)).unwrap();
        assert_eq!(run(&filter, AMD64, 0, 0), TRAP);
        assert_eq!(run(&filter, AMD64, 0, 1), EPERM);
        assert_eq!(run(&filter, AMD64, 1, 0), ALLOW);
    }

    #[test]
    fn conditions_compare_64_bits_on_64_bit_architectures() {
        let rules = vec![rule(&["read"], Action::Trap, &[when(0, Operator::Greater, 5)])];
        let list = [Arch::X86_64, Arch::X86];
        let filter = compile(&profile(&list, Action::Allow, rules)).unwrap();
        assert_eq!(run(&filter, AMD64, 0, 5), ALLOW);
        assert_eq!(run(&filter, AMD64, 0, 6), TRAP);
        assert_eq!(run(&filter, AMD64, 0, 1 << 32), TRAP);
        assert_eq!(run(&filter, I386, 3, 1 << 32), ALLOW);
    }

    #[test]
    fn many_values_of_one_argument_are_one_search() {
        let values = (0..200).map(|value| 3 * value);
        let rules: Vec<Rule> = values
            .map(|value| rule(&["ioctl"], Action::Allow, &[when(1, Operator::Equal, value)]))
            .collect();
        let filter = compile(&profile(&[Arch::X86_64], Action::Errno(1), rules)).unwrap();
        assert!(filter.instructions().len() < 420, "{}", filter.instructions().len());
    }

    #[test]
    fn socketcall_does_not_bypass_a_refused_socket() {
        let alg = when(0, Operator::NotEqual, 38);
        let allowing = vec![rule(&["socket"], Action::Allow, &[alg])];
        let filter = compile(&profile(&[Arch::X86], Action::Errno(1), allowing)).unwrap();
        assert_eq!(run(&filter, I386, 359, 2), ALLOW);
        assert_eq!(run(&filter, I386, 102, 1), EPERM);

        let alg = when(0, Operator::Equal, 38);
        let refusing = vec![rule(&["socket"], Action::Trap, &[alg])];
        let filter = compile(&profile(&[Arch::X86], Action::Allow, refusing)).unwrap();
        assert_eq!(run(&filter, I386, 359, 2), ALLOW);
        assert_eq!(run(&filter, I386, 102, 1), TRAP);
        assert_eq!(run(&filter, I386, 102, 2), ALLOW);

        let plain = vec![rule(&["socket"], Action::Allow, &[])];
        let filter = compile(&profile(&[Arch::X86], Action::Errno(1), plain)).unwrap();
        assert_eq!(run(&filter, I386, 102, 1), ALLOW);
        assert_eq!(run(&filter, I386, 102, 2), EPERM);
    }

    #[test]
    fn unknown_names_are_skipped_and_returned() {
        let rules = vec![rule(&["read", "brew_tea", "riscv_hwprobe"], Action::Allow, &[])];
        let filter = compile(&profile(&[Arch::X86_64], Action::Errno(1), rules)).unwrap();
        assert_eq!(filter.unknown(), ["brew_tea"]);
        assert_eq!(run(&filter, AMD64, 0, 0), ALLOW);
    }

    #[test]
    fn impossible_arguments_numbers_and_sizes_are_errors() {
        let rules = vec![rule(&["read"], Action::Trap, &[when(6, Operator::Equal, 0)])];
        let error = compile(&profile(&[Arch::X86_64], Action::Allow, rules)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "compile `argument 6`: a system call has the arguments 0 to 5"
        );
        let syscalls = vec![Syscall::Number(X32_SYSCALL_BIT)];
        let rules = vec![Rule { syscalls, action: Action::Trap, conditions: Vec::new() }];
        let error = compile(&profile(&[Arch::X86_64], Action::Allow, rules)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "compile `1073741824 on X86_64`: no system call of this architecture has this number"
        );
        let rules = (0..6_u8)
            .flat_map(|index| (0..400).map(move |value| (index, value)))
            .map(|(index, value)| {
                let masked =
                    Condition { value_two: value, ..when(index, Operator::MaskedEqual, 7) };
                rule(&["read"], Action::Trap, &[masked, when(5 - index, Operator::Less, value)])
            })
            .collect();
        let error = compile(&profile(&[Arch::X86_64], Action::Allow, rules)).unwrap_err();
        assert!(error.to_string().ends_with("the kernel takes 4096"), "{error}");
        let rules = vec![rule(&["read"], Action::Trap, &[when(0, Operator::Less, 1)]); 4097];
        let error = compile(&profile(&[Arch::X86_64], Action::Allow, rules)).unwrap_err();
        assert_eq!(error.to_string(), "compile `system call 0 on X86_64`: more than 4096 rules");
    }

    #[test]
    fn a_listener_adds_the_flags_that_the_kernel_requires() {
        let mut asked = profile(&[Arch::X86_64], Action::Allow, Vec::new());
        asked.flags = flag::TSYNC | flag::LOG | flag::WAIT_KILLABLE_RECV;
        let filter = compile(&asked).unwrap();
        assert!(!filter.needs_listener());
        assert_eq!(filter.flags(), flag::TSYNC | flag::LOG);

        asked.rules.push(rule(&["mount"], Action::Notify, &[]));
        let filter = compile(&asked).unwrap();
        assert!(filter.needs_listener());
        let listener = flag::NEW_LISTENER | flag::TSYNC_ESRCH;
        assert_eq!(filter.flags(), asked.flags | listener);
        asked.flags = 0;
        assert_eq!(compile(&asked).unwrap().flags(), flag::NEW_LISTENER);
    }
}
