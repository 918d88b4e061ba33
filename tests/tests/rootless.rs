//! An ordinary user to whom root has given a cgroup, where there is cgroup v2 alone.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Child;

use pidone::Config;
use pidone::config::{IdMap, NamespaceType};
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, until};

use crate::role;

pub(crate) const CASES: &[Case] = &[
    case!(a_user_has_his_containers_in_a_delegated_cgroup).unified().once(),
    case!(a_user_has_no_cgroup_elsewhere).unified().once(),
];

/// The user `nobody`.
const USER: u32 = 65534;

/// The root of the only hierarchy of this view.
const HIERARCHY: &str = "/sys/fs/cgroup";

/// A cgroup that is given to the user, as cgroups(7) says: "Cgroup delegation". This process goes
/// into one below and out again at the end, so that a child of it begins there.
struct Delegated {
    directory: PathBuf,
    before: PathBuf,
}

impl Delegated {
    fn new(sandbox: &Sandbox) -> Result<Self, Stop> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("no cgroup v2")?;
        let before = Path::new(HIERARCHY).join(own);
        let delegated = Self {
            directory: Path::new(HIERARCHY).join(format!("{}-user", sandbox.name())),
            before,
        };
        for directory in [delegated.directory.clone(), delegated.caller()] {
            fs::create_dir(&directory)?;
            chown(&directory, Some(USER), Some(USER))?;
            for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                chown(directory.join(file), Some(USER), Some(USER))?;
            }
        }
        Ok(delegated)
    }

    /// Where the user's own process is.
    fn caller(&self) -> PathBuf {
        self.directory.join("caller")
    }

    fn enter(&self) -> Outcome {
        Ok(fs::write(self.caller().join("cgroup.procs"), std::process::id().to_string())?)
    }

    fn leave(&self) -> Outcome {
        Ok(fs::write(self.before.join("cgroup.procs"), std::process::id().to_string())?)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = self.leave();
        let _ = fs::remove_dir(self.caller());
        let _ = fs::remove_dir(&self.directory);
    }
}

fn config(sandbox: &Sandbox) -> Config {
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: USER, size: 1 }];
    config.set_id_maps(map.clone(), map);
    config.set_namespace(NamespaceType::Cgroup, "");
    config.mounts.push(crate::mount::file_system("cgroup", "/sys/fs/cgroup", 0, ""));
    if let Some(cgroup) = &mut config.cgroups {
        // Rules for devices need a right of root's.
        cgroup.allow_all_devices = true;
        cgroup.allowed_devices = Vec::new();
    }
    config
}

/// Starts a container as the user; its first process lives as long as the child's input is open.
fn start(sandbox: &Sandbox, config: &Config) -> Result<Child, Stop> {
    let states = sandbox.path().join("user");
    fs::create_dir_all(&states)?;
    chown(&states, Some(USER), Some(USER))?;
    let strategy = pidone::Strategy::Host;
    role::starter_of(Some(USER), &states.join("state"), sandbox, &sandbox.id(), strategy, config)
}

fn a_user_has_his_containers_in_a_delegated_cgroup(sandbox: &Sandbox) -> Outcome {
    let delegated = Delegated::new(sandbox)?;
    delegated.enter()?;
    let starter = start(sandbox, &config(sandbox));
    delegated.leave()?;
    let mut starter = starter?;
    let pid = role::pid(&mut starter)?;
    let own = delegated.directory.join(sandbox.name());
    let processes = fs::read_to_string(own.join("cgroup.procs"))?;
    assert_eq!(processes.trim(), pid.to_string());
    // Its root, which is the user, manages what is below.
    let inside = format!("/proc/{pid}/root/sys/fs/cgroup/cgroup.procs");
    assert_eq!(fs::read_to_string(inside)?.trim(), pid.to_string());
    drop(starter.stdin.take());
    assert!(starter.wait()?.success());
    // The container died with the process that has started it; its state and cgroup are the
    // user's to remove.
    until("it dies", || Ok(fs::read_to_string(own.join("cgroup.procs"))?.is_empty()))?;
    fs::remove_dir(&own)?;
    Ok(())
}

/// Without the delegation the cgroup beside his own is root's.
fn a_user_has_no_cgroup_elsewhere(sandbox: &Sandbox) -> Outcome {
    let mut starter = start(sandbox, &config(sandbox))?;
    drop(starter.stdin.take());
    assert!(role::pid(&mut starter).is_err());
    assert!(!starter.wait()?.success());
    assert_eq!(pidone_tests::leftover::cgroups(sandbox.name()), [] as [String; 0]);
    // Without any cgroup it still starts.
    let mut config = config(sandbox);
    config.cgroups = None;
    config.mounts.retain(|mount| mount.device != "cgroup");
    let mut starter = start(sandbox, &config)?;
    role::pid(&mut starter)?;
    drop(starter.stdin.take());
    assert!(starter.wait()?.success());
    Ok(())
}
