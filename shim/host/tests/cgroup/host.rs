//! The hierarchies that the machine has mounted: cgroup v1, with or without cgroup v2 beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pidone_config::config::{self, Device, Freezer};
use pidone_host::cgroup::{Cgroups, Mode, PressureLevel};

use pidone_tests::{Case, DEADLINE, Outcome, Stop, until};

use crate::ground::{Script, TestCgroup, config, ensure, refused};

/// The tests of this file.
pub(crate) const TESTS: &[Case<()>] = v1![
    locate_makes_no_directory,
    attaches_in_every_hierarchy,
    a_process_moves_itself,
    writes_limits,
    changes_limits_in_both_directions,
    names_the_range_of_cpu_shares,
    refuses_a_kernel_memory_limit_that_the_kernel_ignores,
    leaves_nothing_after_a_failure,
    uses_an_empty_cgroup_only,
    restricts_devices,
    freezes_and_thaws,
    kills_what_is_frozen,
    kills_a_fork_bomb,
    kills_many_without_cgroup_v2,
    kills_what_is_in_one_hierarchy_only,
    removes_sub_cgroups,
    a_busy_cgroup_error_names_the_processes,
    oom_events_are_reported,
    memory_pressure_is_reported,
    usage_is_counted,
    cgroups_are_made_from_saved_paths,
];

/// The paths by controller in `/proc/PID/cgroup`, `""` for cgroup v2.
fn own_paths(pid: i32) -> Result<BTreeMap<String, String>, Stop> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mut paths = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        for controller in controllers.split(',') {
            paths.insert(controller.to_owned(), path.to_owned());
        }
    }
    Ok(paths)
}

/// The sandbox without its directory of cgroup v2.
fn without_v2(sandbox: &TestCgroup) -> Result<Cgroups, Stop> {
    let mut paths = sandbox.cgroups.paths().clone();
    paths.remove("");
    if paths.is_empty() {
        return Err(Stop::Lacking("hierarchies of cgroup v1".into()));
    }
    Ok(Cgroups::from_paths(paths)?)
}

fn locate_makes_no_directory() -> Outcome {
    for parent in ["/pidone-test-nothing", "pidone-test-nothing"] {
        let config = config::Cgroup { parent: parent.into(), ..config() };
        let cgroups = Cgroups::locate(&config)?;
        ensure!(cgroups.mode() != Mode::None, "no cgroups found");
        for path in cgroups.paths().values() {
            let above = path.parent().and_then(|path| path.parent());
            ensure!(above.is_some_and(|above| above.join("cgroup.procs").exists()), "{path:?}");
            ensure!(!path.exists(), "{path:?} exists");
        }
        ensure!(cgroups.processes()?.is_empty(), "processes out of nowhere");
    }
    Ok(())
}

fn attaches_in_every_hierarchy() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let expected = format!("{}/box", sandbox.config.parent);
    let process = sandbox.run("sleep 1000")?;
    let own = own_paths(process.pid())?;
    for controller in sandbox.cgroups.paths().keys() {
        let path = own.get(controller);
        ensure!(path == Some(&expected), "{controller:?} is in {path:?}");
    }
    let processes = sandbox.cgroups.processes()?;
    ensure!(processes.contains(&process.pid()), "{processes:?}");
    if sandbox.cgroups.mode() == Mode::Hybrid {
        let stat = rustix::fs::fstatfs(
            sandbox
                .cgroups
                .directory()?
                .as_ref()
                .ok_or_else(|| Stop::Failed("no directory of cgroup v2".into()))?,
        );
        ensure!(stat.is_ok(), "the directory of cgroup v2 is not open");
    }
    sandbox.cgroups.kill()?;
    sandbox.remove()
}

fn a_process_moves_itself() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let expected = format!("{}/box", sandbox.config.parent);
    let files = sandbox.cgroups.tasks_files()?;
    ensure!(!files.is_empty(), "no files");
    for (_, file) in files {
        let output = Command::new("sh")
            .args(["-c", "echo 0 >&0; cat /proc/self/cgroup"])
            .stdin(Stdio::from(file))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let moved = text.lines().filter(|line| line.ends_with(&expected)).count();
        ensure!(moved == 1, "moved in {moved} hierarchies:\n{text}");
    }
    until("the end of the shells", || Ok(sandbox.cgroups.processes()?.is_empty()))?;
    sandbox.remove()
}

