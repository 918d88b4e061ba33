//! Refused system calls, in the form that libcontainer had before it used libseccomp.

use serde::{Deserialize, Serialize};

use super::fault::{Check, Fault, each};
use super::json::objects;
use crate::seccomp::MAX_ERRNO;

/// Refused system calls. Calls that are not listed are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seccomp {
    /// The rules.
    #[serde(with = "objects")]
    pub syscalls: Vec<SeccompSyscall>,
}

/// A rule for a system call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompSyscall {
    /// The number of the system call on the native architecture.
    pub value: u32,
    /// -3 to kill, -2 to trap, -1 to allow; 0 and above is the error number to return.
    pub action: i32,
    /// The conditions on arguments. All of them must hold.
    #[serde(default, with = "objects")]
    pub args: Vec<SeccompArg>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompArg {
    /// The index of the argument, 0 to 5.
    pub index: u32,
    /// The value to compare the argument with.
    pub value: u32,
    /// The comparison: 0 equal, 1 not equal, 2 greater, 3 less, 4 all bits of `value` set.
    pub op: u32,
}

impl Seccomp {
    pub(super) fn check(&self) -> Check {
        each("syscalls", &self.syscalls, |syscall| {
            if !(-3..=i32::from(MAX_ERRNO)).contains(&syscall.action) {
                let reason = "must be -3 (kill), -2 (trap), -1 (allow) or an errno";
                return Err(Fault::new("action", syscall.action, reason));
            }
            each("args", &syscall.args, |arg| {
                if arg.index > 5 {
                    return Err(Fault::new(
                        "index",
                        arg.index,
                        "a system call has arguments 0 to 5",
                    ));
                }
                if arg.op > 4 {
                    return Err(Fault::new("op", arg.op, "unknown comparison, must be 0 to 4"));
                }
                Ok(())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_rule() {
        let rule = |action, index, op| Seccomp {
            syscalls: vec![SeccompSyscall {
                value: 90,
                action,
                args: vec![SeccompArg { index, value: 0, op }],
            }],
        };
        rule(-3, 5, 4).check().unwrap();
        rule(4095, 0, 0).check().unwrap();
        for (seccomp, field) in [
            (rule(-4, 0, 0), "syscalls[0].action"),
            (rule(4096, 0, 0), "syscalls[0].action"),
            (rule(1, 6, 0), "syscalls[0].args[0].index"),
            (rule(1, 0, 5), "syscalls[0].args[0].op"),
        ] {
            let text = crate::Error::from(seccomp.check().unwrap_err()).to_string();
            assert!(text.contains(&format!("`{field} = ")), "{text}");
        }
    }

    #[test]
    fn arguments_may_be_absent_or_null() {
        for json in [r#"{"value": 90, "action": 1}"#, r#"{"value": 90, "action": 1, "args": null}"#]
        {
            assert_eq!(serde_json::from_str::<SeccompSyscall>(json).unwrap().args, []);
        }
        assert!(serde_json::from_str::<SeccompSyscall>(r#"{"value": 90}"#).is_err());
    }
}
