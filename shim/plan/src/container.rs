//! The plan of a container's first process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use pidone_config::config::{IdMap, Mount, NamespaceType};
use pidone_config::{Config, Result};
use pidone_proto::{Create, Op, Slot, Text};

use super::barrier::{BARRIER_CREATE, BARRIER_HOST, BARRIER_START, barrier_of_mount};
use super::facts::Facts;
use super::mount::{self, MS_BIND, MS_PRIVATE, MS_REC, MS_REMOUNT};
use super::process::{Done, Wait};
use super::{NULL, PROC, Plan, Process, Source, clean, devices, text};

/// What covers a masked file.
const NULL_DEVICE: &std::ffi::CStr = c"/dev/null";

const CLONE_NEWNS: u32 = NamespaceType::Mount.clone_flag();
/// `clone(2)`: a new network namespace.
pub const CLONE_NEWNET: u32 = NamespaceType::Network.clone_flag();
/// `clone(2)`: a new cgroup namespace.
pub const CLONE_NEWCGROUP: u32 = NamespaceType::Cgroup.clone_flag();
/// `clone(2)`: a new time namespace.
pub const CLONE_NEWTIME: u32 = NamespaceType::Time.clone_flag();
const CLONE_NEWIPC: u32 = NamespaceType::Ipc.clone_flag();
pub(super) const CLONE_NEWUSER: u32 = NamespaceType::User.clone_flag();

/// Compiles the plan of a container's first process.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for what cannot be expressed, with field and value.
pub fn compile(config: &Config, process: &Process, facts: &Facts<'_>) -> Result<Plan> {
    let mut plan = Plan::default();
    set_up(&mut plan, config, process, facts)?;
    if config.supervise {
        if process.parent_death_signal != 0 {
            plan.push(Op::ParentDeath { signal: process.parent_death_signal });
        }
        facts.dropped.compile(&mut plan, process);
        let listener = plan.source(Source::Supervisor);
        plan.push(Op::Supervise { listener });
        return Ok(plan);
    }
    let hooks = !config.hooks.start_container.is_empty();
    let wait = Wait { for_start: facts.waits, for_hooks: hooks.then_some(BARRIER_START) };
    process.compile(&mut plan, config, wait, Done::default())?;
    Ok(plan)
}

/// Appends what is made before the process becomes what it shall be.
pub(super) fn set_up(
    plan: &mut Plan,
    config: &Config,
    process: &Process,
    facts: &Facts<'_>,
) -> Result<()> {
    enter(plan, config, facts);
    configure(plan, config, process, facts)
}

/// Appends how the container's process comes to be in its namespaces.
pub(super) fn enter(plan: &mut Plan, config: &Config, facts: &Facts<'_>) {
    if !facts.joined.is_empty() {
        for (flag, path) in &facts.joined {
            let target = plan.source(Source::Namespace(path.clone()));
            plan.push(Op::SetNamespaces { target, flags: *flag });
        }
        plan.push(Op::Fork { flags: facts.new & !CLONE_NEWTIME });
    }
    let joins_users = facts.joined.iter().any(|(flag, _)| *flag == CLONE_NEWUSER);
    if facts.new & CLONE_NEWUSER != 0 || joins_users {
        plan.push(root_ids(config));
    }
}

/// Appends what is made inside of the namespaces.
pub(super) fn configure(
    plan: &mut Plan,
    config: &Config,
    process: &Process,
    facts: &Facts<'_>,
) -> Result<()> {
    // A cgroup file system shows the tree below the cgroup that the process is in when its
    // namespace is made.
    let cgroup_first = config.mounts.iter().any(|mount| mount.device.starts_with("cgroup"));
    if cgroup_first {
        own_cgroup(plan, facts);
    }
    // Those of the program are its own affair where the init is not to become it.
    let labels = !process.labels.is_empty() && !config.supervise;
    let private_proc =
        !config.system_properties.is_empty() || labels || !config.time_offsets.is_empty();
    root(plan, config, private_proc, facts)?;
    if !cgroup_first {
        own_cgroup(plan, facts);
    }
    if facts.new & CLONE_NEWNET != 0 {
        if first_of_network(config, facts).is_none() {
            enter_network(plan, facts);
        }
        plan.push(Op::Loopback);
    }
    if !config.hostname.is_empty() {
        let name = text("hostname", &config.hostname)?;
        plan.push(Op::HostName { name: Text(&name) });
    }
    if !config.domainname.is_empty() {
        let name = text("domainname", &config.domainname)?;
        plan.push(Op::DomainName { name: Text(&name) });
    }
    own_clocks(plan, config, facts)?;
    if private_proc {
        sysctls(plan, config)?;
        if labels {
            process.labels(plan, PROC)?;
        }
        plan.push(Op::Close { slot: PROC });
    }
    if facts.new & CLONE_NEWNS != 0 {
        if process.make_cwd {
            let path = text("cwd", clean(&process.cwd))?;
            plan.push(Op::MakeDirectory { path: Text(&path), mode: 0o755 });
        }
        protection(plan, config, facts)?;
    }
    plan.push(Op::ReopenNull);
    if let Some(name) = &facts.keyring {
        let name = text("id", name)?;
        plan.push(Op::Keyring { name: Text(&name) });
    }
    Ok(())
}

