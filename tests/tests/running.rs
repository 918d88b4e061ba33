//! The handle of a process: waiting, killing and its output, also from several threads.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::thread;
use std::time::{Duration, Instant};

use pidone::{Code, Config, Container, Process, Running, Status, Stdio};
use pidone_tests::leftover::MARK;
use pidone_tests::{Case, DEADLINE, Outcome, Sandbox, Stop, case, output, process, until};

pub(crate) const CASES: &[Case] = &[
    case!(try_wait_and_wait_timeout_return_none_until_the_end).and_init(),
    case!(try_wait_reaps_what_has_joined).once(),
    case!(kill_ends_it_and_may_be_repeated).and_init(),
    case!(a_dropped_handle_kills_only_if_asked).and_init(),
    case!(another_thread_signals_while_one_waits).and_init(),
    case!(wait_closes_a_piped_input).and_init(),
    case!(both_outputs_are_read_at_once).and_init(),
    case!(bytes_that_are_not_utf8_reach_the_program).and_init(),
    case!(many_threads_start_in_one_container).and_init(),
    case!(one_of_many_threads_starts_the_first).and_init(),
    case!(a_cgroup_without_a_name_has_that_of_the_container).once(),
    // In its process, which is small: what a process had before its exec counts.
    case!(max_rss_is_of_the_largest_process).once().alone(),
];

/// Whether processes of the sandbox are in the container, so that nothing of it is left behind.
fn marked(sandbox: &Sandbox, args: &[&str]) -> Process {
    let mut process = process(args);
    process.env.push(format!("{MARK}={}", sandbox.name()).into());
    process
}

/// A new container with a process that runs until it is killed, and has said that it runs.
fn sleeping(sandbox: &Sandbox, config: &Config) -> Result<(Container, Running), Stop> {
    let live = sandbox.create(config)?;
    let running = live.start(&marked(sandbox, &["/guest", "sleep"]))?;
    Ok((live, running))
}

fn try_wait_and_wait_timeout_return_none_until_the_end(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut first) = sleeping(sandbox, &sandbox.config())?;
    let mut process = marked(sandbox, &["/guest", "read", "/proc/self/fd/0"]);
    process.stdin = Stdio::Pipe;
    let mut further = container.exec(&process)?;
    for running in [&mut first, &mut further] {
        assert_eq!(running.try_wait()?, None);
        let began = Instant::now();
        assert_eq!(running.wait_timeout(Duration::from_millis(30))?, None);
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(running.wait_timeout(Duration::ZERO)?, None);
    }
    // Its input is open until now.
    drop(further.stdin.take().ok_or("its input was closed")?);
    let exit = further.wait_timeout(DEADLINE)?.ok_or("it goes on")?;
    assert_eq!(exit.code, Some(0));
    assert_eq!(further.try_wait()?, Some(exit.clone()));
    assert_eq!(further.wait_timeout(Duration::MAX)?, Some(exit));
    first.kill()?;
    until("the end", || Ok(first.try_wait()?.is_some()))?;
    assert_eq!(first.wait()?.signal, Some(9));
    container.destroy()?;
    Ok(())
}

/// The kernel keeps the first process of a pid namespace until the others have been reaped.
fn try_wait_reaps_what_has_joined(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut first) = sleeping(sandbox, &sandbox.config())?;
    let mut further = container.exec(&marked(sandbox, &["/guest", "sleep"]))?;
    first.kill()?;
    until("the end", || Ok(first.try_wait()?.is_some()))?;
    assert_eq!(further.try_wait()?.ok_or("not reaped")?.signal, Some(9));
    // Also by a wait with a deadline, and if nobody has a handle for it.
    container.destroy()?;
    let (mut container, mut first) = sleeping(sandbox, &sandbox.config())?;
    drop(container.exec(&marked(sandbox, &["/guest", "sleep"]))?);
    first.kill()?;
    first.wait_timeout(DEADLINE)?.ok_or("it goes on")?;
    container.destroy()?;
    Ok(())
}

