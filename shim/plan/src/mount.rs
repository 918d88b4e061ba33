//! The operations of one mount.

use std::path::PathBuf;

use pidone_config::config::mount::flags::{
    BIND, PRIVATE, PROPAGATION, RDONLY, REC, RELATIME, REMOUNT, SHARED, SLAVE, SUPERBLOCK,
    attribute, attributes,
};
use pidone_config::config::{Mount, MountIdMap, NamespaceType};
use pidone_config::{Config, Error, Result};
use pidone_proto::{Create, Op, Slot, Text};

use super::facts::Facts;
use super::{MappedIds, Plan, Source, UserNamespace, clean, strings, text, view};

/// The longest value that `fsconfig(2)` accepts, in bytes.
const VALUE: usize = 255;

/// Appends the creation of a mount's file system, and returns its slot. It is still detached.
pub(super) fn push_file_system(plan: &mut Plan, config: &Config, mount: &Mount) -> Result<Slot> {
    let into = plan.mount_slot();
    let fstype = text("mounts.device", &mount.device)?;
    let options = options(config, mount)?;
    let attributes = u32::try_from(attributes(mount.flags)).unwrap_or(0);
    plan.push(Op::MakeMount { into, fstype: Text(&fstype), options: view(&options), attributes });
    let propagation = requested_propagation(mount);
    if propagation != 0 {
        push_set_attributes(plan, into, 0, 0, propagation, false);
    }
    Ok(into)
}

/// Appends the attachment of a file system that the host makes in a joined namespace.
pub(super) fn push_made_by_host(
    plan: &mut Plan,
    fstype: &'static str,
    namespace: (u32, PathBuf),
    mount: &Mount,
) -> Result<()> {
    let attributes = u32::try_from(attributes(mount.flags)).unwrap_or(0);
    let slot = plan.source(Source::FileSystem { fstype, attributes, namespace });
    push_set_attributes(plan, slot, 0, 0, requested_propagation(mount).max(PRIVATE), false);
    push_attach(plan, slot, mount, Create::Directory)
}

/// Returns the propagation that a mount requests; 0 for none.
fn requested_propagation(mount: &Mount) -> u64 {
    (mount.flags | mount.propagation) & PROPAGATION
}

/// Appends the attributes that a mount has for itself and for the mounts below it.
fn push_recursive_attributes(plan: &mut Plan, slot: Slot, mount: &Mount) {
    let (set, clear) = (mount.recursive_set, mount.recursive_clear);
    if set | clear != 0 {
        push_set_attributes(plan, slot, set, with_atime(set, clear), 0, true);
    }
}

/// Returns the attributes to clear. The access time is one field of several bits, which
/// `mount_setattr(2)` only clears as a whole, before it is set or returns to the default.
fn with_atime(set: u64, clear: u64) -> u64 {
    if (set | clear) & attribute::ATIME == 0 { clear } else { clear | attribute::ATIME }
}

/// Whether a tmpfs copies something from the directory that it covers: its files, or at least its
/// mode. A tmpfs over the image's /tmp has mode 1777, for example, like the directory below.
fn begins_with_copy(mount: &Mount) -> bool {
    let has_mode = || mount.data.split(',').any(|option| option.starts_with("mode="));
    mount.device == "tmpfs" && (mount.copy_up || !has_mode())
}

/// Returns whether a mount becomes read-only only when everything below it has been made: a tmpfs,
/// and a file system on `/dev`, as in runc.
pub(super) fn is_read_only_last(mount: &Mount) -> bool {
    mount.flags & RDONLY != 0
        && mount.flags & (BIND | REMOUNT) == 0
        && mount.device != "bind"
        && (mount.device == "tmpfs" || clean(&mount.destination) == "/dev")
}

/// Appends the change that makes a mount read-only for which [`is_read_only_last`] holds.
pub(super) fn push_read_only_last(plan: &mut Plan, mount: &Mount) -> Result<()> {
    let at = text("mounts.destination", clean(&mount.destination))?;
    let set = attributes(RDONLY);
    plan.push(Op::Remount { at: Text(&at), set, clear: 0, recursive: false });
    Ok(())
}

/// Whether the host runs commands before or after a mount.
pub fn has_commands(mount: &Mount) -> bool {
    !mount.premount_cmds.is_empty() || !mount.postmount_cmds.is_empty()
}

