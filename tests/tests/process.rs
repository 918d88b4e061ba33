//! The process that is started: program, arguments, environment, directory, and how it ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use pidone::Code;
use pidone::config::Rlimit;
use pidone_tests::{Case, Outcome, Report, Sandbox, case, process, script};

pub(crate) const CASES: &[Case] = &[
    case!(runs_ps),
    case!(arguments_are_as_given).and_init(),
    case!(environment_is_as_given).and_init(),
    case!(home_is_that_of_the_user).and_init(),
    case!(ten_thousand_variables).once(),
    case!(working_directory_is_as_given).and_init(),
    case!(program_is_found_in_its_own_path).and_init(),
    case!(a_program_that_cannot_be_executed).and_init(),
    case!(too_long_arguments_are_refused).once(),
    case!(wrong_requests_are_refused).once(),
    case!(begins_with_a_clean_state).and_init(),
    case!(callers_signals_are_not_inherited).alone(),
    case!(exit_codes_are_returned).and_init(),
    case!(ends_by_signals_are_returned),
    case!(a_core_dump_is_reported),
    case!(resource_usage_is_reported).and_init(),
    case!(waiting_twice_returns_the_same).and_init(),
    case!(signals_are_delivered).and_init(),
    case!(no_new_privileges).and_init(),
    case!(an_init_of_another_version).once(),
];

/// The seed's `ExecPS`.
fn runs_ps(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let output = sandbox.run(&sandbox.config(), process(&["/bin/busybox", "ps"]))?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[1].trim_start().starts_with("1 "), "{}", output.stdout);
    assert_eq!(output.exit.code, Some(0));
    Ok(())
}

fn arguments_are_as_given(sandbox: &Sandbox) -> Outcome {
    let long = "x".repeat(131_000);
    let args = ["/guest", "report", "", "a b", "ä", "$HOME", "\"'\\", "line\nbreak", &long];
    assert_eq!(sandbox.report_of(&sandbox.config(), process(&args))?.args, args);
    Ok(())
}

/// The seed's `ProcessEnv`.
fn environment_is_as_given(sandbox: &Sandbox) -> Outcome {
    let mut process = process(&["/guest"]);
    process.env = ["FOO=BAR", "EMPTY=", "TWO=a=b", "HOME=/own"].map(Into::into).into();
    let report = sandbox.report_of(&sandbox.config(), process)?;
    // And the mark of the tests.
    assert_eq!(report.env[..4], ["FOO=BAR", "EMPTY=", "TWO=a=b", "HOME=/own"]);
    assert_eq!(report.env.len(), 5);
    Ok(())
}

fn home_is_that_of_the_user(sandbox: &Sandbox) -> Outcome {
    for (user, home) in
        [("", "/root"), ("daemon", "/usr/sbin"), ("1000", "/home/user"), ("4711", "/")]
    {
        let mut process = process(&["/guest"]);
        process.user = user.into();
        let report = sandbox.report_of(&sandbox.config(), process)?;
        assert_eq!(report.variable("HOME"), Some(home), "{user}");
    }
    Ok(())
}

fn ten_thousand_variables(sandbox: &Sandbox) -> Outcome {
    let mut process = process(&["/guest"]);
    process.env =
        (0..10_000).map(|index| format!("VARIABLE_{index}=value {index}").into()).collect();
    let report = sandbox.report_of(&sandbox.config(), process)?;
    assert_eq!(report.variable("VARIABLE_9999"), Some("value 9999"));
    assert_eq!(report.env.len(), 10_002);
    Ok(())
}

