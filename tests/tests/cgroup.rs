//! Cgroups: limits that hold, the freezer, statistics, events, and their removal.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pidone::cgroup::Notice;
use pidone::config::{Cgroup, Device, NamespaceType};
use pidone::{Code, Config, Status};
use pidone_tests::{
    Case, DEADLINE, Forked, Live, Outcome, Sandbox, Stop, case, eventually, leftover, need, output,
    process,
};

pub(crate) const CASES: &[Case] = &[
    case!(memory_is_limited),
    case!(oom_events_are_reported),
    case!(counters_remain_until_the_container_is_destroyed).and_init(),
    case!(the_watcher_ends_with_the_container),
    case!(a_memory_limit_too_low_fails_or_kills).once(),
    case!(kernel_memory_where_the_kernel_has_it).once(),
    case!(processes_are_limited),
    case!(cpu_shares),
    case!(cpu_time_is_limited),
    case!(processors_are_chosen),
    case!(wrong_limits_are_refused).once(),
    case!(controllers_that_are_missing_are_refused).unified().once(),
    case!(limits_change_while_it_runs),
    case!(freezes_and_thaws).and_unified(),
    case!(a_start_in_a_frozen_container_is_refused).and_unified(),
    case!(processes_are_counted).and_unified(),
    case!(use_is_counted),
    case!(time_is_counted).and_unified(),
    case!(devices_are_refused_by_default).and_unified(),
    case!(devices_are_allowed_by_a_rule).and_unified(),
    case!(all_devices_but_some).and_unified(),
    case!(one_in_use_is_refused).and_unified(),
    case!(a_failed_start_gives_its_cgroup_up).and_unified(),
    case!(parents_go_when_they_are_empty).and_unified(),
    case!(groups_made_below_go_too).and_unified(),
    case!(a_thousand_processes_are_killed).and_unified(),
    case!(a_thousand_frozen_processes_are_killed).and_unified(),
    case!(without_one).and_unified(),
];

fn with(sandbox: &Sandbox, change: impl FnOnce(&mut Cgroup)) -> Result<Config, Stop> {
    let mut config = sandbox.config();
    change(config.cgroups.as_mut().ok_or("no cgroup")?);
    Ok(config)
}

/// A file of the container's cgroup.
fn value(live: &Live, controller: &str, file: &str) -> Result<String, Stop> {
    let paths = &live.container.state()?.cgroup_paths;
    let directory: &PathBuf =
        paths.get(controller).or_else(|| paths.get("")).ok_or("no directory")?;
    let text = fs::read_to_string(directory.join(file))
        .map_err(|error| format!("{}: {error}", directory.join(file).display()))?;
    Ok(text.trim().to_owned())
}

fn sleeper(sandbox: &Sandbox, config: &Config) -> Result<Live, Stop> {
    Ok(sandbox.start(config, process(&["/guest", "sleep"]))?)
}

const MIB: i64 = 1 << 20;

fn memory_is_limited(sandbox: &Sandbox) -> Outcome {
    need::controller("memory")?;
    let config = with(sandbox, |cgroup| cgroup.memory = 32 * MIB)?;
    let live = sleeper(sandbox, &config)?;
    assert_eq!(value(&live, "memory", "memory.limit_in_bytes")?, (32 * MIB).to_string());
    live.kill()?;
    let output = sandbox.guest(&config, &["memory", "8"])?;
    assert_eq!((output.stdout.as_str(), output.exit.code), ("0\n", Some(0)));
    let output = sandbox.guest(&config, &["memory", "64"])?;
    assert_eq!(output.exit.signal, Some(libc::SIGKILL));
    Ok(())
}