/// Whether the source of a mount, or one of its options, is a path on the host: the layers of an
/// overlay, a block device. The kernel resolves it when the file system is made.
pub fn names_host_paths(mount: &Mount) -> bool {
    /// File systems without a device, whose source is only a name.
    const NAMED: [&str; 9] =
        ["cgroup", "cgroup2", "devpts", "hugetlbfs", "mqueue", "proc", "ramfs", "sysfs", "tmpfs"];
    let is_new = mount.flags & (BIND | REMOUNT) == 0 && mount.device != "bind";
    // `//server/share` is a path on another machine.
    let is_path = |text: &str| text.starts_with('/') && !text.starts_with("//");
    let mut values = mount.data.split(',').filter_map(|option| option.split_once('='));
    is_new
        && !NAMED.contains(&mount.device.as_str())
        && (is_path(&mount.source) || values.any(|(_, value)| is_path(value)))
}

/// Appends the creation of a proc that only the init sees, for sysctls and labels: the container's
/// `/proc` may be anything.
pub(super) fn push_private_proc(plan: &mut Plan, into: Slot) {
    let options = view(b"source\0proc\0");
    plan.push(Op::MakeMount { into, fstype: Text(c"proc"), options, attributes: 0 });
}

/// Appends the attachment of a mount at its destination.
pub(super) fn push_attach(
    plan: &mut Plan,
    slot: Slot,
    mount: &Mount,
    create: Create,
) -> Result<()> {
    let at = text("mounts.destination", clean(&mount.destination))?;
    if begins_with_copy(mount) {
        plan.push(Op::CopyUp { mount: slot, from: Text(&at), contents: mount.copy_up });
    }
    push_recursive_attributes(plan, slot, mount);
    // An image with a symbolic link as /proc or /sys would have them mounted elsewhere.
    let follow = !matches!(mount.device.as_str(), "proc" | "sysfs");
    plan.push(Op::Attach { mount: slot, at: Text(&at), create, follow });
    Ok(())
}

/// Whether a mount needs `mount(2)`, since an option is too long for `fsconfig(2)`.
pub(super) fn is_legacy(mount: &Mount) -> bool {
    mount.data.split(',').any(|option| option.len() > VALUE)
}

/// Appends a mount by `mount(2)`. Its propagation follows in [`push_legacy_propagation`].
pub(super) fn push_legacy(plan: &mut Plan, config: &Config, mount: &Mount) -> Result<()> {
    if mount.copy_up {
        let reason = "a copy needs options of up to 255 bytes";
        return Err(Error::config("mounts.data", &mount.destination, reason));
    }
    let source = text("mounts.source", &mount.source)?;
    let fstype = text("mounts.device", &mount.device)?;
    let data = text("mounts.data", labelled(config, mount))?;
    let at = text("mounts.destination", clean(&mount.destination))?;
    plan.push(Op::LegacyMount {
        source: Text(&source),
        fstype: Text(&fstype),
        flags: u32::try_from(mount.flags & !PROPAGATION & !REC).unwrap_or(0),
        data: Text(&data),
        at: Text(&at),
    });
    let (set, clear) = (mount.recursive_set, mount.recursive_clear);
    if set | clear != 0 {
        let clear = with_atime(set, clear);
        plan.push(Op::Remount { at: Text(&at), set, clear, recursive: true });
    }
    Ok(())
}

/// Appends the propagation of a mount by `mount(2)`, after the change of root.
///
/// No operation changes it on a mount that is attached. So a copy with the propagation is attached
/// over the mount.
pub(super) fn push_legacy_propagation(plan: &mut Plan, mount: &Mount) -> Result<()> {
    let propagation = requested_propagation(mount);
    if propagation == 0 {
        return Ok(());
    }
    let at = text("mounts.destination", clean(&mount.destination))?;
    let into = plan.mount_slot();
    plan.push(Op::OpenTree { into, path: Text(&at), recursive: true });
    push_set_attributes(plan, into, 0, 0, propagation, mount.propagation & REC != 0);
    plan.push(Op::Attach { mount: into, at: Text(&at), create: Create::Nothing, follow: true });
    Ok(())
}

/// Appends a change of the attributes of the existing mount at the destination.
pub(super) fn push_remount(plan: &mut Plan, mount: &Mount) -> Result<()> {
    let at = text("mounts.destination", clean(&mount.destination))?;
    let mut push = |set, clear, recursive| {
        if set | clear != 0 {
            let clear = with_atime(set, clear);
            plan.push(Op::Remount { at: Text(&at), set, clear, recursive });
        }
    };
    let (set, cleared) = changed_attributes(mount);
    push(set, cleared, false);
    push(mount.recursive_set, mount.recursive_clear, true);
    Ok(())
}