/// A new time namespace, which the program enters.
///
/// Its clocks can be set until somebody is in it, and who makes it is not: `execve(2)` enters it.
fn own_clocks(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
    if facts.new & CLONE_NEWTIME == 0 {
        return Ok(());
    }
    plan.push(Op::Unshare { flags: CLONE_NEWTIME });
    if config.time_offsets.is_empty() {
        return Ok(());
    }
    let mut lines = String::new();
    for (clock, offset) in &config.time_offsets {
        let _ = writeln!(lines, "{clock} {} {}", offset.secs, offset.nanosecs);
    }
    let offsets = text("time_offsets", lines)?;
    plan.push(Op::TimeOffsets { proc: PROC, offsets: Text(&offsets) });
    Ok(())
}

/// The ids that the init takes in a user namespace: root's, if they are mapped. Until then it has
/// none there, and could own no file.
pub(super) fn root_ids(config: &Config) -> Op<'static> {
    let first = |maps: &[IdMap]| maps.iter().map(|map| map.container_id).min().unwrap_or_default();
    Op::Ids { uid: first(&config.uid_mappings), gid: first(&config.gid_mappings) }
}

/// The first mount that may be another one in another network namespace: sysfs, or a type of file
/// system that is not known here.
fn first_of_network(config: &Config, facts: &Facts<'_>) -> Option<usize> {
    const NONE: [&str; 8] =
        ["bind", "cgroup", "cgroup2", "devpts", "mqueue", "overlay", "proc", "tmpfs"];
    let is = |mount: &Mount| {
        mount.flags & (MS_BIND | MS_REMOUNT) == 0 && !NONE.contains(&mount.device.as_str())
    };
    let both = CLONE_NEWNS | CLONE_NEWNET;
    if facts.new & both != both {
        return None;
    }
    config.mounts.iter().position(is)
}

/// Enters the network namespace that was made beside the clone. All before it is in a part that
/// does not wait for it.
fn enter_network(plan: &mut Plan, facts: &Facts<'_>) {
    if facts.parallel_netns {
        plan.begin_part();
        let target = plan.source(Source::Network);
        plan.push(Op::SetNamespaces { target, flags: CLONE_NEWNET });
    }
}

/// Waits for the host, and makes the cgroup the root of a cgroup namespace.
///
/// `clone3(2)` with both flags would root the namespace at the caller's cgroup.
fn own_cgroup(plan: &mut Plan, facts: &Facts<'_>) {
    if facts.barrier {
        plan.push(Op::Barrier { id: BARRIER_HOST });
    }
    if facts.new & CLONE_NEWCGROUP != 0 {
        plan.push(Op::Unshare { flags: CLONE_NEWCGROUP });
    }
}

