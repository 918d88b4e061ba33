//! Containers that are made by one process and started by another.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use pidone::{Code, Container, Process, Running, Status, Stdio};
use pidone_tests::{Case, Outcome, Report, Sandbox, Stop, case, output, process, until};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

pub(crate) const CASES: &[Case] = &[
    case!(waits_until_it_is_started).and_unified(),
    case!(a_waiting_init_is_small),
    case!(a_missing_program_fails_the_create).and_init(),
    case!(a_program_that_cannot_be_executed_fails_the_start).and_unified().and_init(),
    case!(a_program_removed_after_create_fails_the_start).and_init(),
    case!(one_of_many_starts_succeeds).with_init(),
    case!(one_of_many_starts_succeeds).once(),
    case!(wrong_messages_do_not_start_the_container).once(),
    case!(killed_while_it_waits).and_unified().and_init(),
    case!(joined_while_it_waits).and_init(),
    case!(the_terminal_exists_before_the_start).and_init(),
    case!(a_second_prepare_is_refused).once(),
];

/// A container that waits.
fn prepared(sandbox: &Sandbox, mut process: Process) -> Result<(Container, Running), Stop> {
    process.env.push(format!("{}={}", pidone_tests::leftover::MARK, sandbox.name()).into());
    let mut container = sandbox.create(&sandbox.config())?;
    match container.prepare(&process) {
        Ok(running) => Ok((container, running)),
        Err(error) => {
            container.destroy()?;
            Err(error.into())
        }
    }
}

fn waits_until_it_is_started(sandbox: &Sandbox) -> Outcome {
    let (container, mut running) = prepared(sandbox, process(&["/guest", "report"]))?;
    assert_eq!(container.status()?, Status::Created);
    assert_eq!(container.pid(), running.pid());
    // Long enough for a start that nobody asked for.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(container.status()?, Status::Created);
    // The process that starts it has its id alone.
    let mut other = sandbox.factory().load(container.id())?;
    other.release()?;
    let output = output(&mut running)?;
    assert_eq!(output.exit.code, Some(0), "{}", output.stderr);
    let report: Report = serde_json::from_str(output.stdout.lines().next().unwrap_or_default())?;
    assert_eq!((report.pid, report.sid), (1, 1));
    assert_eq!(report.descriptors.len(), 3, "{:?}", report.descriptors);
    assert_eq!(container.status()?, Status::Destroyed);
    other.destroy()?;
    Ok(())
}

/// One thread, one descriptor besides stdio, and no more than 64 KiB.
fn a_waiting_init_is_small(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut running) = prepared(sandbox, process(&["/guest", "report"]))?;
    let of = |file: &str| format!("/proc/{}/{file}", running.pid());
    // Its connection to the process that made it closes a moment after its last message.
    until("the connection closes", || Ok(fs::read_dir(of("fd"))?.flatten().count() == 4))?;
    let status = fs::read_to_string(of("status"))?;
    let number = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    assert_eq!(number("Threads:"), Some(1));
    assert!(number("VmRSS:").is_some_and(|size| size <= 64), "{status}");
    container.kill()?;
    running.wait()?;
    container.destroy()?;
    Ok(())
}

fn refused(sandbox: &Sandbox, program: &str) -> Result<String, Stop> {
    match prepared(sandbox, process(&[program])) {
        Ok((mut container, mut running)) => {
            container.kill()?;
            running.wait()?;
            container.destroy()?;
            Err(Stop::Failed(format!("{program} was made")))
        }
        Err(Stop::Failed(text)) => Ok(text),
        Err(other) => Err(other),
    }
}

/// As with runc and crun, which clients rely on.
fn a_missing_program_fails_the_create(sandbox: &Sandbox) -> Outcome {
    let missing = "exec: \"nosuchprogram\": executable file not found in $PATH";
    assert_eq!(refused(sandbox, "nosuchprogram")?, missing);
    let missing = "exec: \"/no/such\": no such file or directory";
    assert_eq!(refused(sandbox, "/no/such")?, missing);
    assert_eq!(refused(sandbox, "/etc/passwd")?, "exec: \"/etc/passwd\": permission denied");
    assert_eq!(refused(sandbox, "/etc")?, "exec: \"/etc\": permission denied");
    Ok(())
}

/// What the start of a program says; the container is stopped then.
fn fails(container: &mut Container, running: &mut Running) -> Result<String, Stop> {
    let error = container.release().err().ok_or("it was started")?;
    assert_eq!(container.status()?, Status::Destroyed);
    running.wait()?;
    container.destroy()?;
    Ok(error.to_string())
}

fn a_program_that_cannot_be_executed_fails_the_start(sandbox: &Sandbox) -> Outcome {
    for (text, said) in [
        ("#!/no/interpreter\n", "exec: find the interpreter of `/script`"),
        ("neither this nor that", "exec: \"/script\": exec format error"),
    ] {
        let script = sandbox.rootfs().join("script");
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let (mut container, mut running) = prepared(sandbox, process(&["/script"]))?;
        let error = fails(&mut container, &mut running)?;
        assert!(error.starts_with(said), "{error}");
    }
    Ok(())
}

