//! nsinit's security profiles.

use std::str::FromStr;

use super::{Config, NamespaceType, Rlimit, Seccomp, SeccompArg, SeccompSyscall};
use crate::error::{Error, Result};

/// A security profile: a set of capabilities, resource limits and refused system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// For a program that neither installs software nor changes files of other users.
    High,
    /// For a package manager.
    Medium,
    /// As medium, and `chroot(2)` and changing the host name are allowed.
    Low,
}

/// Parses `high`, `medium` or `low`.
impl FromStr for Security {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "high" => Ok(Self::High),
            "medium" => Ok(Self::Medium),
            "low" => Ok(Self::Low),
            _ => Err(Error::config("--security", name, "must be high, medium or low")),
        }
    }
}

/// The system calls that every profile refuses: those that create or join namespaces, mount, or
/// load kernel code.
///
/// The list is libcontainer's, with the newer calls that have the same effect: a program that may
/// not call `mount(2)` must not be able to call `fsmount(2)` instead. `create_module(2)` is left
/// out, since Linux 2.6 removed it.
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
];

/// The system calls that medium and high refuse.
const MEDIUM: &[libc::c_long] = &[libc::SYS_chroot, libc::SYS_setdomainname, libc::SYS_sethostname];

/// The system calls that only high refuses: changes of owners, modes and links.
const HIGH: &[libc::c_long] = &[
    libc::SYS_capset,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    libc::SYS_linkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    libc::SYS_unlinkat,
];

/// `fchmodat2(2)` of Linux 6.6. Its number is the same on all architectures. The crate libc does
/// not define it for aarch64.
const FCHMODAT2: libc::c_long = 452;

const HIGH_CAPABILITIES: &[&str] = &["NET_BIND_SERVICE", "KILL", "AUDIT_WRITE"];

const MEDIUM_CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "KILL",
    "AUDIT_WRITE",
];

const LOW_CAPABILITIES: &[&str] = &["SYS_CHROOT"];

impl Security {
    /// Replaces the configuration's capabilities, resource limits and system calls by those of the
    /// profile.
    pub fn apply(self, config: &mut Config) {
        let (capabilities, syscalls): (&[&[&str]], &[&[libc::c_long]]) = match self {
            Self::High => (&[HIGH_CAPABILITIES], &[ALWAYS, MEDIUM, HIGH]),
            Self::Medium => (&[MEDIUM_CAPABILITIES], &[ALWAYS, MEDIUM]),
            Self::Low => (&[MEDIUM_CAPABILITIES, LOW_CAPABILITIES], &[ALWAYS]),
        };
        config.capabilities = capabilities.concat().into_iter().map(str::to_owned).collect();
        config.rlimits = vec![Rlimit { kind: Rlimit::NOFILE, hard: 1024, soft: 1024 }];
        let mut rules: Vec<_> =
            syscalls.concat().into_iter().map(|number| rule(number, libc::EPERM)).collect();
        rules.push(SeccompSyscall {
            args: vec![SeccompArg {
                index: 0,
                value: NamespaceType::User.clone_flag(),
                op: ALL_BITS,
            }],
            ..rule(libc::SYS_clone, libc::EPERM)
        });
        // The flags of `clone3(2)` are in memory, which a filter cannot read. A program that gets
        // ENOSYS falls back to `clone(2)`.
        rules.push(rule(libc::SYS_clone3, libc::ENOSYS));
        config.seccomp = Some(Seccomp { syscalls: rules });
    }
}

/// The comparison "all bits of the value are set".
const ALL_BITS: u32 = 4;

fn rule(number: libc::c_long, errno: i32) -> SeccompSyscall {
    let value = u32::try_from(number).expect("system calls have small positive numbers");
    SeccompSyscall { value, action: errno, args: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(security: Security) -> Vec<u32> {
        let mut config = Config::template("/srv".into());
        security.apply(&mut config);
        config.validate().unwrap();
        config.seccomp.unwrap().syscalls.iter().map(|syscall| syscall.value).collect()
    }

    #[test]
    fn stricter_profiles_refuse_more_system_calls() {
        let number = |number: libc::c_long| u32::try_from(number).unwrap();
        let [high, medium, low] =
            ["high", "medium", "low"].map(|name| refused(name.parse().unwrap()));
        assert!(low.iter().all(|value| medium.contains(value)));
        assert!(medium.iter().all(|value| high.contains(value)));
        assert!(!low.contains(&number(libc::SYS_chroot)));
        assert!(medium.contains(&number(libc::SYS_sethostname)));
        assert!(!medium.contains(&number(libc::SYS_unlinkat)));
        assert!(high.contains(&number(libc::SYS_unlinkat)));
        assert!(low.contains(&number(libc::SYS_move_mount)));
    }

    #[test]
    fn clone_of_a_user_namespace_is_refused_and_clone3_is_absent() {
        let mut config = Config::default();
        Security::Low.apply(&mut config);
        let rules = config.seccomp.unwrap().syscalls;
        let clone = rules.iter().find(|rule| i64::from(rule.value) == libc::SYS_clone).unwrap();
        assert_eq!(clone.args, [SeccompArg { index: 0, value: libc::CLONE_NEWUSER as u32, op: 4 }]);
        let clone3 = rules.iter().find(|rule| i64::from(rule.value) == libc::SYS_clone3).unwrap();
        assert_eq!(clone3.action, libc::ENOSYS);
        assert_eq!(config.capabilities.len(), 12);
    }

    #[test]
    fn unknown_profile_is_an_error() {
        let error = "paranoid".parse::<Security>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration `--security = paranoid`: must be high, medium or low"
        );
    }
}
