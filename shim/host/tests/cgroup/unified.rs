//! cgroup v2 alone. Its core is the same on every machine; the controllers are missing where the
//! machine has them in hierarchies of cgroup v1.

use std::path::Path;
use std::time::Duration;

use pidone_config::config::{self, Device};
use pidone_host::cgroup::{Cgroups, Host, Mode, PressureLevel};

use pidone_tests::{Case, Outcome, Stop, until};

use crate::ground::{Script, TestCgroup, config, ensure, refused};

/// The tests of this file.
pub(crate) const TESTS: &[Case<()>] = v2![
    mode_is_v2,
    attach_moves_a_process,
    refuses_limits_of_v1,
    limits_or_names_the_missing_controller,
    restricts_devices,
    freezes_and_thaws,
    refuses_a_frozen_parent,
    kills_everything_below,
    kills_threads_apart,
    kills_a_fork_bomb,
    a_busy_cgroup_error_names_the_processes,
    memory_events_are_reported,
    usage_is_counted,
];

fn mode_is_v2() -> Outcome {
    let host = Host::read()?;
    ensure!(host.mode() == Mode::V2, "{host:?}");
    let config = config();
    let quick = Cgroups::locate(&config)?;
    ensure!(quick == host.locate(&config)?, "{quick:?}");
    let expected = Path::new("/sys/fs/cgroup").join(&config.parent[1..]).join("box");
    ensure!(quick.paths().get("") == Some(&expected), "{quick:?}");
    ensure!(quick.paths().len() == 1, "{quick:?}");
    let relative = config::Cgroup { parent: String::new(), ..config };
    ensure!(Cgroups::locate(&relative)?.mode() == Mode::V2, "a relative parent");
    Ok(())
}

fn attach_moves_a_process() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let process = sandbox.run("sleep 1000")?;
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid()))?;
    let expected = format!("0::{}/box", sandbox.config.parent);
    ensure!(own.lines().any(|line| line == expected), "{own}");
    ensure!(sandbox.cgroups.processes()?.contains(&process.pid()), "not listed");
    ensure!(sandbox.cgroups.directory()?.is_some(), "no directory");
    ensure!(sandbox.cgroups.tasks_files()?.is_empty(), "files of cgroup v1");
    sandbox.cgroups.kill()?;
    sandbox.remove()
}

fn refuses_limits_of_v1() -> Outcome {
    let config = config::Cgroup { kernel_memory: 1 << 20, ..config() };
    let error = refused(Cgroups::locate(&config))?;
    let expected = "configuration `cgroups.kernel_memory = 1048576`: cgroup v2 has no such limit";
    ensure!(error == expected, "{error}");
    Ok(())
}

