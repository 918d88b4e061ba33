//! Attempts to reach into another process: its memory, its descriptors, its directories.

use core::ffi::CStr;

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat_raw};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::file::Path;
use crate::json::{self, Json};
use crate::{attempt, load, sys, trace};

/// Descriptors up to here are tried.
const DESCRIPTORS: u32 = 64;

/// Files of a process that only it, and processes that may trace it, may read.
const FILES: [&str; 6] = ["environ", "auxv", "maps", "smaps", "pagemap", "syscall"];

const NO_MODE: Mode = Mode::empty();

/// Tries everything on a process, or on a child that is made for it: the errno of each attempt, 0
/// for success.
pub(crate) fn print(pid: Option<i64>) {
    let made = pid.is_none().then(child);
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).or(made).unwrap_or(-1);
    json::line(|json| json.object(|json| attempts(json, pid)));
    if made.is_some() {
        let _ = sys::kill(pid, 9);
        let _ = sys::wait();
    }
}

/// A child that does nothing.
fn child() -> i32 {
    match sys::fork() {
        Ok(0) => {
            load::sleep(None);
            sys::exit(0)
        }
        Ok(pid) => i32::try_from(pid).unwrap_or(-1),
        Err(_) => -1,
    }
}

fn attempts(json: &mut Json, pid: i32) {
    let mut tried = |name: &str, result: Result<(), Errno>| {
        json.key(name).number(attempt::errno(result));
    };
    let open = |name: &str, flags| openat(CWD, of(pid, name, None).as_c_str(), flags, NO_MODE);
    tried("attach", trace::attach(pid));
    tried("seize", trace::seize(pid));
    tried("process_vm_readv", trace::read_memory(pid));
    tried("process_vm_writev", trace::write_memory(pid));
    tried("mem, read", open("mem", OFlags::RDONLY).and_then(|file| trace::read_file(&file)));
    tried("mem, write", open("mem", OFlags::RDWR).and_then(|file| trace::write_file(&file)));
    let read = |file| rustix::io::read(file, &mut [0; 64]).map(drop);
    for name in FILES {
        tried(name, open(name, OFlags::RDONLY).and_then(read));
    }
    for name in ["root", "cwd"] {
        tried(name, open(name, OFlags::DIRECTORY).map(drop));
    }
    for name in ["exe", "ns/mnt"] {
        tried(name, open(name, OFlags::RDONLY).map(drop));
    }
    for name in ["map_files", "fdinfo", "fd"] {
        tried(name, any_entry(pid, name));
    }
    let descriptor = |name, number| {
        let path = of(pid, name, Some(number));
        openat(CWD, path.as_c_str(), OFlags::RDONLY | OFlags::NONBLOCK, NO_MODE)
    };
    tried("fd, open", any(|number| descriptor("fd", number).map(drop)));
    tried("fdinfo, read", any(|number| descriptor("fdinfo", number).and_then(read)));
    let link =
        |number| readlinkat_raw(CWD, of(pid, "fd", Some(number)).as_c_str(), &mut [0; 64][..]);
    tried("fd, link", any(|number| link(number).map(drop)));
    let taken = Pid::from_raw(pid).ok_or(Errno::SRCH).and_then(|pid| {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        any(|number| pidfd_getfd(&pidfd, number.cast_signed(), PidfdGetfdFlags::empty()).map(drop))
    });
    tried("pidfd_getfd", taken);
}

/// A path of a process.
fn of(pid: i32, name: &str, number: Option<u32>) -> Path {
    let mut path = Path::new();
    path.append(b"/proc/");
    path.append_number(pid.unsigned_abs());
    path.append(b"/");
    path.append(name.as_bytes());
    if let Some(number) = number {
        path.append(b"/");
        path.append_number(number);
    }
    path
}

/// Success if an attempt succeeds for any descriptor; else how the last that exists failed.
fn any(mut attempt: impl FnMut(u32) -> Result<(), Errno>) -> Result<(), Errno> {
    let mut outcome = Err(Errno::NOENT);
    for number in 0..DESCRIPTORS {
        match attempt(number) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT | Errno::BADF) => {}
            Err(errno) => outcome = Err(errno),
        }
    }
    outcome
}

/// Whether a directory of a process can be read and has an entry.
fn any_entry(pid: i32, name: &str) -> Result<(), Errno> {
    let mut path = of(pid, name, None);
    openat(CWD, path.as_c_str(), OFlags::DIRECTORY, NO_MODE)?;
    let mut found = Err(Errno::ACCESS);
    path.each(|_, _| found = Ok(()));
    found
}

/// Connects to a socket by its name, which is in the abstract if it begins with `@`, and prints
/// the errno.
pub(crate) fn reach(name: &CStr) {
    let address = match name.to_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
        _ => SocketAddrUnix::new(name),
    };
    let result = address.and_then(|address| {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &address)
    });
    json::line(|json| json.number(attempt::errno(result)));
}
