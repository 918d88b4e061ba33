//! Checks whether a seccomp filter allows the system calls that the init makes under it.

use pidone_config::Config;
use pidone_host::seccomp::{always_allows, always_allows_with};

use super::Process;

/// The system calls of a parked init from the load of the filter up to exec. Under a filter that
/// refuses one of them it could not become its program.
const CALLS_BEFORE_EXEC: &[libc::c_long] = &[
    libc::SYS_capset,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup3,
    libc::SYS_execve,
    libc::SYS_exit_group,
    libc::SYS_fchdir,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_mkdirat,
    libc::SYS_mmap,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_setgroups,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_umask,
    libc::SYS_write,
];

/// The system calls that an init makes while it serves requests, besides those of
/// [`CALLS_BEFORE_EXEC`]. `clone` is checked separately, with its flags, since profiles refuse the
/// flags of new namespaces.
const CALLS_TO_SERVE: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_clock_gettime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_getpid,
    libc::SYS_ioctl,
    libc::SYS_kill,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_rt_sigprocmask,
    libc::SYS_signalfd4,
    libc::SYS_socketpair,
    libc::SYS_wait4,
    libc::SYS_write,
];

/// The flags of the init's `clone`: `CLONE_VM`, `CLONE_PIDFD`, and `SIGCHLD`.
const CLONE_FLAGS: u32 = 0x1100 | 17;

/// Whether a filter allows all of [`CALLS_BEFORE_EXEC`].
pub(super) fn allows_the_init(filter: &[u8]) -> bool {
    let mut numbers = CALLS_BEFORE_EXEC.iter().map(|number| u32::try_from(*number));
    numbers.all(|number| number.is_ok_and(|number| always_allows(filter, number)))
}

/// Whether the setup of a process needs no system calls besides [`CALLS_BEFORE_EXEC`], once its
/// labels and its initial affinity are set.
pub(super) fn is_plain(process: &Process, config: &Config) -> bool {
    let Process { terminal, scheduler, io_priority, affinity, .. } = process;
    terminal.is_none()
        && scheduler.is_none()
        && io_priority.is_none()
        && matches!(affinity, [_, None])
        && config.personality.is_none()
        && config.memory_policy.is_none()
}

/// Whether the whole setup of a process needs no system calls besides [`CALLS_BEFORE_EXEC`].
pub(super) fn is_bare(process: &Process, config: &Config) -> bool {
    process.labels.is_empty() && process.affinity == [None, None] && is_plain(process, config)
}

/// Whether a filter allows all of [`CALLS_TO_SERVE`], and the init's `clone`.
pub(super) fn allows_to_serve(filter: &[u8]) -> bool {
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    CALLS_TO_SERVE.iter().all(|call| always_allows(filter, number(*call)))
        && always_allows_with(filter, number(libc::SYS_clone), CLONE_FLAGS)
}
