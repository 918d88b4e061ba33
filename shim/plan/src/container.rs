//! The plan of a container's first process.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pidone_config::config::mount::flags::{BIND, RDONLY, REC, REMOUNT, attributes};
use pidone_config::config::{IdMap, Mount, NamespaceType, sysctl};
use pidone_config::{Config, Error, Result};
use pidone_proto::{Create, Op, Slot, Text};

use super::barrier::{BARRIER_CREATE, BARRIER_HOST, barrier_of_mount};
use super::facts::{End, Facts};
pub use super::mount::{has_commands, names_host_paths};
use super::process::{Done, Wait};
use super::provided::{Destinations, Provided, is_new, provided_source};
use super::{
    NULL, PROC, Plan, Process, Source, cgroup_mount, clean, devices, mount, protection, sysfs, text,
};

/// The device that covers masked files.
const NULL_DEVICE: &std::ffi::CStr = c"/dev/null";

const CLONE_NEWNS: u32 = NamespaceType::Mount.clone_flag();
/// The flag of a new network namespace: `clone(2)`.
pub const CLONE_NEWNET: u32 = NamespaceType::Network.clone_flag();
/// The flag of a new cgroup namespace: `clone(2)`.
pub const CLONE_NEWCGROUP: u32 = NamespaceType::Cgroup.clone_flag();
/// The flag of a new time namespace: `clone(2)`.
pub const CLONE_NEWTIME: u32 = NamespaceType::Time.clone_flag();
const CLONE_NEWIPC: u32 = NamespaceType::Ipc.clone_flag();
const CLONE_NEWPID: u32 = NamespaceType::Pid.clone_flag();
/// The host's proc, as a path and for the wire.
const HOST_PROC_DIRECTORY: &str = "/proc";
const HOST_PROC: &std::ffi::CStr = c"/proc";
pub(super) const CLONE_NEWUSER: u32 = NamespaceType::User.clone_flag();

/// Compiles the plan of a container's first process.
///
/// Nothing is read from the host: `facts` and a [resolved](crate::resolve) process have what the
/// plan depends on. `pidone::first_plan` collects them and calls this.
///
/// ```
/// use pidone_config::Config;
/// use pidone_plan::{Process, container, dropped::DroppedPrivileges, facts::Facts};
///
/// let config = Config { rootfs: "/srv/root".into(), ..Config::default() };
/// let process =
///     Process { args: vec!["/bin/sh".into()], cwd: "/".into(), ..Process::default() };
/// let facts = Facts {
///     new: 0,
///     parallel_netns: false,
///     joined: Vec::new(),
///     foreign: 0,
///     in_user_namespace: false,
///     makes_nodes: false,
///     by_path: false,
///     sees_host: true,
///     at: "/srv/root".into(),
///     cgroups: Default::default(),
///     awaits_cgroup: false,
///     barrier: false,
///     waits: false,
///     keyring: None,
///     dropped: DroppedPrivileges::default(),
///     bare: Vec::new(),
///     is_directory: &|path| Ok(path.is_dir()),
///     attributes: &|_| Ok(0),
/// };
/// // Without a new mount namespace the root is entered by chroot(2).
/// let plan = container::compile(&config, &process, &facts)?;
/// assert!(plan.to_string().contains("chroot /srv/root\n"));
/// # pidone_config::Result::Ok(())
/// ```
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] with field and value for what no operation can express.
pub fn compile(config: &Config, process: &Process, facts: &Facts<'_>) -> Result<Plan> {
    let mut plan = Plan::default();
    set_up(&mut plan, config, process, facts)?;
    push_end(&mut plan, config, process, facts.end())?;
    Ok(plan)
}

/// Appends the operations by which the init becomes the program, or the supervisor of it.
pub(super) fn push_end(
    plan: &mut Plan,
    config: &Config,
    process: &Process,
    end: End,
) -> Result<()> {
    if config.supervise {
        if process.parent_death_signal != 0 {
            plan.push(Op::ParentDeath { signal: process.parent_death_signal });
        }
        end.dropped.compile(plan, process);
        let listener = plan.source(Source::Supervisor);
        plan.push(Op::Supervise { listener });
        return Ok(());
    }
    let wait = Wait { listens_before: true, ..Wait::of(config, end.waits) };
    process.compile(plan, config, wait, Done::default())
}

/// Appends the setup of the container: everything before the operations of the process.
pub(super) fn set_up(
    plan: &mut Plan,
    config: &Config,
    process: &Process,
    facts: &Facts<'_>,
) -> Result<()> {
    enter(plan, config, facts);
    configure(plan, config, process, facts)
}

