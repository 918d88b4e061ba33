//! Formats a plan as text: an operation on each line, with the number that errors have and the
//! kernel's names for flags.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt::{self, Display, Formatter};

use pidone_config::error::Escaped;
use pidone_proto::{Create, Op, Slot, Strings};

use super::{Part, Plan, Source, barrier, names};

/// A line for each operation: its number, as errors count them, its name and its fields.
///
/// Slots are shown by their content. The values of the environment are left out, since they may be
/// secrets. The text is for people, and its format may change.
impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = self.len().to_string().len();
        let mut written = Ok(());
        self.for_each_operation(|number, name, fields| {
            let space = text_if(!fields.is_empty(), " ");
            let line = writeln!(f, "{number:>width$} {name}{space}{}", Escaped(&fields));
            written = written.and(line);
        });
        written
    }
}

impl Plan {
    /// Calls a function for each operation, with its number, its name and its fields as text.
    pub fn for_each_operation(&self, mut each: impl FnMut(u32, &'static str, String)) {
        let mut slots = Slots::default();
        let mut number = 0;
        for part in self.parts() {
            slots.receive(part);
            for op in part.operations() {
                number += 1;
                each(number, op.name(), fields(&op, &slots));
                slots.fill(&op);
            }
        }
    }
}

/// The content of the slots, as text.
#[derive(Default)]
struct Slots(HashMap<u16, String>);

impl Slots {
    /// Fills the slots from 0 up with the sources of a part.
    fn receive(&mut self, part: &Part) {
        for (slot, source) in (0..).zip(&part.sources) {
            self.0.insert(slot, source.to_string());
        }
    }

    /// Fills the slot of an operation that creates a mount.
    fn fill(&mut self, op: &Op<'_>) {
        let (slot, held) = match op {
            Op::MakeMount { into, fstype, .. } => (into, string(fstype.0)),
            Op::OpenTree { into, path, .. } => (into, string(path.0)),
            _ => return,
        };
        self.0.insert(slot.0, held);
    }

    /// Returns the content of a slot, or its number if that is unknown.
    fn get(&self, slot: Slot) -> String {
        self.0.get(&slot.0).cloned().unwrap_or_else(|| format!("slot {}", slot.0))
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree { path, recursive, ids } => {
                let below = if *recursive { "" } else { " alone" };
                let mapped = if ids.is_some() { ", id-mapped" } else { "" };
                write!(f, "{}{below}{mapped}", path.display())
            }
            Self::Node(node) => write!(f, "node {}:{}", node.major, node.minor),
            Self::Empty => f.write_str("an empty file system"),
            Self::FileSystem { fstype, namespace: (_, path), .. } => {
                write!(f, "a {fstype} of {}", path.display())
            }
            Self::Layered(path) => write!(f, "a private layer over {}", path.display()),
            Self::Directory(path) | Self::Namespace(path) => write!(f, "{}", path.display()),
            Self::Network => f.write_str("the new network namespace"),
            Self::Container => f.write_str("the container"),
            Self::Listener => f.write_str("the socket of the start"),
            Self::Supervisor => f.write_str("the socket of the init"),
            Self::Lent(place) => write!(f, "lent descriptor {place}"),
        }
    }
}

