//! The plan of a container, compiled without reading the host.

use std::collections::BTreeMap;

use pidone::plan::container::compile;
use pidone::plan::dropped::DroppedPrivileges;
use pidone::plan::facts::Facts;
use pidone::plan::{Capabilities, Plan, Process};
use pidone::{Config, config, seccomp};

use crate::Result;

/// Returns a process with docker's defaults, including its seccomp filter.
///
/// # Errors
/// If a capability or a system call is unknown.
pub fn process(config: &Config) -> Result<Process> {
    let mask = config::capability::mask(&config.capabilities)?;
    let filter = match &config.seccomp {
        Some(list) => Some(seccomp::compile(&seccomp::libcontainer::profile(list)?)?),
        None => None,
    };
    Ok(Process {
        args: ["nginx", "-g", "daemon off;"].map(Into::into).into(),
        env: [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=0a1b2c3d4e5f",
            "NGINX_VERSION=1.29.1",
            "HOME=/root",
        ]
        .map(Into::into)
        .into(),
        cwd: "/".to_owned(),
        groups: Some(vec![0]),
        capabilities: Capabilities {
            bounding: mask,
            effective: mask,
            permitted: mask,
            ..Capabilities::default()
        },
        rlimits: config.rlimits.iter().map(|limit| (limit.kind, limit.soft, limit.hard)).collect(),
        no_new_privileges: true,
        seccomp: filter.map(|filter| (filter.flags(), filter.bytes())),
        umask: 0o022,
        ..Process::default()
    })
}

/// Compiles the plan of a container's first process.
///
/// # Errors
/// If the configuration is invalid.
pub fn plan(config: &Config, process: &Process) -> Result<Plan> {
    let new = config.namespaces.iter().fold(0, |flags, new| flags | new.kind.clone_flag());
    let facts = Facts {
        dropped: DroppedPrivileges::default(),
        new,
        parallel_netns: false,
        joined: Vec::new(),
        foreign: 0,
        in_user_namespace: false,
        makes_nodes: false,
        by_path: false,
        sees_host: false,
        at: "/r".into(),
        cgroups: BTreeMap::from([(String::new(), "/sys/fs/cgroup/parent/name".into())]),
        awaits_cgroup: false,
        barrier: false,
        waits: false,
        keyring: None,
        bare: vec![],
        is_directory: &|_| Ok(true),
        attributes: &|_| Ok(0),
    };
    Ok(compile(config, process, &facts)?)
}
