//! Containers that were made before their program was known.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::thread;
use std::time::{Duration, Instant};

use pidone::config::{NamespaceType, Rlimit};
use pidone::pool::{Lease, Pool, Sizes};
use pidone::{Config, Process, Status, Stdio, TerminalSize};
use pidone_tests::leftover::MARK;
use pidone_tests::{Case, Outcome, Report, Sandbox, Stop, case, output, process};

pub(crate) const CASES: &[Case] = &[
    case!(a_warm_start_is_like_a_cold_one).and_unified(),
    case!(a_warm_start_is_like_a_cold_one_in_a_user_namespace),
    case!(a_warm_start_under_a_filter),
    case!(a_strict_filter_is_there_early).once(),
    case!(an_ordinary_user_has_a_pool).ordinary(),
    case!(each_is_used_once).once(),
    case!(an_empty_pool_starts_cold).once(),
    case!(what_does_not_fit_starts_cold).once(),
    case!(a_dead_one_is_replaced).once(),
    case!(a_damaged_one_is_replaced).once(),
    case!(a_failed_start_leaves_nothing).once(),
    case!(several_at_once_in_their_order).once(),
    case!(drained_it_has_nothing).once(),
    case!(dropped_it_leaves_what_runs).once(),
    case!(what_cannot_be_made_is_told).once(),
    case!(the_files_of_users_may_change).once(),
    case!(a_terminal_comes_with_the_program).once(),
    case!(more_descriptors_come_with_the_program).once(),
    case!(a_configuration_of_one_is_refused).once(),
    case!(a_root_that_is_told_late_is_like_one_that_is_known).and_unified(),
    case!(a_root_that_is_told_late_in_a_user_namespace),
    case!(another_key_is_refused).once(),
    case!(descriptors_stay_flat).once().alone(),
];

const PATIENCE: Duration = Duration::from_secs(20);

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
    process.env.push(format!("{MARK}={}", sandbox.name()));
    process
}

