//! Opens the host's files that a part of a plan uses, right before it is sent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;
use pidone_config::{Error, Result};
use pidone_plan::{Part, Source};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::{Network, id_mapped, layer, node, template};
use crate::trace;

/// An open source of a plan.
pub(crate) enum Opened<'a> {
    /// A new descriptor, which is closed after it was sent.
    Own(OwnedFd),
    /// A descriptor of the caller.
    Lent(BorrowedFd<'a>),
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Lent(fd) => fd.as_fd(),
        }
    }
}

/// The descriptors of the caller that a plan's sources refer to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lent<'a> {
    /// [`Source::Container`]: the pidfd of the container's first process.
    pub(crate) container: Option<BorrowedFd<'a>>,
    /// [`Source::Listener`]: the socket on which the container is started.
    pub(crate) listener: Option<BorrowedFd<'a>>,
    /// [`Source::Supervisor`]: the socket on which a supervising init accepts requests.
    pub(crate) supervisor: Option<BorrowedFd<'a>>,
    /// [`Source::Network`]: the network namespace that a thread creates in parallel.
    pub(crate) network: Option<&'a Network>,
    /// [`Source::Lent`], by index.
    pub(crate) others: &'a [BorrowedFd<'a>],
}

/// Opens all sources of a part.
pub(crate) fn open_all<'a>(part: &Part, lent: Lent<'a>) -> Result<Vec<Opened<'a>>> {
    let open = || part.sources.iter().map(|source| open(source, lent)).collect();
    let name = if part.sources.contains(&Source::Network) {
        "wait for the network namespace"
    } else {
        "open files"
    };
    trace::span(name, open)
}

/// Opens a source.
fn open<'a>(source: &Source, lent: Lent<'a>) -> Result<Opened<'a>> {
    match source {
        Source::Tree { path, recursive, ids } => {
            let tree = tree(path, *recursive)?;
            if let Some(ids) = ids {
                id_mapped::set_ids(tree.as_fd(), ids, path)?;
            }
            Ok(Opened::Own(tree))
        }
        Source::Layered(path) => {
            trace::span("make the layer of the root", || layer::make(path)).map(Opened::Own)
        }
        Source::Empty => {
            let options = [("size", "0k"), ("nr_inodes", "2"), ("mode", "555")];
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            template::file_system("tmpfs", &options, attributes).map(Opened::Own)
        }
        Source::Node(new) => trace::span("make a device node", || node::make(new)).map(Opened::Own),
        Source::FileSystem { fstype, attributes, namespace: (flag, path) } => {
            let attributes = MountAttrFlags::from_bits_retain(*attributes);
            file_system_in((*flag, path), fstype, attributes).map(Opened::Own)
        }
        Source::Directory(path) => file(path, OFlags::PATH | OFlags::DIRECTORY).map(Opened::Own),
        Source::Namespace(path) => file(path, OFlags::RDONLY).map(Opened::Own),
        Source::Container => lent
            .container
            .map(Opened::Lent)
            .ok_or_else(|| Error::system("pidfd_open", "the container", Errno::SRCH)),
        Source::Listener | Source::Supervisor => {
            let socket = if *source == Source::Listener { lent.listener } else { lent.supervisor };
            socket
                .map(Opened::Lent)
                .ok_or_else(|| Error::system("listen", "the container", Errno::BADF))
        }
        Source::Network => match lent.network {
            Some(network) => network.namespace().map(Opened::Lent),
            None => Err(Error::system("unshare", "network", Errno::BADF)),
        },
        Source::Lent(index) => lent
            .others
            .get(*index)
            .copied()
            .map(Opened::Lent)
            .ok_or_else(|| Error::system("lend", format!("descriptor {index}"), Errno::BADF)),
    }
}

/// Makes a file system in a namespace, given by its flag and file, on a separate thread that
/// enters it.
fn file_system_in(
    (flag, path): (u32, &Path),
    fstype: &'static str,
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let namespace = file(path, OFlags::RDONLY)?;
    let make = || {
        // The caller's signals must not be handled in this thread.
        let _ = SigSet::all().thread_block();
        let flag = CloneFlags::from_bits_retain(flag.cast_signed());
        setns(&namespace, flag).map_err(|errno| Error::path("setns", path, errno))?;
        template::file_system(fstype, &[], attributes)
    };
    let made = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, make);
        thread.map(|thread| thread.join())
    });
    match made {
        Ok(Ok(made)) => made,
        Ok(Err(_)) => Err(Error::system("fsmount", fstype, Errno::CANCELED)),
        Err(error) => Err(Error::system("start a thread", fstype, error)),
    }
}

/// Returns a detached copy of a mount.
fn tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags).map_err(|errno| {
        let error = Error::path("open_tree", path, errno);
        match errno {
            Errno::LOOP => error.with_hint("it holds namespace files that cannot be copied"),
            _ => error,
        }
    })
}

/// Opens a file.
fn file(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::path("open", path, errno))
}
