//! Checks of what a filter allows whatever the arguments are.

use pidone_config::seccomp::Arch;

use super::evaluate::evaluate_with;

/// `SECCOMP_RET_ALLOW`.
const ALLOW: u32 = 0x7fff_0000;

/// Whether a program allows a system call of the native architecture whatever its arguments are.
pub fn always_allows(program: &[u8], number: u32) -> bool {
    allows(program, number, None)
}

/// Whether a program allows a system call of the native architecture with this first argument,
/// whatever the others are.
pub fn always_allows_with(program: &[u8], number: u32, first: u32) -> bool {
    allows(program, number, Some(first))
}

fn allows(program: &[u8], number: u32, first: Option<u32>) -> bool {
    let known = |offset| match offset {
        0 => Some(number),
        4 => Some(Arch::NATIVE.audit()),
        // The halves of the first argument, the low one first.
        16 => first,
        20 => first.map(|_| 0),
        _ => None,
    };
    evaluate_with(program, known) == Ok(ALLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::compile;
    use pidone_config::seccomp::{Action, Condition, Operator, Profile, Rule, Syscall};

    #[test]
    fn a_call_with_a_condition_is_not_always_allowed() {
        let rule = |name: &str, conditions| Rule {
            syscalls: vec![Syscall::Name(name.into())],
            action: Action::Allow,
            conditions,
        };
        let condition = Condition { index: 0, operator: Operator::Equal, value: 1, value_two: 0 };
        let mut profile = Profile::new(Action::Errno(1));
        profile.rules = vec![rule("umask", vec![]), rule("prctl", vec![condition])];
        let filter = compile(&profile).unwrap().bytes();
        let allows = |number: libc::c_long| always_allows(&filter, u32::try_from(number).unwrap());
        assert!(allows(libc::SYS_umask));
        assert!(!allows(libc::SYS_prctl) && !allows(libc::SYS_setsid));
        assert!(!always_allows(b"", 0));
        let prctl = u32::try_from(libc::SYS_prctl).unwrap();
        assert!(always_allows_with(&filter, prctl, 1) && !always_allows_with(&filter, prctl, 0));
    }
}