fn limits(config: &mut config::Cgroup) {
    config.memory = 64 << 20;
    config.memory_swap = 128 << 20;
    config.memory_reservation = 32 << 20;
    config.memory_swappiness = 10;
    config.oom_kill_disable = true;
    config.cpu_shares = 512;
    config.cpu_quota = 50_000;
    config.cpu_period = 100_000;
    config.cpuset_cpus = "0".into();
    config.pids_limit = Some(40);
    config.blkio_weight = 300;
}

fn writes_limits() -> Outcome {
    let mut sandbox = TestCgroup::new(limits)?;
    let check = |sandbox: &TestCgroup, expected: &[(&str, &str, &str)]| -> Outcome {
        for (controller, file, value) in expected {
            let found = sandbox.read(controller, file)?;
            ensure!(found.lines().next() == Some(value), "{file}: {found}");
        }
        Ok(())
    };
    check(
        &sandbox,
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "134217728"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory", "memory.swappiness", "10"),
            ("memory", "memory.oom_control", "oom_kill_disable 1"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "100000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "40"),
        ],
    )?;
    let weight = ["blkio.weight", "blkio.bfq.weight"]
        .iter()
        .find_map(|file| sandbox.read("blkio", file).ok());
    ensure!(weight.as_deref() == Some("300"), "the weight is {weight:?}");

    sandbox.config.oom_kill_disable = false;
    sandbox.config.pids_limit = Some(-1);
    sandbox.config.cpu_quota = -1;
    sandbox.cgroups.set(&sandbox.config)?;
    check(
        &sandbox,
        &[
            ("memory", "memory.oom_control", "oom_kill_disable 0"),
            ("cpu", "cpu.cfs_quota_us", "-1"),
            ("pids", "pids.max", "max"),
        ],
    )
}