/// Makes the root with all mounts and devices.
fn root(plan: &mut Plan, config: &Config, private_proc: bool, facts: &Facts<'_>) -> Result<()> {
    if facts.new & CLONE_NEWNS == 0 {
        let joined = facts.joined.iter().any(|(flag, _)| *flag == CLONE_NEWNS);
        if !joined && config.rootfs != Path::new("/") {
            let directory = plan.source(Source::Directory(config.rootfs.clone()));
            plan.push(Op::Chroot { directory });
        }
        if private_proc {
            mount::make_proc(plan, PROC);
        }
        return Ok(());
    }
    if facts.sees_host {
        let flags = u32::try_from(mount::inherited(config) | MS_REC).unwrap_or(0);
        plan.push(Op::Propagation { flags });
    }
    if private_proc {
        mount::make_proc(plan, PROC);
    }
    if facts.by_path && !config.mask_paths.is_empty() {
        plan.push(Op::OpenTree { into: NULL, path: Text(NULL_DEVICE), recursive: false });
    }
    // Paths of the host, and commands that see them, need the old root until the mounts are made.
    let commands = config.mounts.iter().any(has_commands);
    let hooks = config.hooks.need_host_mounts();
    let late = facts.by_path || commands || hooks;
    // In a user namespace these can only be made while full ones are in sight.
    let mut ready: Vec<Option<Slot>> = vec![None; config.mounts.len()];
    if facts.in_user_namespace && !late {
        for (place, mount) in ready.iter_mut().zip(&config.mounts) {
            let early = matches!(mount.device.as_str(), "proc" | "sysfs" | "mqueue");
            if early && host_path_instead(mount, facts).is_none() {
                *place = Some(mount::make(plan, config, mount)?);
            }
        }
    }
    attach_root(plan, config, facts)?;
    let pivot = if config.no_pivot_root { Op::MoveRoot } else { Op::PivotRoot };
    if !late {
        plan.push(pivot);
    }
    let of_network = first_of_network(config, facts);
    for (index, (entry, ready)) in config.mounts.iter().zip(ready).enumerate() {
        if of_network == Some(index) {
            enter_network(plan, facts);
        }
        if has_commands(entry) {
            plan.push(Op::Barrier { id: barrier_of_mount(index) });
        }
        one_mount(plan, config, entry, ready, facts)?;
        if has_commands(entry) {
            plan.push(Op::Barrier { id: barrier_of_mount(index) + 1 });
        }
    }
    devices::make(plan, config, facts)?;
    for link in &config.links {
        let target = text("links.target", &link.target)?;
        let path = text("links.path", clean(&link.path))?;
        plan.push(Op::MakeLink { target: Text(&target), path: Text(&path), replace: false });
    }
    if hooks {
        plan.push(Op::Barrier { id: BARRIER_CREATE });
    }
    if late {
        plan.push(pivot);
    }
    if config.root_propagation != 0 {
        let flags = u32::try_from(config.root_propagation).unwrap_or(0);
        plan.push(Op::Propagation { flags });
    }
    Ok(())
}

