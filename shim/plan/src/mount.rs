//! The operations of one mount.

pub(super) use pidone_config::config::mount::flags::{
    BIND as MS_BIND, PRIVATE as MS_PRIVATE, REC as MS_REC, REMOUNT as MS_REMOUNT,
    SLAVE as MS_SLAVE, attributes,
};
use pidone_config::config::mount::flags::{
    PROPAGATION, RDONLY as MS_RDONLY, RELATIME as MS_RELATIME, SHARED as MS_SHARED, SUPERBLOCK,
    attribute::ATIME as ATTRIBUTE_ATIME,
};
use pidone_config::config::{Mount, MountIdMap, NamespaceType};
use pidone_config::{Config, Error, Result};
use pidone_proto::{Create, Op, Slot, Text};

use super::facts::Facts;
use super::{MappedIds, Plan, Source, UserNamespace, clean, strings, text, view};

/// `fsconfig(2)` takes values up to this length, in bytes.
const VALUE: usize = 255;

/// Makes the file system of a mount, detached.
pub(super) fn make(plan: &mut Plan, config: &Config, mount: &Mount) -> Result<Slot> {
    let into = plan.mount_slot();
    let fstype = text("mounts.device", &mount.device)?;
    let options = options(config, mount)?;
    let later = if begins_with_copy(mount) { MS_RDONLY } else { 0 };
    let attributes = u32::try_from(attributes(mount.flags & !later)).unwrap_or(0);
    plan.push(Op::MakeMount { into, fstype: Text(&fstype), options: view(&options), attributes });
    let propagation = own_propagation(mount);
    if propagation != 0 {
        set_attributes(plan, into, 0, 0, propagation, false);
    }
    Ok(into)
}

/// The propagation that a mount asks for; 0 for none.
fn own_propagation(mount: &Mount) -> u64 {
    (mount.flags | mount.propagation) & PROPAGATION
}

/// Attributes that hold for the mounts below, too.
fn recursive_attributes(plan: &mut Plan, slot: Slot, mount: &Mount) {
    let (set, clear) = (mount.recursive_set, mount.recursive_clear);
    if set | clear != 0 {
        set_attributes(plan, slot, set, with_atime(set, clear), 0, true);
    }
}

/// What is cleared so that the access time can be set, or be the kernel's own choice again: never
/// one of its bits alone.
fn with_atime(set: u64, clear: u64) -> u64 {
    if (set | clear) & ATTRIBUTE_ATIME == 0 { clear } else { clear | ATTRIBUTE_ATIME }
}

/// Whether a tmpfs takes something over from what it covers: its files, or at least its mode.
/// Where an image has a /tmp of mode 1777 or a /run of 0755, what covers it is like that.
fn begins_with_copy(mount: &Mount) -> bool {
    let has_mode = || mount.data.split(',').any(|option| option.starts_with("mode="));
    mount.device == "tmpfs" && (mount.copy_up || !has_mode())
}

/// Makes a proc that only the init sees, for sysctls and labels: what is at the container's
/// `/proc` may be anything.
pub(super) fn make_proc(plan: &mut Plan, into: Slot) {
    let options = view(b"source\0proc\0");
    plan.push(Op::MakeMount { into, fstype: Text(c"proc"), options, attributes: 0 });
}

/// Attaches a mount at its destination.
pub(super) fn attach(plan: &mut Plan, slot: Slot, mount: &Mount, create: Create) -> Result<()> {
    let at = text("mounts.destination", clean(&mount.destination))?;
    if begins_with_copy(mount) {
        plan.push(Op::CopyUp { mount: slot, from: Text(&at), contents: mount.copy_up });
        // Nothing could be copied into it before.
        if mount.flags & MS_RDONLY != 0 {
            set_attributes(plan, slot, attributes(MS_RDONLY), 0, 0, false);
        }
    }
    recursive_attributes(plan, slot, mount);
    // An image that brings its /proc or /sys as a link would have them mounted elsewhere.
    let follow = !matches!(mount.device.as_str(), "proc" | "sysfs");
    plan.push(Op::Attach { mount: slot, at: Text(&at), create, follow });
    Ok(())
}

/// A mount whose options are too long for the new interface.
pub(super) fn is_legacy(mount: &Mount) -> bool {
    mount.data.split(',').any(|option| option.len() > VALUE)
}

/// Mounts by `mount(2)`.
pub(super) fn legacy(plan: &mut Plan, config: &Config, mount: &Mount) -> Result<()> {
    if own_propagation(mount) | mount.recursive_set | mount.recursive_clear != 0 || mount.copy_up {
        let reason = "propagation, recursive attributes and copies need options of up to 255 bytes";
        return Err(Error::config("mounts.data", &mount.destination, reason));
    }
    let source = text("mounts.source", &mount.source)?;
    let fstype = text("mounts.device", &mount.device)?;
    let data = text("mounts.data", labelled(config, mount))?;
    let at = text("mounts.destination", clean(&mount.destination))?;
    plan.push(Op::LegacyMount {
        source: Text(&source),
        fstype: Text(&fstype),
        flags: u32::try_from(mount.flags & !PROPAGATION & !MS_REC).unwrap_or(0),
        data: Text(&data),
        at: Text(&at),
    });
    Ok(())
}