fn changes_limits_in_both_directions() -> Outcome {
    let mut sandbox = TestCgroup::new(|config| {
        config.memory = 64 << 20;
        config.memory_swap = 96 << 20;
    })?;
    let _process = sandbox.run("sleep 1000")?;
    for (memory, swap) in [(200, 300), (32, 48), (300, 300), (32, 400), (350, 400), (-1, -1)] {
        let bytes = |mebibytes: i64| if mebibytes < 0 { -1 } else { mebibytes << 20 };
        sandbox.config.memory = bytes(memory);
        sandbox.config.memory_swap = bytes(swap);
        sandbox.cgroups.set(&sandbox.config)?;
        for (file, wanted) in
            [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", swap)]
        {
            let found: i64 = sandbox.read("memory", file)?.parse().unwrap_or(0);
            let right = if wanted < 0 { found > 1 << 60 } else { found == bytes(wanted) };
            ensure!(right, "{file} is {found} instead of {wanted} MiB");
        }
    }
    // A quota may not exceed that of the cgroups above in proportion to the period.
    for (quota, period) in [(10_000, 10_000), (500_000, 1_000_000), (2_000, 4_000)] {
        sandbox.config.cpu_quota = quota;
        sandbox.config.cpu_period = period;
        sandbox.cgroups.set(&sandbox.config)?;
        let found = sandbox.read("cpu", "cpu.cfs_quota_us")?;
        ensure!(found == quota.to_string(), "the quota is {found} instead of {quota}");
    }
    let error = {
        sandbox.config.memory = 64 << 20;
        sandbox.config.memory_swap = 32 << 20;
        refused(sandbox.cgroups.set(&sandbox.config))?
    };
    ensure!(error.contains("memory.") && error.ends_with("Invalid argument"), "{error}");
    Ok(())
}

fn names_the_range_of_cpu_shares() -> Outcome {
    for (shares, text) in [(1, "minimum allowed cpu-shares is 2"), (1 << 30, "maximum allowed")] {
        let config = config::Cgroup { cpu_shares: shares, ..config() };
        let error = refused(Cgroups::locate(&config))?;
        ensure!(error.contains(text), "{error}");
    }
    Ok(())
}

fn refuses_a_kernel_memory_limit_that_the_kernel_ignores() -> Outcome {
    let limit = 50 << 20;
    let config = config::Cgroup { kernel_memory: limit, ..config() };
    let mut cgroups = Cgroups::locate(&config)?;
    match cgroups.create(&config) {
        Ok(()) => {
            let sandbox = TestCgroup { cgroups, config };
            let found = sandbox.read("memory", "memory.kmem.limit_in_bytes")?;
            ensure!(found == limit.to_string(), "the limit is {found}");
        }
        Err(error) => ensure!(error.to_string().contains("kernel memory"), "{error}"),
    }
    Ok(())
}

fn leaves_nothing_after_a_failure() -> Outcome {
    let config = config::Cgroup { cpuset_cpus: "9999".into(), ..config() };
    let mut cgroups = Cgroups::locate(&config)?;
    let error = refused(cgroups.create(&config))?;
    ensure!(error.contains("cpuset.cpus = 9999`: "), "{error}");
    for path in cgroups.paths().values() {
        let parent = path.parent().unwrap_or(path);
        ensure!(!parent.exists(), "{} is left", parent.display());
    }
    Ok(())
}

fn uses_an_empty_cgroup_only() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let mut second = Cgroups::locate(&sandbox.config)?;
    second.create(&sandbox.config)?;
    ensure!(second.made_parents().is_empty(), "{:?}", second.made_parents());

    let process = sandbox.run("sleep 1000")?;
    let error = refused(second.create(&sandbox.config))?;
    ensure!(error.contains("it exists and has processes: "), "{error}");
    ensure!(error.contains(&process.pid().to_string()), "{error}");
    sandbox.cgroups.kill()?;

    sandbox.cgroups.freeze()?;
    let error = refused(second.create(&sandbox.config))?;
    ensure!(error.ends_with("the cgroup is frozen"), "{error}");
    // The refusals removed nothing.
    ensure!(sandbox.directory("cpu")?.exists(), "the cgroup is gone");
    sandbox.cgroups.thaw()?;
    second.create(&sandbox.config)?;
    Ok(())
}

fn device(major: i64, minor: i64, permissions: &str) -> Device {
    Device { kind: 'c', major, minor, permissions: permissions.into(), ..Device::default() }
}

fn restricts_devices() -> Outcome {
    let mut sandbox = TestCgroup::new(|config| {
        config.allow_all_devices = false;
        config.allowed_devices = vec![device(1, 3, "rwm"), device(1, 5, "r")];
    })?;
    let reads = |sandbox: &TestCgroup, path: &str| -> Result<bool, Stop> {
        let mut process = sandbox.run(&format!("head -c 1 {path}"))?;
        Ok(process.wait()?.success())
    };
    ensure!(reads(&sandbox, "/dev/zero")?, "zero cannot be read");
    ensure!(!reads(&sandbox, "/dev/urandom")?, "urandom can be read");

    sandbox.config.allowed_devices = vec![device(1, 3, "rwm"), device(1, 9, "rwm")];
    sandbox.cgroups.set(&sandbox.config)?;
    ensure!(!reads(&sandbox, "/dev/zero")?, "zero can still be read");
    ensure!(reads(&sandbox, "/dev/urandom")?, "urandom cannot be read yet");
    if let Ok(list) = sandbox.read("devices", "devices.list") {
        ensure!(list == "c 1:3 rwm\nc 1:9 rwm", "{list}");
    }

    sandbox.config.allow_all_devices = true;
    sandbox.config.denied_devices = vec![device(1, 5, "r")];
    sandbox.cgroups.set(&sandbox.config)?;
    ensure!(!reads(&sandbox, "/dev/zero")?, "zero can be read although denied");
    ensure!(reads(&sandbox, "/dev/urandom")?, "urandom is denied");
    Ok(())
}

