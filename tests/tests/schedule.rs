//! How processes are scheduled, where their memory lies, and which execution domain they have.

use std::fs;
use std::process::Command;

use pidone::config::{CpuAffinity, MemoryPolicy, Scheduler};
use pidone::{Code, Process};
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, Stop, case, need, output, process};

pub(crate) const CASES: &[Case] = &[
    case!(policy_and_nice_value).and_init(),
    case!(real_time_priority).and_init(),
    case!(a_wrong_policy_is_refused).once(),
    case!(priority_of_io),
    case!(processors_of_a_further_process).and_init(),
    case!(a_processor_that_does_not_exist).once(),
    case!(oom_score_adj_is_set).and_init(),
    case!(lowering_oom_score_adj_without_privilege_is_an_error).ordinary(),
    case!(memory_policy_is_set).and_init(),
    case!(execution_domain).and_init(),
];

/// What two processes of a container say, its first and a further one.
fn both(
    sandbox: &Sandbox,
    config: &pidone::Config,
    args: &[&str],
    change: impl Fn(&mut Process),
) -> Result<[String; 2], Stop> {
    let with_sleep = [args, &[",", "sleep"]].concat();
    let mut first = process(&with_sleep);
    change(&mut first);
    let mut live = sandbox.start(config, first)?;
    let said = live.line()?;
    let mut further = process(args);
    change(&mut further);
    let mut running = sandbox.join(&mut live.container, further)?;
    let further = output(&mut running)?.stdout.trim_end().to_owned();
    live.kill()?;
    Ok([said, further])
}

/// A file that both read.
fn files(
    sandbox: &Sandbox,
    config: &pidone::Config,
    path: &str,
    change: impl Fn(&mut Process),
) -> Result<[String; 2], Stop> {
    let said = both(sandbox, config, &["/guest", "read", path], change)?;
    let text = |line: &String| serde_json::from_str::<Read>(line).map(|read| read.text);
    let [first, further] = [text(&said[0])?, text(&said[1])?];
    Ok([first, further])
}

/// A field of `/proc/self/stat`, by its number in proc_pid_stat(5).
fn field(stat: &str, number: usize) -> Option<i64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

const NICE: usize = 19;
const RT_PRIORITY: usize = 40;
const POLICY: usize = 41;

fn policy_and_nice_value(sandbox: &Sandbox) -> Outcome {
    let policy = u32::try_from(libc::SCHED_BATCH)?;
    let scheduler = Scheduler { policy, nice: 7, ..Scheduler::default() };
    let stats = files(sandbox, &sandbox.config(), "/proc/self/stat", |process| {
        process.scheduler = Some(scheduler);
    })?;
    for stat in stats {
        let [nice, policy] = [NICE, POLICY].map(|number| field(&stat, number));
        assert_eq!((nice, policy), (Some(7), Some(i64::from(libc::SCHED_BATCH))), "{stat}");
    }
    // Without one nothing changes.
    let stats = files(sandbox, &sandbox.config(), "/proc/self/stat", |_| {})?;
    let own = fs::read_to_string("/proc/self/stat")?;
    for stat in stats {
        assert_eq!([NICE, POLICY].map(|n| field(&stat, n)), [NICE, POLICY].map(|n| field(&own, n)));
    }
    Ok(())
}

fn real_time_priority(sandbox: &Sandbox) -> Outcome {
    let policy = u32::try_from(libc::SCHED_FIFO)?;
    let scheduler = Scheduler { policy, priority: 3, ..Scheduler::default() };
    // A cgroup of v1's cpu controller has no time for it unless it is given some.
    let mut config = sandbox.config();
    config.cgroups = None;
    let stats = files(sandbox, &config, "/proc/self/stat", |process| {
        process.scheduler = Some(scheduler);
    })?;
    for stat in stats {
        let [priority, policy] = [RT_PRIORITY, POLICY].map(|number| field(&stat, number));
        assert_eq!((priority, policy), (Some(3), Some(i64::from(libc::SCHED_FIFO))), "{stat}");
    }
    Ok(())
}

fn a_wrong_policy_is_refused(sandbox: &Sandbox) -> Outcome {
    let mut wrong = process(&["/guest"]);
    // Without a priority there is no such thread.
    let policy = u32::try_from(libc::SCHED_FIFO)?;
    wrong.scheduler = Some(Scheduler { policy, ..Scheduler::default() });
    let error = sandbox.start(&sandbox.config(), wrong).err().ok_or("started")?;
    assert_eq!(error.errno(), Some(rustix::io::Errno::INVAL));
    assert!(error.to_string().starts_with("scheduler"), "{error}");
    Ok(())
}

