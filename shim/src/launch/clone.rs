//! Clones the calling process and executes the init in the child.
//!
//! `clone3(2)` is used like vfork(2): the child runs in the caller's memory on its own stack, and
//! the calling thread is suspended until it executes the init, so no page table is copied. Until
//! then the child only makes system calls, since another thread may hold any lock.
#![allow(unsafe_code, reason = "a child that shares memory, until it executes the init")]

use std::ffi::{CString, c_int, c_void};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use libc::{c_char, c_long};
use nix::sys::signal::{SigSet, SigmaskHow};
use pidone_config::config::NamespaceType;
use pidone_config::{Error, Result};
use pidone_host::cgroup;
use pidone_host::pidfd::{reap_later, wait_for_end};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// The parameters of a clone. The descriptors belong to the caller and must stay open until the
/// clone is done.
#[derive(Debug)]
pub(crate) struct Request {
    /// `CLONE_NEW*` flags.
    pub(crate) namespaces: u32,
    /// The directory of the cgroup v2 that the child is created in.
    pub(crate) cgroup: Option<RawFd>,
    /// The `tasks` files of the cgroups v1 that the child enters, and their paths.
    pub(crate) tasks: Vec<(PathBuf, RawFd)>,
    /// The descriptors that become 0, 1, 2 and so on; `None` for a number that is closed.
    pub(crate) descriptors: Vec<Option<RawFd>>,
    /// The init's end of the socket. It becomes the number after the last of `descriptors`.
    pub(crate) socket: RawFd,
    /// The image to execute.
    pub(crate) image: RawFd,
    /// Whether the init records when it began.
    pub(crate) timed: bool,
}

/// Why a clone fails with `EAGAIN`: `clone(2)`.
pub(super) const NO_MORE_PROCESSES: &str = "the limit of processes of the cgroup, pids.max, or of \
                                            the user, RLIMIT_NPROC, is reached";

/// Returns the error for a thread that cannot be started.
pub(super) fn no_thread(name: &str, error: std::io::Error) -> Error {
    let is_full = error.raw_os_error() == Some(Errno::AGAIN.raw_os_error());
    let error = Error::system("start a thread", name, error);
    if is_full { error.with_hint(NO_MORE_PROCESSES) } else { error }
}

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its id in the caller's pid namespace.
    pub(crate) pid: i32,
    /// Its pidfd.
    pub(crate) pidfd: OwnedFd,
}

impl Child {
    /// Returns its pid and its pidfd.
    pub(crate) fn ids(&self) -> (i32, BorrowedFd<'_>) {
        (self.pid, self.pidfd.as_fd())
    }

    /// Kills and reaps it. One that does not end within 10 seconds is reaped later: it may wait for
    /// a disk, or for another process of its pid namespace that does.
    pub(crate) fn end(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        if wait_for_end(self.pidfd.as_fd(), self.pid).is_ok() {
            let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        } else if let Ok(pidfd) = self.pidfd.try_clone() {
            reap_later(pidfd, self.pid);
        }
    }
}

/// The kernel's `struct clone_args`.
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
const CLONE_NEWUSER: u32 = NamespaceType::User.clone_flag();
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The size of the child's stack in bytes. It uses a few hundred.
const STACK: usize = 32 * 1024;

/// The memory that the child reads and writes while the calling thread is suspended.
struct Shared<'a> {
    request: &'a Request,
    arguments: [*const c_char; 4],
    environment: [*const c_char; 1],
    /// Whether the child must raise ambient capabilities, since it would lose all of them at exec.
    keep_capabilities: bool,
    /// The error of the system call that failed in the child; 0 if none did.
    errno: c_int,
    /// The system call that failed.
    verb: &'static str,
    /// The cgroup that the child was entering when it failed.
    entering: Option<&'a Path>,
}

