//! Standard input and output, further descriptors, and terminals.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use pidone::{Stdio, TerminalSize};
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, Stop, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(pipes_carry_both_ways).and_init(),
    case!(null_is_the_containers).and_init(),
    case!(a_descriptor_is_passed).and_init(),
    case!(the_callers_own_is_inherited).alone(),
    case!(closed_ones_are_null_inside).alone(),
    case!(extra_files_follow).and_init(),
    case!(many_extra_files).once(),
    case!(files_in_each_others_places).once(),
    case!(nothing_else_comes_in).alone(),
    case!(a_terminal_is_the_containers),
    case!(a_terminal_carries_both_ways).and_init(),
    case!(a_further_process_has_its_own_terminal).and_init(),
    case!(terminals_of_further_processes_leave_nothing).and_init(),
    case!(a_terminal_needs_a_devpts).and_init(),
];

fn pipes_carry_both_ways(sandbox: &Sandbox) -> Outcome {
    let mut echo = process(&["/guest", "echo"]);
    echo.stdin = Stdio::Pipe;
    let mut live = sandbox.start(&sandbox.config(), echo)?;
    let mut input = live.running.stdin.take().ok_or("no pipe")?;
    for line in ["one", "two"] {
        writeln!(input, "{line}")?;
        assert_eq!(live.line()?, line);
    }
    drop(input);
    assert_eq!(live.finish()?.exit.code, Some(0));
    Ok(())
}

fn null_is_the_containers(sandbox: &Sandbox) -> Outcome {
    let mut silent = process(&["/guest", "report"]);
    silent.stderr = Stdio::Null;
    let report = sandbox.report_of(&sandbox.config(), silent)?;
    let host = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata("/dev/null")?);
    for number in [0, 2] {
        let seen = &report.descriptors[number];
        assert_eq!((seen.kind.as_str(), seen.major, seen.minor), ("c", 1, 3));
        // It is on the container's /dev, and not on the host's.
        assert_ne!(seen.dev, host);
        assert_eq!(seen.target.as_deref(), Some("/dev/null"));
    }
    Ok(())
}

fn a_descriptor_is_passed(sandbox: &Sandbox) -> Outcome {
    let path = sandbox.path().join("output");
    let mut redirected = process(&["/guest", "say", "hello"]);
    redirected.stdout = Stdio::Fd(File::create(&path)?.into());
    sandbox.run(&sandbox.config(), redirected)?;
    assert_eq!(std::fs::read_to_string(path)?, "\"hello\"\n");
    Ok(())
}

fn the_callers_own_is_inherited(sandbox: &Sandbox) -> Outcome {
    let (mut reader, writer) = std::io::pipe()?;
    rustix::stdio::dup2_stdout(&writer)?;
    drop(writer);
    let mut inherits = process(&["/guest", "say", "inherited"]);
    inherits.stdout = Stdio::Inherit;
    inherits.stdin = Stdio::Inherit;
    inherits.stderr = Stdio::Inherit;
    sandbox.run(&sandbox.config(), inherits)?;
    let mut seen = [0; 12];
    reader.read_exact(&mut seen)?;
    assert_eq!(&seen, b"\"inherited\"\n");
    Ok(())
}

/// CVE-2015-3627: what is opened first takes the place of a closed one.
fn closed_ones_are_null_inside(sandbox: &Sandbox) -> Outcome {
    let errors = std::io::stderr().as_fd().try_clone_to_owned()?;
    let outcome = (|| -> Outcome {
        for closed in [&[0][..], &[0, 2], &[0, 1, 2]] {
            let path = sandbox.path().join("report");
            // Out of the way of the numbers that will be free.
            let output = rustix::io::fcntl_dupfd_cloexec(File::create(&path)?, 20)?;
            let mut reports = process(&["/guest", "report"]);
            reports.stdin = Stdio::Inherit;
            reports.stdout = Stdio::Fd(output);
            reports.stderr = Stdio::Inherit;
            for &number in closed {
                // It may be closed already.
                let _ = nix::unistd::close(number);
            }
            let ended = sandbox.run(&sandbox.config(), reports)?;
            assert_eq!(ended.exit.code, Some(0));
            let report: Report = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
            let numbers: Vec<u32> = report.descriptors.iter().map(|seen| seen.number).collect();
            assert_eq!(numbers, [0, 1, 2], "{closed:?}");
            let null = &report.descriptors[0];
            assert_eq!((null.major, null.minor), (1, 3), "{closed:?}: {null:?}");
        }
        Ok(())
    })();
    rustix::stdio::dup2_stderr(&errors)?;
    outcome
}

fn file(sandbox: &Sandbox, name: &str) -> Result<OwnedFd, Stop> {
    let path = sandbox.path().join(name);
    std::fs::write(&path, name)?;
    Ok(File::open(path)?.into())
}