fn a_program_removed_after_create_fails_the_start(sandbox: &Sandbox) -> Outcome {
    let program = sandbox.rootfs().join("bin/program");
    fs::copy(sandbox.rootfs().join("guest"), &program)?;
    let (mut container, mut running) = prepared(sandbox, process(&["program"]))?;
    fs::remove_file(program)?;
    let error = fails(&mut container, &mut running)?;
    assert_eq!(error, "exec: \"program\": executable file not found in $PATH");
    Ok(())
}

fn one_of_many_starts_succeeds(sandbox: &Sandbox) -> Outcome {
    for _ in 0..20 {
        let (mut container, mut running) = prepared(sandbox, process(&["/guest", "sleep"]))?;
        let load = || sandbox.factory().load(container.id());
        let several: Vec<_> = (0..6).map(|_| load()).collect::<Result<_, _>>()?;
        let outcomes: Vec<_> = thread::scope(|scope| {
            let starters: Vec<_> = several
                .into_iter()
                .map(|container| scope.spawn(move || container.release()))
                .collect();
            starters.into_iter().filter_map(|starter| starter.join().ok()).collect()
        });
        assert_eq!(outcomes.len(), 6);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(error.code(), Code::ContainerNotStopped, "{error}");
        }
        assert_eq!(container.status()?, Status::Running);
        container.kill()?;
        running.wait()?;
        container.destroy()?;
    }
    Ok(())
}

/// Who connects without the right word, or dies before it, changes nothing.
fn wrong_messages_do_not_start_the_container(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut running) = prepared(sandbox, process(&["/guest", "exit", "5"]))?;
    let directory = container.as_fd().try_clone_to_owned()?;
    let path = PathBuf::from(format!(
        "/proc/self/fd/{}/start",
        std::os::fd::AsRawFd::as_raw_fd(&directory)
    ));
    for word in [&b""[..], b"x", b"pid1\x01\x01\x03\0\0\0\0\0\0\0\0\0", &[0; 70_000]] {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(&path)?)?;
        let _ = send(&socket, word, SendFlags::NOSIGNAL);
    }
    // Long enough for a start by one of these.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(container.status()?, Status::Created);
    container.release()?;
    assert_eq!(running.wait()?.code, Some(5));
    container.destroy()?;
    Ok(())
}

fn killed_while_it_waits(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut running) = prepared(sandbox, process(&["/guest", "sleep"]))?;
    assert_eq!(
        container.destroy().err().map(|error| error.code()),
        Some(Code::ContainerNotStopped)
    );
    container.kill()?;
    assert_eq!(running.wait()?.signal, Some(libc::SIGKILL));
    assert_eq!(container.status()?, Status::Destroyed);
    let error = container.release().err().ok_or("started")?;
    assert_eq!(error.code(), Code::ContainerNotRunning);
    container.destroy()?;
    Ok(())
}

fn joined_while_it_waits(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut first) = prepared(sandbox, process(&["/guest", "exit", "3"]))?;
    let mut joined = sandbox.join(&mut container, process(&["/guest", "report"]))?;
    let said = output(&mut joined)?;
    let report: Report = serde_json::from_str(said.stdout.lines().next().unwrap_or_default())?;
    assert_ne!(report.pid, 1);
    assert_eq!(container.status()?, Status::Created);
    container.release()?;
    assert_eq!(first.wait()?.code, Some(3));
    container.destroy()?;
    Ok(())
}

fn the_terminal_exists_before_the_start(sandbox: &Sandbox) -> Outcome {
    let mut process = process(&["/guest", "report"]);
    process.terminal = Some(pidone::TerminalSize { rows: 24, columns: 80 });
    (process.stdin, process.stdout, process.stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
    let (mut container, mut running) = prepared(sandbox, process)?;
    let mut master = fs::File::from(running.console.take().ok_or("no terminal")?);
    container.release()?;
    let mut text = Vec::new();
    // It ends in an error once nobody has the terminal open.
    let _ = std::io::Read::read_to_end(&mut master, &mut text);
    let text = String::from_utf8_lossy(&text);
    let report: Report = serde_json::from_str(text.lines().next().unwrap_or_default().trim_end())?;
    assert_eq!(report.terminal.map(|size| (size.rows, size.columns)), Some((24, 80)));
    running.wait()?;
    container.destroy()?;
    Ok(())
}

fn a_second_prepare_is_refused(sandbox: &Sandbox) -> Outcome {
    let (mut container, mut running) = prepared(sandbox, process(&["/guest", "sleep"]))?;
    let again = container.prepare(&process(&["/guest", "sleep"])).err().ok_or("made twice")?;
    assert_eq!(again.code(), Code::IdInUse);
    assert_eq!(container.status()?, Status::Created);
    container.kill()?;
    running.wait()?;
    container.destroy()?;
    Ok(())
}