fn priority_of_io(sandbox: &Sandbox) -> Outcome {
    let ionice = need::program("ionice")?;
    let asked = |pid: i32| -> Result<String, Stop> {
        let output = Command::new(&ionice).args(["-p", &pid.to_string()]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // The class in the upper bits: ioprio_set(2).
    let best_effort = |level: u32| Some(2 << 13 | level);
    let mut sleeps = process(&["/guest", "sleep"]);
    sleeps.io_priority = best_effort(6);
    let mut live = sandbox.start(&sandbox.config(), sleeps)?;
    assert_eq!(asked(live.running.pid())?, "best-effort: prio 6");
    let mut further = process(&["/guest", "sleep"]);
    further.io_priority = best_effort(1);
    let mut running = sandbox.join(&mut live.container, further)?;
    assert_eq!(asked(running.pid())?, "best-effort: prio 1");
    running.signal(libc::SIGKILL)?;
    running.wait()?;
    live.kill()?;
    Ok(())
}

fn allowed(status: &str) -> Option<&str> {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim)
}

fn processors_of_a_further_process(sandbox: &Sandbox) -> Outcome {
    let own = fs::read_to_string("/proc/self/status")?;
    let own = allowed(&own).ok_or("no list")?;
    if std::thread::available_parallelism()?.get() < 2 || !own.starts_with("0-") {
        return Err(Stop::Lacking("processors 0 and 1".into()));
    }
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    for (initial, last, seen) in [
        ("0", "1", "1"),
        ("1", "0", "0"),
        ("", "1", "1"),
        ("", "0-1", "0-1"),
        ("1", "", "1"),
        ("", "", own),
    ] {
        let mut further = process(&["/guest", "read", "/proc/self/status"]);
        further.affinity = Some(CpuAffinity { initial: initial.into(), last: last.into() });
        let mut running = sandbox.join(&mut live.container, further)?;
        let read: Read = output(&mut running)?.lines()?.pop().ok_or("nothing")?;
        assert_eq!(allowed(&read.text), Some(seen), "`{initial}` then `{last}`");
    }
    live.kill()?;
    Ok(())
}

fn a_processor_that_does_not_exist(sandbox: &Sandbox) -> Outcome {
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    for (list, code) in [("8000", Code::SystemError), ("x", Code::ConfigInvalid)] {
        let mut further = process(&["/guest"]);
        further.affinity = Some(CpuAffinity { last: list.into(), ..CpuAffinity::default() });
        let error = sandbox.join(&mut live.container, further).err().ok_or("started")?;
        assert_eq!(error.code(), code, "{error}");
    }
    live.kill()?;
    Ok(())
}

fn oom_score_adj_is_set(sandbox: &Sandbox) -> Outcome {
    let said = both(sandbox, &sandbox.config(), &["/guest", "report"], |process| {
        process.oom_score_adj = Some(567);
    })?;
    for said in said {
        let report: Report = serde_json::from_str(&said)?;
        assert_eq!(report.oom_score_adj.as_deref(), Some("567"));
    }
    // The starter's own is as before.
    assert_ne!(fs::read_to_string("/proc/self/oom_score_adj")?.trim(), "567");
    Ok(())
}

fn lowering_oom_score_adj_without_privilege_is_an_error(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let map = vec![pidone::config::IdMap { container_id: 0, host_id: 65534, size: 1 }];
    config.set_id_maps(map.clone(), map);
    config.cgroups = None;
    let with = |score| Process { oom_score_adj: Some(score), ..process(&["/guest"]) };
    let error = sandbox.start(&config, with(-999)).err().ok_or("started")?;
    assert_eq!(error.errno(), Some(rustix::io::Errno::ACCESS), "{error}");
    assert!(error.to_string().contains("CAP_SYS_RESOURCE"), "{error}");
    // A score that it has already is no change.
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?;
    sandbox.run(&config, with(own))?;
    Ok(())
}

fn memory_policy_is_set(sandbox: &Sandbox) -> Outcome {
    need::file("/proc/self/numa_maps")?;
    // set_mempolicy(2)
    const MPOL_BIND: u32 = 2;
    const MPOL_INTERLEAVE: u32 = 3;
    for (mode, name) in [(MPOL_BIND, "bind:0"), (MPOL_INTERLEAVE, "interleave:0")] {
        let mut config = sandbox.config();
        config.memory_policy = Some(MemoryPolicy { mode, nodes: vec![0] });
        for maps in files(sandbox, &config, "/proc/self/numa_maps", |_| {})? {
            assert!(maps.lines().all(|line| line.contains(name)), "{maps}");
        }
    }
    for maps in files(sandbox, &sandbox.config(), "/proc/self/numa_maps", |_| {})? {
        assert!(maps.lines().all(|line| line.contains("default")), "{maps}");
    }
    Ok(())
}

fn execution_domain(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    // personality(2)
    const PER_LINUX32: u32 = 8;
    let machine = |personality| -> Result<[String; 2], Stop> {
        let mut config = sandbox.config();
        config.personality = personality;
        let script = "/bin/busybox uname -m; exec /bin/busybox sleep 100";
        let mut live = sandbox.start(&config, process(&["/bin/sh", "-c", script]))?;
        let first = live.line()?;
        let further = process(&["/bin/busybox", "uname", "-m"]);
        let mut running = sandbox.join(&mut live.container, further)?;
        let further = output(&mut running)?.stdout.trim().to_owned();
        live.kill()?;
        Ok([first, further])
    };
    let narrow = match std::env::consts::ARCH {
        "x86_64" => "i686",
        "aarch64" => "armv8l",
        other => return Err(Stop::Lacking(format!("a domain of 32 bits on {other}"))),
    };
    assert_eq!(machine(None)?, [std::env::consts::ARCH; 2]);
    assert_eq!(machine(Some(PER_LINUX32))?, [narrow; 2]);
    Ok(())
}