fn oom_events_are_reported(sandbox: &Sandbox) -> Outcome {
    need::controller("memory")?;
    let config = with(sandbox, |cgroup| cgroup.memory = 32 * MIB)?;
    let mut live = sleeper(sandbox, &config)?;
    let mut watcher = live.container.notify_oom()?;
    assert_eq!(watcher.check()?, Notice::Nothing);
    // A further process dies of it, and the first lives on.
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "exhaust"]))?;
    let times = watcher.wait()?.ok_or("no notice")?;
    assert!(times >= 1);
    assert_eq!(running.wait()?.signal, Some(libc::SIGKILL));
    assert_eq!(live.container.status()?, Status::Running);
    let stats = live.container.stats()?.cgroup.ok_or("no statistics")?;
    assert!(stats.memory_stats.failcnt > 0, "{:?}", stats.memory_stats);
    live.kill()?;
    Ok(())
}

fn counters_remain_until_the_container_is_destroyed(sandbox: &Sandbox) -> Outcome {
    need::controller("memory")?;
    let config = with(sandbox, |cgroup| cgroup.memory = 32 * MIB)?;
    let mut container = sandbox.create(&config)?;
    for refused in [container.stats().map(drop), container.oom_kills().map(drop)] {
        assert_eq!(refused.err().ok_or("never started")?.code(), Code::ContainerNotRunning);
    }
    let mut running = sandbox.join(&mut container, process(&["/guest", "exhaust"]))?;
    // The init that stays reports the end of the program by signal as a shell does.
    assert_eq!(running.wait()?.status(), 137);
    assert_eq!(container.status()?, Status::Destroyed);
    assert_eq!(container.oom_kills()?, 1);
    let stats = container.stats()?.cgroup.ok_or("no statistics")?;
    let peak = stats.memory_stats.max_usage;
    assert!(peak > 16 * MIB.unsigned_abs() && peak <= 32 * MIB.unsigned_abs(), "{peak}");
    assert_eq!(container.processes()?, [0_i32; 0]);
    // Another handle has them as well.
    let other = sandbox.factory().load(container.id())?;
    assert_eq!(other.oom_kills()?, 1);
    container.destroy()?;
    assert!(container.stats().is_err() && other.oom_kills().is_err());
    Ok(())
}

fn the_watcher_ends_with_the_container(sandbox: &Sandbox) -> Outcome {
    need::controller("memory")?;
    let live = sleeper(sandbox, &sandbox.config())?;
    let mut watcher = live.container.notify_oom()?;
    let waiter = thread::spawn(move || watcher.wait());
    live.kill()?;
    assert!(eventually(|| waiter.is_finished()));
    assert_eq!(waiter.join().map_err(|_| "panicked")??, None);
    Ok(())
}

/// It ends in an error or in the end of the process, and not in a hang.
fn a_memory_limit_too_low_fails_or_kills(sandbox: &Sandbox) -> Outcome {
    need::controller("memory")?;
    for limit in [4096, 65536, 262_144] {
        let config = with(sandbox, |cgroup| cgroup.memory = limit)?;
        match sandbox.start(&config, process(&["/guest", "exit", "0"])) {
            Ok(live) => {
                let exit = live.finish()?.exit;
                assert!(exit.code == Some(0) || exit.signal == Some(libc::SIGKILL), "{exit:?}");
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("memory limit"), "{text}");
            }
        }
    }
    Ok(())
}

/// The seed's `RunWithKernelMemory`.
fn kernel_memory_where_the_kernel_has_it(sandbox: &Sandbox) -> Outcome {
    let config = with(sandbox, |cgroup| {
        cgroup.memory = 64 * MIB;
        cgroup.kernel_memory = 52 * MIB;
    })?;
    match sandbox.start(&config, process(&["/guest", "sleep"])) {
        Ok(live) => {
            let limit = value(&live, "memory", "memory.kmem.limit_in_bytes")?;
            assert_eq!(limit, (52 * MIB).to_string());
            live.kill()?;
        }
        // Since Linux 6.1 the file takes no limit any more.
        Err(error) => assert!(error.to_string().contains("kernel_memory"), "{error}"),
    }
    Ok(())
}