fn kill_ends_it_and_may_be_repeated(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut first) = sleeping(sandbox, &sandbox.config())?;
    let mut further = container.exec(&marked(sandbox, &["/guest", "sleep"]))?;
    let signaller = further.signaller();
    signaller.signal(0)?;
    signaller.kill()?;
    assert_eq!(further.wait()?.signal, Some(9));
    further.kill()?;
    signaller.kill()?;
    for gone in [signaller.signal(0), further.signal(15)] {
        assert_eq!(gone.err().ok_or("signalled")?.code(), Code::ContainerNotRunning);
    }
    first.signal(0)?;
    first.kill()?;
    first.wait()?;
    assert_eq!(container.status()?, Status::Destroyed);
    container.destroy()?;
    Ok(())
}

fn a_dropped_handle_kills_only_if_asked(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut first) = sleeping(sandbox, &sandbox.config())?;
    let kept = container.exec(&marked(sandbox, &["/guest", "sleep"]))?;
    let mut killed = container.exec(&marked(sandbox, &["/guest", "sleep"]))?;
    let (other, pid) = (kept.signaller(), killed.pid());
    killed.kill_on_drop(true);
    drop(kept);
    drop(killed);
    // It is reaped as well.
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    other.signal(0)?;
    first.kill_on_drop(true);
    drop(first);
    assert_eq!(container.status()?, Status::Destroyed);
    container.destroy()?;
    Ok(())
}

fn another_thread_signals_while_one_waits(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut first) = sleeping(sandbox, &sandbox.config())?;
    let mut further = container.exec(&marked(sandbox, &["/guest", "sleep"]))?;
    let (to_first, to_further) = (first.signaller(), further.signaller());
    thread::scope(|scope| -> Outcome {
        let waiting = [scope.spawn(|| first.wait()), scope.spawn(|| further.wait())];
        to_further.signal(15)?;
        until("its end", || Ok(to_further.signal(0).is_err()))?;
        to_first.kill()?;
        for waiting in waiting {
            waiting.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })?;
    assert_eq!(further.wait()?.signal, Some(15));
    container.destroy()?;
    Ok(())
}

fn wait_closes_a_piped_input(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let mut container = sandbox.create(&sandbox.config())?;
    let mut cat = marked(sandbox, &["/bin/cat"]);
    cat.stdin = Stdio::Pipe;
    let mut running = container.start(&cat)?;
    running.stdin.as_mut().ok_or("no pipe")?.write_all(b"kept\n")?;
    assert_eq!(running.wait()?.code, Some(0));
    assert_eq!(output(&mut running)?.stdout, "kept\n");
    container.destroy()?;
    Ok(())
}

fn both_outputs_are_read_at_once(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let mut container = sandbox.create(&sandbox.config())?;
    // More than a pipe holds, on one and then on the other, and the end of the input first.
    let script = "cat; for fd in 2 1 2; do head -c 300000 /dev/zero >&$fd; done; exit 4";
    let mut process = marked(sandbox, &["/bin/sh", "-c", script]);
    process.env.push("PATH=/bin".into());
    process.stdin = Stdio::Pipe;
    std::os::unix::fs::symlink("busybox", sandbox.rootfs().join("bin/head"))?;
    let output = container.start(&process)?.wait_with_output()?;
    assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 600_000));
    assert_eq!(output.exit.code, Some(4));
    container.destroy()?;
    Ok(())
}

fn bytes_that_are_not_utf8_reach_the_program(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let odd = OsStr::from_bytes(b"\xff\xc3(\x80");
    // Also in the name of the program, which is searched for.
    std::os::unix::fs::symlink("busybox", sandbox.rootfs().join("bin").join(odd))?;
    let script = r#"printf '%s,%s,%s' "$0" "$1" "$ODD""#;
    let mut process = process(&["/bin/sh", "-c", script, "zero"].map(OsString::from));
    process.args.push(odd.into());
    process.env.push(OsStr::from_bytes(b"ODD=\xfe=\xff").into());
    process.env.push(format!("{MARK}={}", sandbox.name()).into());
    let (mut container, mut first) = sleeping(sandbox, &sandbox.config())?;
    let said = container.exec(&process)?.wait_with_output()?.stdout;
    assert_eq!(said, b"zero,\xff\xc3(\x80,\xfe=\xff");
    process.args = vec![odd.into(), "x".into()];
    // Busybox finds no applet of this name, and says so.
    let said = container.exec(&process)?.wait_with_output()?;
    assert!(said.stderr.starts_with(b"\xff\xc3(\x80: applet not found"), "{said:?}");
    first.kill()?;
    first.wait()?;
    container.destroy()?;
    // And to a first process.
    process.args = vec!["/bin/sh".into(), "-c".into(), script.into(), odd.into()];
    let mut container = sandbox.create(&sandbox.config())?;
    let said = container.start(&process)?.wait_with_output()?.stdout;
    assert_eq!(said, b"\xff\xc3(\x80,,\xfe=\xff");
    container.destroy()?;
    Ok(())
}

