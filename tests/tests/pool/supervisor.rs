//! Containers whose init waits for the program and then stays: `Config::supervise`.

use std::fs;
use std::io::{BufRead as _, BufReader};

use pidone::config::{NamespaceType, Rlimit};
use pidone::pool::{Pool, Sizes};
use pidone::{Config, Process, Stdio, TerminalSize};
use pidone_tests::{Case, DEADLINE, Outcome, Report, Sandbox, Stop, case, output};
use rustix::process::{Pid, Signal, kill_process};

use super::activation::{compare, same};
use super::{config, first_id, first_line, ids, init_of, marked, pool, report, until};

pub(crate) const CASES: &[Case] = &[
    case!(a_warm_start_under_an_init_is_like_a_cold_one).and_unified(),
    case!(a_warm_start_under_an_init_in_a_user_namespace),
    case!(a_warm_start_under_an_init_and_a_filter).once(),
    case!(an_ordinary_user_has_a_pool_of_inits).ordinary(),
    case!(the_init_stays_process_1).once(),
    case!(the_init_starts_further_processes).once(),
    case!(a_terminal_comes_with_the_program_of_an_init).once(),
    case!(programs_that_the_host_prepares_start_cold).once(),
    case!(a_dead_init_is_replaced).once(),
    case!(a_failed_start_under_an_init_leaves_nothing).once(),
    case!(a_pool_of_inits_leaves_nothing).once().alone(),
    case!(an_init_without_a_root_is_refused).once(),
];

/// The configuration of the pool's tests, with an init that stays.
fn supervised(sandbox: &Sandbox) -> Config {
    Config { supervise: true, ..config(sandbox) }
}

fn a_warm_start_under_an_init_is_like_a_cold_one(sandbox: &Sandbox) -> Outcome {
    let mut config = supervised(sandbox);
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
    compare(sandbox, &config, &other)?;
    // A directory that only this program needs, and descriptors above 2.
    config.readonlyfs = false;
    let files = || -> std::io::Result<Vec<_>> {
        [(); 3].map(|()| fs::File::open("/proc/self/stat").map(Into::into)).into_iter().collect()
    };
    let made = || Process {
        cwd: "/new/directory".into(),
        make_cwd: true,
        extra_files: files().unwrap_or_default(),
        ..plain()
    };
    compare(sandbox, &config, &made)
}

fn a_warm_start_under_an_init_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = supervised(sandbox);
    config.set_namespace(NamespaceType::User, "");
    let map = pidone::config::IdMap { container_id: 0, host_id: 100_000, size: 65536 };
    (config.uid_mappings, config.gid_mappings) = (vec![map], vec![map]);
    let plain = || Process {
        user: "user:video".into(),
        ..marked(sandbox, &["/guest", "report", ",", "sleep"])
    };
    compare(sandbox, &config, &plain)
}

/// One that the init loads before it waits, and one that it could not work under.
fn a_warm_start_under_an_init_and_a_filter(sandbox: &Sandbox) -> Outcome {
    for (refused, early) in [("ptrace", true), ("wait4", false)] {
        let mut config = supervised(sandbox);
        config.seccomp_profile = Some(serde_json::from_value(serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": [refused], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
        }))?);
        for no_new_privileges in [false, true] {
            let plain = || Process {
                no_new_privileges,
                ..marked(sandbox, &["/guest", "report", ",", "sleep"])
            };
            let pool = Pool::new(sandbox.factory(), &config, plain(), Sizes::new(1))?;
            pool.wait_until_full(DEADLINE)?;
            let status = fs::read_to_string(format!("/proc/{}/status", init_of(sandbox)?))?;
            assert_eq!(status.contains("Seccomp:\t2"), early, "{refused}");
            let mut lease = pool.start(&plain())?;
            assert!(lease.is_warm());
            let warm = first_line(&mut lease)?;
            assert_eq!(warm.seccomp, Some(2), "{refused}");
            pool.drain()?;
            same(warm, first_line(&mut pool.start(&plain())?)?);
        }
    }
    Ok(())
}