/// Appends the entry into joined namespaces and the ids in a user namespace.
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

/// Appends the setup inside the namespaces: root, network, names, clocks, sysctls, keyring.
pub(super) fn configure(
    plan: &mut Plan,
    config: &Config,
    process: &Process,
    facts: &Facts<'_>,
) -> Result<()> {
    // A cgroup file system shows the tree below the cgroup that the process is in when the cgroup
    // namespace is created.
    let cgroup_first = !facts.awaits_cgroup && config.mounts.iter().any(cgroup_mount::is);
    if cgroup_first {
        push_cgroup_namespace(plan, facts);
    }
    // Under a supervising init, the plan of the program sets its labels.
    let labels = !process.labels.is_empty() && !config.supervise;
    let private_proc =
        !config.system_properties.is_empty() || labels || !config.time_offsets.is_empty();
    push_root(plan, config, private_proc, facts)?;
    if !cgroup_first {
        push_cgroup_namespace(plan, facts);
    }
    if facts.new & CLONE_NEWNET != 0 {
        if first_network_mount(config, facts).is_none() {
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
    push_time_namespace(plan, config, facts)?;
    if private_proc {
        push_sysctls(plan, config)?;
        if labels {
            process.labels(plan, PROC)?;
        }
        plan.push(Op::Close { slot: PROC });
    }
    if facts.new & CLONE_NEWNS != 0 {
        let cwd = clean(&process.cwd);
        if process.make_cwd && cwd != "/" {
            let path = text("cwd", cwd)?;
            plan.push(Op::MakeDirectory { path: Text(&path), mode: 0o755 });
        }
        if process.terminal.as_ref().is_some_and(|terminal| terminal.console) {
            push_console_place(plan, config);
        }
        protection::push(plan, config, facts)?;
    }
    plan.push(Op::ReopenNull);
    if let Some(name) = &facts.keyring {
        let name = text("id", name)?;
        plan.push(Op::Keyring { name: Text(&name) });
    }
    Ok(())
}

/// Appends a new time namespace and its clock offsets.
///
/// The offsets can be set until a process is in the namespace. `unshare(2)` does not enter it,
/// `execve(2)` does.
fn push_time_namespace(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
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

/// Returns the operation that sets the init's ids in a user namespace: root's if they are mapped,
/// else the smallest ones. Until then its ids are unmapped, and it could own no file.
pub(super) fn root_ids(config: &Config) -> Op<'static> {
    let first = |maps: &[IdMap]| maps.iter().map(|map| map.container_id).min().unwrap_or_default();
    Op::Ids { uid: first(&config.uid_mappings), gid: first(&config.gid_mappings) }
}

/// Returns the index of the first mount that may depend on the network namespace: a sysfs, or a
/// file system of an unknown type.
fn first_network_mount(config: &Config, facts: &Facts<'_>) -> Option<usize> {
    const INDEPENDENT: [&str; 8] =
        ["bind", "cgroup", "cgroup2", "devpts", "mqueue", "overlay", "proc", "tmpfs"];
    let depends = |mount: &Mount| {
        mount.flags & (BIND | REMOUNT) == 0 && !INDEPENDENT.contains(&mount.device.as_str())
    };
    let both = CLONE_NEWNS | CLONE_NEWNET;
    if facts.new & both != both {
        return None;
    }
    config.mounts.iter().position(depends)
}

/// Appends the entry into a network namespace that a thread creates in parallel to the clone. It
/// begins a new part, so that the operations before it do not wait for the namespace.
fn enter_network(plan: &mut Plan, facts: &Facts<'_>) {
    if facts.parallel_netns {
        plan.begin_part();
        let target = plan.source(Source::Network);
        plan.push(Op::SetNamespaces { target, flags: CLONE_NEWNET });
    }
}

/// Appends the wait for the host, and a new cgroup namespace, unless that has to wait longer.
fn push_cgroup_namespace(plan: &mut Plan, facts: &Facts<'_>) {
    if facts.barrier {
        plan.push(Op::Barrier { id: BARRIER_HOST });
    }
    if !facts.awaits_cgroup {
        cgroup_mount::push_namespace(plan, facts);
    }
}

/// Appends the root with all mounts, devices and links.
fn push_root(
    plan: &mut Plan,
    config: &Config,
    private_proc: bool,
    facts: &Facts<'_>,
) -> Result<()> {
    if facts.new & CLONE_NEWNS == 0 {
        if facts.awaits_cgroup {
            cgroup_mount::push_late_entrance(plan, facts);
        }
        if config.hooks.need_host_mounts() {
            plan.push(Op::Barrier { id: BARRIER_CREATE });
        }
        let joined = facts.joined.iter().any(|(flag, _)| *flag == CLONE_NEWNS);
        if !joined && config.rootfs != Path::new("/") {
            let directory = plan.source(Source::Directory(config.rootfs.clone()));
            plan.push(Op::Chroot { directory });
        }
        if private_proc {
            push_private_proc(plan, facts);
        }
        return Ok(());
    }
    let permitted = sysfs::as_permitted(config, facts)?;
    let config = permitted.as_ref().unwrap_or(config);
    if facts.sees_host {
        let flags = u32::try_from(mount::inherited_propagation(config) | REC).unwrap_or(0);
        plan.push(Op::Propagation { flags });
    }
    if private_proc {
        push_private_proc(plan, facts);
    }
    if facts.by_path && !config.mask_paths.is_empty() {
        plan.push(Op::OpenTree { into: NULL, path: Text(NULL_DEVICE), recursive: false });
    }
    // The init needs the old root until the mounts are done if it opens paths of the host, or if
    // commands or hooks see them.
    let commands = config.mounts.iter().any(has_commands);
    let hooks = config.hooks.need_host_mounts();
    let host_paths = config.mounts.iter().any(names_host_paths);
    let late_pivot = facts.by_path || commands || hooks || host_paths;
    let Early { ready, in_network } = push_early_mounts(plan, config, late_pivot, facts)?;
    push_attach_root(plan, config, facts)?;
    let pivot = if config.no_pivot_root { Op::MoveRoot } else { Op::PivotRoot };
    if !late_pivot {
        plan.push(pivot);
    }
    let network_mount = first_network_mount(config, facts).filter(|_| !in_network);
    let mut inner = Vec::new();
    let mut destinations = Destinations::default();
    let mut awaits_cgroup = facts.awaits_cgroup;
    let mut late = Vec::new();
    for (index, (entry, ready)) in config.mounts.iter().zip(ready).enumerate() {
        if network_mount == Some(index) {
            enter_network(plan, facts);
        }
        if has_commands(entry) {
            plan.push(Op::Barrier { id: barrier_of_mount(index) });
        }
        let provided = provided_source(config, entry, &destinations, facts)?;
        // The path leads to this mount from now on.
        let covered = destinations.add(entry, index).map(|covered| &config.mounts[covered]);
        if let Some(covered) = covered.filter(|covered| mount::is_read_only_last(covered)) {
            mount::push_read_only_last(plan, covered)?;
        }
        if awaits_cgroup && cgroup_mount::is(entry) {
            if cgroup_mount::can_wait(&config.mounts, index) {
                late.push((entry, ready));
                continue;
            }
            cgroup_mount::push_late_entrance(plan, facts);
            awaits_cgroup = false;
        }
        if let Some(provided) = provided {
            if late_pivot {
                inner.push((entry, provided));
            } else {
                push_inner_bind(plan, config, entry, &provided, facts)?;
            }
        } else if mount::is_read_only_last(entry) {
            let writable = Mount { flags: entry.flags & !RDONLY, ..entry.clone() };
            push_mount(plan, config, &writable, ready, facts)?;
        } else {
            push_mount(plan, config, entry, ready, facts)?;
        }
        if has_commands(entry) {
            plan.push(Op::Barrier { id: barrier_of_mount(index) + 1 });
        }
    }
    devices::push_devices(plan, config, facts)?;
    for link in &config.links {
        let target = text("links.target", &link.target)?;
        let path = text("links.path", clean(&link.path))?;
        plan.push(Op::MakeLink { target: Text(&target), path: Text(&path), replace: false });
    }
    if awaits_cgroup {
        cgroup_mount::push_late_entrance(plan, facts);
    }
    for (mount, ready) in late {
        push_mount(plan, config, mount, ready, facts)?;
    }
    if hooks {
        plan.push(Op::Barrier { id: BARRIER_CREATE });
    }
    if late_pivot {
        plan.push(pivot);
    }
    for (mount, provided) in inner {
        push_inner_bind(plan, config, mount, &provided, facts)?;
    }
    for mount in config.mounts.iter().filter(|mount| is_new(mount) && mount::is_legacy(mount)) {
        mount::push_legacy_propagation(plan, mount)?;
    }
    if config.root_propagation != 0 {
        let flags = u32::try_from(config.root_propagation).unwrap_or(0);
        plan.push(Op::Propagation { flags });
    }
    Ok(())
}

/// What was done while the init saw the host's mounts.
struct Early {
    /// The slots of the mounts that were made.
    ready: Vec<Option<Slot>>,
    /// Whether the init is in the network namespace that a thread creates in parallel.
    in_network: bool,
}

/// Appends what must be done while the init still sees the host's mounts without the root among
/// them.
fn push_early_mounts(
    plan: &mut Plan,
    config: &Config,
    late_pivot: bool,
    facts: &Facts<'_>,
) -> Result<Early> {
    let mut ready: Vec<Option<Slot>> = vec![None; config.mounts.len()];
    let mut in_network = false;
    let covers = config.no_pivot_root && !facts.bare.is_empty();
    // A user namespace can only mount these while it sees fully visible ones.
    if facts.in_user_namespace && (!late_pivot || covers) {
        for (slot, mount) in ready.iter_mut().zip(&config.mounts) {
            let early = matches!(mount.device.as_str(), "proc" | "sysfs" | "mqueue");
            if early && bound_instead(mount, facts).is_none() {
                // A sysfs shows, and needs privileges over, the network namespace of its maker.
                if mount.device == "sysfs" && facts.new & CLONE_NEWNET != 0 && !in_network {
                    enter_network(plan, facts);
                    in_network = true;
                }
                *slot = Some(mount::push_file_system(plan, config, mount)?);
            }
        }
    }
    if !covers {
        return Ok(Early { ready, in_network });
    }
    if facts.by_path {
        let covered = |path: &str| facts.bare.iter().any(|bare| Path::new(path).starts_with(bare));
        for (slot, mount) in ready.iter_mut().zip(&config.mounts) {
            let source = match bound_instead(mount, facts) {
                Some(source) => source,
                None if mount.device == "bind" || mount.flags & BIND != 0 => &mount.source,
                None => continue,
            };
            if covered(source) {
                let recursive = mount.flags & REC != 0 || bound_instead(mount, facts).is_some();
                *slot = Some(mount::push_tree(plan, facts, source, recursive)?);
            }
        }
    }
    // Without pivot_root(2) the mounts of the host stay in the namespace, out of reach. The kernel
    // still counts them when a user namespace in the container mounts a new proc or sysfs, which
    // has none of the masks: it permits that while a bare one exists. So each is covered for good.
    for point in &facts.bare {
        let slot = protection::push_empty(plan, config)?;
        let at = text("no_pivot_root", point)?;
        plan.push(Op::Attach { mount: slot, at: Text(&at), create: Create::Nothing, follow: true });
    }
    Ok(Early { ready, in_network })
}

/// Appends a bind whose source is below the root, after the change of root.
fn push_inner_bind(
    plan: &mut Plan,
    config: &Config,
    mount: &Mount,
    provided: &Provided,
    facts: &Facts<'_>,
) -> Result<()> {
    let into = plan.mount_slot();
    let path = text("mounts.source", &provided.path)?;
    plan.push(Op::OpenTree { into, path: Text(&path), recursive: mount.flags & REC != 0 });
    mount::push_copy(plan, config, into, mount, provided.create, facts)
}

/// Whether the init must see the host's mounts while it sets the container up: for commands around
/// a mount, and for file systems that are made of files of the host.
#[must_use]
pub fn needs_host_view(config: &Config) -> bool {
    config.mounts.iter().any(|mount| has_commands(mount) || names_host_paths(mount))
}

/// Returns the directory of the host that is bound instead of a new file system, which a user
/// namespace may not mount for a namespace that does not belong to it. As crun does.
fn bound_instead(mount: &Mount, facts: &Facts<'_>) -> Option<&'static str> {
    match mount.device.as_str() {
        "sysfs" if is_foreign(CLONE_NEWNET, facts) => Some("/sys"),
        "mqueue" if is_foreign(CLONE_NEWIPC, facts) => Some("/dev/mqueue"),
        "proc" if is_foreign(CLONE_NEWPID, facts) => Some(HOST_PROC_DIRECTORY),
        _ => None,
    }
}

/// Returns the type of a file system, and the namespace of another container that it shows, if the
/// container's user namespace may not mount it, but the host may.
fn made_by_host(mount: &Mount, facts: &Facts<'_>) -> Option<(&'static str, (u32, PathBuf))> {
    let (fstype, flag) = match mount.device.as_str() {
        "sysfs" => ("sysfs", CLONE_NEWNET),
        "mqueue" => ("mqueue", CLONE_NEWIPC),
        _ => return None,
    };
    let joined = facts.joined.iter().find(|(joined, _)| *joined == flag);
    let made = !facts.by_path && is_foreign(flag, facts);
    joined.filter(|_| made).map(|namespace| (fstype, namespace.clone()))
}

/// Whether the container is in a user namespace that does not own its namespace of a kind: it is
/// the host's, or was made by another container.
fn is_foreign(flag: u32, facts: &Facts<'_>) -> bool {
    let joined = facts.joined.iter().any(|(joined, _)| *joined == flag);
    let foreign = !joined || facts.foreign & flag != 0;
    facts.in_user_namespace && facts.new & flag == 0 && foreign
}

/// Appends a proc that only the init sees, for sysctls, labels and clocks. Where a new one cannot
/// be made, the host's serves: it shows the init's own namespaces, too.
fn push_private_proc(plan: &mut Plan, facts: &Facts<'_>) {
    if is_foreign(CLONE_NEWPID, facts) {
        plan.push(Op::OpenTree { into: PROC, path: Text(HOST_PROC), recursive: true });
    } else {
        mount::push_private_proc(plan, PROC);
    }
}

/// Appends the attachment of the root: a copy of the mount of `rootfs`, or a new tmpfs.
fn push_attach_root(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
    let tree = if config.tmpfs_root {
        let tmpfs = Mount {
            source: "tmpfs".into(),
            device: "tmpfs".into(),
            data: "mode=755".into(),
            ..Mount::default()
        };
        mount::push_file_system(plan, config, &tmpfs)?
    } else if config.volatile_root {
        if facts.by_path {
            return Err(Error::config("volatile_root", true, "needs privileges on the host")
                .with_hint("a read-only root needs none"));
        }
        let slot = plan.source(Source::Layered(config.rootfs.clone()));
        mount::push_set_attributes(plan, slot, 0, 0, mount::inherited_propagation(config), true);
        slot
    } else {
        let slot = mount::push_tree(plan, facts, &config.rootfs.to_string_lossy(), true)?;
        mount::push_set_attributes(plan, slot, 0, 0, mount::inherited_propagation(config), true);
        slot
    };
    let at = text("rootfs", &facts.at)?;
    plan.push(Op::Root { tree, at: Text(&at) });
    Ok(())
}

/// Appends a mount of the configuration. `ready` is the slot of its file system, if that was
/// created earlier.
fn push_mount(
    plan: &mut Plan,
    config: &Config,
    mount: &Mount,
    ready: Option<Slot>,
    facts: &Facts<'_>,
) -> Result<()> {
    if mount.flags & REMOUNT != 0 {
        return mount::push_remount(plan, mount);
    }
    if mount.device == "bind" || mount.flags & BIND != 0 {
        return mount::push_bind(plan, config, mount, ready, facts);
    }
    if mount.device == "cgroup" || mount.device == "cgroup2" {
        return cgroup_mount::push(plan, config, mount, facts);
    }
    if let Some((fstype, namespace)) = made_by_host(mount, facts) {
        return mount::push_made_by_host(plan, fstype, namespace, mount);
    }
    if let Some(source) = bound_instead(mount, facts) {
        let host = Mount {
            // Its attributes must also hold for the mounts of the host below it, which a new file
            // system would not have.
            recursive_set: mount.recursive_set | attributes(mount.flags),
            source: source.into(),
            device: "bind".into(),
            flags: mount.flags | BIND | REC,
            data: String::new(),
            ..mount.clone()
        };
        return mount::push_bind(plan, config, &host, ready, facts);
    }
    if mount::is_legacy(mount) {
        return mount::push_legacy(plan, config, mount);
    }
    let slot = match ready {
        Some(slot) => slot,
        None => mount::push_file_system(plan, config, mount)?,
    };
    mount::push_attach(plan, slot, mount, Create::Directory)
}

/// Appends the sysctls, while `/proc/sys` is not yet read-only.
fn push_sysctls(plan: &mut Plan, config: &Config) -> Result<()> {
    for (key, value) in &config.system_properties {
        let path = text("system_properties", sysctl::path(key).unwrap_or_default())?;
        let value = text("system_properties", value)?;
        plan.push(Op::Sysctl { proc: PROC, path: Text(&path), value: Text(&value) });
    }
    Ok(())
}

/// Appends the file on which the terminal will be mounted, where `/dev` is read-only by then.
fn push_console_place(plan: &mut Plan, config: &Config) {
    const S_IFREG: u32 = 0o100_000;
    let at_dev = |mount: &Mount| clean(&mount.destination) == "/dev";
    let read_only = match config.mounts.iter().rfind(|mount| at_dev(mount)) {
        Some(mount) => mount::is_read_only_last(mount),
        None => config.readonlyfs,
    };
    if read_only {
        let (path, mode) = (Text(c"/dev/console"), S_IFREG | 0o600);
        plan.push(Op::MakeNode { path, mode, major: 0, minor: 0, uid: 0, gid: 0 });
    }
}
