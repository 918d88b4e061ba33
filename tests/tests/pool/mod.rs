//! A pool of containers that were made before their programs were known, and how it is filled and
//! emptied.

mod activation;
mod refusal;
mod supervisor;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};

use pidone::pool::{Lease, Pool, Sizes};
use pidone::{Config, Process, Status};
use pidone_tests::leftover::MARK;
use pidone_tests::{Case, DEADLINE, Outcome, Report, Sandbox, Stop, case, output, process};

pub(crate) use activation::CASES as ACTIVATION;
pub(crate) use refusal::CASES as REFUSALS;
pub(crate) use supervisor::CASES as SUPERVISORS;

pub(crate) const CASES: &[Case] = &[
    case!(each_container_is_used_once).once(),
    case!(an_empty_pool_starts_cold).once(),
    case!(a_dead_container_is_replaced).once(),
    case!(a_damaged_container_is_replaced).once(),
    case!(several_at_once_in_their_order).once(),
    case!(a_drained_pool_has_no_container).once(),
    case!(a_dropped_pool_leaves_running_containers).once(),
    case!(nothing_written_comes_to_the_next).once(),
    case!(descriptors_stay_flat).once().alone(),
];

/// The sandbox's configuration, with cgroups below one of its name.
fn config(sandbox: &Sandbox) -> Config {
    below(sandbox, sandbox.config())
}

fn below(sandbox: &Sandbox, mut config: Config) -> Config {
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.parent = sandbox.name().to_owned();
        cgroup.name = "one".to_owned();
    }
    config
}

fn marked(sandbox: &Sandbox, args: &[&str]) -> Process {
    let mut process = process(args);
    process.env.push(format!("{MARK}={}", sandbox.name()).into());
    process
}

/// A full pool.
fn pool(sandbox: &Sandbox, config: &Config, size: usize) -> Result<Pool, Stop> {
    let model = marked(sandbox, &["/guest"]);
    let pool = Pool::new(sandbox.factory(), config, model, Sizes::new(size))?;
    pool.wait_until_full(DEADLINE)?;
    Ok(pool)
}

/// The first line of a process that goes on.
fn first_line(lease: &mut Lease) -> Result<Report, Stop> {
    let mut line = String::new();
    let output = lease.running().stdout.take().ok_or("standard output is no pipe")?;
    BufReader::new(output).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn report(lease: &mut Lease) -> Result<Report, Stop> {
    let output = output(lease.running())?;
    assert_eq!(output.exit.code, Some(0), "{}", output.stderr);
    Ok(serde_json::from_str(output.stdout.lines().next().unwrap_or_default())?)
}

fn each_container_is_used_once(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 3)?;
    let mut seen = BTreeSet::new();
    let mut ids = BTreeSet::new();
    // The kernel gives an inode again when its namespace has gone.
    let mut leases = Vec::new();
    for _ in 0..8 {
        pool.wait_until_full(DEADLINE)?;
        let mut lease = pool.start(&marked(sandbox, &["/guest", "report", ",", "sleep"]))?;
        assert!(lease.is_warm());
        assert!(ids.insert(lease.container().id().to_owned()));
        let report = first_line(&mut lease)?;
        leases.push(lease);
        for kind in ["net", "mnt", "pid"] {
            assert!(seen.insert(report.namespaces[kind]), "{kind} was used before");
        }
    }
    assert_eq!(pool.status().warm, 8);
    Ok(())
}

fn an_empty_pool_starts_cold(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let start = || pool.start(&marked(sandbox, &["/guest", "report"]));
    let (mut one, mut other) = (start()?, start()?);
    assert!(one.is_warm());
    let _ = (report(&mut one)?, report(&mut other)?);
    // It may have been refilled between.
    let status = pool.status();
    assert_eq!(status.warm + status.cold, 2, "{status:?}");
    pool.drain()?;
    assert!(!start()?.is_warm());
    pool.resume();
    pool.wait_until_full(DEADLINE)?;
    assert!(start()?.is_warm());
    Ok(())
}

