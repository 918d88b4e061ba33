//! Further processes in a running container.

use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

use pidone::config::{NamespaceType, Rlimit};
use pidone::{Code, Container, Process, Stdio};
use pidone_tests::{
    Case, DEADLINE, Live, Outcome, Read, Report, Sandbox, Stop, case, output, process,
};

pub(crate) const CASES: &[Case] = &[
    case!(sees_what_the_first_sees).and_unified(),
    case!(reads_and_writes).and_init(),
    case!(has_the_containers_limits).and_init(),
    case!(has_its_own_environment).and_init(),
    case!(has_its_own_user_capabilities_and_directory).and_init(),
    case!(gets_extra_files).and_init(),
    case!(fails_with_the_reason),
    case!(is_in_the_containers_cgroup).and_unified(),
    case!(joins_all_namespaces).and_init(),
    case!(joins_the_hosts_namespaces),
    case!(ends_with_the_container).and_init(),
    case!(is_refused_in_a_container_that_ended),
    case!(is_not_a_child_of_the_first),
    case!(many_at_once).and_unified(),
    case!(the_first_process_ends_during_a_join).and_init(),
    case!(an_orphan_belongs_to_the_first).and_init(),
    case!(leaves_nothing_open).once(),
];

fn sleeper(sandbox: &Sandbox) -> Result<Live, Stop> {
    Ok(sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?)
}

fn report(sandbox: &Sandbox, container: &mut Container, process: Process) -> Result<Report, Stop> {
    let mut running = sandbox.join(container, process)?;
    let output = output(&mut running)?;
    if output.exit.code != Some(0) {
        return Err(Stop::Failed(format!("{:?}", output.exit)));
    }
    Ok(output.lines()?.pop().ok_or("no report")?)
}

/// The seed's `Enter` and `ExecIn`.
fn sees_what_the_first_sees(sandbox: &Sandbox) -> Outcome {
    let mut live =
        sandbox.start(&sandbox.config(), process(&["/guest", "report", ",", "sleep"]))?;
    let first: Report = live.say()?;
    let further = report(sandbox, &mut live.container, process(&["/guest"]))?;
    assert_eq!(further.namespaces, first.namespaces);
    assert_eq!(further.mounts, first.mounts);
    assert_eq!(further.root, first.root);
    assert_eq!(further.hostname, first.hostname);
    assert_eq!(further.capabilities, first.capabilities);
    assert_eq!(further.rlimits, first.rlimits);
    assert_eq!(further.cgroups, first.cgroups);
    assert_eq!((further.uid, further.gid), (first.uid, first.gid));
    assert_eq!((further.umask, further.blocked, further.ignored), (0o022, 0, 0));
    assert_eq!(further.cwd.as_deref(), Some("/"));
    assert!(further.pid > 1, "{}", further.pid);
    assert_eq!(further.sid, further.pid);
    assert_eq!(further.dumpable, 1);
    live.kill()?;
    Ok(())
}

fn reads_and_writes(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let mut echo = process(&["/guest", "echo"]);
    echo.stdin = Stdio::Pipe;
    let mut running = sandbox.join(&mut live.container, echo)?;
    std::io::Write::write_all(&mut running.stdin.take().ok_or("no pipe")?, b"through\n")?;
    assert_eq!(output(&mut running)?.stdout, "through\n");
    let mut exits = sandbox.join(&mut live.container, process(&["/guest", "exit", "42"]))?;
    assert_eq!(exits.wait()?.code, Some(42));
    live.kill()?;
    Ok(())
}

/// The seed's `ExecInRlimit`.
fn has_the_containers_limits(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.rlimits.push(Rlimit { kind: libc::RLIMIT_CORE, soft: 1025, hard: 1026 });
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let further = report(sandbox, &mut live.container, process(&["/guest"]))?;
    assert_eq!(further.rlimits[4], Some([1025, 1026]));
    assert_eq!(further.rlimits[7], Some([1024, 1024]));
    live.kill()?;
    Ok(())
}

