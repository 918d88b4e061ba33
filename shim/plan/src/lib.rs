//! Compiles a configuration to the operations that the init runs.
//!
//! A [`Plan`] is a flat list of the operations of `pidone_proto`, already encoded for the wire,
//! together with the host files that they use. Plans can be printed and compared, so the order and
//! the content of a setup are tested without privileges: compiling changes nothing on the host.
//! [`fit`] and [`resolve`] read the host first, and [`facts`] carries the rest of the input.

mod allowed;
pub mod barrier;
mod cgroup_mount;
pub mod container;
mod devices;
mod display;
pub mod dropped;
pub mod facts;
pub mod filter;
pub mod fit;
pub mod join;
pub mod late_user;
mod mount;
pub mod mount_name;
mod names;
pub mod parked;
mod process;
mod protection;
mod provided;
pub mod resolve;
pub mod spawn;
mod sysfs;
#[cfg(test)]
mod tests;
pub mod user_files;

use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use pidone_proto::{Bincode, Codec, Op, Slot, Strings, limits};

pub use process::{Capabilities, Process, Terminal};

use pidone_config::config::{IdMap, NamespaceType, Rlimit};
use pidone_config::error::{Error, Result};

/// A list of operations, in parts that each fit into one message.
///
/// [`container::compile`] makes one from a configuration; [`Plan::push`] builds one by hand. As
/// text it has a line for each operation, with the number that errors name:
///
/// ```
/// use pidone_plan::{Plan, Source};
/// use pidone_proto::{Op, Text};
///
/// let mut plan = Plan::default();
/// let tree = plan.source(Source::Tree { path: "/srv/root".into(), recursive: true, ids: None });
/// plan.push(Op::Root { tree, at: Text(c"/tmp") });
/// plan.push(Op::PivotRoot);
/// assert_eq!(plan.to_string(), "1 root /srv/root at /tmp\n2 pivot_root\n");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    parts: Vec<Part>,
    /// How many slots [`Plan::mount_slot`] has returned since it last started over.
    mount_slots: u16,
}

/// Operations and the host files that they use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The encoded operations, in order and without separators.
    pub bytes: Vec<u8>,
    /// The number of operations in `bytes`.
    pub operations: u32,
    /// The files that fill the slots from 0 up.
    pub sources: Vec<Source>,
}

/// A file of the host that an operation uses by its slot.
///
/// It is opened when its part is sent and closed afterwards, so a thousand mounts never need a
/// thousand open descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A detached copy of a mount: `open_tree(2)`.
    Tree {
        /// The path on the host.
        path: PathBuf,
        /// Whether the mounts below it are copied too.
        recursive: bool,
        /// The id mapping of an id-mapped mount.
        ids: Option<MappedIds>,
    },
    /// A detached overlay of a directory of the host, by its path, and an empty layer in memory
    /// that takes all changes.
    Layered(PathBuf),
    /// A detached, empty, read-only tmpfs without room for files.
    Empty,
    /// A device node that the host makes, as a detached mount.
    Node(Node),
    /// A new file system as a detached mount, made in a namespace that the init has no privilege
    /// over.
    FileSystem {
        /// Its type.
        fstype: &'static str,
        /// The attributes of the mount: `mount_setattr(2)`.
        attributes: u32,
        /// The `CLONE_NEW*` flag and the file of the namespace.
        namespace: (u32, PathBuf),
    },
    /// A directory, opened with `O_PATH`.
    Directory(PathBuf),
    /// The file of a namespace.
    Namespace(PathBuf),
    /// The new network namespace that a thread creates in parallel to the clone.
    Network,
    /// The pidfd of the container's first process.
    Container,
    /// The listening socket that [`Op::AwaitStart`] accepts the start on.
    Listener,
    /// The listening socket on which a supervising init accepts requests.
    Supervisor,
    /// A descriptor that the caller of the launch provides, by its index in the list that
    /// `Launcher::lend` of `pidone` takes.
    Lent(usize),
}

/// A device node: `mknod(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path in the container.
    pub path: String,
    /// Its type and its permission bits.
    pub mode: u32,
    /// The major number of the device.
    pub major: u32,
    /// The minor number of the device.
    pub minor: u32,
    /// Its owner, as the host numbers it.
    pub uid: u32,
    /// Its group, as the host numbers it.
    pub gid: u32,
}

/// The id mapping of an id-mapped mount: `mount_setattr(2)`, "ID-mapped mounts".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedIds {
    /// The user namespace whose id maps the mount gets.
    pub namespace: UserNamespace,
    /// Whether the mounts below it are mapped too.
    pub recursive: bool,
}

/// The user namespace of an id-mapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserNamespace {
    /// A namespace that is created with these maps of users and groups.
    Maps(Vec<IdMap>, Vec<IdMap>),
    /// An existing namespace, by its file.
    File(PathBuf),
}