/// A full pool.
fn pool(sandbox: &Sandbox, config: &Config, size: usize) -> Result<Pool, Stop> {
    let model = marked(sandbox, &["/guest"]);
    let pool = Pool::new(sandbox.factory(), config, model, Sizes::of(size))?;
    pool.wait_until_full(PATIENCE)?;
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

/// What must be the same in every container of a configuration, as text.
fn comparable(mut report: Report) -> Vec<String> {
    let mounts = report.mounts().into_iter().map(|mut mount| {
        // Numbers of peer groups.
        mount.propagation.iter_mut().for_each(|field| {
            field.truncate(field.find(':').unwrap_or(field.len()));
        });
        format!("{mount:?}")
    });
    let mut all: Vec<String> = mounts.collect();
    report.mounts = None;
    for inode in report.namespaces.values_mut() {
        *inode = 0;
    }
    for descriptor in &mut report.descriptors {
        descriptor.dev = 0;
        if descriptor.kind != "c" {
            (descriptor.ino, descriptor.target) = (0, None);
        }
    }
    for line in report.cgroups.iter_mut().flatten() {
        line.truncate(line.rfind('/').unwrap_or(line.len()));
    }
    // One member on a line.
    all.extend(format!("{report:#?}").lines().map(str::to_owned));
    all
}

/// Compares what a process sees in a container that waited for it, and in one that did not.
fn compare(sandbox: &Sandbox, config: &Config, process: &dyn Fn() -> Process) -> Outcome {
    let pool = pool(sandbox, config, 2)?;
    let mut warm = pool.start(&process())?;
    assert!(warm.is_warm());
    let first = first_line(&mut warm)?;
    pool.drain()?;
    let mut cold = pool.start(&process())?;
    assert!(!cold.is_warm());
    let second = first_line(&mut cold)?;
    for (kind, inode) in &first.namespaces {
        let fresh = config.namespaces.iter().any(|own| own.kind.file() == kind);
        assert_eq!(*inode != second.namespaces[kind], fresh, "{kind}");
    }
    same(first, second);
    Ok(())
}

fn same(warm: Report, cold: Report) {
    let (warm, cold) = (comparable(warm), comparable(cold));
    assert_eq!(warm.len(), cold.len());
    let differ: Vec<_> = warm.iter().zip(&cold).filter(|(warm, cold)| warm != cold).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

fn a_warm_start_is_like_a_cold_one(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.rlimits = vec![Rlimit { kind: libc::RLIMIT_NOFILE, soft: 100, hard: 200 }];
    config.readonlyfs = true;
    let plain = || marked(sandbox, &["/guest", "report", ",", "sleep"]);
    compare(sandbox, &config, &plain)?;
    let null = || Process { stdin: Stdio::Null, stderr: Stdio::Null, ..plain() };
    compare(sandbox, &config, &null)?;
    let other = || Process {
        user: "user:video".into(),
        cwd: "/tmp".into(),
        capabilities: Some(vec!["KILL".into()]),
        no_new_privileges: true,
        ..plain()
    };
    compare(sandbox, &config, &other)
}

fn a_warm_start_is_like_a_cold_one_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.set_namespace(NamespaceType::User, "");
    let map = pidone::config::IdMap { container_id: 0, host_id: 100_000, size: 65536 };
    (config.uid_mappings, config.gid_mappings) = (vec![map], vec![map]);
    let plain = || marked(sandbox, &["/guest", "report", ",", "sleep"]);
    compare(sandbox, &config, &plain)
}

fn a_warm_start_under_a_filter(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.seccomp_profile = Some(serde_json::from_str(
        r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["mount", "ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 } ] }"#,
    )?);
    for no_new_privileges in [false, true] {
        let plain = || Process {
            no_new_privileges,
            ..marked(sandbox, &["/guest", "report", ",", "sleep"])
        };
        let pool = Pool::new(sandbox.factory(), &config, plain(), Sizes::of(1))?;
        pool.wait_until_full(PATIENCE)?;
        let mut lease = pool.start(&plain())?;
        assert!(lease.is_warm());
        let warm = first_line(&mut lease)?;
        pool.drain()?;
        let cold = first_line(&mut pool.start(&plain())?)?;
        assert_eq!(warm.seccomp, Some(2));
        same(warm, cold);
    }
    Ok(())
}

/// The filter is there before the program where it lets the init become that, by no more calls than
/// these, and else comes with it.
fn a_strict_filter_is_there_early(sandbox: &Sandbox) -> Outcome {
    const CALLS: &str = "capset close close_range dup3 execve exit_group fchdir fchownat fcntl \
        fstat mkdirat mmap newfstatat openat openat2 ppoll prctl prlimit64 read recvmsg sendmsg \
        setgroups setresgid setresuid setrlimit setsid umask";
    let mut config = config(sandbox);
    config.rlimits = vec![Rlimit { kind: libc::RLIMIT_NOFILE, soft: 100, hard: 200 }];
    let missing = ["", "setsid", "umask"];
    for (without, no_new_privileges) in
        missing.iter().flat_map(|name| [(name, false), (name, true)])
    {
        let names: Vec<&str> = CALLS.split_whitespace().filter(|name| name != without).collect();
        config.seccomp_profile = Some(serde_json::from_value(serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        }))?);
        let process = || Process {
            user: "user:video".into(),
            cwd: "/tmp".into(),
            make_cwd: true,
            no_new_privileges,
            ..marked(sandbox, &["/guest", "exit", "7"])
        };
        let pool = Pool::new(sandbox.factory(), &config, process(), Sizes::of(1))?;
        pool.wait_until_full(PATIENCE)?;
        let status = fs::read_to_string(format!("/proc/{}/status", init_of(sandbox)?))?;
        assert_eq!(status.contains("Seccomp:\t2"), without.is_empty(), "{without}");
        // One that may not even change its umask cannot be told to, if it is not left to the last.
        let other = Process { cwd: "/root".into(), ..process() };
        for process in [process(), other] {
            pool.wait_until_full(PATIENCE)?;
            match pool.start(&process) {
                Ok(mut lease) => {
                    assert!(lease.is_warm());
                    assert_eq!(lease.wait()?.code, Some(7), "{without}");
                }
                Err(error) => {
                    assert!(*without == "umask" && !no_new_privileges, "{without}: {error}");
                }
            }
        }
    }
    Ok(())
}

