//! The child of the floor: makes a container or joins one, and executes the payload.
//!
//! It shares the parent's memory, and so makes only system calls. On request it records when each
//! part is done.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

use super::sys::{Argument, Failed, call};
use super::{Floor, clone};
use crate::part::Part;
use crate::scenario::{HOST_NAME, OPEN_FILES, Scenario};

type Result<T = ()> = std::result::Result<T, Failed>;

const NONE: u64 = 0;

/// Makes the container and executes the payload. Returns only on failure.
pub(super) fn start(floor: &Floor) -> Result {
    let oci = floor.scenario.is_oci();
    let reached = |part| floor.stamps.reached(part);
    reached(Part::Clone);
    root(&floor.rootfs)?;
    if oci {
        // The namespace is rooted at the cgroup into which the child was cloned.
        call(libc::SYS_unshare, [0x200_0000_u32.into()])?;
    }
    reached(Part::Root);
    mounts(oci)?;
    reached(Part::Mounts);
    devices()?;
    reached(Part::Devices);
    if oci {
        protection(floor)?;
        reached(Part::Protection);
    }
    pivot()?;
    reached(Part::Root);
    if oci {
        let name = HOST_NAME.as_bytes();
        call(libc::SYS_sethostname, [name.as_ptr().into(), (name.len() as u64).into()])?;
        reached(Part::Process);
    }
    if floor.scenario == Scenario::OciNet {
        loopback()?;
        reached(Part::Network);
    }
    process(floor)
}

/// Enters the namespaces of a container, and executes the payload in a sibling there, since a new
/// pid namespace applies to children only. Returns the sibling's id.
pub(super) fn join(floor: &Floor, container: RawFd) -> std::result::Result<i32, Failed> {
    let namespaces = floor.namespaces();
    call(libc::SYS_setns, [container.into(), namespaces.into()])?;
    clone::sibling(&|| process(floor))
}

/// Executes the payload as a program of the host, without a container.
pub(super) fn plain(program: &CStr, output: RawFd) -> Result {
    call(libc::SYS_dup3, [output.into(), 1_u32.into(), 0_u32.into()])?;
    execute(program)
}

/// Executes the payload in a finished container.
fn process(floor: &Floor) -> Result {
    let oci = floor.scenario.is_oci();
    stdio(floor.output.writer().as_raw_fd())?;
    if oci {
        let limit = [OPEN_FILES, OPEN_FILES];
        call(libc::SYS_setrlimit, [libc::RLIMIT_NOFILE.into(), (&limit).into()])?;
    }
    call(libc::SYS_setsid, [])?;
    capabilities(floor)?;
    floor.stamps.reached(Part::Process);
    if oci {
        filter(&floor.filter)?;
    }
    execute(c"/payload")
}

fn mount(
    source: impl Into<Argument>,
    target: impl Into<Argument>,
    fstype: impl Into<Argument>,
    flags: u64,
    data: impl Into<Argument>,
) -> Result {
    let arguments = [source.into(), target.into(), fstype.into(), flags.into(), data.into()];
    call(libc::SYS_mount, arguments).map(drop)
}

fn bind(source: &CStr, target: &CStr) -> Result {
    mount(source, target, NONE, libc::MS_BIND, NONE)
}

/// Stops propagation to the host, and makes the root a mount and the working directory.
fn root(rootfs: &CStr) -> Result {
    mount(NONE, c"/", NONE, libc::MS_REC | libc::MS_SLAVE, NONE)?;
    mount(rootfs, rootfs, NONE, libc::MS_BIND | libc::MS_REC, NONE)?;
    call(libc::SYS_chdir, [rootfs.into()]).map(drop)
}

const PLAIN: u64 = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;

fn mounts(oci: bool) -> Result {
    mount(c"proc", c"proc", c"proc", PLAIN, NONE)?;
    let dev = libc::MS_NOSUID | libc::MS_STRICTATIME;
    mount(c"tmpfs", c"dev", c"tmpfs", dev, c"mode=755,size=65536k")?;
    if !oci {
        return Ok(());
    }
    for directory in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        call(libc::SYS_mkdirat, [libc::AT_FDCWD.into(), directory.into(), 0o755_u32.into()])?;
    }
    let pts = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(c"devpts", c"dev/pts", c"devpts", pts, c"newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    mount(c"tmpfs", c"dev/shm", c"tmpfs", PLAIN, c"mode=1777,size=65536k")?;
    mount(c"mqueue", c"dev/mqueue", c"mqueue", PLAIN, NONE)?;
    mount(c"sysfs", c"sys", c"sysfs", PLAIN | libc::MS_RDONLY, NONE)?;
    mount(c"cgroup", c"sys/fs/cgroup", c"cgroup2", PLAIN | libc::MS_RDONLY, NONE)
}

