//! What the OCI specification's `linux.resources` becomes on a kernel.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use pidone_config::config::{self, DeviceRule};
use pidone_config::oci::{Resources, resources};
use pidone_host::cgroup::Cgroups;

use pidone_tests::{Case, Outcome, Stop, until};

use crate::ground::{TestCgroup, config, ensure, refused};

/// The tests that need hierarchies of cgroup v1.
pub(crate) const HOST_TESTS: &[Case<()>] = v1![
    writes_and_updates_resources,
    zeros_set_no_limit,
    keeps_devices_in_an_update,
    refuses_holes_in_device_rules,
    writes_no_file_of_v2_without_its_controller,
];

/// The tests for cgroup v2 alone.
pub(crate) const UNIFIED_TESTS: &[Case<()>] = v2![
    zeros_set_no_limit,
    rules_devices_in_order,
    keeps_devices_in_an_update,
    takes_many_device_rules,
    writes_files_as_they_are,
    delegates,
];

/// The tests that need controllers in cgroup v2.
pub(crate) const GUEST_TESTS: &[Case<()>] = v2![writes_and_updates_v2, checks_usage];

fn parse(json: &str) -> Result<Resources, Stop> {
    serde_json::from_str(json).map_err(|error| Stop::Failed(error.to_string()))
}

/// A cgroup of the specification's, four levels deep.
fn sandbox(json: &str) -> Result<TestCgroup, Stop> {
    let path = format!("{}/besteffort/pod1/box", config().parent);
    let config = resources::cgroup(&path, "id", Some(&parse(json)?))?;
    let mut sandbox = TestCgroup { cgroups: Cgroups::locate(&config)?, config };
    sandbox.cgroups.create(&sandbox.config)?;
    Ok(sandbox)
}

fn update(sandbox: &mut TestCgroup, json: &str) -> Outcome {
    parse(json)?.apply(&mut sandbox.config)?;
    sandbox.cgroups.set(&sandbox.config)?;
    Ok(())
}

fn expect(sandbox: &TestCgroup, files: &[(&str, &str, &str)]) -> Outcome {
    for (controller, file, value) in files {
        let found = sandbox.read(controller, file)?;
        ensure!(found.lines().next() == Some(value), "{file}: {found}");
    }
    Ok(())
}

