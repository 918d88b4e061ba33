//! The object `linux.seccomp`.
//!
//! Where the specification leaves a choice, this follows runc; see
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::seccomp::Arch;
use crate::seccomp::{
    Action, Condition, MAX_ERRNO, Operator, Profile, Rule, Syscall as Call, flag,
};

/// A seccomp profile: the system calls that a container may make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Seccomp {
    /// The action for calls that no rule matches: one of [`ACTIONS`].
    pub default_action: String,
    /// The error number of the default action, or its value for the tracer; `EPERM` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u64>,
    /// The architectures in addition to the native one: any of [`architectures`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// Flags of `seccomp(2)`: any of [`FLAGS`]. If absent, as opposed to empty,
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW` is set, as with runc and crun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// The socket of the agent that handles `SCMP_ACT_NOTIFY`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener_path: String,
    /// Text that the agent receives together with the container's state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener_metadata: String,
    /// The rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<Syscall>,
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Syscall {
    /// The names of the system calls.
    pub names: Vec<String>,
    /// The action: one of [`ACTIONS`].
    pub action: String,
    /// The error number, or the value for the tracer; `EPERM` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u64>,
    /// The conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Arg>>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// The index of the argument, 0 to 5.
    pub index: u64,
    /// The value to compare with; the mask for `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// The second value of `SCMP_CMP_MASKED_EQ`.
    #[serde(default)]
    pub value_two: u64,
    /// The comparison: one of [`OPERATORS`].
    pub op: String,
}

/// The actions by the specification's name. Those with an error number have `EPERM`.
pub const ACTIONS: [(&str, Action); 9] = [
    ("SCMP_ACT_KILL", Action::KillThread),
    ("SCMP_ACT_KILL_PROCESS", Action::KillProcess),
    ("SCMP_ACT_KILL_THREAD", Action::KillThread),
    ("SCMP_ACT_TRAP", Action::Trap),
    ("SCMP_ACT_ERRNO", Action::Errno(EPERM)),
    ("SCMP_ACT_TRACE", Action::Trace(EPERM)),
    ("SCMP_ACT_ALLOW", Action::Allow),
    ("SCMP_ACT_LOG", Action::Log),
    ("SCMP_ACT_NOTIFY", Action::Notify),
];

/// The operators by the specification's name.
pub const OPERATORS: [(&str, Operator); 7] = [
    ("SCMP_CMP_NE", Operator::NotEqual),
    ("SCMP_CMP_LT", Operator::Less),
    ("SCMP_CMP_LE", Operator::LessOrEqual),
    ("SCMP_CMP_EQ", Operator::Equal),
    ("SCMP_CMP_GE", Operator::GreaterOrEqual),
    ("SCMP_CMP_GT", Operator::Greater),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEqual),
];

/// The architectures for which filters can be compiled, by the specification's name.
pub const ARCHITECTURES: [(&str, Arch); 5] = [
    ("SCMP_ARCH_X86_64", Arch::X86_64),
    ("SCMP_ARCH_X86", Arch::X86),
    ("SCMP_ARCH_X32", Arch::X32),
    ("SCMP_ARCH_AARCH64", Arch::Aarch64),
    ("SCMP_ARCH_ARM", Arch::Arm),
];

/// The flags of `seccomp(2)` by the specification's name.
pub const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", flag::TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", flag::LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", flag::SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", flag::WAIT_KILLABLE_RECV),
];

/// The architectures of the specification that never occur on a machine that this program supports.
///
/// A kernel reports its native architecture and those of its compatibility modes. On x86 and ARM,
/// rules for other architectures never match, so they are accepted and left out of the filter.
const NEVER_REPORTED: [&str; 18] = [
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// Returns all architectures that a profile may name.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.into_iter().map(|(name, _)| name).chain(NEVER_REPORTED)
}

const EPERM: u16 = 1;

/// The largest number of copied names for the conditions of one rule, far above what fits into a
/// filter.
const MAX_COPIES: usize = 1 << 16;

/// The system call with which the init passes the listener to the host: the first that it makes
/// under the filter. No agent could answer a notification for it.
const HANDS_OVER_LISTENER: &str = "sendmsg";