/// Returns a string of the plan.
fn string(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

/// Returns strings in quotes, separated by spaces.
fn quoted(strings: Strings<'_>) -> String {
    let each = strings.iter().map(|text| format!("{:?}", text.to_string_lossy()));
    each.collect::<Vec<_>>().join(" ")
}

/// Returns the options of a file system, in the format of mount(8).
fn options(strings: Strings<'_>) -> String {
    let mut strings = strings.iter();
    let mut options = Vec::new();
    while let Some(key) = strings.next() {
        let value = strings.next().unwrap_or_default();
        let equals = if value.is_empty() { "" } else { "=" };
        options.push(format!("{}{equals}{}", string(key), string(value)));
    }
    options.join(",")
}

/// Returns a mask in the machine's byte order as a hexadecimal number.
fn mask(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{}", digits.trim_start_matches('0'))
}

/// Returns the text if the condition holds, else nothing.
fn text_if(condition: bool, text: &'static str) -> &'static str {
    if condition { text } else { "" }
}

/// Returns the fields of an operation.
fn fields(op: &Op<'_>, slots: &Slots) -> String {
    match *op {
        Op::SetNamespaces { target, flags } => {
            format!("{} of {}", names::namespaces(flags), slots.get(target))
        }
        Op::Fork { flags: 0 }
        | Op::Loopback
        | Op::PivotRoot
        | Op::MoveRoot
        | Op::ReadOnlyRoot
        | Op::ReopenNull
        | Op::Session
        | Op::NoNewPrivileges => String::new(),
        Op::Fork { flags } => format!("into new {}", names::namespaces(flags)),
        Op::Unshare { flags } => names::namespaces(flags),
        Op::Barrier { id } => barrier::name(id),
        Op::Propagation { flags } => names::mount_flags(flags.into()),
        Op::MakeMount { .. }
        | Op::OpenTree { .. }
        | Op::SetAttributes { .. }
        | Op::Root { .. }
        | Op::Chroot { .. }
        | Op::Attach { .. }
        | Op::LegacyMount { .. }
        | Op::Remount { .. }
        | Op::CopyUp { .. } => mount_fields(op, slots),
        Op::Supervise { listener: slot } | Op::JoinCgroup { procs: slot } => slots.get(slot),
        Op::Stdio { count } => format!("{count} descriptors"),
        Op::Descriptor { from, number } => format!("{} as {number}", slots.get(from)),
        Op::MakeDirectory { path, mode } => format!("{} mode {mode:04o}", string(path.0)),
        Op::MakeNode { path, mode, major, minor, uid, gid } => {
            let kind = match mode & 0o170_000 {
                0o020_000 => "character",
                0o060_000 => "block",
                _ => "fifo",
            };
            let mode = mode & 0o7777;
            let path = string(path.0);
            format!("{path} {kind} {major}:{minor} mode {mode:04o} owner {uid}:{gid}")
        }
        Op::MakeLink { target, path, replace } => {
            let (path, target) = (string(path.0), string(target.0));
            format!("{path} to {target}{}", text_if(replace, ", in place of a file"))
        }
        Op::Mask { path, file, directory } => {
            let path = string(path.0);
            format!("{path} by {} or {}", slots.get(file), slots.get(directory))
        }
        Op::ReadOnly { path } | Op::ChangeDirectory { path } => string(path.0),
        Op::HostName { name } | Op::DomainName { name } | Op::Keyring { name } => string(name.0),
        Op::Sysctl { path, value, .. } => format!("{}={}", string(path.0), string(value.0)),
        Op::Label { attribute, value, .. } => {
            format!("{} {}", string(attribute.0), string(value.0))
        }
        Op::Close { slot } => slots.get(slot),
        Op::TimeOffsets { offsets, .. } => string(offsets.0).trim().replace('\n', ", "),
        _ => process_fields(op),
    }
}

/// Returns the fields of an operation on mounts.
fn mount_fields(op: &Op<'_>, slots: &Slots) -> String {
    match *op {
        Op::MakeMount { fstype, options: list, attributes, .. } => {
            let attributes = names::attributes(attributes.into());
            let options = options(list);
            let space = text_if(!options.is_empty(), " ");
            format!("{} {attributes}{space}{options}", string(fstype.0))
        }
        Op::OpenTree { path, recursive, .. } => {
            format!("{}{}", string(path.0), text_if(!recursive, " alone"))
        }
        Op::SetAttributes { mount, set, clear, propagation, recursive } => {
            let changes = changes(set, clear, propagation, recursive);
            format!("{}: {changes}", slots.get(mount))
        }
        Op::Remount { at, set, clear, recursive } => {
            format!("{}: {}", string(at.0), changes(set, clear, 0, recursive))
        }
        Op::Root { tree, at } => format!("{} at {}", slots.get(tree), string(at.0)),
        Op::Chroot { directory } => slots.get(directory),
        Op::Attach { mount, at, create, follow } => {
            let create = match create {
                Create::Nothing => "",
                Create::Directory => ", a directory if missing",
                Create::File => ", a file if missing",
            };
            let link = text_if(!follow, ", no symbolic link");
            format!("{} at {}{create}{link}", slots.get(mount), string(at.0))
        }
        Op::LegacyMount { source, fstype, flags, data, at } => {
            let flags = names::mount_flags(flags.into());
            let (source, fstype) = (string(source.0), string(fstype.0));
            format!("{fstype} {flags} {} of {source} at {}", string(data.0), string(at.0))
        }
        Op::CopyUp { mount, from, contents } => {
            let what = if contents { "mode and files" } else { "mode" };
            format!("{what} of {} to {}", string(from.0), slots.get(mount))
        }
        _ => String::new(),
    }
}

/// Returns the changes of a mount's attributes.
fn changes(set: u64, clear: u64, propagation: u64, recursive: bool) -> String {
    let mut changes = Vec::new();
    if set != 0 {
        changes.push(format!("set {}", names::attributes(set)));
    }
    if clear != 0 {
        changes.push(format!("clear {}", names::attributes(clear)));
    }
    if propagation != 0 {
        changes.push(names::mount_flags(propagation));
    }
    format!("{}{}", changes.join(" "), text_if(recursive, ", with mounts below"))
}

/// Returns the fields of an operation on the process.
fn process_fields(op: &Op<'_>) -> String {
    match *op {
        Op::Console { rows, columns, uid, bind } => {
            let bind = text_if(bind, ", also /dev/console");
            format!("{columns}x{rows} of user {uid}{bind}")
        }
        Op::Rlimit { resource, soft, hard } => names::rlimit(resource, soft, hard),
        Op::Bounding { keep } => format!("keeps {}", names::capabilities(keep)),
        Op::Groups { ids } if ids.count() == 0 => "none".to_owned(),
        Op::Groups { ids } => ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(" "),
        Op::Ids { uid, gid } => format!("{uid}:{gid}"),
        Op::Capabilities { effective, permitted, inheritable, ambient } => [
            ("effective", effective),
            ("permitted", permitted),
            ("inheritable", inheritable),
            ("ambient", ambient),
        ]
        .map(|(set, mask)| format!("{set} {}", names::capabilities(mask)))
        .join("; "),
        Op::Seccomp { flags, filter } => filter_size(flags, filter),
        Op::Umask { mask } => format!("{mask:04o}"),
        Op::ParentDeath { signal } => names::signal(signal),
        Op::Exec { candidates, arguments, environment, preserved, filter_flags, filter } => {
            let mut text = quoted(arguments);
            match candidates.count() {
                0 | 1 => text += &format!(" from {}", quoted(candidates)),
                count => text += &format!(" from the first of {count}: {}", quoted(candidates)),
            }
            text += &format!(", environment of {}", environment.count());
            if preserved != 0 {
                text += &format!(", descriptors up to {}", u64::from(preserved) + 2);
            }
            if !filter.is_empty() {
                text += &format!(", seccomp {}", filter_size(filter_flags, filter));
            }
            text
        }
        Op::FindProgram { candidates } => format!("is possible: {}", quoted(candidates)),
        Op::Personality { persona } => format!("{persona:#x}"),
        Op::Scheduler { attributes } => {
            format!("sched_attr of {} bytes {}", attributes.len(), mask(attributes))
        }
        Op::IoPriority { value } => format!("class {} priority {}", value >> 13, value & 0x1fff),
        Op::Affinity { mask: processors } => mask(processors),
        Op::MemoryPolicy { mode, nodes } => format!("mode {mode:#x} nodes {}", mask(nodes)),
        _ => String::new(),
    }
}

/// Returns the size and the flags of a seccomp filter.
fn filter_size(flags: u32, filter: &[u8]) -> String {
    let flags = names::filter_flags(flags);
    format!("{} instructions, flags {flags}", filter.len() / 8)
}

#[cfg(test)]
mod tests {
    use pidone_proto::Text;

    use super::super::{strings, view};
    use super::*;

    #[test]
    fn a_line_has_number_name_and_fields() {
        let mut plan = Plan::default();
        let tree =
            plan.source(Source::Tree { path: "/srv/r\n".into(), recursive: true, ids: None });
        plan.push(Op::Root { tree, at: Text(c"/tmp") });
        let proc = plan.mount_slot();
        let no_options = Strings::new(b"").unwrap();
        plan.push(Op::MakeMount {
            into: proc,
            fstype: Text(c"proc"),
            options: Strings::new(b"hidepid\x002\0").unwrap(),
            attributes: 0xe,
        });
        let (at, create) = (Text(c"/proc"), Create::Directory);
        plan.push(Op::Attach { mount: proc, at, create, follow: false });
        plan.push(Op::PivotRoot);
        plan.push(Op::Bounding { keep: 1 << 10 });
        let (arguments, environment) =
            (strings("", ["sh", "-c", "true"]).unwrap(), strings("", ["TOKEN=secret"]).unwrap());
        plan.push(Op::Exec {
            candidates: view(b"/bin/sh\0"),
            arguments: view(&arguments),
            environment: view(&environment),
            preserved: 1,
            filter_flags: 0,
            filter: &[0; 16],
        });
        plan.push(Op::MakeMount {
            into: proc,
            fstype: Text(c"x"),
            options: no_options,
            attributes: 0,
        });
        assert_eq!(
            plan.to_string(),
            "1 root /srv/r\\n at /tmp\n\
             2 mount proc nosuid,nodev,noexec hidepid=2\n\
             3 attach proc at /proc, a directory if missing, no symbolic link\n\
             4 pivot_root\n\
             5 bounding set keeps NET_BIND_SERVICE\n\
             6 exec \"sh\" \"-c\" \"true\" from \"/bin/sh\", environment of 1, \
             descriptors up to 3, seccomp 2 instructions, flags -\n\
             7 mount x -\n"
        );
    }
}