impl Default for Plan {
    fn default() -> Self {
        Self { parts: vec![Part::default()], mount_slots: 0 }
    }
}

impl Plan {
    /// Appends an operation.
    ///
    /// Nothing is checked here. What the kernel refuses fails when the init runs the operation, and
    /// the error has its number.
    pub fn push(&mut self, op: Op<'_>) {
        let part = self.parts.last_mut().expect("a plan has at least one part");
        Bincode::append(&op, &mut part.bytes).expect("a vector grows");
        part.operations += 1;
    }

    /// Adds a file of the host and returns its slot.
    ///
    /// Begins a new part if this one has as many files as a message can carry. The slot is
    /// therefore valid only for the operations before the next call.
    pub fn source(&mut self, source: Source) -> Slot {
        self.reserve_sources(1);
        let part = self.parts.last_mut().expect("a plan has at least one part");
        part.sources.push(source);
        Slot(u16::try_from(part.sources.len() - 1).expect("fewer than SOURCES"))
    }

    /// Begins a new part. Its files take the slots from 0 up again.
    pub(crate) fn begin_part(&mut self) {
        self.parts.push(Part::default());
    }

    /// Begins a new part unless this one has room for `count` more files, so that the slots that
    /// [`Plan::source`] returns for them are valid together.
    pub(crate) fn reserve_sources(&mut self, count: usize) {
        if self.parts.last().is_some_and(|part| part.sources.len() + count > SOURCES) {
            self.begin_part();
        }
    }

    /// Returns a slot for a mount that the init creates.
    ///
    /// The slots are used in turn and repeat after more than 200 mounts. A mount is attached, which
    /// frees its slot, long before that.
    pub fn mount_slot(&mut self) -> Slot {
        let slot = limits::FIRST_MADE_SLOT + self.mount_slots;
        self.mount_slots = (self.mount_slots + 1) % MOUNT_SLOTS;
        Slot(slot)
    }

    /// Returns the parts, in the order in which they are sent.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns the number of parts that can be sent before the process exists: all but the last
    /// one, and none from the first that needs the network namespace on.
    pub fn early_parts(&self) -> usize {
        self.first_late().unwrap_or(self.parts.len() - 1)
    }

    /// Returns the index of the first part that needs the network namespace of [`Source::Network`].
    pub fn first_late(&self) -> Option<usize> {
        self.parts.iter().position(|part| part.sources.contains(&Source::Network))
    }

    /// Returns the number of operations.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.parts.iter().map(|part| part.operations).sum()
    }

    /// Whether the plan has no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the operations, in the order in which they run.
    pub fn operations(&self) -> impl Iterator<Item = Op<'_>> {
        self.parts.iter().flat_map(Part::operations)
    }

    /// Returns the user that the program runs as; `None` if the plan does not set it.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        let uid = |op| if let Op::Ids { uid, .. } = op { Some(uid) } else { None };
        self.operations().filter_map(uid).last()
    }

    /// Moves the last operation to a separate part, so that it can be sent later than the others.
    pub fn set_last_apart(&mut self) {
        let Some(part) = self.parts.last_mut().filter(|part| part.operations > 1) else { return };
        let mut start = 0;
        for _ in 1..part.operations {
            let Ok((_, length)) = Bincode::decode::<Op<'_>>(&part.bytes[start..]) else { return };
            start += length;
        }
        let last = Part { bytes: part.bytes.split_off(start), operations: 1, ..Part::default() };
        part.operations -= 1;
        self.parts.push(last);
    }

    /// Appends the operations of a plan that has one part and uses no file of the host.
    pub(crate) fn append(&mut self, other: &Self) {
        if let (Some(part), [other]) = (self.parts.last_mut(), other.parts()) {
            part.bytes.extend_from_slice(&other.bytes);
            part.operations += other.operations;
        }
    }

    /// Returns a plan of operations that are already encoded and use no file of the host.
    pub fn encoded(bytes: Vec<u8>) -> Self {
        let mut part = Part { bytes, operations: 0, sources: Vec::new() };
        part.operations = u32::try_from(part.operations().count()).unwrap_or(u32::MAX);
        Self { parts: vec![part], mount_slots: 0 }
    }

    /// Returns the encoded operations after [`Op::AwaitStart`], and the number of the first of
    /// them; `None` if the plan does not wait for a start.
    pub fn after_wait(&self) -> Option<(u32, &[u8])> {
        let before = self.operations().position(|op| matches!(op, Op::AwaitStart { .. }))? + 1;
        // What follows uses no file of the host, and so is in the last part.
        let last = self.parts.last()?;
        let skipped = before.checked_sub(self.operations().count() - last.operations().count())?;
        let mut rest = last.bytes.as_slice();
        for _ in 0..skipped {
            let (_, length) = Bincode::decode::<Op<'_>>(rest).ok()?;
            rest = rest.get(length..)?;
        }
        Some((u32::try_from(before + 1).ok()?, rest))
    }
}