fn an_ordinary_user_has_a_pool_of_inits(sandbox: &Sandbox) -> Outcome {
    let mut config = Config { supervise: true, ..sandbox.config() };
    pidone::fit_caller(&mut config)?;
    config.readonlyfs = true;
    let plain = || marked(sandbox, &["/guest", "report", ",", "sleep"]);
    compare(sandbox, &config, &plain)
}

fn the_init_stays_process_1(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &supervised(sandbox), 2)?;
    let init = init_of(sandbox)?;
    // It has reported that it waits, and has no child.
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children"))?;
    assert_eq!(children, "");
    let mut lease = pool.start(&marked(sandbox, &["/guest", "report"]))?;
    assert!(lease.is_warm());
    let seen = report(&mut lease)?;
    assert_eq!((seen.pid > 1, seen.ppid), (true, 1));
    assert_eq!(lease.wait()?.code, Some(0));
    // It reaps what no other process waits for, and exits as the program does.
    pool.wait_until_full(DEADLINE)?;
    let line = ["/guest", "orphan", ",", "report", ",", "sleep"];
    let mut lease = pool.start(&marked(sandbox, &line))?;
    let init = lease.running().pid();
    let stdout = lease.running().stdout.take().ok_or("standard output is no pipe")?;
    let mut lines = BufReader::new(stdout).lines();
    assert_eq!(lines.next().ok_or("no orphan")??, "1", "the parent of the orphan");
    let seen: Report = serde_json::from_str(&lines.next().ok_or("no report")??)?;
    let only = [seen.pid.to_string()];
    let children = || -> Result<Vec<String>, Stop> {
        let text = fs::read_to_string(format!("/proc/{init}/task/{init}/children"))?;
        let inside = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            line.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned()
        };
        Ok(text.split_whitespace().map(inside).collect())
    };
    until("the end of the orphan", || children().is_ok_and(|children| children == only))?;
    // A signal to the init is for the program.
    lease.running().signal(Signal::TERM.as_raw())?;
    let exit = lease.wait()?;
    assert_eq!(exit.status(), 128 + 15, "{exit:?}");
    pool.wait_until_full(DEADLINE)?;
    let mut lease = pool.start(&marked(sandbox, &["/guest", "exit", "7"]))?;
    assert_eq!(lease.wait()?.code, Some(7));
    Ok(())
}

fn the_init_starts_further_processes(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &supervised(sandbox), 1)?;
    let mut lease = pool.start(&marked(sandbox, &["/guest", "report", ",", "sleep"]))?;
    assert!(lease.is_warm());
    let first = first_line(&mut lease)?;
    // By this handle, and by one of another program.
    let other = sandbox.factory().load(lease.container().id())?;
    for container in [&*lease.container(), &other] {
        for _ in 0..2 {
            let output =
                output(&mut container.exec(&marked(sandbox, &["/guest", "report"]))?)?.stdout;
            let seen: Report = serde_json::from_str(output.lines().next().unwrap_or_default())?;
            assert_eq!(seen.ppid, 1, "the init has not started it");
            assert_eq!(seen.namespaces, first.namespaces);
            assert_eq!(seen.capabilities, first.capabilities);
        }
    }
    Ok(())
}

fn a_terminal_comes_with_the_program_of_an_init(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &supervised(sandbox), 1)?;
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
    assert_eq!((terminal.rows, terminal.columns), (33, 99));
    assert_eq!(terminal.session, report.pid);
    assert_eq!(report.descriptors.len(), 3, "{:?}", report.descriptors);
    Ok(())
}