/// A controller, a limit, and what its file then holds.
type Limit = (&'static str, fn(&mut config::Cgroup), &'static str, &'static str);

const LIMITS: [Limit; 7] = [
    ("pids", |config| config.pids_limit = Some(5), "pids.max", "5"),
    ("memory", |config| config.memory = 64 << 20, "memory.max", "67108864"),
    ("memory", |config| config.memory_reservation = 32 << 20, "memory.low", "33554432"),
    (
        "memory",
        |config| (config.memory, config.memory_swap) = (64 << 20, 96 << 20),
        "memory.swap.max",
        "33554432",
    ),
    ("cpu", |config| config.cpu_shares = 1024, "cpu.weight", "100"),
    ("cpu", |config| config.cpu_quota = 50_000, "cpu.max", "50000 100000"),
    ("cpuset", |config| config.cpuset_cpus = "0".into(), "cpuset.cpus", "0"),
];

fn limits_or_names_the_missing_controller() -> Outcome {
    let available = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    for (controller, change, file, value) in LIMITS {
        if available.split_whitespace().any(|name| name == controller) {
            let sandbox = TestCgroup::new(change)?;
            let found = sandbox.read("", file)?;
            ensure!(found == value, "{file} is {found}");
            let _process = sandbox.run("sleep 1000")?;
            sandbox.cgroups.set(&sandbox.config)?;
            sandbox.cgroups.kill()?;
            sandbox.remove()?;
            continue;
        }
        let mut config = config();
        change(&mut config);
        let mut cgroups = Cgroups::locate(&config)?;
        let error = refused(cgroups.create(&config))?;
        let expected = format!(
            "needs the cgroup controller `{controller}`, which `/sys/fs/cgroup` does not have"
        );
        ensure!(error.ends_with(&expected), "{error}");
        for path in cgroups.paths().values() {
            ensure!(!path.parent().unwrap_or(path).exists(), "{} is left", path.display());
        }
    }
    Ok(())
}

fn device(major: i64, minor: i64, permissions: &str) -> Device {
    Device { kind: 'c', major, minor, permissions: permissions.into(), ..Device::default() }
}

fn restricts_devices() -> Outcome {
    let mut sandbox = TestCgroup::new(|config| {
        config.allow_all_devices = false;
        config.allowed_devices = vec![device(1, 3, "rwm"), device(1, 5, "r"), device(5, -1, "rw")];
    })?;
    let check = |sandbox: &TestCgroup, script: &str, allowed: bool| -> Outcome {
        let status = sandbox.run(script)?.wait()?;
        ensure!(status.success() == allowed, "`{script}` should be allowed: {allowed}");
        Ok(())
    };
    let node = format!("/tmp/pidone-test-node-{}", std::process::id());
    let make = |minor: u32| format!("mknod {node} c 1 {minor} && rm {node}");
    check(&sandbox, "head -c 1 /dev/zero", true)?;
    check(&sandbox, "echo > /dev/zero", false)?;
    check(&sandbox, "echo > /dev/null", true)?;
    check(&sandbox, "head -c 1 /dev/urandom", false)?;
    check(&sandbox, &make(3), true)?;
    check(&sandbox, &make(5), false)?;

    // The second set of rules replaces the first.
    sandbox.config.allowed_devices = vec![device(1, 3, "rwm"), device(1, 9, "rwm")];
    sandbox.cgroups.set(&sandbox.config)?;
    check(&sandbox, "head -c 1 /dev/zero", false)?;
    check(&sandbox, "head -c 1 /dev/urandom", true)?;

    sandbox.config.allow_all_devices = true;
    sandbox.config.denied_devices = vec![device(1, 5, "r")];
    sandbox.cgroups.set(&sandbox.config)?;
    check(&sandbox, "head -c 1 /dev/zero", false)?;
    check(&sandbox, "echo > /dev/zero", true)?;
    check(&sandbox, &make(5), true)?;

    sandbox.config.denied_devices.clear();
    sandbox.cgroups.set(&sandbox.config)?;
    check(&sandbox, "head -c 1 /dev/zero", true)
}

fn freezes_and_thaws() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let process = sandbox.run("while :; do :; done")?;
    let runs = || -> Result<bool, Stop> {
        let before = process.ticks()?;
        // Long enough for a process that runs to use a tick.
        std::thread::sleep(Duration::from_millis(100));
        Ok(process.ticks()? > before)
    };
    until("running", runs)?;
    sandbox.cgroups.freeze()?;
    ensure!(sandbox.cgroups.is_frozen()?, "not frozen");
    ensure!(!runs()?, "runs while frozen");
    sandbox.cgroups.thaw()?;
    ensure!(!sandbox.cgroups.is_frozen()?, "still frozen");
    until("running again", runs)?;
    sandbox.cgroups.freeze()?;
    sandbox.cgroups.kill()?;
    ensure!(!sandbox.cgroups.is_frozen()?, "frozen after the kill");
    sandbox.remove()
}

fn refuses_a_frozen_parent() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let below = config::Cgroup {
        parent: format!("{}/box", sandbox.config.parent),
        name: "below".into(),
        ..config()
    };
    sandbox.cgroups.freeze()?;
    let mut cgroups = Cgroups::locate(&below)?;
    let error = refused(cgroups.create(&below))?;
    ensure!(error.ends_with("below`: the cgroup is frozen"), "{error}");
    sandbox.cgroups.thaw()?;
    cgroups.create(&below)?;
    cgroups.destroy()?;
    sandbox.remove()
}

fn kills_everything_below() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let path = sandbox.directory("")?;
    std::fs::create_dir_all(path.join("a/b"))?;
    let inner = Script::waiting("sleep 1000")?;
    std::fs::write(path.join("a/b/cgroup.procs"), inner.pid().to_string())?;
    let processes = sandbox.cgroups.processes()?;
    ensure!(processes == [inner.pid()], "{processes:?}");
    sandbox.cgroups.kill()?;
    sandbox.remove()
}