fn processes_are_limited(sandbox: &Sandbox) -> Outcome {
    need::controller("pids")?;
    let config = with(sandbox, |cgroup| cgroup.pids_limit = Some(5))?;
    let mut live = sandbox.start(&config, process(&["/guest", "fork", "10", ",", "sleep"]))?;
    let forked: Forked = live.say()?;
    assert_eq!((forked.forked, forked.errno), (4, libc::EAGAIN));
    let stats = live.container.stats()?.cgroup.ok_or("no statistics")?;
    assert_eq!((stats.pids_stats.current, stats.pids_stats.limit), (5, 5));
    // The limit holds for what the container forks, and not for what enters it, as with runc.
    let mut entered = sandbox.join(&mut live.container, process(&["/guest", "fork", "1"]))?;
    assert_eq!(output(&mut entered)?.lines::<Forked>()?[0].errno, libc::EAGAIN);
    assert_eq!(live.container.processes()?.len(), 5);
    live.kill()?;
    Ok(())
}

/// The seed's `CpuShares`.
fn cpu_shares(sandbox: &Sandbox) -> Outcome {
    need::controller("cpu")?;
    let live = sleeper(sandbox, &with(sandbox, |cgroup| cgroup.cpu_shares = 512)?)?;
    assert_eq!(value(&live, "cpu", "cpu.shares")?, "512");
    live.kill()?;
    for wrong in [1, 262_145, -1] {
        let config = with(sandbox, |cgroup| cgroup.cpu_shares = wrong)?;
        assert!(sandbox.start(&config, process(&["/guest"])).is_err(), "{wrong}");
    }
    Ok(())
}

fn cpu_time_is_limited(sandbox: &Sandbox) -> Outcome {
    need::controller("cpu")?;
    let config = with(sandbox, |cgroup| {
        cgroup.cpu_quota = 5_000;
        cgroup.cpu_period = 50_000;
    })?;
    let mut live = sandbox
        .start(&config, process(&["/guest", "spin", "500", ",", "say", "x", ",", "sleep"]))?;
    assert_eq!(value(&live, "cpu", "cpu.cfs_quota_us")?, "5000");
    assert_eq!(value(&live, "cpu", "cpu.cfs_period_us")?, "50000");
    live.line()?;
    let stats = live.container.stats()?.cgroup.ok_or("no statistics")?;
    let throttled = stats.cpu_stats.throttling_data;
    assert!(throttled.periods > 0 && throttled.throttled_periods > 0, "{throttled:?}");
    assert!(throttled.throttled_time > 1_000_000, "{throttled:?}");
    // A tenth of half a second, and not the whole.
    let used = Duration::from_nanos(stats.cpu_stats.cpu_usage.total_usage);
    assert!(used < Duration::from_millis(300), "{used:?}");
    live.kill()?;
    Ok(())
}

fn processors_are_chosen(sandbox: &Sandbox) -> Outcome {
    need::controller("cpuset")?;
    let live = sleeper(sandbox, &with(sandbox, |cgroup| cgroup.cpuset_cpus = "0".into())?)?;
    assert_eq!(value(&live, "cpuset", "cpuset.cpus")?, "0");
    let status = fs::read_to_string(format!("/proc/{}/status", live.running.pid()))?;
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    live.kill()?;
    // Processors that the machine does not have.
    let config = with(sandbox, |cgroup| cgroup.cpuset_cpus = "4000".into())?;
    assert!(sandbox.start(&config, process(&["/guest"])).is_err());
    Ok(())
}

