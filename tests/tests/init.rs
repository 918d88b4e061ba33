//! Containers whose init stays process 1, by the library.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Instant;

use pidone::config::{Hook, IdMap, Seccomp, SeccompSyscall, capability};
use pidone::{Code, Config, Container, Process, Status, Stdio, TerminalSize};
use pidone_proto::limits;
use pidone_tests::{
    Case, DEADLINE, Live, Outcome, Report, Sandbox, Stop, case, output, process, stop, until,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Winsize, tcsetwinsize};

pub(crate) const CASES: &[Case] = &[
    case!(stays_process_1).with_init().and_unified(),
    case!(ends_as_the_program_does).with_init(),
    case!(passes_signals_on).with_init(),
    case!(orphans_are_reaped).with_init(),
    case!(starts_further_processes_itself).with_init().and_unified(),
    case!(a_started_process_is_like_one_that_joins).with_init(),
    case!(further_processes_end_as_they_do).with_init(),
    case!(a_terminal_of_a_further_process).with_init(),
    case!(a_sub_cgroup_of_a_further_process).with_init().and_unified(),
    case!(a_process_that_the_init_cannot_start_joins).with_init(),
    case!(a_joining_process_has_what_the_init_dropped).with_init(),
    case!(requests_follow_each_other).with_init(),
    case!(hooks_run_before_the_program).with_init(),
    case!(a_program_that_cannot_run_leaves_nothing).with_init(),
    case!(killing_the_init_ends_all_processes).with_init(),
    case!(many_at_once).with_init(),
    case!(a_full_init_leaves_the_start_to_the_host).with_init(),
    case!(a_stopped_init_leaves_the_start_to_the_host).with_init(),
    case!(idle_handles_share_one_connection).with_init(),
    case!(an_ordinary_user_has_an_init).ordinary().with_init(),
];

/// A container that runs.
fn sleeper(sandbox: &Sandbox) -> Result<Live, Stop> {
    Ok(sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?)
}

fn report(sandbox: &Sandbox, container: &mut Container, process: Process) -> Result<Report, Stop> {
    let mut running = sandbox.join(container, process)?;
    let output = output(&mut running)?;
    assert_eq!(output.exit.code, Some(0), "{}", output.stderr);
    Ok(output.lines()?.pop().ok_or("no report")?)
}

/// A line of `/proc/PID/status`, as the host sees it.
fn status(pid: i32, name: &str) -> Result<String, Stop> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.ok_or("no such line")?.trim().to_owned())
}

fn stays_process_1(sandbox: &Sandbox) -> Outcome {
    let mut live =
        sandbox.start(&sandbox.config(), process(&["/guest", "report", ",", "sleep"]))?;
    let first: Report = live.say()?;
    assert_eq!((first.pid, first.ppid), (2, 1));
    assert_eq!(live.container.pid(), live.running.pid());
    let name = fs::read_to_string(format!("/proc/{}/cmdline", live.running.pid()))?;
    assert!(name.starts_with("pidone-init\0"), "{name:?}");
    assert_eq!(live.container.status()?, Status::Running);
    assert_eq!(live.container.processes()?.len(), 2);
    live.kill()?;
    Ok(())
}

fn ends_as_the_program_does(sandbox: &Sandbox) -> Outcome {
    let exits = sandbox.guest(&sandbox.config(), &["exit", "42"])?;
    assert_eq!((exits.exit.code, exits.exit.signal), (Some(42), None));
    let killed = sandbox.guest(&sandbox.config(), &["kill", "9"])?;
    assert_eq!((killed.exit.code, killed.exit.status()), (Some(137), 137));
    Ok(())
}

/// A program that handles nothing dies of a signal, which as process 1 it would not even get.
fn passes_signals_on(sandbox: &Sandbox) -> Outcome {
    for signal in [libc::SIGTERM, libc::SIGUSR1, 64] {
        let live = sleeper(sandbox)?;
        live.container.signal(signal)?;
        assert_eq!(live.finish()?.exit.code, Some(128 + signal));
    }
    Ok(())
}

