//! What a program finds in a container that was made before it was known.

use std::fs;

use pidone::config::{NamespaceType, Rlimit};
use pidone::pool::{Pool, Sizes};
use pidone::{Config, Process, Stdio, TerminalSize};
use pidone_tests::{Case, DEADLINE, Outcome, Report, Sandbox, Stop, case};

use super::{config, first_line, init_of, marked, pool, report};

pub(crate) const CASES: &[Case] = &[
    case!(a_warm_start_is_like_a_cold_one).and_unified(),
    case!(a_warm_start_is_like_a_cold_one_in_a_user_namespace),
    case!(a_warm_start_under_a_filter),
    case!(a_strict_filter_is_set_before_the_activation).once(),
    case!(an_ordinary_user_has_a_pool).ordinary(),
    case!(the_files_of_users_may_change).once(),
    case!(a_terminal_comes_with_the_program).once(),
    case!(more_descriptors_come_with_the_program).once(),
    case!(a_root_set_by_the_activation_is_as_a_configured_one).and_unified(),
    case!(a_root_set_by_the_activation_in_a_user_namespace),
];

/// What must be the same in every container of a configuration, as text.
fn comparable(mut report: Report) -> Vec<String> {
    let mounts = report.mounts();
    let has_layer = mounts.iter().any(|mount| mount.fstype == "overlay");
    let mounts = mounts.into_iter().map(|mut mount| {
        // Numbers of peer groups.
        mount.propagation.iter_mut().for_each(|field| {
            field.truncate(field.find(':').unwrap_or(field.len()));
        });
        // The layer of the root is named by descriptors.
        if mount.fstype == "overlay" {
            mount.super_options.retain(|option| !option.contains("dir="));
        }
        format!("{mount:?}")
    });
    let mut all: Vec<String> = mounts.collect();
    if let Some(root) = report.root.as_mut().filter(|_| has_layer) {
        root.dev = 0;
    }
    // A new container has some of them made before others, which leaves no trace but their order.
    all.sort();
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
pub(super) fn compare(
    sandbox: &Sandbox,
    config: &Config,
    process: &dyn Fn() -> Process,
) -> Outcome {
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

pub(super) fn same(warm: Report, cold: Report) {
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
    // The host's, whoever opened it.
    let given = fs::File::options().read(true).write(true).open("/dev/null")?;
    let given = || Process {
        stdin: given.try_clone().map_or(Stdio::Null, |fd| Stdio::Fd(fd.into())),
        ..plain()
    };
    compare(sandbox, &config, &given)?;
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
        let pool = Pool::new(sandbox.factory(), &config, plain(), Sizes::new(1))?;
        pool.wait_until_full(DEADLINE)?;
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

/// A filter that lets the init become the program is set before the program is known: it needs no
/// more calls than these. Any other is set with the program.
fn a_strict_filter_is_set_before_the_activation(sandbox: &Sandbox) -> Outcome {
    const CALLS: &str = "capset close close_range dup3 execve exit_group fchdir fchownat fcntl \
        fstat mkdirat mmap newfstatat openat openat2 ppoll prctl prlimit64 read recvmsg sendmsg \
        setgroups setresgid setresuid setrlimit setsid umask write";
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
        let pool = Pool::new(sandbox.factory(), &config, process(), Sizes::new(1))?;
        pool.wait_until_full(DEADLINE)?;
        let status = fs::read_to_string(format!("/proc/{}/status", init_of(sandbox)?))?;
        assert_eq!(status.contains("Seccomp:\t2"), without.is_empty(), "{without}");
        // A filter that refuses even umask(2) can only be set last.
        let other = Process { cwd: "/root".into(), ..process() };
        for process in [process(), other] {
            pool.wait_until_full(DEADLINE)?;
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
    pidone::fit_caller(&mut config)?;
    let plain = || marked(sandbox, &["/guest", "report", ",", "sleep"]);
    // Programs would share a writable root, over which such a user can put no layer.
    let model = marked(sandbox, &["/guest"]);
    let refused = Pool::new(sandbox.factory(), &config, model, Sizes::new(1));
    assert!(refused.err().ok_or("shared")?.to_string().contains("make it read-only"));
    config.readonlyfs = true;
    compare(sandbox, &config, &plain)
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

/// Compares a container that had waited for its root with one that is new.
fn compare_rootless(sandbox: &Sandbox, config: &Config) -> Outcome {
    let pool = Pool::without_root(sandbox.factory(), &self::config(sandbox), Sizes::new(1));
    let pool = match config.namespaces.iter().any(|own| own.kind == NamespaceType::User) {
        true => Pool::without_root(sandbox.factory(), config, Sizes::new(1))?,
        false => pool?,
    };
    pool.wait_until_full(DEADLINE)?;
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

fn a_root_set_by_the_activation_is_as_a_configured_one(sandbox: &Sandbox) -> Outcome {
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

fn a_root_set_by_the_activation_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.set_namespace(NamespaceType::User, "");
    let map = pidone::config::IdMap { container_id: 0, host_id: 100_000, size: 65536 };
    (config.uid_mappings, config.gid_mappings) = (vec![map], vec![map]);
    compare_rootless(sandbox, &config)
}