impl Part {
    /// Returns the operations, in the order in which they run.
    pub fn operations(&self) -> impl Iterator<Item = Op<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (op, length) = Bincode::decode(rest).ok()?;
            rest = rest.get(length..)?;
            Some(op)
        })
    }
}

/// The most files of the host in one part. One descriptor of a message is reserved for the memfd
/// that carries a long part.
const SOURCES: usize = limits::DESCRIPTORS - 1;

/// The number of slots for mounts that the init creates, which are used in turn.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const MOUNT_SLOTS: u16 = limits::SLOTS as u16 - limits::FIRST_MADE_SLOT - 2;

/// The slot of a proc that only the init sees.
const PROC: Slot = Slot(limits::FIRST_MADE_SLOT + MOUNT_SLOTS);

/// The slot of the host's null device, if it is copied before the old root is detached.
const NULL: Slot = Slot(limits::FIRST_MADE_SLOT + MOUNT_SLOTS + 1);

/// Returns a string for the wire. `field` names it in the error for a NUL byte inside.
pub(crate) fn text(field: &str, value: impl AsRef<OsStr>) -> Result<CString> {
    let value = value.as_ref();
    CString::new(value.as_bytes())
        .map_err(|_| Error::config(field, value.to_string_lossy(), "has a NUL byte"))
}

/// Returns strings for the wire, each with its NUL, without separators.
pub(crate) fn strings(
    field: &str,
    values: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend_from_slice(text(field, value)?.as_bytes_with_nul());
    }
    Ok(bytes)
}

/// Returns the wire's view of the bytes that [`strings`] returned.
pub(crate) fn view(strings: &[u8]) -> Strings<'_> {
    Strings::new(strings).expect("each string ends in NUL")
}

/// Normalizes a path below the root: `..` cannot leave the root, and `.` and repeated slashes are
/// dropped.
pub(crate) fn clean(path: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            other => components.push(other),
        }
    }
    format!("/{}", components.join("/"))
}

/// Returns the object of an operation for an error message: a path, a name, or nothing.
///
/// `detail` is that of the init's report: it selects one of several options or candidates.
#[must_use]
pub fn subject<'a>(op: &Op<'a>, detail: u16) -> Option<Cow<'a, str>> {
    let text = match *op {
        Op::MakeMount { fstype, .. } if detail == 0 => fstype,
        Op::MakeMount { fstype, options, .. } => {
            let mut options = options.iter().map(|string| string.to_string_lossy());
            let key = options.nth(2 * (usize::from(detail) - 1)).unwrap_or_default();
            let value = options.next().unwrap_or_default();
            let fstype = fstype.0.to_string_lossy();
            let option = if value.is_empty() { key } else { format!("{key}={value}").into() };
            return Some(format!("{fstype} {option}").into());
        }
        Op::OpenTree { path, .. }
        | Op::MakeDirectory { path, .. }
        | Op::MakeNode { path, .. }
        | Op::MakeLink { path, .. }
        | Op::Mask { path, .. }
        | Op::ReadOnly { path }
        | Op::Sysctl { path, .. }
        | Op::ChangeDirectory { path }
        | Op::CopyUp { from: path, .. } => path,
        Op::Root { at, .. }
        | Op::Attach { at, .. }
        | Op::LegacyMount { at, .. }
        | Op::Remount { at, .. } => at,
        Op::HostName { name } | Op::DomainName { name } | Op::Keyring { name } => name,
        Op::Label { value, .. } => value,
        Op::Rlimit { resource: kind, .. } => {
            let name = Rlimit { kind, hard: 0, soft: 0 }.name();
            return Some(name.unwrap_or_else(|| kind.to_string()).into());
        }
        Op::Affinity { .. } => return Some("execCPUAffinity".into()),
        Op::Ids { uid, gid } => return Some(format!("{uid}:{gid}").into()),
        Op::SetNamespaces { flags, .. } => {
            let joined = NamespaceType::ALL.iter().filter(|kind| kind.clone_flag() & flags != 0);
            return Some(joined.map(|kind| kind.name()).collect::<Vec<_>>().join(" ").into());
        }
        // No candidate was found: the first one represents all of them.
        Op::Exec { arguments, .. } if detail == 0 => {
            return Some(arguments.iter().next()?.to_string_lossy());
        }
        Op::Exec { candidates, .. } => {
            return Some(candidates.iter().nth(usize::from(detail) - 1)?.to_string_lossy());
        }
        _ => return None,
    };
    Some(text.0.to_string_lossy())
}