fn orphans_are_reaped(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    // Until neither of them exists, as a process or as a zombie, or it has tried long enough.
    let script = "(sleep 0.01 &); (sleep 0.01 &); n=0; while [ $n -lt 600 ]; do all=; \
                  for s in /proc/[0-9]*/stat; do read -r a b c d < $s && all=\"$all $b $c\"; done; \
                  case $all in *sleep*) sleep 0.1 ;; *) break ;; esac; n=$((n + 1)); done; echo $all";
    let output = sandbox.run(&sandbox.config(), process(&["/bin/sh", "-c", script]))?;
    assert!(output.stdout.contains('S'), "{}", output.stdout);
    assert!(!output.stdout.contains('Z'), "{}", output.stdout);
    Ok(())
}

fn starts_further_processes_itself(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "sleep"]))?;
    let parent = status(running.pid(), "PPid:")?;
    assert_eq!(parent, live.running.pid().to_string());
    running.signal(libc::SIGKILL)?;
    let exit = running.wait()?;
    assert_eq!((exit.code, exit.signal), (None, Some(libc::SIGKILL)));
    live.kill()?;
    Ok(())
}

/// The positive control is the process that joins: nothing of it may differ but its parent.
fn a_started_process_is_like_one_that_joins(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let plain = || process(&["/guest"]);
    let user = || Process { user: "user".into(), cwd: "/tmp".into(), ..process(&["/guest"]) };
    let bare = || Process {
        capabilities: Some(vec!["KILL".into()]),
        no_new_privileges: true,
        rlimits: Some(Vec::new()),
        ..process(&["/guest"])
    };
    for asked in [&plain as &dyn Fn() -> Process, &user, &bare] {
        let spawned = report(sandbox, &mut live.container, asked())?;
        let joined = Process { as_child: true, ..asked() };
        let joined = report(sandbox, &mut live.container, joined)?;
        assert_eq!((spawned.ppid, joined.ppid), (1, 0));
        let same = |report: Report| Report {
            pid: 0,
            ppid: 0,
            pgid: 0,
            sid: 0,
            // Their own pipes.
            descriptors: Vec::new(),
            ..report
        };
        assert_eq!(spawned.descriptors.len(), joined.descriptors.len());
        assert_eq!(same(spawned), same(joined));
    }
    live.kill()?;
    Ok(())
}

fn further_processes_end_as_they_do(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let mut exits = sandbox.join(&mut live.container, process(&["/guest", "exit", "42"]))?;
    let exit = exits.wait()?;
    assert_eq!((exit.code, exit.signal), (Some(42), None));
    assert!(exit.usage.minor_faults > 0, "{exit:?}");
    // Asked twice, it is the same.
    assert_eq!(exits.wait()?, exit);
    let missing = sandbox.join(&mut live.container, process(&["/nothing"])).err();
    let error = missing.ok_or("it runs")?;
    let text = "exec: \"/nothing\": no such file or directory";
    assert_eq!((error.code(), error.to_string().as_str()), (Code::SystemError, text));
    let mut cwd = process(&["/guest"]);
    cwd.cwd = "/nowhere".into();
    let error = sandbox.join(&mut live.container, cwd).err().ok_or("it runs")?.to_string();
    assert!(
        error.contains("`/nowhere`") && error.ends_with("No such file or directory"),
        "{error}"
    );
    live.kill()?;
    Ok(())
}

