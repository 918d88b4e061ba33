//! Profiles from the list `seccomp` of libcontainer's `container.json`.
//!
//! libcontainer's filter was for `x86_64` only and did not check the architecture, so that a
//! program could evade the rules with a 32-bit call. The rules have numbers, which are meaningless
//! on other architectures, so here a call of another architecture kills the thread. libcontainer
//! checked only the first argument of a rule; here all conditions must hold.

use pidone_config::config::{Seccomp, SeccompArg};
use pidone_config::seccomp::Arch;
use pidone_config::seccomp::{Action, Condition, MAX_ERRNO, Operator, Profile, Rule, Syscall};
use pidone_config::{Error, Result};

/// Returns the profile of the list. Calls that no rule matches are allowed. Values are compared
/// with all 64 bits of the argument.
///
/// # Errors
/// `Code::ConfigInvalid` with the field: a number that is not a system call of the native
/// architecture, or an unknown action, argument or operator.
pub fn profile(seccomp: &Seccomp) -> Result<Profile> {
    let mut profile = Profile::new(Action::Allow);
    for (number, syscall) in seccomp.syscalls.iter().enumerate() {
        let place = format!("seccomp.syscalls[{number}]");
        if !Arch::NATIVE.has(syscall.value) {
            let reason = "not a system call of this machine";
            return Err(Error::config(format!("{place}.value"), syscall.value, reason));
        }
        let args = syscall.args.iter().enumerate();
        let conditions =
            args.map(|(number, arg)| condition(&format!("{place}.args[{number}]"), arg));
        profile.rules.push(Rule {
            syscalls: vec![Syscall::Number(syscall.value)],
            action: action(&place, syscall.action)?,
            conditions: conditions.collect::<Result<_>>()?,
        });
    }
    // In libcontainer a later entry replaces an earlier one on the same system call.
    profile.rules.reverse();
    Ok(profile)
}

fn action(place: &str, action: i32) -> Result<Action> {
    match action {
        -3 => Ok(Action::KillThread),
        -2 => Ok(Action::Trap),
        -1 => Ok(Action::Allow),
        _ => match u16::try_from(action).ok().filter(|errno| *errno <= MAX_ERRNO) {
            Some(errno) => Ok(Action::Errno(errno)),
            None => {
                let reason = "must be -3 kill, -2 trap, -1 allow, or an errno up to 4095";
                Err(Error::config(format!("{place}.action"), action, reason))
            }
        },
    }
}

fn condition(place: &str, arg: &SeccompArg) -> Result<Condition> {
    let index = u8::try_from(arg.index).ok().filter(|index| *index <= 5).ok_or_else(|| {
        let reason = "a system call has the arguments 0 to 5";
        Error::config(format!("{place}.index"), arg.index, reason)
    })?;
    let operator = match arg.op {
        0 => Operator::Equal,
        1 => Operator::NotEqual,
        2 => Operator::Greater,
        3 => Operator::Less,
        4 => Operator::MaskedEqual,
        _ => {
            let reason = "must be 0 equal, 1 not equal, 2 greater, 3 less, or 4 all bits set";
            return Err(Error::config(format!("{place}.op"), arg.op, reason));
        }
    };
    let value = u64::from(arg.value);
    Ok(Condition { index, operator, value, value_two: value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::compile;
    use crate::seccomp::evaluate::{SeccompData, evaluate};

    fn read(json: &str) -> Result<Profile> {
        profile(&serde_json::from_str(json).unwrap())
    }

    fn run(json: &str, nr: u32, args: [u64; 6]) -> u32 {
        let program = compile(&read(json).unwrap()).unwrap().bytes();
        let data = SeccompData { nr, arch: Arch::NATIVE.audit(), ip: 0, args };
        evaluate(&program, &data).unwrap()
    }

    #[test]
    fn actions_and_operators_have_libcontainers_values() {
        for (action, verdict) in [(-3, 0), (-2, 0x3_0000), (-1, 0x7fff_0000), (13, 0x5_000d)] {
            let json = format!(r#"{{"syscalls": [{{"value": 5, "action": {action}}}]}}"#);
            assert_eq!(run(&json, 5, [0; 6]), verdict);
            assert_eq!(run(&json, 6, [0; 6]), 0x7fff_0000);
        }
        let value = 6;
        for (op, matching, other) in
            [(0, 6, 1 << 32 | 6), (1, 7, 6), (2, 1 << 32, 6), (3, 5, 6), (4, 0xff06, 0xff02)]
        {
            let json = format!(
                r#"{{"syscalls": [{{"value": 5, "action": 1,
                    "args": [{{"index": 2, "value": {value}, "op": {op}}}]}}]}}"#
            );
            assert_eq!(run(&json, 5, [0, 0, matching, 0, 0, 0]), 0x5_0001, "op {op}");
            assert_eq!(run(&json, 5, [0, 0, other, 0, 0, 0]), 0x7fff_0000, "op {op}");
        }
    }

    #[test]
    fn the_later_rule_wins_and_all_conditions_hold() {
        let json = r#"{"syscalls": [
            {"value": 5, "action": 1}, {"value": 5, "action": 2},
            {"value": 6, "action": 3, "args": [
                {"index": 0, "value": 1, "op": 0}, {"index": 1, "value": 1, "op": 0}]}]}"#;
        assert_eq!(run(json, 5, [0; 6]), 0x5_0002);
        assert_eq!(run(json, 6, [1, 1, 0, 0, 0, 0]), 0x5_0003);
        assert_eq!(run(json, 6, [1, 0, 0, 0, 0, 0]), 0x7fff_0000);
    }

    #[test]
    fn errors_have_the_value_and_its_field() {
        let refused = |rule: &str| {
            let fine = r#"{"value": 1, "action": 1}"#;
            read(&format!(r#"{{"syscalls": [{fine}, {rule}]}}"#)).unwrap_err().to_string()
        };
        let place = "configuration `seccomp.syscalls[1].";
        let actions = "must be -3 kill, -2 trap, -1 allow, or an errno up to 4095";
        for action in [-4, 4096] {
            assert_eq!(
                refused(&format!(r#"{{"value": 1, "action": {action}}}"#)),
                format!("{place}action = {action}`: {actions}")
            );
        }
        let arg = |index, op| {
            let arg = format!(r#"{{"index": {index}, "value": 1, "op": {op}}}"#);
            refused(&format!(r#"{{"value": 1, "action": 1, "args": [{arg}]}}"#))
        };
        assert_eq!(
            arg(0, 9),
            format!(
                "{place}args[0].op = 9`: \
                 must be 0 equal, 1 not equal, 2 greater, 3 less, or 4 all bits set"
            )
        );
        assert_eq!(
            arg(6, 0),
            format!("{place}args[0].index = 6`: a system call has the arguments 0 to 5")
        );
        if Arch::NATIVE == Arch::X86_64 {
            assert_eq!(
                refused(r#"{"value": 1073741824, "action": 1}"#),
                format!("{place}value = 1073741824`: not a system call of this machine")
            );
        }
    }
}