/// The host's tree where a user namespace may not make its own: that of a namespace which is
/// shared with the host.
fn host_path_instead(mount: &Mount, facts: &Facts<'_>) -> Option<&'static str> {
    let shared = |flag: u32| {
        let joined = facts.joined.iter().any(|(joined, _)| *joined == flag);
        facts.in_user_namespace && facts.new & flag == 0 && !joined
    };
    match mount.device.as_str() {
        "sysfs" if shared(CLONE_NEWNET) => Some("/sys"),
        "mqueue" if shared(CLONE_NEWIPC) => Some("/dev/mqueue"),
        _ => None,
    }
}

/// Whether commands run around a mount.
pub fn has_commands(mount: &Mount) -> bool {
    !mount.premount_cmds.is_empty() || !mount.postmount_cmds.is_empty()
}

/// Attaches the root: a copy of the mount of `rootfs`, or a new tmpfs.
fn attach_root(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
    let tree = if config.tmpfs_root {
        let tmpfs = Mount {
            source: "tmpfs".into(),
            device: "tmpfs".into(),
            data: "mode=755".into(),
            ..Mount::default()
        };
        mount::make(plan, config, &tmpfs)?
    } else {
        let slot = mount::tree(plan, facts, &config.rootfs.to_string_lossy(), true)?;
        mount::set_attributes(plan, slot, 0, 0, mount::inherited(config), true);
        slot
    };
    let at = text("rootfs", &facts.at)?;
    plan.push(Op::Root { tree, at: Text(&at) });
    Ok(())
}

/// One mount: made or copied, and attached.
fn one_mount(
    plan: &mut Plan,
    config: &Config,
    mount: &Mount,
    ready: Option<Slot>,
    facts: &Facts<'_>,
) -> Result<()> {
    if mount.flags & MS_REMOUNT != 0 {
        return mount::remount(plan, mount);
    }
    if mount.device == "bind" || mount.flags & MS_BIND != 0 {
        return mount::bind(plan, config, mount, facts);
    }
    if mount.device == "cgroup" || mount.device == "cgroup2" {
        return cgroup_mount(plan, config, mount, facts);
    }
    if let Some(source) = host_path_instead(mount, facts) {
        let host = Mount {
            // A new file system would have no mounts of the host below.
            recursive_set: mount.recursive_set | mount::attributes(mount.flags),
            source: source.into(),
            device: "bind".into(),
            flags: mount.flags | MS_BIND | MS_REC,
            data: String::new(),
            ..mount.clone()
        };
        return mount::bind(plan, config, &host, facts);
    }
    if mount::is_legacy(mount) {
        return mount::legacy(plan, config, mount);
    }
    let slot = match ready {
        Some(slot) => slot,
        None => mount::make(plan, config, mount)?,
    };
    mount::attach(plan, slot, mount, Create::Directory)
}

/// The container's own cgroups: a cgroup2 file system, or what the host shows of them.
fn cgroup_mount(plan: &mut Plan, config: &Config, mount: &Mount, facts: &Facts<'_>) -> Result<()> {
    let unified = facts.cgroups.keys().all(String::is_empty);
    if facts.new & CLONE_NEWCGROUP != 0 && unified {
        let own = Mount { device: "cgroup2".into(), data: String::new(), ..mount.clone() };
        let slot = mount::make(plan, config, &own)?;
        return mount::attach(plan, slot, &own, Create::Directory);
    }
    // Writable only where the container has a view of its own groups alone, if at all.
    let read_only = if facts.new & CLONE_NEWCGROUP == 0 { 1 } else { 0 };
    let own = |source: &Path, destination: String| Mount {
        source: source.to_string_lossy().into_owned(),
        destination,
        device: "bind".into(),
        flags: mount.flags | MS_BIND | MS_REC | read_only,
        ..Mount::default()
    };
    if let (true, Some(directory)) = (unified, facts.cgroups.get("")) {
        let own = own(directory, mount.destination.clone());
        return mount::bind(plan, config, &own, facts);
    }
    let tmpfs = Mount {
        source: "tmpfs".into(),
        device: "tmpfs".into(),
        data: "mode=755".into(),
        flags: mount.flags & !1,
        ..mount.clone()
    };
    let slot = mount::make(plan, config, &tmpfs)?;
    mount::attach(plan, slot, &tmpfs, Create::Directory)?;
    // Controllers that share a hierarchy share a directory.
    let mut hierarchies: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
    for (controller, directory) in &facts.cgroups {
        let name = match controller.strip_prefix("name=").unwrap_or(controller) {
            "" => "unified",
            name => name,
        };
        hierarchies.entry(directory).or_default().push(name);
    }
    for (directory, names) in &hierarchies {
        let joined = names.join(",");
        let own = own(directory, format!("{}/{joined}", mount.destination));
        mount::bind_directory(plan, config, &own, facts)?;
        for name in names.iter().filter(|name| **name != joined) {
            let path = text("mounts.destination", clean(&format!("{}/{name}", mount.destination)))?;
            let target = text("mounts.destination", &joined)?;
            plan.push(Op::MakeLink { target: Text(&target), path: Text(&path), replace: false });
        }
    }
    if mount.flags & 1 != 0 {
        // The hierarchies below are read-only by themselves.
        let at = text("mounts.destination", clean(&mount.destination))?;
        let set = mount::attributes(1);
        plan.push(Op::Remount { at: Text(&at), set, clear: 0, recursive: false });
    }
    Ok(())
}

/// Sysctls, while `/proc/sys` is not yet read-only.
fn sysctls(plan: &mut Plan, config: &Config) -> Result<()> {
    for (key, value) in &config.system_properties {
        let path = text("system_properties", key.replace('.', "/"))?;
        let value = text("system_properties", value)?;
        plan.push(Op::Sysctl { proc: PROC, path: Text(&path), value: Text(&value) });
    }
    Ok(())
}

/// Read-only and masked paths, and the read-only root.
fn protection(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
    for path in &config.readonly_paths {
        let path = text("readonly_paths", clean(path))?;
        plan.push(Op::ReadOnly { path: Text(&path) });
    }
    if !config.mask_paths.is_empty() {
        masks(plan, config, facts)?;
    }
    if config.readonlyfs {
        plan.push(Op::ReadOnlyRoot);
    }
    Ok(())
}

/// Hidden paths share one null device and one empty directory.
fn masks(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
    plan.room_for(2);
    let directory = if facts.by_path || facts.in_user_namespace || !config.mount_label.is_empty() {
        let empty = Mount {
            source: "tmpfs".into(),
            device: "tmpfs".into(),
            data: "size=0k,nr_inodes=2,mode=555".into(),
            // nosuid, nodev, noexec, read-only
            flags: 15,
            ..Mount::default()
        };
        mount::make(plan, config, &empty)?
    } else {
        // It is copied for each path, and closed by the host when nobody waits for it any more.
        plan.source(Source::Empty)
    };
    let file = if facts.by_path {
        NULL
    } else {
        plan.source(Source::Tree { path: "/dev/null".into(), recursive: false, ids: None })
    };
    mount::set_attributes(plan, file, 0, 0, MS_PRIVATE, false);
    for path in &config.mask_paths {
        let path = text("mask_paths", clean(path))?;
        plan.push(Op::Mask { path: Text(&path), file, directory });
    }
    plan.push(Op::Close { slot: directory });
    plan.push(Op::Close { slot: file });
    Ok(())
}