fn wrong_limits_are_refused(sandbox: &Sandbox) -> Outcome {
    let wrong: [fn(&mut Cgroup); 12] = [
        |cgroup| cgroup.memory = -2,
        |cgroup| cgroup.memory_swappiness = 101,
        |cgroup| cgroup.pids_limit = Some(-5),
        |cgroup| cgroup.cpuset_cpus = "0-".into(),
        |cgroup| cgroup.cpuset_mems = "x".into(),
        |cgroup| cgroup.name = "..".into(),
        |cgroup| cgroup.name = "a/b".into(),
        |cgroup| cgroup.parent = "/a/../../b".into(),
        |cgroup| cgroup.slice = "a.slice".into(),
        |cgroup| cgroup.blkio_weight_device = "8:0".into(),
        |cgroup| cgroup.allowed_devices.push(Device { kind: 'x', ..Device::default() }),
        |cgroup| cgroup.net_cls_classid = "0xgg".into(),
    ];
    for (index, change) in wrong.into_iter().enumerate() {
        let config = with(sandbox, change)?;
        let error = sandbox.create(&config).err().ok_or_else(|| format!("number {index}"))?;
        assert_eq!(error.code(), Code::ConfigInvalid, "{index}: {error}");
    }
    Ok(())
}

fn controllers_that_are_missing_are_refused(sandbox: &Sandbox) -> Outcome {
    let enabled = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    for (controller, change) in [
        ("memory", (|cgroup| cgroup.memory = 64 * MIB) as fn(&mut Cgroup)),
        ("cpu", |cgroup| cgroup.cpu_shares = 512),
        ("pids", |cgroup| cgroup.pids_limit = Some(10)),
        ("cpuset", |cgroup| cgroup.cpuset_cpus = "0".into()),
    ] {
        if enabled.split_whitespace().any(|own| own == controller) {
            continue;
        }
        let config = with(sandbox, change)?;
        let started = sandbox.start(&config, process(&["/guest"]));
        assert!(started.is_err(), "{controller}");
    }
    Ok(())
}

fn limits_change_while_it_runs(sandbox: &Sandbox) -> Outcome {
    need::controller("memory")?;
    need::controller("pids")?;
    let mut config = with(sandbox, |cgroup| cgroup.memory = 64 * MIB)?;
    let mut live = sleeper(sandbox, &config)?;
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.memory = 32 * MIB;
        cgroup.pids_limit = Some(7);
    }
    live.container.set(&config)?;
    assert_eq!(value(&live, "memory", "memory.limit_in_bytes")?, (32 * MIB).to_string());
    assert_eq!(value(&live, "pids", "pids.max")?, "7");
    let other = sandbox.factory().load(live.container.id())?;
    assert_eq!(other.config(), &config);
    // What is refused leaves the configuration.
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.cpu_shares = 1;
    }
    assert!(live.container.set(&config).is_err());
    assert_ne!(sandbox.factory().load(live.container.id())?.config(), &config);
    live.kill()?;
    Ok(())
}

/// The seed's `Freeze`.
fn freezes_and_thaws(sandbox: &Sandbox) -> Outcome {
    let mut echo = process(&["/guest", "echo"]);
    echo.stdin = pidone::Stdio::Pipe;
    let mut live = sandbox.start(&sandbox.config(), echo)?;
    let mut input = live.running.stdin.take().ok_or("no pipe")?;
    let mut type_line = |text: &[u8]| std::io::Write::write_all(&mut input, text);
    type_line(b"before\n")?;
    assert_eq!(live.line()?, "before");
    for _ in 0..2 {
        live.container.pause()?;
        assert_eq!(live.container.status()?, Status::Paused);
    }
    type_line(b"while\n")?;
    // Long enough for an answer of a process that runs.
    assert!(live.is_silent(Duration::from_millis(50))?);
    for _ in 0..2 {
        live.container.resume()?;
        assert_eq!(live.container.status()?, Status::Running);
    }
    assert_eq!(live.line()?, "while");
    live.kill()?;
    Ok(())
}