/// Clones and executes the image. Returns when the image runs.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the call that failed: `clone3`, or one of the child's.
pub(crate) fn clone_and_exec(request: &Request) -> Result<Child> {
    let control = CString::new(format!("--control={}", request.descriptors.len()))
        .map_err(|_| Error::system("clone3", "", Errno::INVAL))?;
    let timed = if request.timed { c"--timed".as_ptr() } else { std::ptr::null() };
    let mut shared = Shared {
        request,
        arguments: [c"pidone-init".as_ptr(), control.as_ptr(), timed, std::ptr::null()],
        environment: [std::ptr::null()],
        keep_capabilities: request.namespaces & CLONE_NEWUSER != 0,
        errno: 0,
        verb: "",
        entering: None,
    };
    // Not zeroed, so that untouched pages cause no page faults.
    let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArgs {
        flags: CLONE_VM
            | CLONE_VFORK
            | CLONE_PIDFD
            | CLONE_CLEAR_SIGHAND
            | u64::from(request.namespaces),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD.cast_unsigned().into(),
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    if let Some(directory) = request.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = directory.cast_unsigned().into();
    }

    // A signal handler of the caller must not run in the child.
    let mask = SignalMask::block();
    // SAFETY: the child gets its own stack, which outlives it, since CLONE_VFORK suspends this
    // thread until the child has executed the image or exited; `child_main` makes system calls
    // only.
    let answer = unsafe {
        clone3(&raw const arguments, size_of::<CloneArgs>(), child_main, (&raw mut shared).cast())
    };
    drop(mask);
    if answer < 0 {
        let errno = Errno::from_raw_os_error(c_int::try_from(-answer).unwrap_or(libc::EINVAL));
        let error = Error::system("clone3", "", errno);
        return Err(match errno {
            Errno::AGAIN => error.with_hint(NO_MORE_PROCESSES),
            _ => error,
        });
    }
    // SAFETY: the clone succeeded, so the kernel has stored a new descriptor in `pidfd`.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(answer).map_err(|_| Error::system("clone3", "", Errno::RANGE))?;
    if shared.errno != 0 {
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        let errno = Errno::from_raw_os_error(shared.errno);
        return Err(match shared.entering {
            Some(file) => cgroup::entry_error(file, 0, errno),
            None => Error::system(shared.verb, "pidone-init", errno),
        });
    }
    Ok(Child { pid, pidfd })
}

/// Runs in the child: descriptors, capabilities, exec. It makes system calls only and does not
/// allocate.
extern "C" fn child_main(shared: *mut c_void) -> ! {
    // SAFETY: `clone_and_exec` passes its `Shared` and is suspended meanwhile.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    if let Err((verb, errno)) = become_init(shared) {
        shared.verb = verb;
        shared.errno = errno;
    }
    loop {
        // SAFETY: exits this process only.
        unsafe { libc::syscall(libc::SYS_exit_group, 125) };
    }
}

/// Prepares the child and executes the image. Returns only if a system call failed: its name and
/// its error.
fn become_init(shared: &mut Shared<'_>) -> std::result::Result<(), (&'static str, c_int)> {
    let request = shared.request;
    // First, before another descriptor takes the numbers of these files.
    for (path, file) in &request.tasks {
        shared.entering = Some(path);
        call("write", libc::SYS_write, [(*file).into(), c"0".as_ptr() as c_long, 1, 0, 0])?;
    }
    shared.entering = None;
    let sources = request.descriptors.iter().copied().chain([Some(request.socket)]);
    for (from, to) in sources.zip(0..) {
        let Some(from) = from else {
            // All others are above or have their number already.
            call("close_range", libc::SYS_close_range, [to.into(), to.into(), 0, 0, 0])?;
            continue;
        };
        if from == to {
            // It already has its number, and only needs close-on-exec cleared.
            call("fcntl", libc::SYS_fcntl, [from.into(), libc::F_SETFD.into(), 0, 0, 0])?;
        } else {
            call("dup3", libc::SYS_dup3, [from.into(), to.into(), 0, 0, 0])?;
        }
    }
    let first = c_long::try_from(request.descriptors.len()).unwrap_or(c_long::MAX) + 1;
    const CLOEXEC: c_long = 4;
    call("close_range", libc::SYS_close_range, [first, u32::MAX.into(), CLOEXEC, 0, 0])?;
    if shared.keep_capabilities {
        raise_ambient()?;
    }
    const AT_EMPTY_PATH: c_long = 0x1000;
    let arguments = [
        request.image.into(),
        c"".as_ptr() as c_long,
        shared.arguments.as_ptr() as c_long,
        shared.environment.as_ptr() as c_long,
        AT_EMPTY_PATH,
    ];
    call("execveat", libc::SYS_execveat, arguments)
}