impl Seccomp {
    /// Returns the profile; `None` if there is neither a default action nor a rule.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) for an unknown or unsupported value,
    /// with the path of the property in `config.json`.
    pub fn profile(&self) -> Result<Option<Profile>> {
        if self.default_action.is_empty() && self.syscalls.is_empty() {
            return Ok(None);
        }
        let place = "linux.seccomp.defaultAction";
        let errno = ("linux.seccomp.defaultErrnoRet", self.default_errno_ret);
        let default = action((place, &self.default_action), errno)?;
        if default == Action::Notify {
            // All calls without a rule would wait for the agent, including the one that passes the
            // listener to it.
            let reason = "cannot be the default action";
            return Err(Error::config(place, quoted(&self.default_action), reason));
        }
        let mut profile = Profile::new(default);
        self.architectures(&mut profile)?;
        profile.flags = self.flags()?;
        for (number, syscall) in self.syscalls.iter().enumerate() {
            syscall.rules(&format!("linux.seccomp.syscalls[{number}]"), &mut profile.rules)?;
        }
        self.listener(&profile)?;
        Ok(Some(profile))
    }

    fn architectures(&self, profile: &mut Profile) -> Result<()> {
        for (number, name) in self.architectures.iter().enumerate() {
            if NEVER_REPORTED.contains(&name.as_str()) {
                continue;
            }
            let Some(arch) = find(&ARCHITECTURES, name) else {
                let place = format!("linux.seccomp.architectures[{number}]");
                return Err(Error::config(place, quoted(name), "unknown architecture"));
            };
            if !profile.architectures.contains(&arch) {
                profile.architectures.push(arch);
            }
        }
        Ok(())
    }

    fn flags(&self) -> Result<u32> {
        let Some(names) = &self.flags else {
            return Ok(flag::SPEC_ALLOW);
        };
        let mut flags = 0;
        for (number, name) in names.iter().enumerate() {
            flags |= find(&FLAGS, name).ok_or_else(|| {
                let place = format!("linux.seccomp.flags[{number}]");
                Error::config(place, quoted(name), "unknown flag")
            })?;
        }
        Ok(flags)
    }

    fn listener(&self, profile: &Profile) -> Result<()> {
        let place = "linux.seccomp.listenerPath";
        let notifies = |rule: &Rule| rule.action == Action::Notify;
        if self.listener_path.is_empty() {
            if profile.rules.iter().any(notifies) {
                return Err(Error::config(place, "", "SCMP_ACT_NOTIFY needs an agent's socket"));
            }
            if !self.listener_metadata.is_empty() {
                return Err(Error::config(place, "", "listenerMetadata is for an agent's socket"));
            }
        }
        Ok(())
    }
}

impl Syscall {
    fn rules(&self, place: &str, rules: &mut Vec<Rule>) -> Result<()> {
        if self.names.is_empty() {
            return Err(Error::config(format!("{place}.names"), "[]", "names no system call"));
        }
        if let Some(number) = self.names.iter().position(String::is_empty) {
            let place = format!("{place}.names[{number}]");
            return Err(Error::config(place, quoted(""), "names no system call"));
        }
        let action = action(
            (&format!("{place}.action"), &self.action),
            (&format!("{place}.errnoRet"), self.errno_ret),
        )?;
        if action == Action::Notify
            && let Some(number) = self.names.iter().position(|name| name == HANDS_OVER_LISTENER)
        {
            let place = format!("{place}.names[{number}]");
            let reason = "SCMP_ACT_NOTIFY cannot answer for the call that hands over its listener";
            return Err(Error::config(place, quoted(HANDS_OVER_LISTENER), reason));
        }
        let mut conditions = Vec::new();
        for (number, arg) in self.args.iter().flatten().enumerate() {
            conditions.push(arg.condition(&format!("{place}.args[{number}]"))?);
        }
        let syscalls: Vec<Call> = self.names.iter().cloned().map(Call::Name).collect();
        // libseccomp does not accept two conditions on one argument in one rule. runc and crun then
        // make a rule of each condition, so that any of them suffices. Profiles rely on it.
        if repeats(&conditions) {
            // The names are copied for each condition.
            if syscalls.len().saturating_mul(conditions.len()) > MAX_COPIES {
                let reason = "too many names with too many conditions on one argument";
                return Err(Error::config(format!("{place}.args"), "", reason));
            }
            rules.extend(conditions.into_iter().map(|condition| Rule {
                syscalls: syscalls.clone(),
                action,
                conditions: vec![condition],
            }));
        } else {
            rules.push(Rule { syscalls, action, conditions });
        }
        Ok(())
    }
}