fn an_ordinary_user_has_a_pool(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.fit_caller()?;
    let plain = || marked(sandbox, &["/guest", "report", ",", "sleep"]);
    compare(sandbox, &config, &plain)
}

fn each_is_used_once(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 3)?;
    let mut seen = BTreeSet::new();
    let mut ids = BTreeSet::new();
    // The kernel gives an inode again when its namespace has gone.
    let mut leases = Vec::new();
    for _ in 0..8 {
        pool.wait_until_full(PATIENCE)?;
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
    pool.wait_until_full(PATIENCE)?;
    assert!(start()?.is_warm());
    Ok(())
}

fn what_does_not_fit_starts_cold(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.readonlyfs = true;
    config.capabilities = vec!["KILL".into()];
    let pool = pool(sandbox, &config, 1)?;
    let plain = || marked(sandbox, &["/guest", "report"]);
    let misfits = [
        Process { capabilities: Some(vec!["CHOWN".into()]), ..plain() },
        Process { oom_score_adj: Some(100), ..plain() },
        Process { cwd: "/tmp".into(), make_cwd: true, ..plain() },
    ];
    for process in misfits {
        pool.wait_until_full(PATIENCE)?;
        let mut lease = pool.start(&process)?;
        assert!(!lease.is_warm(), "{process:?}");
        let seen = report(&mut lease)?;
        if let Some(score) = process.oom_score_adj {
            assert_eq!(seen.oom_score_adj, Some(score.to_string()));
        }
        if process.capabilities.is_some() {
            assert_eq!(seen.capabilities.bounding, 1);
        }
    }
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
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(Stop::Failed(format!("{what} does not come")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn a_dead_one_is_replaced(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let pid = init_of(sandbox)?;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).ok_or("no process")?,
        rustix::process::Signal::KILL,
    )?;
    let stat = format!("/proc/{pid}/stat");
    until("its end", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")))?;
    // At once: nobody is told of the failure of another.
    let mut lease = pool.start(&marked(sandbox, &["/guest", "report"]))?;
    report(&mut lease)?;
    until("another", || pool.status().discarded == 1)?;
    pool.wait_until_full(PATIENCE)?;
    let next = init_of(sandbox)?;
    assert_ne!(next, pid);
    Ok(())
}

fn a_damaged_one_is_replaced(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let id = first_id(sandbox)?;
    let mut stranger = sandbox.factory().load(&id)?;
    stranger.kill()?;
    // Without a start that would look.
    until("another", || pool.status().discarded == 1)?;
    pool.wait_until_full(PATIENCE)?;
    assert_ne!(ids(sandbox)?, [id]);
    Ok(())
}

fn a_failed_start_leaves_nothing(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let error = pool.start(&marked(sandbox, &["/no/such"])).err().ok_or("it was started")?;
    assert_eq!(error.to_string(), "exec: \"/no/such\": no such file or directory");
    let error = pool.start(&marked(sandbox, &[""])).err().ok_or("it was started")?;
    assert!(error.to_string().contains("no program"), "{error}");
    pool.drain()?;
    until("the end", || ids(sandbox).is_ok_and(|ids| ids.is_empty()))?;
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

fn drained_it_has_nothing(sandbox: &Sandbox) -> Outcome {
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

fn dropped_it_leaves_what_runs(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 2)?;
    let mut lease = pool.start(&marked(sandbox, &["/guest", "sleep"]))?;
    drop(pool);
    assert_eq!(ids(sandbox)?, [lease.container().id()]);
    assert_eq!(lease.container().status()?, Status::Running);
    drop(lease);
    assert!(sandbox.factory().list()?.is_empty());
    Ok(())
}

fn what_cannot_be_made_is_told(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    let source = sandbox.path().join("volume");
    fs::create_dir(&source)?;
    config.mounts.push(pidone::config::Mount {
        device: "bind".into(),
        source: source.to_string_lossy().into_owned(),
        destination: "/tmp".into(),
        flags: 4096,
        ..Default::default()
    });
    let pool = pool(sandbox, &config, 1)?;
    fs::remove_dir(&source)?;
    let lease = pool.start(&marked(sandbox, &["/guest", "report"]))?;
    assert!(lease.is_warm());
    drop(lease);
    until("the error", || pool.status().error.is_some())?;
    let error = pool.status().error.unwrap_or_default();
    assert!(error.contains("volume"), "{error}");
    let error =
        pool.start(&marked(sandbox, &["/guest", "report"])).err().ok_or("it was started")?;
    assert!(error.to_string().contains("volume"), "{error}");
    fs::create_dir(&source)?;
    until("the refill", || pool.status().ready == 1)?;
    assert_eq!(pool.status().error, None);
    Ok(())
}

fn the_files_of_users_may_change(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 2)?;
    let start =
        || pool.start(&Process { user: "user".into(), ..marked(sandbox, &["/guest", "report"]) });
    assert_eq!(report(&mut start()?)?.uid, [1000; 3]);
    assert_eq!(report(&mut start()?)?.uid, [1000; 3]);
    fs::write(sandbox.rootfs().join("etc/passwd"), "user:x:1007:1000:user:/elsewhere:/bin/sh\n")?;
    let seen = report(&mut start()?)?;
    assert_eq!((seen.uid, seen.variable("HOME")), ([1007; 3], Some("/elsewhere")));
    Ok(())
}

fn a_terminal_comes_with_the_program(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let size = TerminalSize { rows: 33, columns: 99 };
    let process = Process { terminal: Some(size), ..marked(sandbox, &["/guest", "report"]) };
    let mut lease = pool.start(&process)?;
    assert!(lease.is_warm());
    let master = lease.running().console.take().ok_or("no terminal")?;
    let mut text = Vec::new();
    let _ = std::io::Read::read_to_end(&mut fs::File::from(master), &mut text);
    let text = String::from_utf8_lossy(&text);
    let report: Report = serde_json::from_str(text.lines().next().unwrap_or_default())?;
    let terminal = report.terminal.ok_or("no terminal inside")?;
    assert_eq!((terminal.rows, terminal.columns, terminal.session), (33, 99, 1));
    assert_eq!(report.descriptors.len(), 3, "{:?}", report.descriptors);
    Ok(())
}

fn more_descriptors_come_with_the_program(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let files = [(); 6].map(|()| fs::File::open("/proc/self/stat").map(Into::into));
    let process = Process {
        extra_files: files.into_iter().collect::<Result<_, _>>()?,
        ..marked(sandbox, &["/guest", "report"])
    };
    let mut lease = pool.start(&process)?;
    assert!(lease.is_warm());
    let numbers: Vec<u32> =
        report(&mut lease)?.descriptors.iter().map(|descriptor| descriptor.number).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    Ok(())
}

fn a_configuration_of_one_is_refused(sandbox: &Sandbox) -> Outcome {
    let refused = |config: &Config, sizes: Sizes| {
        let pool = Pool::new(sandbox.factory(), config, marked(sandbox, &["/guest"]), sizes);
        pool.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let mut one = config(sandbox);
    one.net_devices.insert("eth7".into(), "eth0".into());
    let error = refused(&one, Sizes::of(2));
    assert!(error.contains("net_devices") && error.contains("eth7"), "{error}");
    let error = refused(&config(sandbox), Sizes { size: 0, low: 0 });
    assert!(error.contains("size"), "{error}");
    let error = refused(&config(sandbox), Sizes { size: 2, low: 3 });
    assert!(error.contains("low"), "{error}");
    Ok(())
}

/// Compares a container that had waited for its root with one that is new.
fn compare_rootless(sandbox: &Sandbox, config: &Config) -> Outcome {
    let pool = Pool::without_root(sandbox.factory(), &self::config(sandbox), Sizes::of(1));
    let pool = match config.namespaces.iter().any(|own| own.kind == NamespaceType::User) {
        true => Pool::without_root(sandbox.factory(), config, Sizes::of(1))?,
        false => pool?,
    };
    pool.wait_until_full(PATIENCE)?;
    let files = || -> Result<_, Stop> {
        let files = [(); 2].map(|()| fs::File::open("/proc/self/stat").map(Into::into));
        Ok(files.into_iter().collect::<Result<_, _>>()?)
    };
    let process = || -> Result<Process, Stop> {
        Ok(Process {
            user: "user:video".into(),
            extra_files: files()?,
            ..marked(sandbox, &["/guest", "report", ",", "sleep"])
        })
    };
    let mut warm = pool.start_in(config, &process()?)?;
    assert!(warm.is_warm());
    let first = first_line(&mut warm)?;
    // Others find its root.
    assert_eq!(sandbox.factory().load(warm.container().id())?.config().rootfs, config.rootfs);
    pool.drain()?;
    let mut cold = pool.start_in(config, &process()?)?;
    assert!(!cold.is_warm());
    same(first, first_line(&mut cold)?);
    Ok(())
}

fn a_root_that_is_told_late_is_like_one_that_is_known(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.rootfs = sandbox.path().join("other");
    sandbox.make_root(&config.rootfs)?;
    config.hostname = "late".into();
    config.readonlyfs = true;
    config.seccomp_profile = Some(serde_json::from_str(
        r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 } ] }"#,
    )?);
    compare_rootless(sandbox, &config)
}