fn writes_and_updates_resources() -> Outcome {
    let mut sandbox = sandbox(
        r#"{"memory": {"limit": 67108864, "swap": 100663296, "reservation": 33554432},
            "cpu": {"shares": 512, "quota": 20000, "period": 100000, "burst": 20000,
                "cpus": "0", "mems": "0"},
            "pids": {"limit": 40}, "blockIO": {"weight": 0}}"#,
    )?;
    expect(
        &sandbox,
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "100663296"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "20000"),
            ("cpu", "cpu.cfs_burst_us", "20000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "40"),
        ],
    )?;
    let _process = sandbox.run("sleep 1000")?;
    // Each of these breaks a rule between two values if it is written in the wrong order.
    for (memory, swap, quota, burst) in
        [(200, 300, 50_000, 50_000), (32, 48, 5_000, 1_000), (64, 96, 30_000, 0)]
    {
        let (memory, swap): (i64, i64) = (memory << 20, swap << 20);
        let json = format!(
            r#"{{"memory": {{"limit": {memory}, "swap": {swap}}},
                "cpu": {{"quota": {quota}, "burst": {burst}}}}}"#
        );
        update(&mut sandbox, &json)?;
        expect(
            &sandbox,
            &[
                ("memory", "memory.limit_in_bytes", &memory.to_string()),
                ("memory", "memory.memsw.limit_in_bytes", &swap.to_string()),
                ("cpu", "cpu.cfs_quota_us", &quota.to_string()),
                ("cpu", "cpu.cfs_burst_us", &burst.to_string()),
                ("cpu", "cpu.shares", "512"),
                ("pids", "pids.max", "40"),
            ],
        )?;
    }
    sandbox.cgroups.freeze()?;
    update(&mut sandbox, r#"{"pids": {"limit": -1}, "cpu": {"idle": 1, "quota": -1}}"#)?;
    ensure!(sandbox.cgroups.is_frozen()?, "an update thawed it");
    sandbox.cgroups.thaw()?;
    expect(
        &sandbox,
        &[("pids", "pids.max", "max"), ("cpu", "cpu.idle", "1"), ("cpu", "cpu.cfs_quota_us", "-1")],
    )?;
    update(&mut sandbox, r#"{"cpu": {"idle": 0, "shares": 300}}"#)?;
    expect(&sandbox, &[("cpu", "cpu.idle", "0"), ("cpu", "cpu.shares", "300")])?;
    sandbox.cgroups.kill()?;
    sandbox.cgroups.destroy()?;
    Ok(())
}

fn writes_and_updates_v2() -> Outcome {
    let mut sandbox = sandbox(
        r#"{"memory": {"limit": 67108864, "reservation": 33554432},
            "cpu": {"shares": 512, "quota": 20000, "period": 100000, "burst": 20000},
            "pids": {"limit": 40}, "unified": {"memory.high": "50331648", "pids.max": "41"}}"#,
    )?;
    expect(
        &sandbox,
        &[
            ("", "memory.max", "67108864"),
            ("", "memory.low", "33554432"),
            ("", "memory.high", "50331648"),
            ("", "cpu.weight", "59"),
            ("", "cpu.max", "20000 100000"),
            ("", "cpu.max.burst", "20000"),
            // What is to be written as it is comes last.
            ("", "pids.max", "41"),
        ],
    )?;
    let mut process = sandbox.run("true & true & sleep 1000")?;
    update(
        &mut sandbox,
        r#"{"memory": {"limit": -1}, "cpu": {"quota": 5000, "burst": 1000},
            "unified": {"pids.max": "max"}}"#,
    )?;
    expect(
        &sandbox,
        &[
            ("", "memory.max", "max"),
            ("", "memory.high", "50331648"),
            ("", "cpu.max", "5000 100000"),
            ("", "cpu.max.burst", "1000"),
            ("", "pids.max", "max"),
        ],
    )?;
    update(&mut sandbox, r#"{"cpu": {"idle": 1}}"#)?;
    expect(&sandbox, &[("", "cpu.idle", "1")])?;
    update(&mut sandbox, r#"{"cpu": {"idle": 0}}"#)?;
    expect(&sandbox, &[("", "cpu.idle", "0"), ("", "cpu.weight", "59")])?;
    sandbox.cgroups.kill()?;
    process.wait()?;
    Ok(sandbox.cgroups.destroy()?)
}

fn checks_usage() -> Outcome {
    let mut sandbox = sandbox(r#"{"memory": {"limit": 134217728, "checkBeforeUpdate": true}}"#)?;
    let _process = sandbox.run("head -c 20000000 /dev/zero | tail | sleep 1000")?;
    let usage = |sandbox: &TestCgroup| -> Result<u64, Stop> {
        Ok(sandbox.read("", "memory.current")?.parse().unwrap_or(0))
    };
    until("the use of memory", || Ok(usage(&sandbox)? > 20 << 20))?;
    let json = r#"{"memory": {"limit": 8388608}}"#;
    parse(json)?.apply(&mut sandbox.config)?;
    let error = refused(sandbox.cgroups.set(&sandbox.config))?;
    ensure!(error.starts_with("configuration `cgroups.memory = 8388608`: "), "{error}");
    ensure!(error.ends_with(" bytes are in use"), "{error}");
    expect(&sandbox, &[("", "memory.max", "134217728")])?;
    ensure!(!sandbox.cgroups.oom_killed(), "a process was killed");
    update(&mut sandbox, r#"{"memory": {"limit": 67108864}}"#)?;
    expect(&sandbox, &[("", "memory.max", "67108864")])
}

/// Clients send these without being asked to limit anything; no controller may be needed for them.
fn zeros_set_no_limit() -> Outcome {
    let sandbox = sandbox(
        r#"{"memory": {"limit": 0, "reservation": 0, "swap": -1, "kernel": 0, "kernelTCP": 0,
                "disableOOMKiller": false, "useHierarchy": true},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "burst": 0, "realtimeRuntime": 0,
                "realtimePeriod": 0, "cpus": "", "mems": "", "idle": 0},
            "pids": {"limit": -1}, "blockIO": {"weight": 0},
            "network": {"classID": 0}, "hugepageLimits": null}"#,
    )?;
    ensure!(pidone_host::cgroup::first_limit(&sandbox.config)?.is_none(), "{:?}", sandbox.config);
    let _process = sandbox.run("sleep 1000")?;
    sandbox.cgroups.set(&sandbox.config)?;
    Ok(())
}