fn a_terminal_of_a_further_process(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let mut live = sleeper(sandbox)?;
    let script =
        "trap '/bin/busybox stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut shell = process(&["/bin/sh", "-c", script]);
    shell.terminal = Some(TerminalSize { rows: 11, columns: 22 });
    let mut running = sandbox.join(&mut live.container, shell)?;
    let console = running.console.take().ok_or("no terminal")?;
    let mut said = String::new();
    while !said.contains("ready") {
        let mut bytes = [0; 100];
        let length = rustix::io::read(&console, &mut bytes)?;
        said += &String::from_utf8_lossy(&bytes[..length]);
    }
    let size = Winsize { ws_row: 33, ws_col: 44, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&console, size)?;
    assert_eq!(running.wait()?.code, Some(3));
    let mut bytes = [0; 100];
    let length = rustix::io::read(&console, &mut bytes)?;
    let said = String::from_utf8_lossy(&bytes[..length]);
    assert!(said.contains("33 44"), "{said}");
    live.kill()?;
    Ok(())
}

fn a_sub_cgroup_of_a_further_process(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let state = live.container.state()?;
    let controller = if state.cgroup_paths.contains_key("pids") { "pids" } else { "" };
    let directory = state.cgroup_paths.get(controller).ok_or("no cgroup")?.join("below");
    fs::create_dir(&directory)?;
    let mut below = process(&["/guest", "sleep"]);
    below.sub_cgroups = [(controller.to_owned(), "below".to_owned())].into();
    let running = sandbox.join(&mut live.container, below)?;
    assert_eq!(status(running.pid(), "PPid:")?, live.running.pid().to_string());
    let inside = fs::read_to_string(directory.join("cgroup.procs"))?;
    assert_eq!(inside.trim(), running.pid().to_string());
    live.kill()?;
    Ok(())
}

/// Something has to be done for them from outside.
fn a_process_that_the_init_cannot_start_joins(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let own = Process { as_child: true, ..process(&["/guest", "sleep"]) };
    let scored = Process { oom_score_adj: Some(1000), ..process(&["/guest", "sleep"]) };
    for asked in [own, scored] {
        let mut running = sandbox.join(&mut live.container, asked)?;
        assert_eq!(status(running.pid(), "PPid:")?, std::process::id().to_string());
        running.signal(libc::SIGKILL)?;
        running.wait()?;
    }
    // Nor can one whose socket is gone.
    let socket = sandbox.factory().root().join(live.container.id()).join("init");
    fs::remove_file(socket)?;
    let joined = report(sandbox, &mut live.container, process(&["/guest"]))?;
    assert_eq!(joined.ppid, 0);
    live.kill()?;
    Ok(())
}

/// Capabilities and a filter that the init has given up for all that it starts.
fn a_joining_process_has_what_the_init_dropped(sandbox: &Sandbox) -> Outcome {
    let refuses = |value: libc::c_long| -> Result<Option<Seccomp>, Stop> {
        let syscall = SeccompSyscall { value: u32::try_from(value)?, action: 1, args: Vec::new() };
        Ok(Some(Seccomp { syscalls: vec![syscall] }))
    };
    let config = Config { seccomp: refuses(libc::SYS_reboot)?, ..sandbox.config() };
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let init = live.running.pid().to_string();
    let mask = |name| Ok::<_, Stop>(u64::from_str_radix(&status(live.running.pid(), name)?, 16)?);
    let default = capability::mask(&config.capabilities)?;
    assert_eq!(mask("CapBnd:")?, default);
    assert_eq!(status(live.running.pid(), "Seccomp:")?, "2");
    let has = |container: &mut Container, capability: Option<&str>| {
        let mut process = process(&["/guest", "sleep"]);
        if let Some(capability) = capability {
            process.capabilities = Some(vec![capability.to_owned()]);
        }
        let mut running = sandbox.join(container, process)?;
        let had = ["PPid:", "CapBnd:", "Seccomp:"].map(|name| status(running.pid(), name));
        running.signal(libc::SIGKILL)?;
        running.wait()?;
        let [parent, bounding, seccomp] = had;
        Ok::<_, Stop>((parent? == init, u64::from_str_radix(&bounding?, 16)?, seccomp?))
    };
    let under = || "2".to_owned();
    assert_eq!(has(&mut live.container, None)?, (true, default, under()));
    assert_eq!(has(&mut live.container, Some("KILL"))?, (true, 1 << 5, under()));
    assert_eq!(has(&mut live.container, Some("SYS_TIME"))?, (false, 1 << 25, under()));
    // Another filter is not added to the one that the init has.
    live.container.set(&Config { seccomp: refuses(libc::SYS_getppid)?, ..config.clone() })?;
    assert_eq!(has(&mut live.container, None)?, (false, default, under()));
    live.kill()?;
    Ok(())
}

