#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper without a C library")]
//! The commands of `bpf(2)` that a device program needs.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::program::Instruction;
use crate::cgroup::directory::Directory;

type Result<T> = rustix::io::Result<T>;

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_GET_FD_BY_ID: u32 = 13;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Keeps the programs of this cgroup and its ancestors attached too. Each of them may deny.
const ALLOW_MULTI: u32 = 2;

/// The most programs that the kernel attaches to one cgroup.
const MOST_PROGRAMS: u32 = 64;

/// The name of our programs, which distinguishes them from those of a service manager on the same
/// cgroup.
const NAME: [u8; 16] = *b"pidone_devices\0\0";

/// A structure that `bpf(2)` reads, or reads and writes.
///
/// # Safety
/// The type is `#[repr(C)]`, has no padding, and every bit pattern that the kernel may write to it
/// is valid.
unsafe trait Attributes {}

#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    target: RawFd,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    flags: u32,
}

#[repr(C)]
struct Info {
    program: RawFd,
    length: u32,
    buffer: u64,
}

/// The fields of `struct bpf_prog_info` up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u32; 16],
    name: [u8; 16],
}

/// The size of [`ProgramInfo`].
const INFO_LENGTH: u32 = 80;
const _: () = assert!(size_of::<ProgramInfo>() == INFO_LENGTH as usize);

// SAFETY: the fields are integers, aligned without padding.
unsafe impl Attributes for Load {}
// SAFETY: as above.
unsafe impl Attributes for Attach {}
// SAFETY: as above.
unsafe impl Attributes for Query {}
// SAFETY: as above.
unsafe impl Attributes for ById {}
// SAFETY: as above.
unsafe impl Attributes for Info {}

/// Calls `bpf(2)` and returns its result.
///
/// # Safety
/// Every address in `attributes` points to memory that outlives the call and has the length that
/// `attributes` gives for it. Memory that the command writes to is not shared.
unsafe fn bpf<T: Attributes>(command: u32, attributes: &mut T) -> Result<i32> {
    // SAFETY: the kernel reads and writes at most size_of::<T>() bytes of `attributes`, which is
    // exclusively borrowed; addresses in it are valid by this function's own contract.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => {
            let error = std::io::Error::last_os_error();
            Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        }
    }
}

/// Returns the address of memory that the kernel reads.
fn address<T: ?Sized>(memory: &T) -> u64 {
    std::ptr::from_ref(memory).cast::<u8>().expose_provenance() as u64
}

/// Returns the address of memory that the kernel writes to.
fn address_mut<T>(memory: &mut T) -> u64 {
    std::ptr::from_mut(memory).expose_provenance() as u64
}

/// Takes ownership of a descriptor that a command returned.
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: called only for results of commands that create a descriptor, which nothing else
    // owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a program, which the kernel verifies, and returns its descriptor, which is close-on-exec.
pub(super) fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let mut attributes = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: address(program),
        license: address(c"Apache-2.0"),
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: NAME,
        interface: 0,
        expected_attach_type: CGROUP_DEVICE,
    };
    // The verifier returns EAGAIN where it would have to wait. libbpf retries too.
    const ATTEMPTS: u32 = 10;
    let mut attempt = 1;
    loop {
        // SAFETY: the slice and the string outlive the call, and the kernel only reads them.
        match unsafe { bpf(PROG_LOAD, &mut attributes) } {
            Err(Errno::AGAIN) if attempt < ATTEMPTS => attempt += 1,
            loaded => return loaded.map(owned),
        }
    }
}

/// Attaches a program, and keeps those that are attached already.
pub(super) fn attach(cgroup: &Directory, program: &OwnedFd) -> Result<()> {
    attach_or_detach(PROG_ATTACH, cgroup, program, ALLOW_MULTI)
}

/// Detaches a program.
pub(super) fn detach(cgroup: &Directory, program: &OwnedFd) -> Result<()> {
    attach_or_detach(PROG_DETACH, cgroup, program, 0)
}

fn attach_or_detach(command: u32, cgroup: &Directory, program: &OwnedFd, flags: u32) -> Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_fd().as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: CGROUP_DEVICE,
        flags,
    };
    // SAFETY: the attributes have no address.
    unsafe { bpf(command, &mut attributes) }.map(drop)
}

/// Returns the programs with our name that are attached to this cgroup itself.
pub(super) fn attached(cgroup: &Directory) -> Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MOST_PROGRAMS as usize];
    let mut query = Query {
        target: cgroup.as_fd().as_raw_fd(),
        attach_type: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: address_mut(&mut ids),
        count: MOST_PROGRAMS,
        padding: 0,
    };
    // SAFETY: `ids` has room for `count` numbers.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let mut programs = Vec::new();
    for &id in ids.iter().take_while(|&&id| id != 0) {
        let mut by_id = ById { id, next_id: 0, flags: 0 };
        // SAFETY: the attributes have no address.
        let program = match unsafe { bpf(PROG_GET_FD_BY_ID, &mut by_id) } {
            Ok(fd) => owned(fd),
            // Another process has detached it meanwhile.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if name(&program)? == NAME {
            programs.push(program);
        }
    }
    Ok(programs)
}

/// Returns the name of a program.
fn name(program: &OwnedFd) -> Result<[u8; 16]> {
    let mut info = ProgramInfo::default();
    let mut attributes =
        Info { program: program.as_raw_fd(), length: INFO_LENGTH, buffer: address_mut(&mut info) };
    // SAFETY: `info` has the length that the attributes give, and consists of integers.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(info.name)
}