/// The seed's `ExecInEnvironment`.
fn has_its_own_environment(sandbox: &Sandbox) -> Outcome {
    let mut first = process(&["/guest", "sleep"]);
    first.env.push("ONLY=first".into());
    let mut live = sandbox.start(&sandbox.config(), first)?;
    let mut further = process(&["/guest"]);
    further.env = vec!["PATH=/other".into(), "DEBUG=true".into()];
    let further = report(sandbox, &mut live.container, further)?;
    assert_eq!(further.variable("PATH"), Some("/other"));
    assert_eq!(further.variable("DEBUG"), Some("true"));
    assert_eq!(further.variable("ONLY"), None);
    assert_eq!(further.variable("HOME"), Some("/root"));
    live.kill()?;
    Ok(())
}

fn has_its_own_user_capabilities_and_directory(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let mut further = process(&["/guest"]);
    further.user = "user".into();
    further.cwd = "/tmp".into();
    further.no_new_privileges = true;
    let seen = report(sandbox, &mut live.container, further)?;
    assert_eq!((seen.uid, seen.gid, seen.groups), ([1000; 3], [1000; 3], vec![29, 44]));
    assert_eq!(seen.cwd.as_deref(), Some("/tmp"));
    assert_eq!(seen.no_new_privs, Some(1));
    assert_eq!(seen.capabilities.effective, 0);
    let mut further = process(&["/guest"]);
    further.capabilities = Some(vec!["KILL".into()]);
    let seen = report(sandbox, &mut live.container, further)?;
    // Never inheritable: CVE-2022-29162.
    assert_eq!((seen.capabilities.bounding, seen.capabilities.inheritable), (1 << 5, 0));
    live.kill()?;
    Ok(())
}

/// The seed's `ExecinPassExtraFiles`.
fn gets_extra_files(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let path = sandbox.path().join("extra");
    std::fs::write(&path, "extra")?;
    let mut further = process(&["/guest", "read", "/proc/self/fd/3"]);
    further.extra_files = vec![std::fs::File::open(path)?.into()];
    let mut running = sandbox.join(&mut live.container, further)?;
    let read: Vec<Read> = output(&mut running)?.lines()?;
    assert_eq!(read[0].text, "extra");
    live.kill()?;
    Ok(())
}

/// The seed's `ExecInError`.
fn fails_with_the_reason(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    for (args, errno) in [
        (&["/unexistent"][..], libc::ENOENT),
        (&["unexistent"], libc::ENOENT),
        (&["/etc"], libc::EACCES),
        (&["/etc/passwd"], libc::EACCES),
    ] {
        let error = sandbox.join(&mut live.container, process(args)).err().ok_or("started")?;
        let found = error.errno().map(rustix::io::Errno::raw_os_error);
        assert_eq!(found, Some(errno), "{args:?}: {error}");
        assert!(error.to_string().contains(args[0]), "{error}");
    }
    let mut wrong = process(&["/guest"]);
    wrong.cwd = "/missing".into();
    assert!(sandbox.join(&mut live.container, wrong).is_err());
    // The container is as before.
    assert_eq!(live.container.processes()?, [live.running.pid()]);
    live.kill()?;
    Ok(())
}

fn is_in_the_containers_cgroup(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "sleep"]))?;
    let of = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    assert_eq!(of(running.pid())?, of(live.running.pid())?);
    assert!(of(running.pid())?.contains(sandbox.name()));
    let mut pids = live.container.processes()?;
    pids.sort_unstable();
    let mut expected = [live.running.pid(), running.pid()];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    running.signal(libc::SIGKILL)?;
    assert_eq!(running.wait()?.signal, Some(libc::SIGKILL));
    live.kill()?;
    Ok(())
}

fn joins_all_namespaces(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.set_namespace(NamespaceType::Cgroup, "");
    let map = vec![pidone::config::IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    config.set_id_maps(map.clone(), map);
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "sleep"]))?;
    for kind in NamespaceType::ALL {
        let of = |pid: i32| -> Result<u64, Stop> {
            Ok(std::fs::metadata(format!("/proc/{pid}/ns/{}", kind.file()))?.ino())
        };
        assert_eq!(of(running.pid())?, of(live.running.pid())?, "{kind}");
    }
    // The first process does not end before all others of its namespace are reaped.
    running.signal(libc::SIGKILL)?;
    running.wait()?;
    live.kill()?;
    Ok(())
}

