//! The mount of the container's cgroups.

use std::collections::BTreeMap;
use std::path::Path;

use pidone_config::config::mount::flags::{BIND, RDONLY, REC, attributes};
use pidone_config::config::{Mount, NamespaceType};
use pidone_config::{Config, Result};
use pidone_proto::{Create, Op, Text};

use super::barrier::BARRIER_CGROUP;
use super::facts::Facts;
use super::{Plan, clean, mount, text};

const CLONE_NEWCGROUP: u32 = NamespaceType::Cgroup.clone_flag();

/// Where cgroup v2 is mounted on the host.
const CGROUP2: &str = "/sys/fs/cgroup";

/// Appends the wait for the entry into a cgroup that the host is still making, and a new cgroup
/// namespace, whose root is that cgroup.
pub(super) fn push_late_entrance(plan: &mut Plan, facts: &Facts<'_>) {
    plan.push(Op::Barrier { id: BARRIER_CGROUP });
    push_namespace(plan, facts);
}

/// Appends a new cgroup namespace whose root is the container's cgroup.
///
/// The clone itself cannot create the namespace: with `CLONE_INTO_CGROUP`, `clone3(2)` would make
/// the caller's cgroup its root.
pub(super) fn push_namespace(plan: &mut Plan, facts: &Facts<'_>) {
    if facts.new & CLONE_NEWCGROUP != 0 {
        plan.push(Op::Unshare { flags: CLONE_NEWCGROUP });
    }
}

/// Whether a mount shows cgroups.
pub(super) fn is(mount: &Mount) -> bool {
    mount.device.starts_with("cgroup")
}

/// Whether a mount of cgroups can be made after all others: none of them is below it or covers it.
pub(super) fn can_wait(mounts: &[Mount], index: usize) -> bool {
    let Some((mount, later)) = mounts.get(index..).and_then(<[Mount]>::split_first) else {
        return false;
    };
    let own = clean(&mount.destination);
    let apart = |other: &Mount| {
        let other = clean(&other.destination);
        !Path::new(&other).starts_with(&own) && !Path::new(&own).starts_with(&other)
    };
    !mount::has_commands(mount) && later.iter().all(|other| is(other) || apart(other))
}

/// Appends a mount of cgroups: a cgroup2 file system, or binds of directories on the host.
///
/// On cgroup v2 it shows what the cgroup namespace does: the container's own cgroup, or everything
/// without a namespace. On cgroup v1 it shows the container's own. It is writable unless it is
/// requested to be read-only. runc does the same.
pub(super) fn push(
    plan: &mut Plan,
    config: &Config,
    mount: &Mount,
    facts: &Facts<'_>,
) -> Result<()> {
    let unified = facts.cgroups.keys().all(String::is_empty);
    let has_new = facts.new & CLONE_NEWCGROUP != 0;
    let joins = facts.joined.iter().any(|(flag, _)| *flag == CLONE_NEWCGROUP);
    let own = facts.cgroups.get("");
    // A user namespace can mount it only in a cgroup namespace that belongs to it.
    if unified && (has_new || (own.is_some() && !facts.in_user_namespace)) {
        let cgroup2 = Mount { device: "cgroup2".into(), data: String::new(), ..mount.clone() };
        let slot = mount::push_file_system(plan, config, &cgroup2)?;
        return mount::push_attach(plan, slot, &cgroup2, Create::Directory);
    }
    let bind = |source: &Path, destination: String| Mount {
        source: source.to_string_lossy().into_owned(),
        destination,
        device: "bind".into(),
        flags: mount.flags | BIND | REC,
        ..Mount::default()
    };
    if let (true, Some(own)) = (unified, own) {
        let all = Path::new(CGROUP2);
        let shown = if joins || !own.starts_with(all) { own } else { all };
        let directory = bind(shown, mount.destination.clone());
        return mount::push_bind(plan, config, &directory, None, facts);
    }
    let tmpfs = Mount {
        source: "tmpfs".into(),
        device: "tmpfs".into(),
        data: "mode=755".into(),
        flags: mount.flags & !RDONLY,
        ..mount.clone()
    };
    let slot = mount::push_file_system(plan, config, &tmpfs)?;
    mount::push_attach(plan, slot, &tmpfs, Create::Directory)?;
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
        let hierarchy = bind(directory, format!("{}/{joined}", mount.destination));
        mount::push_bind_directory(plan, config, &hierarchy, facts)?;
        for name in names.iter().filter(|name| **name != joined) {
            let path = text("mounts.destination", clean(&format!("{}/{name}", mount.destination)))?;
            let target = text("mounts.destination", &joined)?;
            plan.push(Op::MakeLink { target: Text(&target), path: Text(&path), replace: false });
        }
    }
    if mount.flags & RDONLY != 0 {
        // Not recursive: the hierarchies below have their own attributes.
        let at = text("mounts.destination", clean(&mount.destination))?;
        let set = attributes(RDONLY);
        plan.push(Op::Remount { at: Text(&at), set, clear: 0, recursive: false });
    }
    Ok(())
}