fn freezes_and_thaws() -> Outcome {
    let mut sandbox = TestCgroup::new(|_| {})?;
    let process = sandbox.run("while :; do :; done")?;
    let runs = || -> Result<bool, Stop> {
        let before = process.ticks()?;
        // Long enough for a process that runs to use a tick.
        std::thread::sleep(Duration::from_millis(100));
        Ok(process.ticks()? > before)
    };
    until("running", runs)?;
    ensure!(!sandbox.cgroups.is_frozen()?, "frozen from the beginning");
    sandbox.cgroups.freeze()?;
    ensure!(sandbox.cgroups.is_frozen()?, "not frozen");
    ensure!(!runs()?, "runs while frozen");
    sandbox.cgroups.freeze()?;
    sandbox.cgroups.thaw()?;
    ensure!(!sandbox.cgroups.is_frozen()?, "still frozen");
    until("running again", runs)?;

    sandbox.config.freezer = Freezer::Frozen;
    sandbox.cgroups.set(&sandbox.config)?;
    ensure!(!runs()?, "runs while frozen by the configuration");
    sandbox.config.freezer = Freezer::Thawed;
    sandbox.cgroups.set(&sandbox.config)?;
    until("running in the end", runs)
}

fn kills_what_is_frozen() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    for cgroups in [sandbox.cgroups.clone(), without_v2(&sandbox)?] {
        let mut process = sandbox.run("sleep 1000")?;
        cgroups.freeze()?;
        cgroups.kill()?;
        process.wait()?;
        ensure!(sandbox.cgroups.processes()?.is_empty(), "a process is left");
        ensure!(!cgroups.is_frozen()?, "still frozen");
    }
    sandbox.remove()
}

fn kills_a_fork_bomb() -> Outcome {
    let sandbox = TestCgroup::new(|config| config.pids_limit = Some(400))?;
    for cgroups in [sandbox.cgroups.clone(), without_v2(&sandbox)?] {
        let _process = sandbox.run("bomb() { bomb | bomb & }; bomb; sleep 1000")?;
        until("many processes", || Ok(sandbox.cgroups.processes()?.len() > 100))?;
        cgroups.kill()?;
        let left = sandbox.cgroups.processes()?;
        ensure!(left.is_empty(), "left: {left:?}");
    }
    sandbox.remove()
}

fn kills_many_without_cgroup_v2() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let script = "i=0; while [ $i -lt 1500 ]; do sleep 1000 & i=$((i+1)); done; wait";
    let _process = sandbox.run(script)?;
    until("1500 processes", || Ok(sandbox.cgroups.processes()?.len() > 1500))?;
    let begin = Instant::now();
    without_v2(&sandbox)?.kill()?;
    let elapsed = begin.elapsed();
    eprintln!("kills_many_without_cgroup_v2: {} ms", elapsed.as_millis());
    ensure!(elapsed < DEADLINE, "it took {elapsed:?}");
    sandbox.remove()
}

fn kills_what_is_in_one_hierarchy_only() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let process = Script::waiting("sleep 1000")?;
    std::fs::write(sandbox.directory("cpu")?.join("cgroup.procs"), process.pid().to_string())?;
    sandbox.cgroups.kill()?;
    ensure!(sandbox.cgroups.processes()?.is_empty(), "a process is left");
    sandbox.remove()
}

fn removes_sub_cgroups() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    for path in sandbox.cgroups.paths().values() {
        for below in ["a/b/c", "a/d", "e"] {
            std::fs::create_dir_all(path.join(below))?;
        }
    }
    let process = Script::waiting("sleep 1000")?;
    let procs = sandbox.directory("freezer")?.join("a/b/c/cgroup.procs");
    std::fs::write(procs, process.pid().to_string())?;
    ensure!(sandbox.cgroups.processes()? == [process.pid()], "a process is not found");
    sandbox.cgroups.kill()?;
    sandbox.remove()
}

fn a_busy_cgroup_error_names_the_processes() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let process = sandbox.run("sleep 1000")?;
    let error = refused(sandbox.cgroups.destroy())?;
    ensure!(error.contains("it has processes: "), "{error}");
    ensure!(error.contains(&process.pid().to_string()), "{error}");
    sandbox.cgroups.kill()?;
    sandbox.remove()?;
    // Once more, without anything there.
    sandbox.cgroups.destroy()?;
    Ok(())
}

fn small_memory(config: &mut config::Cgroup) {
    config.memory = 24 << 20;
    config.memory_swap = 24 << 20;
}