fn many_threads_start_in_one_container(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut first) = sleeping(sandbox, &sandbox.config())?;
    let shared = &container;
    let started = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number: u32| {
                scope.spawn(move || -> Result<(), Stop> {
                    for _ in 0..4 {
                        let text = number.to_string();
                        let process = marked(sandbox, &["/guest", "echo", &text]);
                        let exit = shared.start(&process)?.wait_with_output()?.exit;
                        assert_eq!(exit.code, Some(0));
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for started in started {
        started.map_err(|_| "a thread panicked")??;
    }
    first.kill()?;
    first.wait()?;
    container.destroy()?;
    Ok(())
}

fn one_of_many_threads_starts_the_first(sandbox: &Sandbox) -> Outcome {
    let mut container = sandbox.create(&sandbox.config())?;
    let shared = &container;
    let mut started = thread::scope(|scope| {
        let start = || shared.start(&marked(sandbox, &["/guest", "sleep"]));
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, pidone::Result<Running>>| {
            thread.join().map_err(|_| "a thread panicked")
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
    })?;
    for running in &started {
        assert!(running.is_ok(), "{running:?}");
    }
    let firsts = started.iter().flatten().filter(|running| running.is_first());
    assert_eq!(firsts.count(), 1);
    assert_eq!(container.pid(), first_of(&mut started)?.pid());
    assert!(container.processes()?.len() >= 6);
    container.kill()?;
    first_of(&mut started)?.wait()?;
    container.destroy()?;
    Ok(())
}

fn first_of(started: &mut [pidone::Result<Running>]) -> Result<&mut Running, Stop> {
    Ok(started.iter_mut().flatten().find(|running| running.is_first()).ok_or("no first process")?)
}

fn a_cgroup_without_a_name_has_that_of_the_container(sandbox: &Sandbox) -> Outcome {
    let mut config = Config::template(sandbox.rootfs());
    let cgroup = config.cgroups.as_mut().ok_or("no cgroup")?;
    assert_eq!(cgroup.name, "");
    cgroup.parent = sandbox.name().to_owned();
    // Two of one configuration do not share a cgroup.
    let (mut one, mut first) = sleeping(sandbox, &config)?;
    let (mut other, mut second) = sleeping(sandbox, &config)?;
    for container in [&one, &other] {
        let state = container.state()?;
        assert!(!state.cgroup_paths.is_empty());
        for path in state.cgroup_paths.values() {
            assert_eq!(path.file_name(), Some(OsStr::new(container.id())));
        }
        assert_eq!(container.processes()?, [container.pid()]);
    }
    // The first has made the directory above both, and removes it.
    for (container, running) in [(&mut other, &mut second), (&mut one, &mut first)] {
        running.kill()?;
        running.wait()?;
        container.destroy()?;
    }
    Ok(())
}

/// The figure is of one process: the largest of the program and of the children it has waited for.
fn max_rss_is_of_the_largest_process(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    std::os::unix::fs::symlink("busybox", sandbox.rootfs().join("bin/dd"))?;
    let usage = |script: &str| -> Result<u64, Stop> {
        let mut container = sandbox.create(&sandbox.config())?;
        let exit = container.start(&marked(sandbox, &["/bin/sh", "-c", script]))?.wait()?;
        container.destroy()?;
        assert_eq!(exit.code, Some(0));
        Ok(exit.usage.max_rss)
    };
    let dd = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null";
    let one = usage(&format!("{dd}; true"))?;
    let three = usage(&format!("{dd} & {dd} & {dd} & wait; true"))?;
    assert!(one >= 64 * 1024, "{one}");
    assert!(three < 2 * 64 * 1024, "{three} is a sum");
    Ok(())
}
