//! Another process's course and memory: `ptrace(2)`, `process_vm_readv(2)`, `proc_pid_mem(5)`.

use core::sync::atomic::AtomicU64;

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::sys;

/// Numbers of system calls.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const PTRACE: usize = 101;
    pub(super) const PROCESS_VM_READV: usize = 310;
    pub(super) const PROCESS_VM_WRITEV: usize = 311;
}

/// Numbers of system calls.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const PTRACE: usize = 117;
    pub(super) const PROCESS_VM_READV: usize = 270;
    pub(super) const PROCESS_VM_WRITEV: usize = 271;
}

const INTERRUPT: usize = 0x4207;
const DETACH: usize = 17;

/// What is read and written in the other process: a child has it at the same address.
static CELL: AtomicU64 = AtomicU64::new(UNTOUCHED);

/// What it holds.
const UNTOUCHED: u64 = 7;

fn cell() -> usize {
    CELL.as_ptr().expose_provenance()
}

fn ptrace(request: usize, pid: i32) -> Result<(), Errno> {
    let pid = (pid as isize).cast_unsigned();
    sys::any(number::PTRACE, [request, pid, 0, 0, 0, 0]).map(drop)
}

/// Stops a process and lets it go.
pub(crate) fn attach(pid: i32) -> Result<(), Errno> {
    const ATTACH: usize = 16;
    ptrace(ATTACH, pid)?;
    sys::wait()?;
    ptrace(DETACH, pid)
}

/// The same without a signal.
pub(crate) fn seize(pid: i32) -> Result<(), Errno> {
    const SEIZE: usize = 0x4206;
    ptrace(SEIZE, pid)?;
    ptrace(INTERRUPT, pid)?;
    sys::wait()?;
    ptrace(DETACH, pid)
}

/// Moves a number between a process and this one.
fn move_memory(call: usize, pid: i32, own: &mut u64) -> Result<(), Errno> {
    let length = size_of::<u64>();
    // struct iovec: an address and a length.
    let local = [core::ptr::from_mut(own).expose_provenance(), length];
    let remote = [cell(), length];
    let place = |vector: &[usize; 2]| vector.as_ptr().expose_provenance();
    let pid = (pid as isize).cast_unsigned();
    sys::any(call, [pid, place(&local), 1, place(&remote), 1, 0]).map(drop)
}

/// Reads from the memory of a process.
pub(crate) fn read_memory(pid: i32) -> Result<(), Errno> {
    move_memory(number::PROCESS_VM_READV, pid, &mut 0)
}

/// Writes to the memory of a process: what it has there, if that can be known.
pub(crate) fn write_memory(pid: i32) -> Result<(), Errno> {
    let mut there = UNTOUCHED;
    let _ = move_memory(number::PROCESS_VM_READV, pid, &mut there);
    move_memory(number::PROCESS_VM_WRITEV, pid, &mut there)
}

/// Reads by the file of a process's memory.
pub(crate) fn read_file(memory: &OwnedFd) -> Result<(), Errno> {
    rustix::io::pread(memory, &mut [0; 8], cell() as u64).map(drop)
}

/// Writes by it what the memory has there.
pub(crate) fn write_file(memory: &OwnedFd) -> Result<(), Errno> {
    let mut there = UNTOUCHED.to_ne_bytes();
    rustix::io::pread(memory, &mut there, cell() as u64)?;
    rustix::io::pwrite(memory, &there, cell() as u64).map(drop)
}