fn oom_events_are_reported() -> Outcome {
    let sandbox = TestCgroup::new(small_memory)?;
    let mut watcher = sandbox.cgroups.watch_oom()?;
    ensure!(!sandbox.cgroups.oom_killed(), "killed before it began");
    let mut process = sandbox.run("tail /dev/zero")?;
    ensure!(watcher.wait()?.is_some(), "no event");
    process.wait()?;
    ensure!(sandbox.cgroups.oom_killed(), "the kill is not known");
    sandbox.cgroups.kill()?;
    sandbox.remove()?;
    while watcher.wait()?.is_some() {}
    Ok(())
}

fn memory_pressure_is_reported() -> Outcome {
    let sandbox = TestCgroup::new(small_memory)?;
    let mut watchers = Vec::new();
    for level in [PressureLevel::Low, PressureLevel::Medium, PressureLevel::Critical] {
        watchers.push(sandbox.cgroups.watch_memory_pressure(level)?);
    }
    let mut process = sandbox.run("tail /dev/zero")?;
    for watcher in &mut watchers {
        ensure!(watcher.wait()?.is_some(), "no event");
    }
    process.wait()?;
    sandbox.cgroups.kill()?;
    sandbox.remove()?;
    for watcher in &mut watchers {
        while watcher.wait()?.is_some() {}
    }
    Ok(())
}

fn usage_is_counted() -> Outcome {
    let sandbox = TestCgroup::new(|config| {
        config.memory = 64 << 20;
        config.pids_limit = Some(40);
    })?;
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 1000";
    let _process = sandbox.run(script)?;
    until("processor time", || Ok(sandbox.cgroups.stats()?.cpu_stats.cpu_usage.total_usage > 0))?;
    let stats = sandbox.cgroups.stats()?;
    ensure!(stats.memory_stats.usage.usage > 0, "{:?}", stats.memory_stats.usage);
    ensure!(stats.memory_stats.usage.limit == 64 << 20, "{:?}", stats.memory_stats.usage);
    ensure!(stats.memory_stats.stats.contains_key("rss"), "{:?}", stats.memory_stats.stats);
    ensure!(stats.memory_stats.max_usage >= stats.memory_stats.usage.usage, "no maximum");
    ensure!((1..=3).contains(&stats.pids_stats.current), "{:?}", stats.pids_stats);
    ensure!(stats.pids_stats.limit == 40, "{:?}", stats.pids_stats);
    ensure!(!stats.cpu_stats.cpu_usage.percpu_usage.is_empty(), "no processors");
    let json = serde_json::to_string(&stats).map_err(|error| Stop::Failed(error.to_string()))?;
    ensure!(json.contains("\"pids_stats\":{\"current\":"), "{json}");
    Ok(())
}

fn cgroups_are_made_from_saved_paths() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let paths = sandbox.cgroups.paths().clone();
    let again = Cgroups::from_paths(paths.clone())?
        .with_made_parents(sandbox.cgroups.made_parents().to_vec());
    ensure!(again == sandbox.cgroups, "{again:?}");

    let cpu = sandbox.directory("cpu")?.to_owned();
    let root = cpu.parent().and_then(|path| path.parent()).map(PathBuf::from).unwrap_or_default();
    again.verify()?;
    let verified = |paths| Cgroups::from_paths(paths).and_then(|cgroups| cgroups.verify());
    let error = refused(verified([("cpu".to_owned(), root)].into()))?;
    ensure!(error.ends_with("the root of a hierarchy does not belong to a container"), "{error}");
    let error = refused(verified([(String::new(), cpu)].into()))?;
    ensure!(error.ends_with("the cgroup is of the other version"), "{error}");

    again.destroy()?;
    sandbox.remove()?;
    let gone = Cgroups::from_paths(paths)?;
    gone.verify()?;
    ensure!(gone.processes()?.is_empty(), "processes of a cgroup that is gone");
    gone.kill()?;
    gone.destroy()?;
    ensure!(!gone.oom_killed() && !gone.is_frozen()?, "a state of a cgroup that is gone");
    gone.stats()?;
    Ok(())
}