/// Other attributes for what is mounted at a place.
pub(super) fn remount(plan: &mut Plan, mount: &Mount) -> Result<()> {
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

/// A bind mount: a copy of a mount of the host with its own attributes.
pub(super) fn bind(
    plan: &mut Plan,
    config: &Config,
    mount: &Mount,
    facts: &Facts<'_>,
) -> Result<()> {
    let recursive = mount.flags & MS_REC != 0;
    let slot = match &mount.id_map {
        Some(ids) => mapped_tree(plan, config, facts, mount, ids)?,
        None => tree(plan, facts, &mount.source, recursive)?,
    };
    bind_propagation(plan, config, slot, mount);
    let (set, cleared) = changed_attributes(mount);
    if set | cleared != 0 {
        set_attributes(plan, slot, set, cleared, 0, false);
    }
    let create =
        if (facts.is_directory)(mount.source.as_ref())? { Create::Directory } else { Create::File };
    attach(plan, slot, mount, create)
}

/// A bind of a directory of the host that has no mounts below.
pub(super) fn bind_directory(
    plan: &mut Plan,
    config: &Config,
    mount: &Mount,
    facts: &Facts<'_>,
) -> Result<()> {
    let slot = tree(plan, facts, &mount.source, false)?;
    let (set, cleared) = changed_attributes(mount);
    set_attributes(plan, slot, set, cleared, inherited(config), false);
    attach(plan, slot, mount, Create::Directory)
}

/// The attributes of a mount that is there already, which are set and cleared. `MS_RELATIME` has no
/// attribute: it is what is left when the others are cleared.
fn changed_attributes(mount: &Mount) -> (u64, u64) {
    let set = attributes(mount.flags);
    let relatime = if mount.flags & MS_RELATIME == 0 { 0 } else { ATTRIBUTE_ATIME };
    (set, with_atime(set, attributes(mount.cleared & !mount.flags) | relatime))
}

/// The propagation of a bind.
///
/// Behind a copy the host's mounts would still pass their changes on, and take ours: unless the
/// bind asks to be shared, it takes at most.
fn bind_propagation(plan: &mut Plan, config: &Config, slot: Slot, mount: &Mount) {
    let own = own_propagation(mount);
    // In the seed's flags MS_REC is that of the bind, and what is said holds for all of it.
    let holds_below = mount.propagation & PROPAGATION == 0 || mount.propagation & MS_REC != 0;
    if own == 0 || (!holds_below && own != MS_SHARED) {
        set_attributes(plan, slot, 0, 0, inherited(config), true);
    }
    if own != 0 {
        set_attributes(plan, slot, 0, 0, own, holds_below);
    }
}

/// A copy of a mount of the host whose files have other ids.
fn mapped_tree(
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
        recursive: mount.flags & MS_REC != 0,
        ids: Some(MappedIds { namespace, recursive: ids.recursive }),
    }))
}

/// A copy of a mount of the host: by descriptor, or by its path where the host may not copy it.
pub(super) fn tree(
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

/// The propagation of what comes from the host: none into it, and from it unless forbidden.
pub(super) fn inherited(config: &Config) -> u64 {
    if config.privatefs { MS_PRIVATE } else { MS_SLAVE }
}

/// Appends a change of attributes.
pub(super) fn set_attributes(
    plan: &mut Plan,
    mount: Slot,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) {
    plan.push(Op::SetAttributes { mount, set, clear, propagation, recursive });
}

/// The options of a file system, as keys and values in turn.
fn options(config: &Config, mount: &Mount) -> Result<Vec<u8>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !mount.source.is_empty() {
        pairs.push(("source".into(), mount.source.clone()));
    }
    let named = SUPERBLOCK.iter().filter(|(flag, _)| mount.flags & flag != 0);
    pairs.extend(named.map(|(_, name)| ((*name).into(), String::new())));
    // The seed passes no data to these.
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
    // A new instance is the only kind of devpts since Linux 4.7; the option is for old files.
    pairs.retain(|(key, _)| !(mount.device == "devpts" && key == "newinstance"));
    strings("mounts.data", pairs.into_iter().flat_map(|(key, value)| [key, value]))
}

/// The options with the SELinux label of the container's mounts.
fn labelled(config: &Config, mount: &Mount) -> String {
    let takes_label = matches!(mount.device.as_str(), "tmpfs" | "mqueue" | "devpts");
    if config.mount_label.is_empty() || !takes_label {
        return mount.data.clone();
    }
    let context = format!("context=\"{}\"", config.mount_label);
    if mount.data.is_empty() { context } else { format!("{},{context}", mount.data) }
}