/// The ids of containers whose init waits, or that run; there is one more that has none.
fn ids(sandbox: &Sandbox) -> Result<Vec<String>, Stop> {
    let mut ids = Vec::new();
    for id in sandbox.factory().list()? {
        if sandbox.factory().load(&id).is_ok_and(|container| container.pid() > 0) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn first_id(sandbox: &Sandbox) -> Result<String, Stop> {
    Ok(ids(sandbox)?.into_iter().next().ok_or("no container waits")?)
}

fn init_of(sandbox: &Sandbox) -> Result<i32, Stop> {
    Ok(sandbox.factory().load(&first_id(sandbox)?)?.pid())
}

/// Waits until something holds.
fn until(what: &str, holds: impl Fn() -> bool) -> Outcome {
    pidone_tests::until(what, || Ok(holds()))
}

fn a_dead_container_is_replaced(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let pid = init_of(sandbox)?;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).ok_or("no process")?,
        rustix::process::Signal::KILL,
    )?;
    let stat = format!("/proc/{pid}/stat");
    until("its end", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")))?;
    // At once: no caller gets the error of another.
    let mut lease = pool.start(&marked(sandbox, &["/guest", "report"]))?;
    report(&mut lease)?;
    until("another", || pool.status().discarded == 1)?;
    pool.wait_until_full(DEADLINE)?;
    let next = init_of(sandbox)?;
    assert_ne!(next, pid);
    Ok(())
}

fn a_damaged_container_is_replaced(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let id = first_id(sandbox)?;
    let stranger = sandbox.factory().load(&id)?;
    stranger.kill()?;
    // Without a start that would look.
    until("another", || pool.status().discarded == 1)?;
    pool.wait_until_full(DEADLINE)?;
    assert_ne!(ids(sandbox)?, [id]);
    Ok(())
}

fn several_at_once_in_their_order(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 4)?;
    let processes: Vec<Process> = (0..12)
        .map(|number| match number {
            7 => marked(sandbox, &["/no/such"]),
            _ => marked(sandbox, &["/guest", "report", &number.to_string()]),
        })
        .collect();
    for (number, started) in pool.start_all(&processes).into_iter().enumerate() {
        match started {
            Ok(mut lease) => {
                let output = output(lease.running())?;
                let first = output.stdout.lines().next().unwrap_or_default();
                let report: Report = serde_json::from_str(first)?;
                assert_eq!(report.args[2], number.to_string());
            }
            Err(_) => assert_eq!(number, 7),
        }
    }
    Ok(())
}

fn a_drained_pool_has_no_container(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 4)?;
    assert_eq!(ids(sandbox)?.len(), 4);
    pool.drain()?;
    assert_eq!(pool.status().ready, 0);
    // One may have been on its way.
    until("the end", || ids(sandbox).is_ok_and(|ids| ids.is_empty()))?;
    drop(pool);
    assert!(pidone_tests::leftover::of(sandbox.name(), &sandbox.path()).is_empty());
    Ok(())
}

fn a_dropped_pool_leaves_running_containers(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 2)?;
    let mut lease = pool.start(&marked(sandbox, &["/guest", "sleep"]))?;
    drop(pool);
    assert_eq!(ids(sandbox)?, [lease.container().id()]);
    assert_eq!(lease.container().status()?, Status::Running);
    drop(lease);
    assert!(sandbox.factory().list()?.is_empty());
    Ok(())
}

fn nothing_written_comes_to_the_next(sandbox: &Sandbox) -> Outcome {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    sandbox.add_busybox()?;
    let root = sandbox.rootfs();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o711))?;
    std::os::unix::fs::symlink("busybox", root.join("bin/stat"))?;
    let script = "test -e /left && echo found /left; test -e /etc/group || echo no group; \
                  echo mine > /left && rm /etc/group && echo more >> /etc/passwd && \
                  cat /left && stat -c %a /";
    let mut process = marked(sandbox, &["/bin/sh", "-c", script]);
    process.env.push("PATH=/bin".into());
    let before = fs::read_to_string(root.join("etc/passwd"))?;
    let mut roots = vec![config(sandbox)];
    // A user namespace, whose root owns the files of the layer.
    let map = vec![pidone::config::IdMap { container_id: 0, host_id: 0, size: 65536 }];
    let mut mapped = config(sandbox);
    mapped.set_id_maps(map.clone(), map);
    roots.push(mapped);
    for config in roots {
        let one = pool(sandbox, &config, 1)?;
        let other = Pool::without_root(sandbox.factory(), &config, Sizes::new(1))?;
        other.wait_until_full(DEADLINE)?;
        for warm in [true, false, true] {
            if warm {
                one.wait_until_full(DEADLINE)?;
            } else {
                one.drain()?;
            }
            for mut lease in [one.start(&process)?, other.start_in(&config, &process)?] {
                let output = output(lease.running())?;
                assert_eq!(output.stdout, "mine\n711\n", "{}", output.stderr);
            }
            one.resume();
        }
    }
    assert!(!root.join("left").exists() && root.join("etc/group").exists());
    assert_eq!(fs::read_to_string(root.join("etc/passwd"))?, before);
    assert_eq!(fs::metadata(&root)?.mode() & 0o777, 0o711);
    // The control: a container that is not of a pool writes to the root itself.
    let mut container = sandbox.create(&sandbox.config())?;
    assert_eq!(output(&mut container.start(&process)?)?.stdout, "mine\n711\n");
    container.destroy()?;
    assert!(root.join("left").exists() && !root.join("etc/group").exists());
    Ok(())
}

fn descriptors_stay_flat(sandbox: &Sandbox) -> Outcome {
    let count = || fs::read_dir("/proc/self/fd").map(Iterator::count);
    let pool = pool(sandbox, &config(sandbox), 2)?;
    let round = || -> Result<usize, Stop> {
        for _ in 0..10 {
            report(&mut pool.start(&marked(sandbox, &["/guest", "report"]))?)?;
        }
        pool.wait_until_full(DEADLINE)?;
        until("the end of what was used", || pool.status().ended == 0)?;
        Ok(count()?)
    };
    let first = round()?;
    for _ in 0..4 {
        round()?;
        // The threads of the pool open something at times.
        until("the number of descriptors", || count().is_ok_and(|now| now <= first))?;
    }
    Ok(())
}