fn allowed(sandbox: &TestCgroup, script: &str, expected: bool) -> Outcome {
    let status = sandbox.run(script)?.wait()?;
    ensure!(status.success() == expected, "`{script}` should be allowed: {expected}");
    Ok(())
}

fn keeps_devices_in_an_update() -> Outcome {
    let mut sandbox = sandbox(
        r#"{"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 4, "minor": 64, "access": "rw"}]}"#,
    )?;
    let node = format!("/tmp/pidone-test-kmsg-{}", std::process::id());
    // Every node may be made, few may be opened.
    let open =
        format!("mknod {node} c 1 11 && head -c 1 {node}; status=$?; rm {node}; exit $status");
    for _ in 0..2 {
        allowed(&sandbox, "head -c 1 /dev/zero && echo > /dev/null", true)?;
        allowed(&sandbox, &open, false)?;
        if let Ok(list) = sandbox.read("devices", "devices.list") {
            ensure!(list.contains("c 4:64 rwm") && list.contains("b *:* m"), "{list}");
        }
        update(&mut sandbox, r#"{"memory": {"limit": 0}}"#)?;
    }
    update(&mut sandbox, r#"{"devices": [{"allow": true, "access": "rwm"}]}"#)?;
    let list = sandbox.read("devices", "devices.list");
    ensure!(list.as_deref().map_or(true, |list| list == "a *:* rwm"), "it is not open");
    allowed(&sandbox, &format!("mknod {node} c 1 5 && head -c 1 {node} && rm {node}"), true)
}

fn refuses_holes_in_device_rules() -> Outcome {
    let mut sandbox = sandbox("{}")?;
    let holes = r#"{"devices": [{"allow": true, "type": "c", "major": 10, "access": "rw"},
        {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]}"#;
    parse(holes)?.apply(&mut sandbox.config)?;
    let error = refused(sandbox.cgroups.set(&sandbox.config))?;
    let expected = "configuration `cgroups.device_rules = deny c 10:200 rwm`: \
                    cgroup v1 cannot make an exception from the rule for `c 10:* rw`";
    ensure!(error == expected, "{error}");
    Ok(())
}

fn set_rules<T: AsRef<str>>(sandbox: &mut TestCgroup, rules: &[T]) -> Outcome {
    let rules = rules.iter().map(|rule| rule.as_ref().parse::<DeviceRule>());
    sandbox.config.device_rules =
        rules.collect::<Result<_, _>>().map_err(|_| Stop::Failed("not a rule".into()))?;
    sandbox.cgroups.set(&sandbox.config)?;
    Ok(())
}

fn writes_no_file_of_v2_without_its_controller() -> Outcome {
    let unified = [("memory.high".to_owned(), "1073741824".to_owned())].into();
    let config = config::Cgroup { unified, ..config() };
    let created = Cgroups::locate(&config).and_then(|mut cgroups| cgroups.create(&config));
    let error = refused(created)?;
    let expected =
        ["needs cgroup v2, which is not mounted", "needs the cgroup controller `memory`"];
    ensure!(error.starts_with("configuration `cgroups.unified.memory.high"), "{error}");
    ensure!(expected.iter().any(|reason| error.contains(reason)), "{error}");
    Ok(())
}

fn rules_devices_in_order() -> Outcome {
    let mut sandbox = TestCgroup::new(|_| {})?;
    let read = |device: &str| format!("head -c 1 /dev/{device}");
    let both = |device: &str| format!("exec 3<>/dev/{device}");
    set_rules(&mut sandbox, &["deny a *:* rwm", "allow c 1:* rw", "deny c 1:5 w"])?;
    allowed(&sandbox, &both("null"), true)?;
    allowed(&sandbox, &read("zero"), true)?;
    allowed(&sandbox, &both("zero"), false)?;
    // One rule for reading and one for writing allow both at once.
    let rules = ["deny a *:* rwm", "allow c *:* r", "allow c 1:3 w", "deny c 1:8 r"];
    set_rules(&mut sandbox, &rules)?;
    allowed(&sandbox, &both("null"), true)?;
    allowed(&sandbox, &both("zero"), false)?;
    allowed(&sandbox, &read("random"), false)
}

fn takes_many_device_rules() -> Outcome {
    let mut sandbox = TestCgroup::new(|_| {})?;
    // Holes everywhere, and numbers that are all different: the hardest for the kernel's verifier.
    let mut rules = vec!["deny a *:* rwm".to_owned()];
    for major in 100..1000 {
        rules.push(format!("allow c {major}:* rw"));
        rules.push(format!("deny c {major}:{} w", major + 1));
    }
    rules.truncate(1 + 1024);
    set_rules(&mut sandbox, &rules)?;
    allowed(&sandbox, "head -c 1 /dev/zero", false)
}

fn writes_files_as_they_are() -> Outcome {
    let available = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    for (controller, file, value) in
        [("memory", "memory.high", "1073741824"), ("pids", "pids.max", "7")]
    {
        let unified = [(file.to_owned(), value.to_owned())].into();
        let config = config::Cgroup { unified, ..config() };
        let mut cgroups = Cgroups::locate(&config)?;
        if available.split_whitespace().any(|name| name == controller) {
            cgroups.create(&config)?;
            expect(&TestCgroup { cgroups, config }, &[("", file, value)])?;
            continue;
        }
        let error = refused(cgroups.create(&config))?;
        let expected = format!(
            "configuration `cgroups.unified.{file} = {value}`: needs the cgroup controller \
             `{controller}`, which `/sys/fs/cgroup` does not have"
        );
        ensure!(error == expected, "{error}");
    }
    // Those that every cgroup has need no controller, and an update puts other values in.
    let core = |depth: &str| {
        let files = [("cgroup.max.depth", depth), ("cgroup.max.descendants", "5")];
        let unified = files.map(|(file, value)| (file.to_owned(), value.to_owned())).into();
        config::Cgroup { unified, ..config() }
    };
    let mut cgroups = Cgroups::locate(&core("1"))?;
    cgroups.create(&core("1"))?;
    let sandbox = TestCgroup { cgroups, config: core("1") };
    expect(&sandbox, &[("", "cgroup.max.depth", "1"), ("", "cgroup.max.descendants", "5")])?;
    let below = sandbox.directory("")?.join("below");
    std::fs::create_dir(&below)?;
    let deeper = std::fs::create_dir(below.join("deeper"));
    ensure!(deeper.is_err(), "the limit has no effect");
    sandbox.cgroups.set(&core("2"))?;
    expect(&sandbox, &[("", "cgroup.max.depth", "2")])?;
    std::fs::create_dir(below.join("deeper"))?;
    let error = refused(sandbox.cgroups.set(&core("banana")))?;
    ensure!(error.contains("cgroup.max.depth"), "{error}");
    expect(&sandbox, &[("", "cgroup.max.depth", "2")])?;
    sandbox.remove()?;
    for file in ["cgroup.procs", "../pidone/memory.max", "cgroup.freeze"] {
        let unified = [(file.to_owned(), "1".to_owned())].into();
        let error = refused(Cgroups::locate(&config::Cgroup { unified, ..config() }))?;
        ensure!(error.ends_with("is not the name of a controller's file"), "{error}");
    }
    Ok(())
}

fn delegates() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let path = sandbox.directory("")?;
    let make = |name: &str| {
        Command::new("setpriv")
            .args(["--reuid", "12345", "--regid", "23456", "--clear-groups", "mkdir"])
            .arg(path.join(name))
            .output()
    };
    ensure!(!make("before")?.status.success(), "anybody can make cgroups");
    sandbox.cgroups.delegate(12345, 23456)?;
    for (file, mine) in [
        ("", true),
        ("cgroup.procs", true),
        ("cgroup.subtree_control", true),
        ("cgroup.threads", true),
        ("cgroup.max.depth", false),
        ("cgroup.freeze", false),
    ] {
        let found = std::fs::metadata(path.join(file))?;
        let owner = (found.uid(), found.gid());
        ensure!(owner == if mine { (12345, 23456) } else { (0, 0) }, "{file:?}: {owner:?}");
    }
    let made = make("after")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    sandbox.remove()
}
