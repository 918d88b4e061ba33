//! Configuration to operations: what the init is told, without a system call.
//!
//! A [`Plan`] is a flat list of the operations of `pidone_proto`, already in the bytes of the
//! wire, with the host files that they need. It is printable and comparable, so that policy is
//! tested without privileges.

mod allowed;
pub mod barrier;
pub mod container;
mod devices;
mod display;
pub mod dropped;
pub mod facts;
pub mod filter;
pub mod fit;
pub mod join;
mod mount;
mod names;
pub mod parked;
mod process;
pub mod resolve;
pub mod spawn;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use pidone_proto::{Bincode, Codec, Op, Slot, Strings, limits};

pub use process::{Capabilities, Process, Terminal};

use pidone_config::config::{IdMap, NamespaceType, Rlimit};
use pidone_config::error::{Error, Result};

/// A list of operations, in parts that each fit into one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    parts: Vec<Part>,
    made: u16,
}

/// Operations and the host files that they use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The operations, encoded one behind the other.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub operations: u32,
    /// What is opened for the slots from 0 up.
    pub sources: Vec<Source>,
}

/// A file of the host that an operation uses by its slot.
///
/// Opened when the part is sent and closed behind it, so that a thousand mounts never take a
/// thousand descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A copy of a mount, detached.
    Tree {
        /// The path on the host.
        path: PathBuf,
        /// Whether mounts below it come along.
        recursive: bool,
        /// The ids that its files get.
        ids: Option<MappedIds>,
    },
    /// A new file system that is empty, takes nothing and is read-only, detached.
    Empty,
    /// A directory.
    Directory(PathBuf),
    /// A namespace's file.
    Namespace(PathBuf),
    /// The new network namespace, made beside the clone.
    Network,
    /// The pidfd of the container's first process.
    Container,
    /// The socket on which the container is started.
    Listener,
    /// The socket on which an init that supervises is asked.
    Supervisor,
    /// A descriptor that the caller lends to the launch, by its place among those:
    /// [`Launcher::lend`](pidone::launcher::Launcher::lend).
    Lent(usize),
}

/// The ids of an id-mapped mount: those of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedIds {
    /// Which user namespace.
    pub namespace: UserNamespace,
    /// Whether the mounts below are mapped too.
    pub recursive: bool,
}

/// A user namespace that has ids to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserNamespace {
    /// One that is made for these maps of users and groups.
    Maps(Vec<IdMap>, Vec<IdMap>),
    /// That of a file.
    File(PathBuf),
}

impl Default for Plan {
    fn default() -> Self {
        Self { parts: vec![Part::default()], made: 0 }
    }
}

impl Plan {
    /// Appends an operation.
    ///
    /// Nothing is checked here: the kernel has the last word when the init runs it, and the error
    /// then names its number.
    pub fn push(&mut self, op: Op<'_>) {
        let part = self.parts.last_mut().expect("a plan has at least one part");
        Bincode::append(&op, &mut part.bytes).expect("a vector grows");
        part.operations += 1;
    }

    /// A file of the host for the next operations of this part.
    ///
    /// Begins a new part when this one has as many files as a message can carry. The slot is
    /// valid until the next one that is asked for.
    pub fn source(&mut self, source: Source) -> Slot {
        self.room_for(1);
        let part = self.parts.last_mut().expect("a plan has at least one part");
        part.sources.push(source);
        Slot(u16::try_from(part.sources.len() - 1).expect("fewer than SOURCES"))
    }

    /// Begins a new part, whose files take the slots from 0 up again.
    pub(crate) fn begin_part(&mut self) {
        self.parts.push(Part::default());
    }

    /// Begins a new part unless this one can carry so many more files: that many slots of
    /// [`Plan::source`] are then valid together.
    pub(crate) fn room_for(&mut self, count: usize) {
        if self.parts.last().is_some_and(|part| part.sources.len() + count > SOURCES) {
            self.begin_part();
        }
    }