fn kills_threads_apart() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let threads = sandbox.directory("")?.join("threads");
    std::fs::create_dir(&threads)?;
    std::fs::write(threads.join("cgroup.type"), "threaded")?;
    let process = sandbox.run("sleep 1000")?;
    std::fs::write(threads.join("cgroup.threads"), process.pid().to_string())?;
    ensure!(std::fs::read(threads.join("cgroup.procs")).is_err(), "it lists processes");
    let processes = sandbox.cgroups.processes()?;
    ensure!(processes.contains(&process.pid()), "{processes:?}");
    sandbox.cgroups.kill()?;
    sandbox.remove()
}

fn kills_a_fork_bomb() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    // No controller limits it here: the number of levels does.
    let script = "bomb() { [ $1 -gt 8 ] || { bomb $(($1+1)) | bomb $(($1+1)); } & }; \
                  while :; do bomb 0; wait; done";
    let _process = sandbox.run(script)?;
    until("many processes", || Ok(sandbox.cgroups.processes()?.len() > 100))?;
    sandbox.cgroups.kill()?;
    let left = sandbox.cgroups.processes()?;
    ensure!(left.is_empty(), "left: {left:?}");
    sandbox.remove()
}

fn a_busy_cgroup_error_names_the_processes() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let process = sandbox.run("sleep 1000")?;
    let error = refused(sandbox.cgroups.destroy())?;
    ensure!(error.contains(&format!("it has processes: {}", process.pid())), "{error}");
    sandbox.cgroups.kill()?;
    sandbox.remove()
}

fn memory_events_are_reported() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    if sandbox.directory("")?.join("memory.events").exists() {
        let mut watcher = sandbox.cgroups.watch_oom()?;
        let process = sandbox.run("sleep 1000")?;
        sandbox.cgroups.kill()?;
        drop(process);
        ensure!(watcher.wait()?.is_none(), "an event without a cause");
        notices_running_out_of_memory()?;
    } else {
        let error = refused(sandbox.cgroups.watch_oom())?;
        let hint = "(the controller memory is not enabled for this cgroup)";
        ensure!(error.ends_with(hint), "{error}");
    }
    if !Path::new("/proc/pressure/memory").exists() {
        let error = refused(sandbox.cgroups.watch_memory_pressure(PressureLevel::Low))?;
        ensure!(error.contains("pressure stall information"), "{error}");
        return Ok(());
    }
    let mut watchers = Vec::new();
    for level in [PressureLevel::Low, PressureLevel::Medium, PressureLevel::Critical] {
        watchers.push(sandbox.cgroups.watch_memory_pressure(level)?);
    }
    sandbox.remove()?;
    for watcher in &mut watchers {
        ensure!(watcher.wait()?.is_none(), "an event without a cause");
    }
    Ok(())
}

fn notices_running_out_of_memory() -> Outcome {
    let sandbox = TestCgroup::new(|config| {
        config.memory = 24 << 20;
        config.memory_swap = 24 << 20;
    })?;
    let mut watcher = sandbox.cgroups.watch_oom()?;
    let mut process = sandbox.run("tail /dev/zero")?;
    ensure!(watcher.wait()?.is_some(), "no event");
    process.wait()?;
    ensure!(sandbox.cgroups.oom_killed(), "the kill is not known");
    let memory = sandbox.cgroups.stats()?.memory_stats;
    ensure!(memory.usage.limit == 24 << 20 && memory.failcnt > 0, "{:?}", memory.usage);
    while watcher.wait()?.is_some() {}
    sandbox.remove()
}

fn usage_is_counted() -> Outcome {
    let sandbox = TestCgroup::new(|_| {})?;
    let _process = sandbox.run("while :; do :; done")?;
    until("processor time", || Ok(sandbox.cgroups.stats()?.cpu_stats.cpu_usage.total_usage > 0))?;
    if Path::new("/proc/pressure/cpu").exists() {
        let stats = sandbox.cgroups.stats()?;
        ensure!(stats.cpu_stats.psi.is_some(), "no pressure of the processor");
        ensure!(stats.memory_stats.psi.is_some(), "no pressure of memory");
    }
    ensure!(!sandbox.cgroups.oom_killed(), "an OOM kill out of nowhere");
    Ok(())
}
