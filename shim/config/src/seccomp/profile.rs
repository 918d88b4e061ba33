//! What a filter shall do, independent of the configuration that asked for it.

use super::arch::Arch;

/// The largest error number that a filter can return (the kernel's `MAX_ERRNO`).
pub const MAX_ERRNO: u16 = 4095;

/// What happens to a system call, from `seccomp(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The process dies of `SIGSYS`.
    KillProcess,
    /// The thread dies of `SIGSYS`; OCI's `SCMP_ACT_KILL` too.
    KillThread,
    /// The thread gets a `SIGSYS` that it may handle.
    Trap,
    /// The call returns this error number, at most [`MAX_ERRNO`]; 0 is success.
    Errno(u16),
    /// A process that holds the listener decides.
    Notify,
    /// The tracer decides, and reads this value with `PTRACE_GETEVENTMSG`.
    Trace(u16),
    /// The call is made, and logged.
    Log,
    /// The call is made.
    Allow,
}

impl Action {
    /// The value that the filter returns: `SECCOMP_RET_*` with its data.
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

    /// The kernel's precedence among actions: the lower one is the stricter one.
    pub fn precedence(self) -> i32 {
        (self.bits() & libc::SECCOMP_RET_ACTION_FULL).cast_signed()
    }
}

/// How an argument is compared. All comparisons are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The argument is not `value`.
    NotEqual,
    /// The argument is less than `value`.
    Less,
    /// The argument is less than `value` or equal.
    LessOrEqual,
    /// The argument is `value`.
    Equal,
    /// The argument is greater than `value` or equal.
    GreaterOrEqual,
    /// The argument is greater than `value`.
    Greater,
    /// The argument masked by `value` is `value_two` masked by `value`.
    MaskedEqual,
}

/// A condition on an argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// The comparison.
    pub operator: Operator,
    /// What the argument is compared with; the mask of [`Operator::MaskedEqual`].
    pub value: u64,
    /// The second value of [`Operator::MaskedEqual`]; unused by the others.
    pub value_two: u64,
}

/// A system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Syscall {
    /// By the kernel's name. Each architecture has its own number for it, or none; names that no
    /// architecture knows are skipped, and listed in [`super::Filter::unknown`].
    Name(String),
    /// By the number that it has on every architecture of the profile.
    Number(u32),
}

/// An action for some system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The system calls.
    pub syscalls: Vec<Syscall>,
    /// What happens to them.
    pub action: Action,
    /// The conditions under which it happens: all must hold.
    pub conditions: Vec<Condition>,
}

/// The rules, and what holds where none applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The architectures that the rules are for. A call of any other kills the thread, as with
    /// libseccomp.
    pub architectures: Vec<Arch>,
    /// What happens to a call that no rule matches.
    pub default: Action,
    /// The rules. The first that matches decides, but one without conditions comes before those
    /// with conditions, and one with the default action is as good as absent; libseccomp's
    /// filters and runc's use of them come to the same.
    pub rules: Vec<Rule>,
    /// Flags of the system call: `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

impl Profile {
    /// A profile for the architecture of this program, without rules and flags.
    #[must_use]
    pub fn new(default: Action) -> Self {
        Self { architectures: vec![Arch::NATIVE], default, rules: Vec::new(), flags: 0 }
    }
}

/// The bits of [`Profile::flags`], from `linux/seccomp.h`.
pub mod flag {
    /// Every thread of the process gets the filter.
    pub const TSYNC: u32 = 1 << 0;
    /// Actions other than allow are logged.
    pub const LOG: u32 = 1 << 1;
    /// The mitigation of speculative store bypass stays off.
    pub const SPEC_ALLOW: u32 = 1 << 2;
    /// The system call returns a listener.
    pub const NEW_LISTENER: u32 = 1 << 3;
    /// A failed [`TSYNC`] is an errno, so that it goes together with [`NEW_LISTENER`].
    pub const TSYNC_ESRCH: u32 = 1 << 4;
    /// Once a notification was received, only fatal signals interrupt the caller (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
}
