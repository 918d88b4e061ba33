//! The OCI specification's `linux.resources`, and the cgroup of a container with its own users.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use pidone::config::{Cgroup, IdMap, IntelRdt, NamespaceType};
use pidone::oci::{Resources, resources};
use pidone_tests::{Case, Live, Outcome, Sandbox, Stop, case, need, output, process};

use crate::cgroup::open_devices;

pub(crate) const CASES: &[Case] = &[
    case!(limits_are_set_and_updated),
    case!(devices_are_ruled_in_order).and_unified(),
    case!(a_root_of_its_own_gets_the_cgroup).and_unified(),
    case!(shares_of_caches).alone().and_init(),
];

fn parse(json: &str) -> Result<Resources, Stop> {
    serde_json::from_str(json).map_err(|error| Stop::Failed(error.to_string()))
}

/// The sandbox's cgroup with the limits of the specification.
fn cgroup(sandbox: &Sandbox, json: &str) -> Result<Cgroup, Stop> {
    let own = sandbox.config().cgroups.ok_or("no cgroup")?;
    let path = format!("{}/{}", own.parent.trim_end_matches('/'), own.name);
    Ok(resources::cgroup(&path, "id", Some(&parse(json)?))?)
}

/// The first line of a file of the container's cgroup.
fn value(live: &Live, controller: &str, file: &str) -> Result<String, Stop> {
    let paths = &live.container.state()?.cgroup_paths;
    let directory = paths.get(controller).ok_or("no directory")?;
    let text = fs::read_to_string(directory.join(file)).map_err(|error| error.to_string())?;
    Ok(text.lines().next().unwrap_or("").to_owned())
}

fn limits_are_set_and_updated(sandbox: &Sandbox) -> Outcome {
    need::controller("memory")?;
    need::controller("pids")?;
    need::controller("cpu")?;
    let mut config = sandbox.config();
    config.cgroups = Some(cgroup(
        sandbox,
        r#"{"memory": {"limit": 67108864, "swap": 67108864}, "pids": {"limit": 40},
            "cpu": {"shares": 0, "quota": 50000, "period": 100000, "burst": 10000}}"#,
    )?);
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let values = |live: &Live| -> Result<[String; 4], Stop> {
        Ok([
            value(live, "memory", "memory.limit_in_bytes")?,
            value(live, "memory", "memory.memsw.limit_in_bytes")?,
            value(live, "pids", "pids.max")?,
            value(live, "cpu", "cpu.cfs_burst_us")?,
        ])
    };
    assert_eq!(values(&live)?, ["67108864", "67108864", "40", "10000"]);
    let devices = value(&live, "devices", "devices.list");
    let update = parse(
        r#"{"memory": {"limit": 134217728, "swap": 268435456}, "pids": {"limit": -1},
            "cpu": {"quota": 5000, "burst": 0}}"#,
    )?;
    let mut changed = live.container.config().clone();
    update.apply(changed.cgroups.as_mut().ok_or("no cgroup")?)?;
    live.container.set(&changed)?;
    assert_eq!(values(&live)?, ["134217728", "268435456", "max", "0"]);
    assert_eq!(value(&live, "devices", "devices.list")?, devices?);
    let stored = sandbox.factory().load(live.container.id())?;
    assert_eq!(stored.config(), &changed);
    live.kill()?;
    Ok(())
}

fn devices_are_ruled_in_order(sandbox: &Sandbox) -> Outcome {
    // /dev/null for both, then a node of /dev/kmsg: made, read, written.
    let closed = [0, 0, libc::EPERM, libc::EPERM];
    // To be read it needs a capability too.
    let open = [0, 0, libc::EPERM, 0];
    for (rules, expected) in [
        ("", closed),
        (r#"{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}"#, open),
        (r#"{"allow": true, "access": "rwm"}"#, open),
        (r#"{"allow": true, "access": "rwm"}, {"allow": false, "access": "rwm"}"#, closed),
    ] {
        let mut config = sandbox.config();
        config.cgroups = Some(cgroup(sandbox, &format!("{{\"devices\": [{rules}]}}"))?);
        assert_eq!(open_devices(sandbox, &config)?, expected, "{rules}");
    }
    Ok(())
}

fn a_root_of_its_own_gets_the_cgroup(sandbox: &Sandbox) -> Outcome {
    for own_cgroups in [false, true] {
        let mut config = sandbox.config();
        let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
        config.set_id_maps(map.clone(), map);
        if own_cgroups {
            config.set_namespace(NamespaceType::Cgroup, "");
        }
        let live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
        for (controller, directory) in &live.container.state()?.cgroup_paths {
            let owner = |file: &str| fs::metadata(directory.join(file)).map(|found| found.uid());
            let given = own_cgroups && controller.is_empty();
            let expected = if given { 100_000 } else { 0 };
            assert_eq!(owner("")?, expected, "{controller:?}");
            assert_eq!(owner("cgroup.procs")?, expected, "{controller:?}");
            if controller.is_empty() {
                assert_eq!(owner("cgroup.max.depth")?, 0);
            }
        }
        live.kill()?;
    }
    Ok(())
}

/// With a file system that only looks like resctrl: the machine may have no such processor.
fn shares_of_caches(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.path().join("resctrl");
    let gold = root.join("gold");
    fs::create_dir_all(&gold)?;
    fs::write(gold.join("schemata"), "    L3:0=00f\n")?;
    let mut config = sandbox.config();
    let rdt = |name: &str, line: &str, monitoring| IntelRdt {
        clos_id: name.into(),
        schemata: vec![line.into()],
        monitoring,
    };
    config.intel_rdt = Some(rdt("", "L3:0=f", false));
    let error = sandbox.start(&config, process(&["/guest", "sleep"])).err().ok_or("started")?;
    assert!(error.to_string().contains("resctrl, which is not mounted"), "{error}");

    let mountinfo = sandbox.path().join("mountinfo");
    let line = format!("9999 1 0:99 / {} rw - resctrl resctrl rw\n", root.display());
    fs::write(&mountinfo, fs::read_to_string("/proc/self/mountinfo")? + &line)?;
    let own = format!("/proc/{}/mountinfo", std::process::id());
    let none = None::<&str>;
    nix::mount::mount(Some(&mountinfo), &*own, none, nix::mount::MsFlags::MS_BIND, none)?;
    let tasks = |group: &std::path::Path| fs::read_to_string(group.join("tasks"));

    // Its own group, which ends with it.
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let group = root.join(live.container.id());
    assert_eq!(tasks(&group)?, format!("{}\n", live.running.pid()));
    assert_eq!(fs::read_to_string(group.join("schemata"))?, "L3:0=f\n");
    let mut further = process(&["/guest"]);
    further.as_child = true;
    let mut running = sandbox.join(&mut live.container, further)?;
    assert_eq!(tasks(&group)?, format!("{}\n", running.pid()));
    output(&mut running)?;
    for file in ["tasks", "schemata"] {
        fs::remove_file(group.join(file))?;
    }
    live.kill()?;
    assert!(!group.exists());

    // A group of others, which stays.
    config.intel_rdt = Some(rdt("gold", "L3:0=f", false));
    let live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    assert_eq!(tasks(&gold)?, format!("{}\n", live.running.pid()));
    live.kill()?;
    assert!(gold.exists());
    config.intel_rdt = Some(rdt("gold", "L3:0=ff", false));
    let error = sandbox.start(&config, process(&["/guest", "sleep"])).err().ok_or("started")?;
    assert!(error.to_string().contains("other schemata"), "{error}");
    // The check for what is left reads the real one.
    Ok(nix::mount::umount(&*own)?)
}
