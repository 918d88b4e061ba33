//! What a profile means, said in the plainest way: the reference that needs nothing installed.

use pidone_host::seccomp::{
    Action, Arch, Condition, Operator, Profile, Rule, SeccompData, Syscall,
};

const NONE: u32 = u32::MAX;
const X32: u32 = 0x4000_0000;

/// Some system calls with their numbers on `x86_64`, x86, x32, aarch64 and arm, copied by hand from
/// the kernel's tables; the last two columns are the multiplexer on x86 and its call.
pub(crate) const NAMES: [(&str, [u32; 5], u32, u64); 15] = [
    ("read", [0, 3, X32, 63, 3], NONE, 0),
    ("open", [2, 5, X32 + 2, NONE, 5], NONE, 0),
    ("chown32", [NONE, 212, NONE, NONE, 212], NONE, 0),
    ("personality", [135, 136, X32 + 135, 92, 136], NONE, 0),
    ("clone", [56, 120, X32 + 56, 220, 120], NONE, 0),
    ("execve", [59, 11, X32 + 520, 221, 11], NONE, 0),
    ("getppid", [110, 64, X32 + 110, 173, 64], NONE, 0),
    ("socketcall", [NONE, 102, NONE, NONE, NONE], NONE, 0),
    ("socket", [41, 359, X32 + 41, 198, 281], 102, 1),
    ("sendmsg", [46, 370, X32 + 518, 211, 296], 102, 16),
    ("semtimedop", [220, NONE, X32 + 220, 192, 312], 117, 4),
    ("shmget", [29, 395, X32 + 29, 194, 307], 117, 23),
    ("futex_waitv", [449, 449, X32 + 449, 449, 449], NONE, 0),
    ("mseal", [462, 462, X32 + 462, 462, 462], NONE, 0),
    ("set_tls", [NONE, NONE, NONE, NONE, 0xf_0005], NONE, 0),
];

/// The ABI of a call.
fn arch(profile: &Profile, data: &SeccompData) -> Option<Arch> {
    let x32 = profile.architectures.contains(&Arch::X32);
    let arch = match data.arch {
        0xc000_003e if data.nr < X32 || (data.nr == u32::MAX && !x32) => Arch::X86_64,
        0xc000_003e => Arch::X32,
        0x4000_0003 => Arch::X86,
        0xc000_00b7 => Arch::Aarch64,
        0x4000_0028 => Arch::Arm,
        _ => return None,
    };
    profile.architectures.contains(&arch).then_some(arch)
}

/// How many rules with conditions there are for a call.
pub(crate) fn choices(profile: &Profile, data: &SeccompData) -> usize {
    let Some(arch) = arch(profile, data) else { return 0 };
    let named = |rule: &&Rule| {
        let mut calls = rule.syscalls.iter();
        !rule.conditions.is_empty() && calls.any(|call| numbers(call, arch).contains(&data.nr))
    };
    profile.rules.iter().filter(named).count()
}

/// What the filter of a profile must return.
pub(crate) fn verdict(profile: &Profile, data: &SeccompData) -> u32 {
    let Some(arch) = arch(profile, data) else {
        return Action::KillThread.bits();
    };
    let rules = || profile.rules.iter();
    let plain = || rules().filter(|rule| rule.conditions.is_empty());
    // On the multiplexer a rule for all of its calls comes before those for one of them.
    let direct = plain().filter(|rule| matches(profile, rule, arch, data, false));
    let matching = plain().chain(rules()).filter(|rule| matches(profile, rule, arch, data, true));
    if let Some(rule) = direct.chain(matching).find(|rule| rule.action != profile.default) {
        return rule.action.bits();
    }
    let named = rules().flat_map(|rule| &rule.syscalls);
    let numbers = named.flat_map(|call| numbers(call, arch));
    let newest = numbers.filter(|number| arch != Arch::Arm || *number < 0xf_0000).max();
    let refuses = !matches!(profile.default, Action::Allow | Action::Log | Action::Trace(_));
    let private = arch == Arch::Arm && data.nr >= 0xf_0000;
    let skipped = arch == Arch::X86_64 && data.nr == u32::MAX;
    if refuses && !private && !skipped && newest.is_some_and(|newest| data.nr > newest) {
        return Action::Errno(38).bits();
    }
    profile.default.bits()
}

/// The numbers by which a call can be made.
fn numbers(call: &Syscall, arch: Arch) -> Vec<u32> {
    let column = Arch::ALL.iter().position(|known| *known == arch).unwrap();
    match call {
        Syscall::Number(number) => vec![*number],
        Syscall::Name(name) => {
            let row = NAMES.iter().find(|row| row.0 == name).unwrap();
            let multiplexer = if arch == Arch::X86 { row.2 } else { NONE };
            [row.1[column], multiplexer].into_iter().filter(|number| *number != NONE).collect()
        }
    }
}

fn matches(
    profile: &Profile,
    rule: &Rule,
    arch: Arch,
    data: &SeccompData,
    multiplexed: bool,
) -> bool {
    rule.syscalls.iter().any(|call| {
        if !numbers(call, arch).contains(&data.nr) {
            return false;
        }
        if let Syscall::Name(name) = call
            && let Some(row) = NAMES.iter().find(|row| row.0 == name && row.2 == data.nr)
            && arch == Arch::X86
        {
            let stricter = strictness(rule.action) <= strictness(profile.default);
            return multiplexed
                && data.args[0] & 0xffff_ffff == row.3
                && (rule.conditions.is_empty() || stricter);
        }
        rule.conditions.iter().all(|condition| holds(condition, arch, data))
    })
}

/// The order of `seccomp(2)`, from the strictest on.
fn strictness(action: Action) -> usize {
    match action {
        Action::KillProcess => 0,
        Action::KillThread => 1,
        Action::Trap => 2,
        Action::Errno(_) => 3,
        Action::Notify => 4,
        Action::Trace(_) => 5,
        Action::Log => 6,
        Action::Allow => 7,
    }
}

fn holds(condition: &Condition, arch: Arch, data: &SeccompData) -> bool {
    let wide = matches!(arch, Arch::X86_64 | Arch::Aarch64);
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let argument = cut(data.args[usize::from(condition.index)]);
    let value = cut(condition.value);
    match condition.operator {
        Operator::NotEqual => argument != value,
        Operator::Less => argument < value,
        Operator::LessOrEqual => argument <= value,
        Operator::Equal => argument == value,
        Operator::GreaterOrEqual => argument >= value,
        Operator::Greater => argument > value,
        Operator::MaskedEqual => argument & value == cut(condition.value_two) & value,
    }
}