/// Appends a bind mount: a copy of a mount of the host with its own attributes. `ready` is the slot
/// of the copy, if that was made earlier.
pub(super) fn push_bind(
    plan: &mut Plan,
    config: &Config,
    mount: &Mount,
    ready: Option<Slot>,
    facts: &Facts<'_>,
) -> Result<()> {
    check_locked(config, mount, facts)?;
    let recursive = mount.flags & REC != 0;
    let slot = match (ready, &mount.id_map) {
        (Some(slot), _) => slot,
        (None, Some(ids)) => push_mapped_tree(plan, config, facts, mount, ids)?,
        (None, None) => push_tree(plan, facts, &mount.source, recursive)?,
    };
    let is_directory = (facts.is_directory)(mount.source.as_ref()).map_err(|error| {
        error.with_hint(format!("the source of the mount on {}", mount.destination))
    })?;
    let create = if is_directory { Create::Directory } else { Create::File };
    push_copy(plan, config, slot, mount, create, facts)
}

/// Appends the attributes of a copy of a mount, and its attachment.
pub(super) fn push_copy(
    plan: &mut Plan,
    config: &Config,
    slot: Slot,
    mount: &Mount,
    create: Create,
    facts: &Facts<'_>,
) -> Result<()> {
    push_bind_propagation(plan, config, slot, mount);
    let (set, cleared) = bind_attributes(mount, facts);
    if set | cleared != 0 {
        push_set_attributes(plan, slot, set, cleared, 0, false);
    }
    push_attach(plan, slot, mount, create)
}

/// Appends a bind mount of a directory of the host, without the mounts below it.
pub(super) fn push_bind_directory(
    plan: &mut Plan,
    config: &Config,
    mount: &Mount,
    facts: &Facts<'_>,
) -> Result<()> {
    let slot = push_tree(plan, facts, &mount.source, false)?;
    let (set, cleared) = bind_attributes(mount, facts);
    push_set_attributes(plan, slot, set, cleared, inherited_propagation(config), false);
    push_attach(plan, slot, mount, Create::Directory)
}

/// Returns the attributes that a bind sets and clears.
///
/// Without an option it has the attributes of its source; with one, only those of its options, as
/// in mount(8) and runc. The access time is kept unless an option changes it. In a user namespace
/// attributes of the source are locked and stay: `mount_namespaces(7)`.
fn bind_attributes(mount: &Mount, facts: &Facts<'_>) -> (u64, u64) {
    let (set, cleared) = changed_attributes(mount);
    let options = mount.flags & !(BIND | REC | REMOUNT | PROPAGATION) | mount.cleared;
    if facts.in_user_namespace || options == 0 {
        return (set, cleared);
    }
    (set, cleared | LOCKABLE & !set)
}

/// The attributes that a mount namespace of a user namespace cannot clear on mounts of another.
const LOCKABLE: u64 = attribute::RDONLY
    | attribute::NOSUID
    | attribute::NODEV
    | attribute::NOEXEC
    | attribute::NOSYMFOLLOW;

/// Refuses a bind in a new user namespace that clears an attribute of its source. The kernel does
/// so itself where the init makes the copy, but nothing is locked on a copy that the host makes.
fn check_locked(config: &Config, mount: &Mount, facts: &Facts<'_>) -> Result<()> {
    if config.namespace(NamespaceType::User).is_none() || facts.by_path {
        return Ok(());
    }
    let cleared = attributes(mount.cleared & !mount.flags) & LOCKABLE;
    if cleared != 0 && (facts.attributes)(mount.source.as_ref())? & cleared != 0 {
        let reason = "clears a flag of the source, which is locked in a user namespace";
        return Err(Error::config("mounts.flags", &mount.destination, reason));
    }
    Ok(())
}

/// Returns the attributes that an existing mount sets and clears. `MS_RELATIME` has no attribute
/// bit: it is the default, which is in effect when the other access times are cleared.
fn changed_attributes(mount: &Mount) -> (u64, u64) {
    let set = attributes(mount.flags);
    let relatime = if mount.flags & RELATIME == 0 { 0 } else { attribute::ATIME };
    (set, with_atime(set, attributes(mount.cleared & !mount.flags) | relatime))
}