fn working_directory_is_as_given(sandbox: &Sandbox) -> Outcome {
    fs::create_dir_all(sandbox.rootfs().join("a/b"))?;
    symlink("/a", sandbox.rootfs().join("link"))?;
    for (cwd, seen) in
        [("", "/"), ("/", "/"), ("/a/b", "/a/b"), ("/link/b/", "/a/b"), ("/a/../../a", "/a")]
    {
        let mut process = process(&["/guest"]);
        process.cwd = cwd.into();
        let report = sandbox.report_of(&sandbox.config(), process)?;
        assert_eq!(report.cwd.as_deref(), Some(seen), "{cwd}");
    }
    for cwd in ["/missing", "/guest", "/etc/passwd/x"] {
        let mut process = process(&["/guest"]);
        process.cwd = cwd.into();
        assert!(sandbox.start(&sandbox.config(), process).is_err(), "{cwd}");
    }
    Ok(())
}

fn program_is_found_in_its_own_path(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    for directory in ["one", "two", "three"] {
        fs::create_dir(root.join(directory))?;
    }
    // A directory of that name, and a file without the permission, are passed over.
    fs::create_dir(root.join("one/program"))?;
    fs::write(root.join("two/program"), "x")?;
    fs::hard_link(root.join("guest"), root.join("three/program"))?;
    let mut found = process(&["program", "exit", "5"]);
    found.env = vec!["PATH=/missing:/one:/two:/three".into()];
    assert_eq!(sandbox.run(&sandbox.config(), found)?.exit.code, Some(5));
    // Relative to the working directory.
    let mut found = process(&["./guest", "exit", "6"]);
    found.cwd = "/".into();
    assert_eq!(sandbox.run(&sandbox.config(), found)?.exit.code, Some(6));
    // The caller's own path is of no meaning.
    let mut missing = process(&["ls"]);
    missing.env = vec!["PATH=/missing".into()];
    let error = sandbox.start(&sandbox.config(), missing).err().ok_or("found")?;
    assert_eq!(error.errno(), Some(rustix::io::Errno::NOENT));
    Ok(())
}

fn a_program_that_cannot_be_executed(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    for (name, text) in [
        ("interpreter", "#!/no/such/interpreter\n"),
        ("empty-interpreter", "#!\n"),
        ("text", "no program\n"),
        ("empty", ""),
    ] {
        script(root.join(name), text)?;
    }
    fs::write(root.join("plain"), "x")?;
    symlink("/loop", root.join("loop"))?;
    for (program, errno) in [
        ("/missing", libc::ENOENT),
        ("/interpreter", libc::ENOENT),
        ("/empty-interpreter", libc::ENOEXEC),
        ("/text", libc::ENOEXEC),
        ("/empty", libc::ENOEXEC),
        ("/plain", libc::EACCES),
        ("/etc", libc::EACCES),
        ("/loop", libc::ELOOP),
        ("/guest/below", libc::ENOTDIR),
    ] {
        let error = sandbox.start(&sandbox.config(), process(&[program])).err().ok_or("started")?;
        let found = error.errno().map(rustix::io::Errno::raw_os_error);
        // What execvp(3) returns for a path that leads through a file.
        let expected = if errno == libc::ENOTDIR { libc::ENOENT } else { errno };
        assert!(found == Some(errno) || found == Some(expected), "{program}: {error}");
        assert_eq!(error.code(), Code::SystemError, "{program}");
        assert!(error.to_string().contains(program), "{error}");
    }
    // A script runs by its interpreter.
    script(root.join("script"), "#!/guest report\n")?;
    let report = sandbox.report_of(&sandbox.config(), process(&["/script"]))?;
    assert_eq!(report.args, ["/guest", "report", "/script"]);
    Ok(())
}

fn too_long_arguments_are_refused(sandbox: &Sandbox) -> Outcome {
    let one = "x".repeat(128 * 1024);
    let many: Vec<String> = (0..100).map(|_| "x".repeat(100_000)).collect();
    let mut args = vec!["/guest".to_owned()];
    args.extend(many);
    for process in [process(&["/guest", &one]), process(&args)] {
        let error = sandbox.start(&sandbox.config(), process).err().ok_or("started")?;
        assert_eq!(error.code(), Code::ConfigInvalid, "{error}");
    }
    let mut process = process(&["/guest"]);
    process.env.push(format!("LONG={one}").into());
    assert!(sandbox.start(&sandbox.config(), process).is_err());
    Ok(())
}

