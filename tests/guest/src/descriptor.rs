//! Open descriptors.
#![allow(unsafe_code, reason = "a look at descriptors by their numbers")]

use core::ffi::CStr;

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, major, minor, openat, statat};

use crate::file::{self, Path};
use crate::json::{self, Json};
use crate::sys;

/// Numbers up to here are looked at: no container of the tests has more.
const LARGEST: u32 = 4096;

/// Appends the field. It opens nothing that it could see itself, and finds descriptors without
/// `/proc`; only what they lead to is known from there.
pub(crate) fn report(json: &mut Json) {
    json.key("descriptors").array(|json| {
        for number in 0..LARGEST {
            if sys::descriptor_flags(number).is_some() {
                json.object(|json| one(json, number));
            }
        }
    });
}

fn one(json: &mut Json, number: u32) {
    let mut path = Path::new();
    path.append(b"/proc/self/fd/");
    path.append_number(number);
    json.key("number").number(number);
    json.key("target");
    file::link(json, path.as_c_str());
    let raw = i32::try_from(number).unwrap_or(-1);
    // SAFETY: it was open a moment ago, and this program has one thread.
    let Ok(stat) = fstat(unsafe { BorrowedFd::borrow_raw(raw) }) else { return };
    json.key("type").string(name(FileType::from_raw_mode(stat.st_mode)));
    json.key("dev").number(stat.st_dev);
    json.key("ino").number(stat.st_ino);
    json.key("major").number(major(stat.st_rdev));
    json.key("minor").number(minor(stat.st_rdev));
}

/// The type as a letter, as ls(1) shows it.
pub(crate) fn name(file_type: FileType) -> &'static [u8] {
    match file_type {
        FileType::RegularFile => b"-",
        FileType::Directory => b"d",
        FileType::Symlink => b"l",
        FileType::Fifo => b"p",
        FileType::Socket => b"s",
        FileType::CharacterDevice => b"c",
        FileType::BlockDevice => b"b",
        FileType::Unknown => b"?",
    }
}

/// A descriptor of stdio. If the host left it closed, calls answer `EBADF`.
pub(crate) fn standard(number: i32) -> BorrowedFd<'static> {
    inherited(number)
}

/// A descriptor that this program was started with.
pub(crate) fn inherited(number: i32) -> BorrowedFd<'static> {
    // SAFETY: this program never closes what it was given.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Looks at the directories of other processes until a file exists; see `attempt::peek`.
pub(crate) fn peek(stop: &CStr) {
    const OTHERS: [&[u8]; 2] = [b"/cwd", b"/root"];
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(own) = statat(CWD, c"/", AtFlags::empty()) else { return };
    let foreign = |path: &Path| {
        openat(CWD, path.as_c_str(), flags, Mode::empty())
            .and_then(fstat)
            .is_ok_and(|stat| stat.st_dev != own.st_dev)
    };
    let (mut looks, mut found) = (0_u64, 0_u64);
    loop {
        let is_last = statat(CWD, stop, AtFlags::empty()).is_ok();
        // Processes that join get the next numbers.
        for pid in 2..64 {
            let mut path = Path::new();
            path.append(b"/proc/");
            path.append_number(pid);
            let length = path.len();
            for other in OTHERS {
                path.append(other);
                found += u64::from(foreign(&path));
                path.truncate(length);
            }
            for number in 3..16 {
                path.append(b"/fd/");
                path.append_number(number);
                found += u64::from(foreign(&path));
                path.truncate(length);
            }
            looks += 1;
        }
        if is_last {
            break;
        }
    }
    json::line(|json| {
        json.object(|json| {
            json.key("looks").number(looks);
            json.key("found").number(found);
        });
    });
}
