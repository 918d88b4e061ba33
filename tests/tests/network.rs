//! Interfaces of the host that are moved into a container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use pidone::Config;
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, Stop, case, need, output, process};

pub(crate) const CASES: &[Case] = &[
    case!(interfaces_are_moved_into_the_container).alone().once(),
    case!(a_failed_start_returns_the_interfaces).alone().once(),
    case!(a_new_network_is_shared_with_nobody).alone().once(),
];

/// A network namespace of this thread's own, for the host, with an interface to move.
fn config(sandbox: &Sandbox) -> Result<Config, Stop> {
    need::program("ip")?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    ip("link add near type veth peer name far")?;
    ip("address add 192.0.2.5/24 dev near")?;
    ip("link set near up")?;
    let mut config = sandbox.config();
    config.net_devices = BTreeMap::from([("near".to_owned(), "wan".to_owned())]);
    Ok(config)
}

fn ip(arguments: &str) -> Result<String, Stop> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Stop::Failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn interfaces_are_moved_into_the_container(sandbox: &Sandbox) -> Outcome {
    let config = config(sandbox)?;
    let mut live = sandbox.start(&config, process(&["/guest", "report", ",", "sleep"]))?;
    let report: Report = live.say()?;
    let interfaces = report.interfaces.ok_or("no interfaces")?;
    let names = interfaces.iter().filter_map(|line| line.split_once(':'));
    assert_eq!(names.map(|(name, _)| name.trim()).collect::<Vec<_>>(), ["lo", "wan"]);
    assert!(ip("link show near").is_err());
    let looks = process(&["/guest", "read", "/proc/net/fib_trie", ",", "read", "/proc/net/route"]);
    let mut running = sandbox.join(&mut live.container, looks)?;
    let seen: Vec<Read> = output(&mut running)?.lines()?;
    // Its address, and the route to its network, which exists only while it is up.
    assert!(seen[0].text.contains("192.0.2.5"), "{seen:?}");
    assert!(seen[1].text.contains("wan\t000200C0"), "{seen:?}");
    live.kill()?;
    Ok(())
}

fn a_failed_start_returns_the_interfaces(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox)?;
    // Behind the network: the init enters the root later.
    config.system_properties.insert("net.ipv4.no_such_setting".into(), "1".into());
    assert!(sandbox.start(&config, process(&["/guest"])).is_err());
    let link = ip("address show near")?;
    assert!(link.contains("192.0.2.5/24") && link.contains("UP"), "{link}");
    Ok(())
}

fn a_new_network_is_shared_with_nobody(sandbox: &Sandbox) -> Outcome {
    let network = |task: &str| fs::read_link(format!("/proc/{task}/ns/net"));
    let own = network("thread-self")?;
    // Nor is one left of a start that failed before it was entered.
    let missing = Config { rootfs: "/no/such/root".into(), ..sandbox.config() };
    assert!(sandbox.start(&missing, process(&["/guest"])).is_err());
    let mut seen = BTreeSet::from([own.clone()]);
    // The kernel gives an inode again when its namespace has gone.
    let mut all = Vec::new();
    for index in 0..3 {
        let mut config = sandbox.config();
        if let Some(cgroup) = &mut config.cgroups {
            cgroup.name.push_str(&format!("-{index}"));
        }
        let live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
        let pid = live.running.pid();
        assert!(seen.insert(network(&pid.to_string())?), "the container's is new: {seen:?}");
        for task in fs::read_dir("/proc/self/task")? {
            let task = task?.file_name().into_string().map_err(|_| "no name")?;
            // A thread may end meanwhile.
            if let Ok(of_thread) = network(&format!("self/task/{task}")) {
                assert_eq!(of_thread, own, "{task}");
            }
        }
        for file in fs::read_dir("/proc/self/fd")? {
            let file = fs::read_link(file?.path()).unwrap_or_default();
            assert!(!file.to_string_lossy().starts_with("net:"), "{file:?} is kept");
        }
        all.push(live);
    }
    all.into_iter().try_for_each(|live| live.kill().map(drop))
}