fn wrong_requests_are_refused(sandbox: &Sandbox) -> Outcome {
    let none: [&str; 0] = [];
    let mut wrong = vec![process(&none), process(&[""]), process(&["/guest", "a\0b"])];
    for variable in ["NOVALUE", "=x", "", "A=\0"] {
        let mut process = process(&["/guest"]);
        process.env.push(variable.into());
        wrong.push(process);
    }
    for (cwd, user) in [("a\0b", ""), ("", "a\0b"), ("", "nobody-of-the-kind"), ("", "-1")] {
        let mut process = process(&["/guest"]);
        process.cwd = cwd.into();
        process.user = user.into();
        wrong.push(process);
    }
    for process in wrong {
        let shown = format!("{process:?}");
        let error = sandbox.start(&sandbox.config(), process).err().ok_or("started")?;
        assert_eq!(error.code(), Code::ConfigInvalid, "{error} {shown}");
    }
    Ok(())
}

fn begins_with_a_clean_state(sandbox: &Sandbox) -> Outcome {
    let report = sandbox.report(&sandbox.config())?;
    assert_eq!(report.umask, 0o022);
    assert_eq!((report.blocked, report.ignored), (0, 0));
    assert_eq!(report.dumpable, 1);
    assert_eq!(report.no_new_privs, Some(0));
    assert_eq!(report.seccomp, Some(0));
    assert_eq!(
        report.oom_score_adj,
        Some(fs::read_to_string("/proc/self/oom_score_adj")?.trim().into())
    );
    assert_eq!(report.exe.as_deref(), Some("/guest"));
    assert_eq!(report.domainname, "(none)");
    Ok(())
}

#[expect(unsafe_code, reason = "the wrapper is unsafe for the sake of handlers")]
fn callers_signals_are_not_inherited(sandbox: &Sandbox) -> Outcome {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    for ignored in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGUSR1] {
        // SAFETY: no handler is installed.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    SigSet::all().thread_block()?;
    let live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let status = fs::read_to_string(format!("/proc/{}/status", live.running.pid()))?;
    for field in ["SigBlk", "SigIgn"] {
        assert!(status.contains(&format!("{field}:\t0000000000000000")), "{status}");
    }
    // Nor does the library change the caller's.
    let own = fs::read_to_string("/proc/self/status")?;
    assert!(!own.contains("SigIgn:\t0000000000000000"), "{own}");
    live.kill()?;
    Ok(())
}

fn exit_codes_are_returned(sandbox: &Sandbox) -> Outcome {
    for code in [0, 1, 2, 125, 126, 127, 128, 254, 255] {
        let output = sandbox.guest(&sandbox.config(), &["exit", &code.to_string()])?;
        assert_eq!((output.exit.code, output.exit.signal), (Some(code), None));
        assert_eq!(output.exit.status(), code);
    }
    Ok(())
}

fn ends_by_signals_are_returned(sandbox: &Sandbox) -> Outcome {
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV, libc::SIGUSR1, 64] {
        let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
        // The first of a pid namespace only gets what it handles; SIGKILL comes from outside.
        let kills = signal == libc::SIGKILL;
        live.running.signal(signal)?;
        if kills {
            let output = live.finish()?;
            assert_eq!((output.exit.code, output.exit.signal), (None, Some(signal)));
            assert_eq!(output.exit.status(), 128 + signal);
            continue;
        }
        // A further process has no such protection.
        let mut running = sandbox.join(&mut live.container, process(&["/guest", "sleep"]))?;
        running.signal(signal)?;
        let exit = running.wait()?;
        assert_eq!((exit.code, exit.signal), (None, Some(signal)));
        assert_eq!(exit.status(), 128 + signal);
        live.kill()?;
    }
    Ok(())
}