/// Makes device nodes on the new tmpfs, and the links of the OCI runtime specification.
fn devices() -> Result {
    call(libc::SYS_umask, [0_u32.into()])?;
    for (path, major, minor) in [
        (c"dev/null", 1, 3),
        (c"dev/zero", 1, 5),
        (c"dev/full", 1, 7),
        (c"dev/tty", 5, 0),
        (c"dev/urandom", 1, 9),
        (c"dev/random", 1, 8),
    ] {
        let mode = libc::S_IFCHR | 0o666;
        let device: u64 = libc::makedev(major, minor);
        let at = libc::AT_FDCWD;
        call(libc::SYS_mknodat, [at.into(), path.into(), mode.into(), device.into()])?;
    }
    for (target, path) in [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
        (c"/proc/kcore", c"dev/core"),
        (c"pts/ptmx", c"dev/ptmx"),
    ] {
        call(libc::SYS_symlinkat, [target.into(), libc::AT_FDCWD.into(), path.into()])?;
    }
    call(libc::SYS_umask, [0o22_u32.into()]).map(drop)
}

/// Makes paths read-only, and masks others: directories by one shared empty file system, files by
/// the null device.
fn protection(floor: &Floor) -> Result {
    let masks = &floor.masks;
    for path in &masks.read_only {
        bind(path, path)?;
        let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | PLAIN;
        mount(NONE, path.as_c_str(), NONE, flags, NONE)?;
    }
    if let Some((first, others)) = masks.directories.split_first() {
        let empty = c"size=0k,nr_inodes=2,mode=555";
        mount(c"tmpfs", first.as_c_str(), c"tmpfs", PLAIN | libc::MS_RDONLY, empty)?;
        others.iter().try_for_each(|path| bind(first, path))?;
    }
    masks.files.iter().try_for_each(|path| bind(c"dev/null", path))
}

/// Makes the working directory the root: `pivot_root(2)`, "NOTES".
fn pivot() -> Result {
    call(libc::SYS_pivot_root, [c".".into(), c".".into()])?;
    call(libc::SYS_umount2, [c".".into(), libc::MNT_DETACH.into()]).map(drop)
}

/// Brings up `lo`: `netdevice(7)`.
fn loopback() -> Result {
    const UP_RUNNING: u16 = 0x1 | 0x40;
    // struct ifreq: a name of 16 bytes, then the flags.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&UP_RUNNING.to_ne_bytes());
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let socket = call(libc::SYS_socket, [libc::AF_INET.into(), kind.into(), NONE.into()])?;
    let set_flags: u64 = 0x8914; // SIOCSIFFLAGS
    call(libc::SYS_ioctl, [socket.into(), set_flags.into(), (&request).into()]).map(drop)
}

/// Sets up the container's null device as input and the pipe as output. Standard error stays.
fn stdio(output: RawFd) -> Result {
    let at = libc::AT_FDCWD;
    let flags = libc::O_RDWR | libc::O_CLOEXEC;
    let null = call(libc::SYS_openat, [at.into(), c"/dev/null".into(), flags.into()])?;
    call(libc::SYS_dup3, [null.into(), 0_u32.into(), 0_u32.into()])?;
    call(libc::SYS_dup3, [output.into(), 1_u32.into(), 0_u32.into()]).map(drop)
}

/// Drops capabilities, from the bounding set first, since that needs a capability itself.
fn capabilities(floor: &Floor) -> Result {
    for &capability in &floor.dropped {
        call(libc::SYS_prctl, [libc::PR_CAPBSET_DROP.into(), capability.into()])?;
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable: the low 32 bits of each, then the high ones.
    let [a, b, c, d, e, f, g, h] = floor.kept.to_le_bytes();
    let [low, high] = [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes);
    let data = [low, low, 0, high, high, 0];
    call(libc::SYS_capset, [(&header).into(), (&data).into()]).map(drop)
}

/// Loads a seccomp filter for the calling thread.
pub(super) fn filter(instructions: &[u8]) -> Result {
    let one: u64 = 1;
    let no_new_privileges = [libc::PR_SET_NO_NEW_PRIVS.into(), one.into()];
    call(
        libc::SYS_prctl,
        [no_new_privileges[0], no_new_privileges[1], NONE.into(), NONE.into(), NONE.into()],
    )?;
    // struct sock_fprog: the number of instructions with padding, and their address.
    let program = [(instructions.len() / 8) as u64, instructions.as_ptr() as u64];
    const SET_MODE_FILTER: u32 = 1;
    call(libc::SYS_seccomp, [SET_MODE_FILTER.into(), NONE.into(), (&program).into()]).map(drop)
}

fn execute(program: &CStr) -> Result {
    let arguments = [program.as_ptr(), std::ptr::null()];
    let environment = [c"PATH=/bin".as_ptr(), std::ptr::null()];
    let call_arguments = [program.into(), (&arguments).into(), (&environment).into()];
    call(libc::SYS_execve, call_arguments).map(drop)
}
