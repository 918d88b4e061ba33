//! A seccomp profile, independent of the configuration that it comes from.

use super::arch::Arch;

/// The largest error number that a filter can return (the kernel's `MAX_ERRNO`).
pub const MAX_ERRNO: u16 = 4095;

/// The action for a system call: `seccomp(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Kills the process with `SIGSYS`.
    KillProcess,
    /// Kills the thread with `SIGSYS`. OCI's `SCMP_ACT_KILL` means this, too.
    KillThread,
    /// Sends the thread a `SIGSYS` that it may handle.
    Trap,
    /// Returns this error number, at most [`MAX_ERRNO`]; 0 means success.
    Errno(u16),
    /// Lets the process that holds the listener decide.
    Notify,
    /// Lets the tracer decide, which reads this value with `PTRACE_GETEVENTMSG`.
    Trace(u16),
    /// Makes the call, and logs it.
    Log,
    /// Makes the call.
    Allow,
}

impl Action {
    /// Returns the value that the filter returns: `SECCOMP_RET_*` with its data.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Self::Trace(message) => libc::SECCOMP_RET_TRACE | u32::from(message),
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Allow => libc::SECCOMP_RET_ALLOW,
        }
    }

    /// Returns the kernel's precedence among actions: the lower value is the stricter action.
    pub fn precedence(self) -> i32 {
        (self.bits() & libc::SECCOMP_RET_ACTION_FULL).cast_signed()
    }
}

/// A comparison of an argument. All comparisons are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The argument does not equal `value`.
    NotEqual,
    /// The argument is less than `value`.
    Less,
    /// The argument is less than or equal to `value`.
    LessOrEqual,
    /// The argument equals `value`.
    Equal,
    /// The argument is greater than or equal to `value`.
    GreaterOrEqual,
    /// The argument is greater than `value`.
    Greater,
    /// The argument masked with `value` equals `value_two` masked with `value`.
    MaskedEqual,
}

/// A condition on an argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The index of the argument, 0 to 5.
    pub index: u8,
    /// The comparison.
    pub operator: Operator,
    /// The value to compare with; the mask for [`Operator::MaskedEqual`].
    pub value: u64,
    /// The second value of [`Operator::MaskedEqual`]; unused by the others.
    pub value_two: u64,
}

/// A system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Syscall {
    /// A system call by the kernel's name. Its number differs between architectures, and some may
    /// not have it. Names that no architecture knows are skipped; the compiled filter lists them as
    /// unknown.
    Name(String),
    /// A system call by the number that it has on every architecture of the profile.
    Number(u32),
}

/// An action for a number of system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The system calls.
    pub syscalls: Vec<Syscall>,
    /// The action.
    pub action: Action,
    /// The conditions. The action is taken if all of them hold.
    pub conditions: Vec<Condition>,
}

/// The rules of a filter, and the action for calls that no rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The architectures that the rules apply to. A system call of any other architecture kills the
    /// thread, as with libseccomp.
    pub architectures: Vec<Arch>,
    /// The action for calls that no rule matches.
    pub default: Action,
    /// The rules. The first match decides, but rules without conditions come before those with
    /// conditions, and a rule with the default action has no effect. Filters made by runc with
    /// libseccomp behave the same.
    pub rules: Vec<Rule>,
    /// Flags of the system call: `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

impl Profile {
    /// Returns a profile for the native architecture, without rules and flags.
    #[must_use]
    pub fn new(default: Action) -> Self {
        Self { architectures: vec![Arch::NATIVE], default, rules: Vec::new(), flags: 0 }
    }
}

/// The bits of [`Profile::flags`], from `linux/seccomp.h`.
pub mod flag {
    /// Applies the filter to all threads of the process.
    pub const TSYNC: u32 = 1 << 0;
    /// Logs actions other than allow.
    pub const LOG: u32 = 1 << 1;
    /// Leaves the mitigation of speculative store bypass off.
    pub const SPEC_ALLOW: u32 = 1 << 2;
    /// Returns a listener.
    pub const NEW_LISTENER: u32 = 1 << 3;
    /// Makes a failed [`TSYNC`] an error number, so that it can be combined with [`NEW_LISTENER`].
    pub const TSYNC_ESRCH: u32 = 1 << 4;
    /// Lets only fatal signals interrupt the caller once the listener has received its notification
    /// (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
}
