//! Whole containers: what they see, what the host has of them, and that nothing is left.

use std::process::ExitCode;

use pidone_tests::Case;

mod capability;
mod cgroup;
mod cgroup_mount;
mod clock;
mod copy_up;
mod credential;
mod device;
mod exec;
mod hook;
mod host_path;
mod id_map;
mod identity;
mod init;
mod lifecycle;
mod limit;
mod mount;
mod mount_point;
mod namespace;
mod network;
mod ordinary;
mod ownership;
mod pool;
mod process;
mod propagation;
mod python;
mod read_only;
mod resources;
mod role;
mod root;
mod rootless;
mod running;
mod schedule;
mod seccomp;
mod seccomp_agent;
mod security;
mod start;
mod stdio;
mod stdio_owner;
mod supervise;
mod sysfs;
mod trace;
mod user_files;
mod waiting;

fn main() -> ExitCode {
    if let Some(played) = role::play().or_else(security::play) {
        return played;
    }
    let whole: &[&[Case]] = &[
        capability::CASES,
        cgroup::CASES,
        cgroup_mount::CASES,
        clock::CASES,
        copy_up::CASES,
        credential::CASES,
        device::CASES,
        exec::CASES,
        host_path::CASES,
        hook::CASES,
        id_map::CASES,
        identity::CASES,
        init::CASES,
        lifecycle::CASES,
        limit::CASES,
        mount::CASES,
        mount_point::CASES,
        namespace::CASES,
        network::CASES,
        ordinary::CASES,
        ownership::CASES,
        pool::CASES,
        pool::ACTIVATION,
        pool::REFUSALS,
        pool::SUPERVISORS,
        process::CASES,
        propagation::CASES,
        python::CASES,
        read_only::CASES,
        resources::CASES,
        root::CASES,
        rootless::CASES,
        running::CASES,
        schedule::CASES,
        seccomp::CASES,
        seccomp_agent::CASES,
        start::CASES,
        stdio::CASES,
        stdio_owner::CASES,
        supervise::CASES,
        supervise::BAD_CLIENTS,
        sysfs::CASES,
        trace::CASES,
        user_files::CASES,
        waiting::CASES,
    ];
    pidone_tests::main(&[whole, security::CASES].concat())
}