/// Raises all capabilities as ambient ones, so that they survive exec: in a new user namespace the
/// ids are not mapped yet, and the process would lose them.
fn raise_ambient() -> std::result::Result<(), (&'static str, c_int)> {
    const VERSION_3: u32 = 0x2008_0522;
    const AMBIENT_RAISE: c_long = 2;
    // struct __user_cap_header_struct: version, pid; then twice struct __user_cap_data_struct:
    // effective, permitted, inheritable, with the low 32 bits in the first one.
    let header: [u32; 2] = [VERSION_3, 0];
    let mut data = [0_u32; 6];
    let both = [header.as_ptr() as c_long, data.as_mut_ptr() as c_long, 0, 0, 0];
    call("capget", libc::SYS_capget, both)?;
    data[2] = data[1];
    data[5] = data[4];
    call("capset", libc::SYS_capset, both)?;
    let permitted = u64::from(data[4]) << 32 | u64::from(data[1]);
    for capability in (0..64).filter(|capability| permitted >> capability & 1 != 0) {
        let raise = [libc::PR_CAP_AMBIENT.into(), AMBIENT_RAISE, capability, 0, 0];
        call("raise an ambient capability", libc::SYS_prctl, raise)?;
    }
    Ok(())
}

/// Makes a system call. Returns its name and its error if it fails.
fn call(
    verb: &'static str,
    number: c_long,
    [a, b, c, d, e]: [c_long; 5],
) -> std::result::Result<(), (&'static str, c_int)> {
    // SAFETY: every pointer among the arguments points to data that outlives the call.
    if unsafe { libc::syscall(number, a, b, c, d, e) } != -1 {
        return Ok(());
    }
    // This reads the errno of the suspended thread, which needs no lock.
    Err((verb, std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
}

/// Calls `clone3(2)`. The child calls a function on its new stack.
///
/// # Safety
/// The arguments must name a stack that nothing else uses while the child does.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn clone3(
    arguments: *const CloneArgs,
    size: usize,
    function: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    std::arch::naked_asm!(
        "mov r8, rcx", // the call clobbers rcx
        "mov eax, {number}",
        "syscall",
        "test rax, rax",
        "jnz 2f",
        "xor ebp, ebp",
        "mov rdi, r8",
        "call rdx",
        "ud2",
        "2: ret",
        number = const libc::SYS_clone3,
    )
}

/// Calls `clone3(2)`. The child calls a function on its new stack.
///
/// # Safety
/// The arguments must name a stack that nothing else uses while the child does.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn clone3(
    arguments: *const CloneArgs,
    size: usize,
    function: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    std::arch::naked_asm!(
        "mov x8, {number}",
        "svc 0",
        "cbnz x0, 2f",
        "mov x29, xzr",
        "mov x30, xzr",
        "mov x0, x3",
        "blr x2",
        "brk 0",
        "2: ret",
        number = const libc::SYS_clone3,
    )
}

/// Blocks all signals of the calling thread until it is dropped.
struct SignalMask(Option<SigSet>);

impl SignalMask {
    fn block() -> Self {
        Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).ok())
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            let _ = before.thread_set_mask();
        }
    }
}

/// Duplicates a descriptor to a number from `from` up, so that it cannot be overwritten by one that
/// is moved to a lower number. Returns `None` if its number is already that high.
pub(crate) fn dup_above(fd: BorrowedFd<'_>, from: RawFd) -> Result<Option<OwnedFd>> {
    if fd.as_raw_fd() >= from {
        return Ok(None);
    }
    rustix::io::fcntl_dupfd_cloexec(fd, from)
        .map(Some)
        .map_err(|errno| Error::system("dup", fd.as_raw_fd().to_string(), errno))
}