fn a_start_in_a_frozen_container_is_refused(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox, &sandbox.config())?;
    live.container.pause()?;
    let begun = Instant::now();
    let error = sandbox.join(&mut live.container, process(&["/guest"])).err().ok_or("started")?;
    assert_eq!(error.code(), Code::ContainerPaused);
    assert!(begun.elapsed() < DEADLINE);
    live.container.resume()?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "exit", "1"]))?;
    assert_eq!(running.wait()?.code, Some(1));
    live.kill()?;
    // Nor is one made frozen.
    let config = with(sandbox, |cgroup| cgroup.freezer = pidone::config::Freezer::Frozen)?;
    assert!(sandbox.start(&config, process(&["/guest"])).is_err());
    Ok(())
}

fn processes_are_counted(sandbox: &Sandbox) -> Outcome {
    let mut live =
        sandbox.start(&sandbox.config(), process(&["/guest", "fork", "7", ",", "sleep"]))?;
    assert_eq!(live.say::<Forked>()?.forked, 7);
    let pids = live.container.processes()?;
    assert_eq!(pids.len(), 8);
    assert!(pids.contains(&live.running.pid()));
    for pid in pids {
        let program = fs::read_link(format!("/proc/{pid}/exe"))?;
        assert!(program.ends_with("guest"), "{pid}: {program:?}");
    }
    live.kill()?;
    Ok(())
}

fn use_is_counted(sandbox: &Sandbox) -> Outcome {
    for controller in ["memory", "pids", "cpuacct"] {
        need::controller(controller)?;
    }
    let mut live = sandbox.start(
        &sandbox.config(),
        process(&["/guest", "memory", "16", ",", "spin", "50", ",", "say", "x", ",", "sleep"]),
    )?;
    live.line()?;
    live.line()?;
    let stats = live.container.stats()?;
    let cgroup = stats.cgroup.as_ref().ok_or("no statistics")?;
    assert!(cgroup.memory_stats.usage.usage >= 16 << 20, "{:?}", cgroup.memory_stats);
    assert!(cgroup.memory_stats.usage.max_usage >= 16 << 20, "{:?}", cgroup.memory_stats);
    assert!(!cgroup.memory_stats.stats.is_empty());
    assert_eq!(cgroup.pids_stats.current, 1);
    assert!(cgroup.cpu_stats.cpu_usage.total_usage > 1_000_000, "{:?}", cgroup.cpu_stats);
    assert!(!cgroup.cpu_stats.cpu_usage.percpu_usage.is_empty());
    let json = serde_json::to_value(&stats)?;
    assert!(json["CgroupStats"]["memory_stats"]["usage"].is_object(), "{json}");
    assert!(json["CgroupStats"]["cpu_stats"]["cpu_usage"]["total_usage"].is_number(), "{json}");
    assert!(json["Interfaces"].is_array(), "{json}");
    live.kill()?;
    Ok(())
}

fn time_is_counted(sandbox: &Sandbox) -> Outcome {
    let mut live = sandbox.start(
        &sandbox.config(),
        process(&["/guest", "spin", "50", ",", "say", "x", ",", "sleep"]),
    )?;
    live.line()?;
    let stats = live.container.stats()?.cgroup.ok_or("no statistics")?;
    assert!(stats.cpu_stats.cpu_usage.total_usage > 1_000_000, "{:?}", stats.cpu_stats);
    live.kill()?;
    Ok(())
}

/// Makes a node of the kernel's log and opens it, and the null device.
pub(crate) fn open_devices(sandbox: &Sandbox, config: &Config) -> Result<Vec<i32>, Stop> {
    let mknod = libc::SYS_mknodat.to_string();
    let here = libc::AT_FDCWD.to_string();
    let mode = (libc::S_IFCHR | 0o666).to_string();
    // makedev(1, 11): /dev/kmsg.
    let number = libc::makedev(1, 11).to_string();
    let output = sandbox.guest(
        config,
        &[
            "open",
            "/dev/null",
            "2",
            ",", // allowed
            "syscall",
            &mknod,
            &here,
            "@/dev/log",
            &mode,
            &number,
            ",", // made, but not opened
            "open",
            "/dev/log",
            "0",
            ",",
            "open",
            "/dev/log",
            "1",
        ],
    )?;
    output.lines()
}

