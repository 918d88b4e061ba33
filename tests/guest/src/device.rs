//! What is in `/dev`.

use rustix::fs::{AtFlags, CWD, FileType, Stat, major, minor, statat};

use crate::descriptor::name;
use crate::file::{self, Path};
use crate::json::Json;

/// How deep directories are looked into: `/dev/net/tun` is the deepest that matters.
const DEPTH: u32 = 3;

/// Appends the fields: the nodes, and which directory is the root.
pub(crate) fn report(json: &mut Json) {
    json.key("root");
    match statat(CWD, c"/", AtFlags::empty()) {
        Ok(stat) => json.object(|json| {
            json.key("dev").number(stat.st_dev);
            json.key("ino").number(stat.st_ino);
        }),
        Err(_) => json.null(),
    }
    json.key("devices").array(|json| {
        let mut path = Path::new();
        path.append(b"/dev");
        directory(json, &mut path, DEPTH);
    });
}

/// Everything in a directory.
fn directory(json: &mut Json, path: &mut Path, depth: u32) {
    path.each(|path, _| one(json, path, depth));
}

fn one(json: &mut Json, path: &mut Path, depth: u32) {
    let Ok(stat) = statat(CWD, path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else { return };
    json.object(|json| {
        json.key("path").string(path.bytes());
        node(json, &stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            json.key("target");
            file::link(json, path.as_c_str());
        }
    });
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth > 1 {
        directory(json, path, depth - 1);
    }
}

/// Type, numbers, permissions and owner.
fn node(json: &mut Json, stat: &Stat) {
    json.key("type").string(name(FileType::from_raw_mode(stat.st_mode)));
    json.key("major").number(major(stat.st_rdev));
    json.key("minor").number(minor(stat.st_rdev));
    json.key("mode").number(stat.st_mode & 0o7777);
    json.key("uid").number(stat.st_uid);
    json.key("gid").number(stat.st_gid);
}