fn programs_that_the_host_prepares_start_cold(sandbox: &Sandbox) -> Outcome {
    let mut config = supervised(sandbox);
    config.readonlyfs = true;
    config.capabilities = vec!["KILL".into()];
    let pool = pool(sandbox, &config, 1)?;
    let plain = || marked(sandbox, &["/guest", "report"]);
    let misfits = [
        Process { capabilities: Some(vec!["CHOWN".into()]), ..plain() },
        Process { oom_score_adj: Some(100), ..plain() },
        Process { cwd: "/tmp".into(), make_cwd: true, ..plain() },
        Process { terminal: Some(TerminalSize::default()), keep_newlines: true, ..plain() },
    ];
    for process in misfits {
        pool.wait_until_full(DEADLINE)?;
        let mut lease = pool.start(&process)?;
        assert!(!lease.is_warm(), "{process:?}");
        let text = match lease.running().console.take() {
            Some(master) => {
                let mut text = Vec::new();
                let _ = std::io::Read::read_to_end(&mut fs::File::from(master), &mut text);
                String::from_utf8_lossy(&text).into_owned()
            }
            None => output(lease.running())?.stdout,
        };
        let seen: Report = serde_json::from_str(text.lines().next().unwrap_or_default())?;
        assert_eq!(seen.ppid, 1);
        assert!(!text.contains('\r'));
        if let Some(score) = process.oom_score_adj {
            assert_eq!(seen.oom_score_adj, Some(score.to_string()));
        }
        if process.capabilities.is_some() {
            assert_eq!(seen.capabilities.bounding, 1);
        }
    }
    Ok(())
}

fn a_dead_init_is_replaced(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &supervised(sandbox), 1)?;
    let (pid, id) = (init_of(sandbox)?, first_id(sandbox)?);
    kill_process(Pid::from_raw(pid).ok_or("no process")?, Signal::KILL)?;
    // Without a start that would look.
    until("another", || pool.status().discarded == 1)?;
    pool.wait_until_full(DEADLINE)?;
    assert_ne!(ids(sandbox)?, [id]);
    assert!(pool.start(&marked(sandbox, &["/guest", "report"]))?.is_warm());
    Ok(())
}

fn a_failed_start_under_an_init_leaves_nothing(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &supervised(sandbox), 1)?;
    let error = pool.start(&marked(sandbox, &["/no/such"])).err().ok_or("it was started")?;
    assert_eq!(error.to_string(), "exec: \"/no/such\": no such file or directory");
    pool.wait_until_full(DEADLINE)?;
    let process = Process { cwd: "/guest".into(), ..marked(sandbox, &["/guest"]) };
    let error = pool.start(&process).err().ok_or("it was started")?.to_string();
    assert!(error.contains("/guest") && error.contains("Not a directory"), "{error}");
    pool.drain()?;
    until("the end", || ids(sandbox).is_ok_and(|ids| ids.is_empty()))?;
    Ok(())
}

fn a_pool_of_inits_leaves_nothing(sandbox: &Sandbox) -> Outcome {
    let count = || -> Result<usize, Stop> { Ok(fs::read_dir("/proc/self/fd")?.count()) };
    let mut first = None;
    for _ in 0..4 {
        let pool = pool(sandbox, &supervised(sandbox), 2)?;
        for _ in 0..4 {
            report(&mut pool.start(&marked(sandbox, &["/guest", "report"]))?)?;
        }
        pool.wait_until_full(DEADLINE)?;
        let mut lease = pool.start(&marked(sandbox, &["/guest", "sleep"]))?;
        drop(pool);
        assert_eq!(ids(sandbox)?, [lease.container().id()]);
        drop(lease);
        assert!(sandbox.factory().list()?.is_empty());
        // The first pool opens what stays open: the image, and sockets of threads that clone.
        let first = *first.get_or_insert(count()?);
        until("the number of descriptors", || count().is_ok_and(|now| now <= first))?;
    }
    Ok(())
}

fn an_init_without_a_root_is_refused(sandbox: &Sandbox) -> Outcome {
    let config = supervised(sandbox);
    let refused = Pool::without_root(sandbox.factory(), &config, Sizes::new(1));
    let error = refused.err().ok_or("it was made")?.to_string();
    assert!(error.contains("supervise") && error.contains("waits for its root"), "{error}");
    Ok(())
}