/// On one connection, with those that fail among them, and from several at a time.
fn requests_follow_each_other(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    for round in 0..20 {
        let code = round.to_string();
        let mut first = sandbox.join(&mut live.container, process(&["/guest", "exit", &code]))?;
        let mut second = sandbox.join(&mut live.container, process(&["/guest", "exit", "77"]))?;
        let missing = sandbox.join(&mut live.container, process(&["/missing"])).err();
        let errno = missing.and_then(|error| error.errno());
        assert_eq!(errno.map(|errno| errno.raw_os_error()), Some(libc::ENOENT));
        assert_eq!(second.wait()?.code, Some(77));
        assert_eq!(first.wait()?.code, Some(round));
    }
    // Another user of the name, as soon as the file says so.
    let mut uid = || {
        let named = Process { user: "user".into(), ..process(&["/guest"]) };
        report(sandbox, &mut live.container, named).map(|report| report.uid[0])
    };
    let (first, second) = (uid()?, uid()?);
    assert_eq!(first, second);
    let file = sandbox.rootfs().join("etc/passwd");
    let text = fs::read_to_string(&file)?.replace(&format!(":{first}:"), ":4242:");
    fs::write(&file, text)?;
    assert_eq!(uid()?, 4242);
    live.kill()?;
    Ok(())
}

fn hooks_run_before_the_program(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let mut config = sandbox.config();
    let line = "echo hook $$ >> /tmp/order";
    config.hooks.start_container = vec![Hook {
        path: "/bin/sh".into(),
        args: ["sh", "-c", line].map(str::to_owned).to_vec(),
        ..Hook::default()
    }];
    let program = ["/bin/sh", "-c", "echo program >> /tmp/order; cat /tmp/order"];
    let output = sandbox.run(&config, process(&program))?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].starts_with("hook ") && lines[1] == "program", "{lines:?}");
    Ok(())
}

fn a_program_that_cannot_run_leaves_nothing(sandbox: &Sandbox) -> Outcome {
    let error = sandbox.start(&sandbox.config(), process(&["/nothing"])).err().ok_or("it runs")?;
    assert_eq!(error.to_string(), "exec: \"/nothing\": no such file or directory");
    Ok(())
}

fn killing_the_init_ends_all_processes(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "sleep"]))?;
    let init = Pid::from_raw(live.running.pid()).ok_or("no process")?;
    kill_process(init, Signal::KILL)?;
    // The end of the init is all that is reported, and that is enough.
    let begin = Instant::now();
    assert_eq!(running.wait()?.status(), 137);
    assert!(begin.elapsed() < DEADLINE);
    assert_eq!(live.finish()?.exit.signal, Some(libc::SIGKILL));
    Ok(())
}