fn a_core_dump_is_reported(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.remove_namespace(pidone::config::NamespaceType::Pid);
    config.rlimits.push(Rlimit { kind: libc::RLIMIT_CORE, soft: 1 << 20, hard: 1 << 20 });
    let abort = libc::SIGABRT.to_string();
    let output = sandbox.guest(&config, &["kill", &abort])?;
    assert_eq!(output.exit.signal, Some(libc::SIGABRT));
    assert!(output.exit.core);
    config.rlimits.pop();
    config.rlimits.push(Rlimit { kind: libc::RLIMIT_CORE, soft: 0, hard: 0 });
    assert!(!sandbox.guest(&config, &["kill", &abort])?.exit.core);
    Ok(())
}

fn resource_usage_is_reported(sandbox: &Sandbox) -> Outcome {
    let idle = sandbox.guest(&sandbox.config(), &["exit", "0"])?.exit.usage;
    let busy = sandbox.guest(&sandbox.config(), &["memory", "32", ",", "spin", "100"])?.exit.usage;
    // The largest of the caller's counts as well, whose memory the child had before its exec.
    assert!(busy.max_rss >= 32 * 1024, "{busy:?}");
    assert!(idle.minor_faults < 1000, "{idle:?}");
    assert!(busy.minor_faults >= 32 * 256, "{busy:?}");
    let spent = busy.user + busy.system;
    assert!(spent >= Duration::from_millis(20), "{busy:?}");
    assert!(idle.user + idle.system < spent, "{idle:?} {busy:?}");
    Ok(())
}

fn waiting_twice_returns_the_same(sandbox: &Sandbox) -> Outcome {
    let mut container = sandbox.create(&sandbox.config())?;
    let mut running = sandbox.join(&mut container, process(&["/guest", "exit", "9"]))?;
    let first = running.wait()?;
    assert_eq!(first.code, Some(9));
    assert_eq!(running.wait()?, first);
    assert_eq!(running.signal(0).err().ok_or("sent")?.code(), Code::ContainerNotRunning);
    container.destroy()?;
    Ok(())
}

fn signals_are_delivered(sandbox: &Sandbox) -> Outcome {
    let term = libc::SIGTERM.to_string();
    let mut live =
        sandbox.start(&sandbox.config(), process(&["/guest", "ignore", &term, ",", "sleep"]))?;
    assert_eq!(live.say::<i32>()?, 0);
    live.container.signal(libc::SIGTERM)?;
    live.running.signal(0)?;
    assert_eq!(live.container.status()?, pidone::Status::Running);
    assert!(live.running.signal(65).is_err());
    assert!(live.running.signal(-1).is_err());
    live.container.signal(libc::SIGKILL)?;
    assert_eq!(live.finish()?.exit.signal, Some(libc::SIGKILL));
    Ok(())
}

fn no_new_privileges(sandbox: &Sandbox) -> Outcome {
    let mut process = process(&["/guest"]);
    process.no_new_privileges = true;
    let report: Report = sandbox.report_of(&sandbox.config(), process)?;
    assert_eq!(report.no_new_privs, Some(1));
    Ok(())
}

/// It is refused by its first message, and the error names both versions.
fn an_init_of_another_version(sandbox: &Sandbox) -> Outcome {
    use pidone::launch::image::{Codec, Image};
    let image = Image::new(fs::read(pidone_tests::GUEST)?.leak(), Codec::Bincode);
    let options = sandbox.options().image(image);
    let factory = pidone::Factory::new(sandbox.path().join("version"), options)?;
    let mut container = factory.create("version", &sandbox.config())?;
    let error = sandbox.join(&mut container, process(&["/guest"])).err().ok_or("started")?;
    let expected = "start the init: speaks version 2 of the protocol, and the host version 1";
    assert_eq!(error.to_string(), expected);
    container.destroy()?;
    Ok(())
}
