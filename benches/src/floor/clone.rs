//! The clone: `clone3(2)` with the semantics of vfork.
#![allow(unsafe_code, reason = "a child that shares memory until it executes the payload")]

use std::ffi::c_void;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::sys::Failed;
use crate::{Error, Result};

/// The kernel's `struct clone_args`, up to `cgroup`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_VM: u64 = 0x100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The body of a child, which makes only system calls. The child ends when it returns.
pub(super) type Body<'a> = &'a dyn Fn() -> std::result::Result<(), Failed>;

/// The data that parent and child share.
struct Shared<'a> {
    body: Body<'a>,
    failed: Option<Failed>,
}

/// Runs `body` in a child. Returns its pidfd when it has executed a program or ended.
///
/// `namespaces` are `CLONE_NEW*` flags; `cgroup` is the directory of the cgroup to clone into.
pub(super) fn spawn(namespaces: u64, cgroup: Option<RawFd>, body: Body<'_>) -> Result<OwnedFd> {
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArgs {
        flags: CLONE_PIDFD | namespaces,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.cast_unsigned());
    }
    let (started, failed) = vfork(arguments, body);
    started.map_err(error)?;
    // SAFETY: the clone succeeded, so the kernel has stored a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match failed {
        None => Ok(pidfd),
        Some(failed) => {
            let child = rustix::process::WaitId::PidFd(rustix::fd::AsFd::as_fd(&pidfd));
            rustix::process::waitid(child, rustix::process::WaitIdOptions::EXITED)?;
            Err(error(failed))
        }
    }
}

/// Runs `body` in a sibling of the calling child. Returns its id in the child's pid namespace.
pub(super) fn sibling(body: Body<'_>) -> std::result::Result<i32, Failed> {
    let (started, failed) = vfork(CloneArgs { flags: CLONE_PARENT, ..CloneArgs::default() }, body);
    match failed {
        None => started,
        Some(failed) => Err(failed),
    }
}

/// Clones with the semantics of vfork. Returns the result of the clone, and what failed in the
/// child.
fn vfork(
    mut arguments: CloneArgs,
    body: Body<'_>,
) -> (std::result::Result<i32, Failed>, Option<Failed>) {
    arguments.flags |= CLONE_VM | CLONE_VFORK;
    let mut shared = Shared { body, failed: None };
    // SAFETY: the child calls `enter`, which never returns, below this stack frame. The parent does
    // not run until the child has executed a program or ended.
    let answer = unsafe { clone3(&raw const arguments, enter, (&raw mut shared).cast()) };
    let started = match i32::try_from(answer) {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(errno) => Err(Failed { number: libc::SYS_clone3, errno: -errno }),
        Err(_) => Err(Failed { number: libc::SYS_clone3, errno: libc::ERANGE }),
    };
    (started, shared.failed)
}

/// Returns the error for a failed system call.
pub(super) fn error(Failed { number, errno }: Failed) -> Error {
    format!("system call {number} of the floor: {}", Errno::from_raw_os_error(errno)).into()
}

/// The entry point of the child.
extern "C" fn enter(shared: *mut c_void) -> ! {
    // SAFETY: `vfork` passes its `Shared`, and does not run while the child uses it.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    shared.failed = (shared.body)().err();
    let status = if shared.failed.is_some() { 125 } else { 0 };
    loop {
        // SAFETY: it ends only this process.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

/// Calls `clone3(2)`; the child calls `function` on the parent's stack, as after `vfork(2)`.
///
/// # Safety
/// The arguments must have `CLONE_VM` and `CLONE_VFORK`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    arguments: *const CloneArgs,
    function: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    let answer;
    // SAFETY: for the parent this is a system call. The child calls the function on a stack that is
    // aligned for a call, below everything that the parent has on it.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {function}",
            "ud2",
            "2:",
            argument = in(reg) argument,
            function = in(reg) function,
            inlateout("rax") libc::SYS_clone3 => answer,
            in("rdi") arguments,
            in("rsi") size_of::<CloneArgs>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    answer
}

/// Calls `clone3(2)`; the child calls `function` on the parent's stack, as after `vfork(2)`.
///
/// # Safety
/// The arguments must have `CLONE_VM` and `CLONE_VFORK`.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(
    arguments: *const CloneArgs,
    function: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    let answer;
    // SAFETY: for the parent this is a system call. The child calls the function on a stack that is
    // aligned for a call, below everything that the parent has on it.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {argument}",
            "blr {function}",
            "brk 0",
            "2:",
            argument = in(reg) argument,
            function = in(reg) function,
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments as isize => answer,
            in("x1") size_of::<CloneArgs>(),
        );
    }
    answer
}