/// The seed's `PassExtraFiles`.
fn extra_files_follow(sandbox: &Sandbox) -> Outcome {
    let mut extra = process(&[
        "/guest",
        "report",
        ",",
        "read",
        "/proc/self/fd/3",
        ",",
        "read",
        "/proc/self/fd/4",
    ]);
    extra.extra_files = vec![file(sandbox, "first")?, file(sandbox, "second")?];
    let output = sandbox.run(&sandbox.config(), extra)?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    let report: Report = serde_json::from_str(lines[0])?;
    let numbers: Vec<u32> = report.descriptors.iter().map(|seen| seen.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    for (line, text) in [(1, "first"), (2, "second")] {
        let read: Read = serde_json::from_str(lines[line])?;
        assert_eq!(read.text, text);
    }
    Ok(())
}

fn many_extra_files(sandbox: &Sandbox) -> Outcome {
    let mut extra = process(&["/guest", "report"]);
    for index in 0..300 {
        extra.extra_files.push(file(sandbox, &format!("number-{index}"))?);
    }
    let report = sandbox.report_of(&sandbox.config(), extra)?;
    assert_eq!(report.descriptors.len(), 303);
    for (index, seen) in report.descriptors[3..].iter().enumerate() {
        let target = seen.target.as_deref().unwrap_or_default();
        assert!(target.ends_with(&format!("/number-{index}")), "{index}: {target}");
    }
    Ok(())
}

/// The number that one has is the place where another goes.
fn files_in_each_others_places(sandbox: &Sandbox) -> Outcome {
    let mut extra = process(&["/guest", "report"]);
    for index in 0..40 {
        extra.extra_files.push(file(sandbox, &format!("number-{index}"))?);
    }
    extra.extra_files.reverse();
    let output = extra.extra_files.pop().ok_or("no file")?;
    // Standard input is one of those in the way, too.
    extra.stdin = Stdio::Fd(output);
    let report = sandbox.report_of(&sandbox.config(), extra)?;
    let targets = report.descriptors.iter().filter_map(|seen| seen.target.as_deref());
    let numbers: Vec<&str> =
        targets.filter_map(|target| Some(target.split_once("/number-")?.1)).collect();
    let expected: Vec<String> =
        std::iter::once(0).chain((1..40).rev()).map(|number: i32| number.to_string()).collect();
    assert_eq!(numbers, expected);
    Ok(())
}

/// Descriptors of the caller that are not close-on-exec, at low and high numbers.
fn nothing_else_comes_in(sandbox: &Sandbox) -> Outcome {
    let directory = File::open("/")?;
    for number in [3, 4, 5, 17, 100, 999, 4000] {
        if rustix::io::fcntl_dupfd_cloexec(&directory, number).is_err() {
            continue;
        }
        // The copy has that number, or a higher one; it is never closed.
        let copy = rustix::io::fcntl_dupfd_cloexec(&directory, number)?;
        rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty())?;
        std::mem::forget(copy);
    }
    let leaked = || -> Result<usize, Stop> {
        let mut count = 0;
        for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
            count += usize::from(
                std::fs::read_link(entry.path()).is_ok_and(|at| at == std::path::Path::new("/")),
            );
        }
        Ok(count)
    };
    assert!(leaked()? > 5);
    let seen = |report: &Report| -> Vec<u32> {
        report.descriptors.iter().map(|descriptor| descriptor.number).collect()
    };
    let report = sandbox.report(&sandbox.config())?;
    assert_eq!(seen(&report), [0, 1, 2], "{:?}", report.descriptors);
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let mut with_file = process(&["/guest"]);
    with_file.extra_files = vec![file(sandbox, "extra")?];
    let mut running = sandbox.join(&mut live.container, with_file)?;
    let report: Report = pidone_tests::output(&mut running)?.lines()?.pop().ok_or("no report")?;
    assert_eq!(seen(&report), [0, 1, 2, 3], "{:?}", report.descriptors);
    // And as the host sees it.
    let directory = format!("/proc/{}/fd", live.running.pid());
    assert_eq!(std::fs::read_dir(directory)?.count(), 3);
    live.kill()?;
    Ok(())
}

/// Reads from the master up to a line that begins with `{`, or the end.
fn read_terminal(master: &OwnedFd) -> Result<String, Stop> {
    let mut text = String::new();
    let mut file = File::from(master.try_clone()?);
    let mut buffer = [0; 4096];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(text),
            Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            // The last one on the other side has closed it.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(text),
            Err(error) => return Err(error.into()),
        }
    }
}

fn terminal(args: &[&str], rows: u16, columns: u16) -> pidone::Process {
    let mut with_terminal = process(args);
    with_terminal.terminal = Some(TerminalSize { rows, columns });
    with_terminal
}