impl Arg {
    fn condition(&self, place: &str) -> Result<Condition> {
        let index = u8::try_from(self.index).ok().filter(|index| *index <= 5).ok_or_else(|| {
            let reason = "a system call has the arguments 0 to 5";
            Error::config(format!("{place}.index"), self.index, reason)
        })?;
        let operator = find(&OPERATORS, &self.op).ok_or_else(|| {
            Error::config(format!("{place}.op"), quoted(&self.op), "unknown operator")
        })?;
        Ok(Condition { index, operator, value: self.value, value_two: self.value_two })
    }
}

/// Parses an action and its error number, each with the path of its property.
fn action((at, name): (&str, &str), (errno_at, errno): (&str, Option<u64>)) -> Result<Action> {
    let Some(action) = find(&ACTIONS, name) else {
        return Err(Error::config(at, quoted(name), "unknown action"));
    };
    let refuse = |errno, reason| Error::config(errno_at, errno, reason);
    let up_to = |largest: u16| {
        let errno = errno.unwrap_or(u64::from(EPERM));
        let small = u16::try_from(errno).ok().filter(|errno| *errno <= largest);
        small.ok_or_else(|| refuse(errno, format!("the largest is {largest}")))
    };
    match (action, errno) {
        (Action::Errno(_), _) => Ok(Action::Errno(up_to(MAX_ERRNO)?)),
        (Action::Trace(_), _) => Ok(Action::Trace(up_to(u16::MAX)?)),
        (action, None) => Ok(action),
        (_, Some(errno)) => Err(refuse(errno, format!("{name} has no errno"))),
    }
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// Returns a value in quotation marks.
///
/// Unlike [`text::quoted`](crate::text::quoted) it does not cut long values: the errors of this
/// object have always had the whole value.
fn quoted(value: &str) -> impl fmt::Display {
    format!("\"{value}\"")
}

/// Returns whether two conditions are about the same argument.
fn repeats(conditions: &[Condition]) -> bool {
    let mut seen = [false; 6];
    conditions
        .iter()
        .any(|condition| std::mem::replace(&mut seen[usize::from(condition.index)], true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: &str) -> Result<Option<Profile>> {
        let seccomp: Seccomp = serde_json::from_str(json).unwrap();
        seccomp.profile()
    }

    fn refused(json: &str) -> String {
        profile(json).unwrap_err().to_string()
    }

    #[test]
    fn profile_of_dockerd_is_lowered() {
        let profile = profile(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "comment": "ignored",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X86"],
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": []},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#,
        );
        let profile = profile.unwrap().unwrap();
        assert_eq!(profile.default, Action::Errno(1));
        assert_eq!(profile.architectures[0], Arch::NATIVE);
        assert_eq!(profile.architectures.iter().filter(|arch| **arch == Arch::X86).count(), 1);
        assert_eq!(profile.flags, flag::SPEC_ALLOW);
        let masked = Condition {
            index: 0,
            operator: Operator::MaskedEqual,
            value: 0x7e02_0000,
            value_two: 0,
        };
        let rules: Vec<_> =
            profile.rules.iter().map(|rule| (rule.action, rule.conditions.as_slice())).collect();
        assert_eq!(
            rules,
            [
                (Action::Allow, &[][..]),
                (Action::Allow, &[masked][..]),
                (Action::Errno(38), &[][..])
            ]
        );
    }

    #[test]
    fn empty_object_is_no_profile() {
        assert_eq!(profile("{}").unwrap(), None);
    }

    #[test]
    fn actions_and_flags_of_the_specification_are_known() {
        for (name, action) in ACTIONS {
            let default = profile(&format!(r#"{{"defaultAction": "{name}"}}"#));
            match action {
                Action::Notify => assert!(default.is_err()),
                action => assert_eq!(default.unwrap().unwrap().default, action),
            }
        }
        let bits = FLAGS.map(|(_, bits)| bits);
        assert_eq!(bits, [1, 2, 4, 32]);
        let all = FLAGS.map(|(name, _)| format!("{name:?}")).join(",");
        let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": [{all}]}}"#);
        assert_eq!(profile(&json).unwrap().unwrap().flags, 39);
        let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": []}"#;
        assert_eq!(profile(json).unwrap().unwrap().flags, 0);
    }

    #[test]
    fn architectures_of_the_specification_are_accepted() {
        let names: Vec<&str> = architectures().collect();
        assert_eq!(names.len(), 23);
        let with = |names: &[&str]| {
            let json = format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": {}}}"#,
                serde_json::to_string(names).unwrap()
            );
            profile(&json).unwrap().unwrap()
        };
        assert_eq!(with(&names).architectures.len(), Arch::ALL.len());
        assert_eq!(with(&["SCMP_ARCH_S390X"]), with(&[]));
    }

    #[test]
    fn two_conditions_on_one_argument_become_two_rules() {
        let profile = profile(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
                    {"index": 0, "value": 38, "op": "SCMP_CMP_EQ"},
                    {"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]}]}"#,
        );
        let rules = profile.unwrap().unwrap().rules;
        let values: Vec<u64> = rules.iter().map(|rule| rule.conditions[0].value).collect();
        assert_eq!(values, [38, 40]);
    }

    #[test]
    fn errors_have_property_and_value() {
        assert_eq!(
            refused(r#"{"defaultAction": "SCMP_ACT_FOO"}"#),
            r#"configuration `linux.seccomp.defaultAction = "SCMP_ACT_FOO"`: unknown action"#
        );
        assert_eq!(
            refused(r#"{"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#),
            r#"configuration `linux.seccomp.defaultAction = ""`: unknown action"#
        );
        assert_eq!(
            refused(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#),
            "configuration `linux.seccomp.defaultAction = \"SCMP_ACT_NOTIFY\"`: \
             cannot be the default action"
        );
        let all =
            |rest: &str| refused(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {rest}}}"#));
        assert_eq!(
            all(r#""defaultErrnoRet": 1"#),
            "configuration `linux.seccomp.defaultErrnoRet = 1`: SCMP_ACT_ALLOW has no errno"
        );
        assert_eq!(
            all(r#""architectures": ["SCMP_ARCH_VAX"]"#),
            "configuration `linux.seccomp.architectures[0] = \"SCMP_ARCH_VAX\"`: \
             unknown architecture"
        );
        assert_eq!(
            all(r#""flags": ["SECCOMP_FILTER_FLAG_FOO"]"#),
            "configuration `linux.seccomp.flags[0] = \"SECCOMP_FILTER_FLAG_FOO\"`: unknown flag"
        );
        assert_eq!(
            all(r#""listenerMetadata": "x""#),
            "configuration `linux.seccomp.listenerPath`: listenerMetadata is for an agent's socket"
        );
    }

    #[test]
    fn errors_in_rules_have_the_index_of_the_rule() {
        let rule = |rest: &str| {
            refused(&format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                    {{"names": ["read"], "action": "SCMP_ACT_TRAP"}}, {{{rest}}}]}}"#
            ))
        };
        let place = "configuration `linux.seccomp.syscalls[1].";
        assert_eq!(
            rule(r#""names": ["read"], "action": "SCMP_ACT_FOO""#),
            format!("{place}action = \"SCMP_ACT_FOO\"`: unknown action")
        );
        assert_eq!(
            rule(r#""action": "SCMP_ACT_TRAP""#),
            format!("{place}names = []`: names no system call")
        );
        assert_eq!(
            rule(r#""names": ["read", ""], "action": "SCMP_ACT_TRAP""#),
            format!("{place}names[1] = \"\"`: names no system call")
        );
        assert_eq!(
            rule(r#""names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096"#),
            format!("{place}errnoRet = 4096`: the largest is 4095")
        );
        assert_eq!(
            rule(r#""names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536"#),
            format!("{place}errnoRet = 65536`: the largest is 65535")
        );
        assert_eq!(
            rule(r#""names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1"#),
            format!("{place}errnoRet = 1`: SCMP_ACT_KILL has no errno")
        );
        let arg = |index: u64, op: &str| {
            rule(&format!(
                r#""names": ["read"], "action": "SCMP_ACT_TRAP",
                   "args": [{{"index": {index}, "value": 0, "op": "{op}"}}]"#
            ))
        };
        assert_eq!(
            arg(6, "SCMP_CMP_EQ"),
            format!("{place}args[0].index = 6`: a system call has the arguments 0 to 5")
        );
        assert_eq!(
            arg(0, "SCMP_CMP_LIKE"),
            format!("{place}args[0].op = \"SCMP_CMP_LIKE\"`: unknown operator")
        );
        assert_eq!(
            rule(r#""names": ["mount"], "action": "SCMP_ACT_NOTIFY""#),
            "configuration `linux.seccomp.listenerPath`: SCMP_ACT_NOTIFY needs an agent's socket"
        );
        assert_eq!(
            rule(r#""names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY""#),
            format!(
                "{place}names[0] = \"sendmsg\"`: \
                 SCMP_ACT_NOTIFY cannot answer for the call that hands over its listener"
            )
        );
    }
}