fn joins_the_hosts_namespaces(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    for kind in [NamespaceType::Pid, NamespaceType::Ipc, NamespaceType::Network] {
        config.remove_namespace(kind);
    }
    config.networks.clear();
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "report"]))?;
    let pid = running.pid();
    let seen: Report = output(&mut running)?.lines()?.pop().ok_or("no report")?;
    assert_eq!(seen.pid, pid);
    live.kill()?;
    Ok(())
}

fn ends_with_the_container(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "sleep"]))?;
    live.container.signal(libc::SIGKILL)?;
    // As shells report it: 137.
    assert_eq!(running.wait()?.status(), 137);
    live.finish()?;
    Ok(())
}

fn is_refused_in_a_container_that_ended(sandbox: &Sandbox) -> Outcome {
    let config = sandbox.config();
    let mut container = sandbox.create(&config)?;
    assert_eq!(container.processes().err().ok_or("ran")?.code(), Code::ContainerNotRunning);
    let mut running = sandbox.join(&mut container, process(&["/guest", "exit", "0"]))?;
    running.wait()?;
    // The next one is the first of a new life.
    let mut again = sandbox.join(&mut container, process(&["/guest", "report"]))?;
    let seen: Report = output(&mut again)?.lines()?.pop().ok_or("no report")?;
    assert_eq!(seen.pid, 1);
    container.destroy()?;
    Ok(())
}

fn is_not_a_child_of_the_first(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let seen = report(sandbox, &mut live.container, process(&["/guest"]))?;
    assert_eq!(seen.ppid, 0);
    live.kill()?;
    Ok(())
}

fn many_at_once(sandbox: &Sandbox) -> Outcome {
    let live = sleeper(sandbox)?;
    let id = live.container.id().to_owned();
    thread::scope(|scope| -> Outcome {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let id = &id;
                scope.spawn(move || -> Outcome {
                    let mut container = sandbox.factory().load(id)?;
                    for round in 0..10 {
                        let code = thread * 10 + round;
                        let mut running = sandbox.join(
                            &mut container,
                            process(&["/guest", "exit", &code.to_string()]),
                        )?;
                        assert_eq!(running.wait()?.code, Some(code));
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })?;
    assert_eq!(live.container.processes()?, [live.running.pid()]);
    live.kill()?;
    Ok(())
}

fn the_first_process_ends_during_a_join(sandbox: &Sandbox) -> Outcome {
    for round in 0..10 {
        let mut live = sleeper(sandbox)?;
        let pid = live.running.pid();
        let killer = thread::spawn(move || {
            // At another moment of the join in each round.
            thread::sleep(Duration::from_micros(round * 300));
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL)
        });
        let begun = Instant::now();
        let joined = sandbox.join(&mut live.container, process(&["/guest", "sleep"]));
        assert!(begun.elapsed() < DEADLINE);
        let _ = killer.join();
        if let Ok(mut running) = joined {
            // In time, it ends with the first; too late, it is the first of a new life.
            let _ = running.signal(libc::SIGKILL);
            assert_eq!(running.wait()?.status(), 137, "{round}");
        }
        live.running.wait()?;
        live.finish()?;
    }
    Ok(())
}

fn an_orphan_belongs_to_the_first(sandbox: &Sandbox) -> Outcome {
    // Of the first process itself, and of a further one.
    let output_of_first = sandbox.guest(&sandbox.config(), &["orphan"])?;
    assert_eq!(output_of_first.stdout.trim(), "1");
    let mut live = sleeper(sandbox)?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "orphan"]))?;
    let mut text = String::new();
    let mut stdout = running.stdout.take().ok_or("no pipe")?;
    std::io::Read::read_to_string(&mut stdout, &mut text)?;
    assert_eq!(text.trim(), "1");
    running.wait()?;
    live.kill()?;
    Ok(())
}

/// A process that was joined has stdio, and nothing of the host.
fn leaves_nothing_open(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "sleep"]))?;
    for pid in [live.running.pid(), running.pid()] {
        let mut targets = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            targets.push(std::fs::read_link(entry?.path())?.display().to_string());
        }
        targets.sort();
        let pipe = |target: &String| target.starts_with("pipe:[");
        assert!(targets.len() == 3 && targets[0] == "/dev/null", "{targets:?}");
        assert!(targets[1..].iter().all(pipe), "{targets:?}");
    }
    running.signal(libc::SIGKILL)?;
    running.wait()?;
    live.kill()?;
    Ok(())
}