fn devices_are_refused_by_default(sandbox: &Sandbox) -> Outcome {
    let seen = open_devices(sandbox, &sandbox.config())?;
    assert_eq!(seen, [0, 0, libc::EPERM, libc::EPERM]);
    Ok(())
}

fn devices_are_allowed_by_a_rule(sandbox: &Sandbox) -> Outcome {
    let rule = |permissions: &str| Device {
        kind: 'c',
        major: 1,
        minor: 11,
        permissions: permissions.into(),
        ..Device::default()
    };
    let config = with(sandbox, |cgroup| cgroup.allowed_devices.push(rule("w")))?;
    assert_eq!(open_devices(sandbox, &config)?, [0, 0, libc::EPERM, 0]);
    // Neither made nor opened; the container's own nodes must be allowed then.
    let mut config = with(sandbox, |cgroup| {
        cgroup.allowed_devices = pidone::config::default::simple_devices();
    })?;
    config.devices = pidone::config::default::simple_devices();
    let seen = open_devices(sandbox, &config)?;
    assert_eq!(seen, [0, libc::EPERM, libc::ENOENT, libc::ENOENT]);
    Ok(())
}

fn all_devices_but_some(sandbox: &Sandbox) -> Outcome {
    let config = with(sandbox, |cgroup| cgroup.allow_all_devices = true)?;
    let seen = open_devices(sandbox, &config)?;
    assert_eq!((seen[0], seen[1], seen[3]), (0, 0, 0));
    let config = with(sandbox, |cgroup| {
        cgroup.allow_all_devices = true;
        cgroup.denied_devices = vec![Device {
            kind: 'c',
            major: 1,
            minor: 11,
            permissions: "rw".into(),
            ..Device::default()
        }];
    })?;
    assert_eq!(open_devices(sandbox, &config)?, [0, 0, libc::EPERM, libc::EPERM]);
    Ok(())
}

fn one_in_use_is_refused(sandbox: &Sandbox) -> Outcome {
    let live = sleeper(sandbox, &sandbox.config())?;
    let error = sandbox.start(&sandbox.config(), process(&["/guest"])).err().ok_or("started")?;
    assert!(error.to_string().contains(sandbox.name()), "{error}");
    // The one whose cgroup it is lives on.
    assert_eq!(live.container.processes()?, [live.running.pid()]);
    assert_eq!(live.container.status()?, Status::Running);
    live.kill()?;
    Ok(())
}

/// What a container had is another's as soon as its start has failed.
fn a_failed_start_gives_its_cgroup_up(sandbox: &Sandbox) -> Outcome {
    let mut failed = sandbox.create(&sandbox.config())?;
    assert!(sandbox.join(&mut failed, process(&["/nosuch"])).is_err());
    let live = sleeper(sandbox, &sandbox.config())?;
    failed.kill()?;
    failed.destroy()?;
    assert_eq!(live.container.processes()?, [live.running.pid()]);
    // The same through a handle that knows only what is on disk.
    let mut failed = sandbox.create(&with(sandbox, |cgroup| cgroup.name.push_str("-x"))?)?;
    assert!(sandbox.join(&mut failed, process(&["/nosuch"])).is_err());
    let other = sleeper(sandbox, &with(sandbox, |cgroup| cgroup.name.push_str("-x"))?)?;
    let mut loaded = sandbox.factory().load(failed.id())?;
    loaded.kill()?;
    loaded.destroy()?;
    assert_eq!(other.container.processes()?, [other.running.pid()]);
    other.kill()?;
    live.kill()?;
    Ok(())
}