/// Appends the propagation of a bind mount.
///
/// A copy of a shared mount is in the same peer group: mounts would propagate between it and the
/// host. Unless the bind mount requests to be shared, it becomes private or a slave.
fn push_bind_propagation(plan: &mut Plan, config: &Config, slot: Slot, mount: &Mount) {
    let requested = requested_propagation(mount);
    // In libcontainer's flags MS_REC belongs to the bind, and a propagation is always recursive.
    let recursive = mount.propagation & PROPAGATION == 0 || mount.propagation & REC != 0;
    if requested == 0 || (!recursive && requested != SHARED) {
        push_set_attributes(plan, slot, 0, 0, inherited_propagation(config), true);
    }
    if requested != 0 {
        push_set_attributes(plan, slot, 0, 0, requested, recursive);
    }
}

/// Adds an id-mapped copy of a mount of the host, and returns its slot.
fn push_mapped_tree(
    plan: &mut Plan,
    config: &Config,
    facts: &Facts<'_>,
    mount: &Mount,
    ids: &MountIdMap,
) -> Result<Slot> {
    if facts.by_path {
        let reason = "an id-mapped mount needs CAP_SYS_ADMIN on the host";
        return Err(Error::config("mounts.id_map", &mount.destination, reason));
    }
    let joined = config.namespace(NamespaceType::User).map(|namespace| &namespace.path);
    let namespace = if !ids.uid_mappings.is_empty() {
        UserNamespace::Maps(ids.uid_mappings.clone(), ids.gid_mappings.clone())
    } else if let Some(path) = joined.filter(|path| !path.is_empty()) {
        UserNamespace::File(path.into())
    } else {
        UserNamespace::Maps(config.uid_mappings.clone(), config.gid_mappings.clone())
    };
    Ok(plan.source(Source::Tree {
        path: mount.source.clone().into(),
        recursive: mount.flags & REC != 0,
        ids: Some(MappedIds { namespace, recursive: ids.recursive }),
    }))
}

/// Adds a copy of a mount of the host, and returns its slot. The host makes the copy, or the init
/// by its path where the host may not.
pub(super) fn push_tree(
    plan: &mut Plan,
    facts: &Facts<'_>,
    path: &str,
    recursive: bool,
) -> Result<Slot> {
    if facts.by_path {
        let into = plan.mount_slot();
        let path = text("mounts.source", path)?;
        plan.push(Op::OpenTree { into, path: Text(&path), recursive });
        return Ok(into);
    }
    Ok(plan.source(Source::Tree { path: path.into(), recursive, ids: None }))
}

/// Returns the propagation of copies of the host's mounts: never to the host, and from it unless
/// the configuration forbids it.
pub(super) fn inherited_propagation(config: &Config) -> u64 {
    if config.privatefs { PRIVATE } else { SLAVE }
}

/// Appends a change of the attributes of a detached mount.
pub(super) fn push_set_attributes(
    plan: &mut Plan,
    mount: Slot,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) {
    plan.push(Op::SetAttributes { mount, set, clear, propagation, recursive });
}

/// Returns the options of a file system, as keys and values in turn.
fn options(config: &Config, mount: &Mount) -> Result<Vec<u8>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !mount.source.is_empty() {
        pairs.push(("source".into(), mount.source.clone()));
    }
    let named = SUPERBLOCK.iter().filter(|(flag, _)| mount.flags & flag != 0);
    pairs.extend(named.map(|(_, name)| ((*name).into(), String::new())));
    // libcontainer passes no data to sysfs.
    let data = match mount.device.as_str() {
        "sysfs" => String::new(),
        _ => labelled(config, mount),
    };
    // A comma inside quotes belongs to the value, as in an SELinux context.
    let mut quoted = false;
    let each = data.split(|c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    for option in each.filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        pairs.push((key.into(), value.trim_matches('"').into()));
    }
    // Since Linux 4.7 every devpts is a new instance. Old configurations still have the option.
    pairs.retain(|(key, _)| !(mount.device == "devpts" && key == "newinstance"));
    strings("mounts.data", pairs.into_iter().flat_map(|(key, value)| [key, value]))
}

/// Returns the options of a mount with the SELinux label of the container's mounts.
fn labelled(config: &Config, mount: &Mount) -> String {
    let takes_label = matches!(mount.device.as_str(), "tmpfs" | "mqueue" | "devpts");
    if config.mount_label.is_empty() || !takes_label {
        return mount.data.clone();
    }
    let context = format!("context=\"{}\"", config.mount_label);
    if mount.data.is_empty() { context } else { format!("{},{context}", mount.data) }
}
