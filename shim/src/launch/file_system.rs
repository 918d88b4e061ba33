//! File systems that the host makes, detached.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mkdirat, mknodat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::error::{Error, Result};
use crate::plan::{Entry, FileSystem};

/// Makes one with all that is in it.
///
/// # Errors
/// [`crate::Code::SystemError`] with the type and the option, or the name, that was refused.
pub(super) fn make(wanted: &FileSystem) -> Result<OwnedFd> {
    let attributes = MountAttrFlags::from_bits_retain(wanted.attributes);
    let options: Vec<_> = wanted.options.iter().map(|(key, value)| (&**key, &**value)).collect();
    let mount = detached(&wanted.fstype, &options, attributes)?;
    for entry in &wanted.entries {
        let (verb, name) = entry.subject();
        enter(&mount, entry).map_err(|errno| {
            Error::system(verb, format!("{}{}", wanted.at, name.to_string_lossy()), errno)
        })?;
    }
    Ok(mount)
}

/// Makes one with options that are each a key and a value, which is empty for a flag.
pub(super) fn detached(
    fstype: &CStr,
    options: &[(&CStr, &CStr)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let subject = || fstype.to_string_lossy().into_owned();
    let fail = |verb| move |errno: Errno| Error::system(verb, subject(), errno);
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen"))?;
    for (key, value) in options.iter().copied() {
        let set = if value.is_empty() {
            fsconfig_set_flag(&context, key)
        } else {
            fsconfig_set_string(&context, key, value)
        };
        set.map_err(|errno| {
            let equals = if value.is_empty() { "" } else { "=" };
            let option = format!(
                "{} {}{equals}{}",
                subject(),
                key.to_string_lossy(),
                value.to_string_lossy()
            );
            Error::system("fsconfig", option, errno)
        })?;
    }
    fsconfig_create(&context).map_err(fail("fsconfig"))?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail("fsmount"))
}

/// Makes an entry, with the exact mode: the mask is the caller's own affair.
fn enter(mount: &OwnedFd, entry: &Entry) -> rustix::io::Result<()> {
    match entry {
        Entry::Directory { name, mode } => {
            let mode = Mode::from_raw_mode(*mode);
            mkdirat(mount, name, mode)?;
            chmodat(mount, name, mode, AtFlags::empty())
        }
        Entry::Node { name, mode, major, minor, uid, gid } => {
            let (kind, mode) = (FileType::from_raw_mode(*mode), Mode::from_raw_mode(*mode));
            mknodat(mount, name, kind, mode, makedev(*major, *minor))?;
            if (*uid, *gid) != (0, 0) {
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                chownat(mount, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            chmodat(mount, name, mode, AtFlags::empty())
        }
        Entry::Link { name, target } => symlinkat(target, mount, name),
    }
}