    /// A slot for a mount that the init makes.
    ///
    /// They are used in turn: a mount is attached long before its slot comes round again, after
    /// more than 200 others.
    pub fn mount_slot(&mut self) -> Slot {
        let slot = limits::FIRST_MADE_SLOT + self.made;
        self.made = (self.made + 1) % MADE;
        Slot(slot)
    }

    /// The parts, in the order in which they are sent.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many parts may be sent before the process is there: not the last one, nor any that waits
    /// for the network namespace.
    pub fn early_parts(&self) -> usize {
        self.first_late().unwrap_or(self.parts.len() - 1)
    }

    /// The first part that waits for the network namespace.
    pub fn first_late(&self) -> Option<usize> {
        self.parts.iter().position(|part| part.sources.contains(&Source::Network))
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.parts.iter().map(|part| part.operations).sum()
    }

    /// Whether there is no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The operations, in their order.
    pub fn operations(&self) -> impl Iterator<Item = Op<'_>> {
        self.parts.iter().flat_map(Part::operations)
    }

    /// Puts the last operation into a part of its own, so that it can be sent later than the others.
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

    /// Appends operations that use no file of the host, of a plan of one part.
    pub(crate) fn append(&mut self, other: &Self) {
        if let (Some(part), [other]) = (self.parts.last_mut(), other.parts()) {
            part.bytes.extend_from_slice(&other.bytes);
            part.operations += other.operations;
        }
    }

    /// A plan of operations that are encoded already and use no file of the host.
    pub fn encoded(bytes: Vec<u8>) -> Self {
        let mut part = Part { bytes, operations: 0, sources: Vec::new() };
        part.operations = u32::try_from(part.operations().count()).unwrap_or(u32::MAX);
        Self { parts: vec![part], made: 0 }
    }

    /// The operations behind [`Op::AwaitStart`] in their encoding, and the number of the first;
    /// `None` if the plan does not wait.
    pub fn after_wait(&self) -> Option<(u32, &[u8])> {
        let before = self.operations().position(|op| matches!(op, Op::AwaitStart { .. }))? + 1;
        // What follows uses no file of the host, and so stands in the last part.
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
    /// The operations, in their order.
    pub fn operations(&self) -> impl Iterator<Item = Op<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (op, length) = Bincode::decode(rest).ok()?;
            rest = rest.get(length..)?;
            Some(op)
        })
    }
}

/// Files of the host in one part. One place is kept for the memfd of a long part.
const SOURCES: usize = limits::DESCRIPTORS - 1;

/// Slots for mounts that the init makes, used in turn.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const MADE: u16 = limits::SLOTS as u16 - limits::FIRST_MADE_SLOT - 2;

/// The slot of a proc that only the init sees.
const PROC: Slot = Slot(limits::FIRST_MADE_SLOT + MADE);

/// The slot of the host's null device, where it is copied before the old root goes.
const NULL: Slot = Slot(limits::FIRST_MADE_SLOT + MADE + 1);

/// A string for the wire; one with a NUL inside is refused, `field` names it.
pub(crate) fn text(field: &str, value: impl AsRef<OsStr>) -> Result<CString> {
    let value = value.as_ref();
    CString::new(value.as_bytes())
        .map_err(|_| Error::config(field, value.to_string_lossy(), "has a NUL byte"))
}

/// Strings for the wire, one behind the other.
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

/// The wire's view of what [`strings`] made.
pub(crate) fn view(strings: &[u8]) -> Strings<'_> {
    Strings::new(strings).expect("each string ends in NUL")
}

/// A path below the root in its shortest form: `..` cannot leave it, and repeated slashes and
/// `.` go.
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

/// What an operation is about, for an error: a path, a name, or nothing.
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
        Op::Ids { uid, gid } => return Some(format!("{uid}:{gid}").into()),
        Op::SetNamespaces { flags, .. } => {
            let joined = NamespaceType::ALL.iter().filter(|kind| kind.clone_flag() & flags != 0);
            return Some(joined.map(|kind| kind.name()).collect::<Vec<_>>().join(" ").into());
        }
        // The first candidate of several stands for all: none was found.
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