fn a_root_that_is_told_late_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.set_namespace(NamespaceType::User, "");
    let map = pidone::config::IdMap { container_id: 0, host_id: 100_000, size: 65536 };
    (config.uid_mappings, config.gid_mappings) = (vec![map], vec![map]);
    compare_rootless(sandbox, &config)
}

fn another_key_is_refused(sandbox: &Sandbox) -> Outcome {
    let config = config(sandbox);
    let pool = Pool::without_root(sandbox.factory(), &config, Sizes::of(1))?;
    pool.wait_until_full(PATIENCE)?;
    let mut other = config.clone();
    other.remove_namespace(NamespaceType::Ipc);
    let process = || marked(sandbox, &["/guest", "report"]);
    let error = pool.start_in(&other, &process()).err().ok_or("it was started")?.to_string();
    assert!(error.contains("namespaces") && error.contains("the pool's"), "{error}");
    let mut broken = config.clone();
    broken.rootfs = sandbox.path().join("nowhere");
    let error = pool.start_in(&broken, &process()).err().ok_or("it was started")?.to_string();
    assert!(error.contains("nowhere"), "{error}");
    pool.wait_until_full(PATIENCE)?;
    // Its own, without a word of the root.
    assert!(pool.start(&process())?.is_warm());
    let whole = self::pool(sandbox, &config, 1)?;
    assert!(whole.start_in(&config, &process())?.is_warm());
    let error = whole.start_in(&other, &process()).err().ok_or("it was started")?.to_string();
    assert!(error.contains("not the same as the pool's"), "{error}");
    Ok(())
}

fn descriptors_stay_flat(sandbox: &Sandbox) -> Outcome {
    let count = || fs::read_dir("/proc/self/fd").map(Iterator::count);
    let pool = pool(sandbox, &config(sandbox), 2)?;
    let round = || -> Result<usize, Stop> {
        for _ in 0..10 {
            report(&mut pool.start(&marked(sandbox, &["/guest", "report"]))?)?;
        }
        pool.wait_until_full(PATIENCE)?;
        until("the end of what was used", || pool.status().ended == 0)?;
        Ok(count()?)
    };
    let first = round()?;
    for _ in 0..4 {
        round()?;
        // Those who look after the pool open something at times.
        until("the number of descriptors", || count().is_ok_and(|now| now <= first))?;
    }
    Ok(())
}