/// Each by its own connection, from threads of one program.
fn many_at_once(sandbox: &Sandbox) -> Outcome {
    let live = sleeper(sandbox)?;
    let init = live.running.pid();
    let open = || fs::read_dir(format!("/proc/{init}/fd")).map(Iterator::count);
    let before = (open()?, status(init, "VmRSS:")?);
    let id = live.container.id().to_owned();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..16_i32)
            .map(|worker| {
                let id = &id;
                scope.spawn(move || -> Outcome {
                    let mut container = sandbox.factory().load(id)?;
                    for round in 0..20 {
                        let code = (worker * 7 + round) % 256;
                        let mut exits = process(&["/guest", "exit", &code.to_string()]);
                        (exits.stdout, exits.stderr) = (Stdio::Null, Stdio::Null);
                        let mut running = sandbox.join(&mut container, exits)?;
                        assert_eq!(running.wait()?.code, Some(code));
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker failed")?)
    })?;
    // The last connection closes a moment after its last message.
    until("the connections close", || Ok(open()? <= before.0))?;
    let after = (open()?, status(init, "VmRSS:")?);
    let kilobytes = |text: &str| text.split(' ').next().and_then(|size| size.parse::<u64>().ok());
    let grown =
        kilobytes(&after.1).zip(kilobytes(&before.1)).map(|(now, then)| now.saturating_sub(then));
    assert!(grown.is_some_and(|grown| grown <= 32), "{before:?} {after:?}");
    live.kill()?;
    Ok(())
}

/// As many connections as the init admits, and more.
fn a_full_init_leaves_the_start_to_the_host(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let socket = sandbox.factory().root().join(live.container.id()).join("init");
    let connect = || -> Result<OwnedFd, Stop> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let client = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&client, &SocketAddrUnix::new(&socket)?)?;
        Ok(client)
    };
    let crowd = (0..2 * limits::CLIENTS).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..3 {
        let report = report(sandbox, &mut live.container, process(&["/guest"]))?;
        assert_eq!(report.ppid, 0, "its parent is outside");
    }
    drop(crowd);
    until("the init has room", || {
        Ok(report(sandbox, &mut live.container, process(&["/guest"]))?.ppid == 1)
    })?;
    live.kill()?;
    Ok(())
}

/// And does not run what nobody waits for any more.
fn a_stopped_init_leaves_the_start_to_the_host(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let mut live = sleeper(sandbox)?;
    let init = Pid::from_raw(live.running.pid()).ok_or("no pid")?;
    stop(init)?;
    let script = "echo $PPID >>/tmp/ran";
    for _ in 0..2 {
        let mut running = sandbox.join(&mut live.container, process(&["/bin/sh", "-c", script]))?;
        assert_eq!(running.wait()?.code, Some(0));
    }
    kill_process(init, Signal::CONT)?;
    // It has handled what came before this.
    assert_eq!(report(sandbox, &mut live.container, process(&["/guest"]))?.ppid, 1);
    let mut shows = sandbox.join(&mut live.container, process(&["/bin/cat", "/tmp/ran"]))?;
    assert_eq!(output(&mut shows)?.stdout, "0\n0\n");
    live.kill()?;
    Ok(())
}

fn idle_handles_share_one_connection(sandbox: &Sandbox) -> Outcome {
    let mut live = sleeper(sandbox)?;
    let init = live.running.pid();
    let open = || fs::read_dir(format!("/proc/{init}/fd")).map(Iterator::count);
    assert_eq!(report(sandbox, &mut live.container, process(&["/guest"]))?.ppid, 1);
    let before = open()?;
    let mut handles = Vec::new();
    for _ in 0..limits::CLIENTS + 8 {
        let mut handle = sandbox.factory().load(live.container.id())?;
        assert_eq!(report(sandbox, &mut handle, process(&["/guest"]))?.ppid, 1);
        handles.push(handle);
    }
    until("the others are closed", || Ok(open()? <= before))?;
    live.kill()?;
    Ok(())
}

fn an_ordinary_user_has_an_init(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: 65534, size: 1 }];
    config.set_id_maps(map.clone(), map);
    config.cgroups = None;
    let mut live = sandbox.start(&config, process(&["/guest", "report", ",", "sleep"]))?;
    let first: Report = live.say()?;
    assert_eq!((first.pid, first.uid[0]), (2, 0));
    let further = report(sandbox, &mut live.container, process(&["/guest"]))?;
    assert_eq!(further.ppid, 1);
    live.kill()?;
    Ok(())
}