fn parents_go_when_they_are_empty(sandbox: &Sandbox) -> Outcome {
    let below = |name: &str| {
        with(sandbox, |cgroup| {
            cgroup.parent = format!("/{}/slice", sandbox.name());
            cgroup.name = name.into();
        })
    };
    let one = sleeper(sandbox, &below("one")?)?;
    let other = sleeper(sandbox, &below("other")?)?;
    one.kill()?;
    assert_ne!(leftover::cgroups(sandbox.name()), [] as [String; 0]);
    assert_eq!(other.container.status()?, Status::Running);
    other.kill()?;
    // Whoever made them has left; what remains is the caller's to remove.
    for path in leftover::cgroups(sandbox.name()) {
        let path = path.trim_start_matches("cgroup ");
        let inside = fs::read_dir(path)?.flatten().find(|entry| entry.path().is_dir());
        if let Some(inside) = inside {
            fs::remove_dir(inside.path())?;
        }
        fs::remove_dir(path)?;
    }
    // One alone takes its parents along.
    sleeper(sandbox, &below("alone")?)?.kill()?;
    assert_eq!(leftover::cgroups(sandbox.name()), [] as [String; 0]);
    Ok(())
}

fn groups_made_below_go_too(sandbox: &Sandbox) -> Outcome {
    let mut live =
        sandbox.start(&sandbox.config(), process(&["/guest", "fork", "1", ",", "sleep"]))?;
    live.line()?;
    let child = live.container.processes()?.into_iter().find(|&pid| pid != live.running.pid());
    let child = child.ok_or("no child")?;
    for directory in live.container.state()?.cgroup_paths.values() {
        fs::create_dir_all(directory.join("a/b"))?;
        fs::create_dir_all(directory.join("c"))?;
        // A cpuset without processors takes none.
        let _ = fs::write(directory.join("a/b/cgroup.procs"), child.to_string());
    }
    assert_eq!(live.container.processes()?.len(), 2);
    live.kill()?;
    assert_eq!(leftover::cgroups(sandbox.name()), [] as [String; 0]);
    Ok(())
}

fn crowd(sandbox: &Sandbox, own_pids: bool) -> Result<Live, Stop> {
    let mut config = sandbox.config();
    if !own_pids {
        config.remove_namespace(NamespaceType::Pid);
    }
    let mut forks = process(&["/guest", "fork", "1000", ",", "sleep"]);
    forks.stderr = pidone::Stdio::Null;
    let mut live = sandbox.start(&config, forks)?;
    assert_eq!(live.say::<Forked>()?.forked, 1000);
    assert_eq!(live.container.processes()?.len(), 1001);
    Ok(live)
}

fn a_thousand_processes_are_killed(sandbox: &Sandbox) -> Outcome {
    for own_pids in [true, false] {
        let mut live = crowd(sandbox, own_pids)?;
        let begun = Instant::now();
        live.container.kill()?;
        live.running.wait()?;
        live.container.destroy()?;
        let took = begun.elapsed();
        assert!(took < DEADLINE, "{took:?}");
        assert_eq!(leftover::processes(sandbox.name()), [] as [String; 0]);
    }
    Ok(())
}

fn a_thousand_frozen_processes_are_killed(sandbox: &Sandbox) -> Outcome {
    let mut live = crowd(sandbox, false)?;
    live.container.pause()?;
    live.container.kill()?;
    live.running.wait()?;
    live.container.destroy()?;
    assert_eq!(leftover::processes(sandbox.name()), [] as [String; 0]);
    Ok(())
}

fn without_one(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.cgroups = None;
    let mut live = sandbox.start(&config, process(&["/guest", "fork", "2", ",", "sleep"]))?;
    live.line()?;
    assert!(live.container.state()?.cgroup_paths.is_empty());
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let theirs = fs::read_to_string(format!("/proc/{}/cgroup", live.running.pid()))?;
    assert_eq!(own, theirs);
    assert_eq!(live.container.processes()?.len(), 3);
    assert!(live.container.stats()?.cgroup.is_none());
    assert!(live.container.pause().is_err() && live.container.notify_oom().is_err());
    assert_eq!(live.container.status()?, Status::Running);
    live.kill()?;
    assert_eq!(leftover::processes(sandbox.name()), [] as [String; 0]);
    Ok(())
}