fn a_terminal_is_the_containers(sandbox: &Sandbox) -> Outcome {
    for user in ["", "1000"] {
        let mut asked = terminal(&["/guest"], 33, 99);
        asked.user = user.into();
        let mut container = sandbox.create(&sandbox.config())?;
        let mut running = sandbox.join(&mut container, asked)?;
        let text = read_terminal(running.console.as_ref().ok_or("no master")?)?;
        let report: Report = serde_json::from_str(text.trim())?;
        let seen = report.terminal.ok_or("no terminal")?;
        assert_eq!((seen.rows, seen.columns, seen.session), (33, 99, 1));
        for descriptor in &report.descriptors[..3] {
            assert_eq!(descriptor.target.as_deref(), Some("/dev/pts/0"));
        }
        assert_eq!(report.descriptors.len(), 3);
        let console = report.device("/dev/console").ok_or("no console")?;
        assert_eq!((console.kind.as_str(), console.major), ("c", 136));
        let uid = user.parse().unwrap_or(0);
        let own = report.device("/dev/pts/0").ok_or("no terminal")?;
        assert_eq!((own.uid, own.mode), (uid, 0o620));
        assert_eq!(running.wait()?.code, Some(0));
        container.destroy()?;
    }
    Ok(())
}

fn a_terminal_carries_both_ways(sandbox: &Sandbox) -> Outcome {
    let mut container = sandbox.create(&sandbox.config())?;
    let mut running = sandbox.join(&mut container, terminal(&["/guest", "echo"], 0, 0))?;
    let master = running.console.take().ok_or("no master")?;
    let mut input = File::from(master.try_clone()?);
    // Ctrl-D on an empty line is the end.
    input.write_all(b"typed\n\x04")?;
    assert_eq!(running.wait()?.code, Some(0));
    drop(input);
    let text = read_terminal(&master)?;
    assert_eq!(text, "typed\r\ntyped\r\n");
    container.destroy()?;
    Ok(())
}

/// The seed's `ExecInTTY`.
fn a_further_process_has_its_own_terminal(sandbox: &Sandbox) -> Outcome {
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let mut running = sandbox.join(&mut live.container, terminal(&["/guest"], 10, 20))?;
    let text = read_terminal(running.console.as_ref().ok_or("no master")?)?;
    let report: Report = serde_json::from_str(text.trim())?;
    let seen = report.terminal.ok_or("no terminal")?;
    assert_eq!((seen.rows, seen.columns, seen.session), (10, 20, report.pid));
    assert_eq!(report.sid, report.pid);
    running.wait()?;
    live.kill()?;
    Ok(())
}

/// `/dev/console` is that of the first process alone, also where `/dev` is a directory of the host.
fn terminals_of_further_processes_leave_nothing(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let bound = sandbox.path().join("bound");
    std::fs::create_dir(&bound)?;
    let dev = config.mounts.iter_mut().find(|mount| mount.destination == "/dev");
    let dev = dev.ok_or("no /dev")?;
    dev.source = bound.display().to_string();
    let bind = nix::mount::MsFlags::MS_BIND.bits();
    (dev.device, dev.flags, dev.data) = ("bind".into(), bind, String::new());
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let mountinfo = format!("/proc/{}/mountinfo", live.running.pid());
    let before = std::fs::read_to_string(&mountinfo)?;
    for _ in 0..3 {
        let mut running = sandbox.join(&mut live.container, terminal(&["/guest"], 10, 20))?;
        let text = read_terminal(running.console.as_ref().ok_or("no master")?)?;
        let report: Report = serde_json::from_str(text.trim())?;
        assert!(report.terminal.is_some());
        assert_eq!(running.wait()?.code, Some(0));
        assert_eq!(std::fs::read_to_string(&mountinfo)?, before);
        assert!(!bound.join("console").exists());
    }
    live.kill()?;
    Ok(())
}

/// CVE-2025-52565: anything may be at the place of a terminal.
fn a_terminal_needs_a_devpts(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.retain(|mount| mount.device != "devpts");
    let bait = sandbox.path().join("bait");
    std::fs::write(&bait, "bait")?;
    assert!(sandbox.start(&config, terminal(&["/guest"], 0, 0)).is_err());
    config.mounts.push(pidone::config::Mount {
        source: "tmpfs".into(),
        destination: "/dev/pts".into(),
        device: "tmpfs".into(),
        ..pidone::config::Mount::default()
    });
    config.links.push(pidone::config::Link {
        target: bait.display().to_string(),
        path: "/dev/pts/ptmx".into(),
    });
    assert!(sandbox.start(&config, terminal(&["/guest"], 0, 0)).is_err());
    assert_eq!(std::fs::read_to_string(bait)?, "bait");
    Ok(())
}
