//! Device nodes and the links in `/dev`.

use std::ffi::CStr;

use pidone_config::config::default::auto_created_devices;
use pidone_config::config::mount::flags::BIND;
use pidone_config::config::{Device, IdMap, Mount};
use pidone_config::{Config, Error, Result};
use pidone_proto::{Create, Op, Text};

use super::facts::Facts;
use super::mount;
use super::{Node, Plan, Source, clean, text};

/// Links that programs expect in `/dev`: OCI runtime specification, "Dev symbolic links".
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
    (c"/proc/kcore", c"/dev/core"),
];

/// Appends the device nodes, and the links in `/dev`.
pub(super) fn push_devices(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
    // A /dev that is bound from the host is left as it is.
    let at_dev = |mount: &&Mount| clean(&mount.destination) == "/dev";
    let dev = config.mounts.iter().rev().find(at_dev);
    let from_host = dev.is_some_and(|mount| mount.device == "bind" || mount.flags & BIND != 0);
    // A given /dev/ptmx is the link below, as in runc.
    let wanted = |device: &&Device| match clean(&device.path).as_str() {
        "/dev/ptmx" => false,
        path => !(from_host && path.starts_with("/dev/")),
    };
    for device in config.devices.iter().filter(wanted) {
        if let Some(node) = made_by_host(config, device, facts)? {
            let slot = plan.source(Source::Node(node));
            let at = text("devices.path", clean(&device.path))?;
            let create = Create::File;
            plan.push(Op::Attach { mount: slot, at: Text(&at), create, follow: true });
        } else if facts.in_user_namespace && device.kind != 'p' {
            // mknod(2) is refused in a user namespace: the host's node is bound instead.
            let node = Mount {
                source: device.path.clone(),
                destination: device.path.clone(),
                device: "bind".into(),
                flags: BIND,
                ..Mount::default()
            };
            mount::push_bind(plan, config, &node, None, facts)?;
        } else {
            push_node(plan, device)?;
        }
    }
    if from_host || (dev.is_none() && config.devices.is_empty()) {
        return Ok(());
    }
    for (target, path) in LINKS {
        plan.push(Op::MakeLink { target: Text(target), path: Text(path), replace: false });
    }
    // The host's ptmx would open terminals in the host's devpts.
    plan.push(Op::MakeLink { target: Text(c"pts/ptmx"), path: Text(c"/dev/ptmx"), replace: true });
    Ok(())
}

/// Returns the node that the host makes, for a container in a user namespace. Its owner is that of
/// the configuration: the host's own node has one whom the user namespace lacks.
///
/// The devices that every container has are bound, as with runc: they may be used by everyone.
fn made_by_host(config: &Config, device: &Device, facts: &Facts<'_>) -> Result<Option<Node>> {
    let is_default = || {
        let defaults = auto_created_devices();
        defaults
            .iter()
            .any(|default| (&default.path, default.file_mode) == (&device.path, device.file_mode))
    };
    if !facts.makes_nodes || device.kind == 'p' || is_default() {
        return Ok(None);
    }
    let owner = IdMap::host_of(&config.uid_mappings, device.uid);
    let group = IdMap::host_of(&config.gid_mappings, device.gid);
    let (Some(uid), Some(gid)) = (owner, group) else { return Ok(None) };
    Ok(Some(Node { uid, gid, ..node(device)? }))
}

/// Returns a device node with the ids of its container.
fn node(device: &Device) -> Result<Node> {
    // stat(2)
    const S_IFIFO: u32 = 0o010_000;
    const S_IFCHR: u32 = 0o020_000;
    const S_IFBLK: u32 = 0o060_000;
    let kind = match device.kind {
        'c' | 'u' => S_IFCHR,
        'b' => S_IFBLK,
        'p' => S_IFIFO,
        other => return Err(Error::config("devices.type", other, "not one of c, b, p, u")),
    };
    let number = |field, value: i64| {
        u32::try_from(value).map_err(|_| Error::config(field, value, "not a device number"))
    };
    Ok(Node {
        path: clean(&device.path),
        mode: kind | device.file_mode & 0o7777,
        major: number("devices.major", device.major)?,
        minor: number("devices.minor", device.minor)?,
        uid: device.uid,
        gid: device.gid,
    })
}

/// Appends a device node that the init makes.
fn push_node(plan: &mut Plan, device: &Device) -> Result<()> {
    let Node { path, mode, major, minor, uid, gid } = node(device)?;
    let path = text("devices.path", path)?;
    plan.push(Op::MakeNode { path: Text(&path), mode, major, minor, uid, gid });
    Ok(())
}
