//! What of `/proc` and `/sys` can be opened for writing.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};

use crate::file::Path;
use crate::json::{self, Json};

/// How deep directories are looked into.
const DEPTH: u32 = 12;

/// Prints the paths. Nothing is written; the processes themselves are left out.
pub(crate) fn print() {
    json::line(|json| {
        json.array(|json| {
            for root in [b"/proc".as_slice(), b"/sys"] {
                let mut path = Path::new();
                path.append(root);
                directory(json, &mut path, DEPTH);
            }
        });
    });
}

fn directory(json: &mut Json, path: &mut Path, depth: u32) {
    let is_proc = path.bytes() == b"/proc";
    path.each(|path, name| {
        if !(is_proc && name.first().is_some_and(u8::is_ascii_digit)) {
            one(json, path, depth);
        }
    });
}

fn one(json: &mut Json, path: &mut Path, depth: u32) {
    let Ok(stat) = statat(CWD, path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else { return };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory if depth > 1 => directory(json, path, depth - 1),
        // A device would be opened for good: only the null device covers files here.
        FileType::RegularFile => {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if openat(CWD, path.as_c_str(), flags, Mode::empty()).is_ok() {
                json.string(path.bytes());
            }
        }
        _ => {}
    }
}
