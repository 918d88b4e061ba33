//! Hooks: when and where each kind runs, what it gets, and what its failure does.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pidone::config::{Hook, Hooks, Seccomp, SeccompSyscall};
use pidone::{Config, Process};
use pidone_tests::{Case, Live, Outcome, Report, Sandbox, Stop, case, process, until};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = &[
    case!(run_in_their_order_with_the_state),
    case!(create_hooks_see_host_and_root),
    case!(start_hooks_are_as_the_program),
    case!(get_their_environment_and_no_descriptors),
    case!(poststart_runs_after_exec),
    case!(poststop_runs_after_destroy),
    case!(a_failure_ends_the_start),
    case!(a_failed_poststart_hook_kills_the_container),
    case!(a_failed_poststop_hook_is_reported),
    case!(a_timeout_kills_the_process_group_of_a_hook),
    case!(further_processes_have_none).once(),
    case!(all_kinds_in_a_user_namespace),
];

/// The kinds by their names in the specification, in their order.
const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Both ways to start a container.
const WAYS: [Way; 2] = [Way::AtOnce, Way::Prepared];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AtOnce,
    Prepared,
}

impl Way {
    fn start(self, sandbox: &Sandbox, config: &Config, process: Process) -> pidone::Result<Live> {
        match self {
            Self::AtOnce => sandbox.start(config, process),
            Self::Prepared => sandbox.prepare(config, process)?.release(),
        }
    }
}

fn of<'a>(hooks: &'a mut Hooks, kind: &str) -> &'a mut Vec<Hook> {
    match kind {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        _ => &mut hooks.poststop,
    }
}

/// A hook that is a script of the shell, which the host and the container have.
fn shell(script: &str) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: ["sh", "-c", script].map(str::to_owned).into(),
        env: Some(vec!["PATH=/bin:/usr/bin".into()]),
        timeout: None,
    }
}

/// A directory that is at the same place on the host and in the container.
fn shared(sandbox: &Sandbox, config: &mut Config) -> Result<PathBuf, Stop> {
    let directory = sandbox.path().join("shared");
    if !directory.exists() {
        fs::create_dir(&directory)?;
        // Whoever the container's processes are.
        fs::set_permissions(&directory, Permissions::from_mode(0o1777))?;
        sandbox.add_busybox()?;
        for name in ["readlink", "grep", "sed", "env"] {
            std::os::unix::fs::symlink("busybox", sandbox.rootfs().join("bin").join(name))?;
        }
    }
    // Root of a user namespace could not make it in a root that is not its own.
    fs::create_dir_all(sandbox.rootfs().join(directory.strip_prefix("/")?))?;
    config.mounts.push(crate::mount::bind(&directory, &directory.display().to_string(), 0));
    config.bundle.clone_from(&directory);
    Ok(directory)
}

fn read(directory: &Path, name: &str) -> Result<String, Stop> {
    let path = directory.join(name);
    let text = fs::read_to_string(&path);
    text.map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))
}

fn wait_for(done: impl Fn() -> bool) -> Outcome {
    until("the hook", || Ok(done()))
}

/// Two hooks of every kind that write their kind, their number and their pid into a log, and the
/// state into a file; the program writes too.
fn logging(config: &mut Config, directory: &Path) -> Process {
    let place = directory.display();
    for kind in KINDS {
        for number in 0..2 {
            let script =
                format!("echo {kind}{number} $$ >>{place}/log; cat >{place}/{kind}{number}");
            of(&mut config.hooks, kind).push(shell(&script));
        }
    }
    process(&["/bin/sh", "-c", &format!("echo program $$ >>{place}/log")])
}

fn run_in_their_order_with_the_state(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        let mut config = sandbox.config();
        let directory = shared(sandbox, &mut config)?;
        config.annotations = [("org.example".to_owned(), "a \"b\"\nc".to_owned())].into();
        let program = logging(&mut config, &directory);
        let mut live = match way {
            Way::AtOnce => sandbox.start(&config, program)?,
            Way::Prepared => {
                let live = sandbox.prepare(&config, program)?;
                let log = read(&directory, "log")?;
                assert_eq!(log.lines().count(), 6, "{log}");
                assert!(
                    log.lines().last().is_some_and(|line| line.starts_with("createContainer1"))
                );
                live.release()?
            }
        };
        let (id, pid) = (live.container.id().to_owned(), live.running.pid());
        live.running.wait()?;
        wait_for(|| directory.join("poststart1").exists())?;
        assert!(!directory.join("poststop0").exists());
        live.container.destroy()?;
        assert!(live.container.poststop_failures().is_empty());
        drop(live);

        let log = read(&directory, "log")?;
        let lines: Vec<(&str, &str)> =
            log.lines().filter_map(|line| line.split_once(' ')).collect();
        let position = |name: &str| lines.iter().position(|(own, _)| *own == name);
        let named = |kind: &str| [0, 1].map(|number| format!("{kind}{number}"));
        let mut expected: Vec<String> = KINDS[..4].iter().flat_map(|kind| named(kind)).collect();
        // The program runs beside the later hooks.
        assert!(position("program") > position("startContainer1"), "{log}");
        let program_at = position("program").ok_or("no program")?;
        expected.extend(KINDS[4..].iter().flat_map(|kind| named(kind)));
        let mut seen: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
        seen.remove(program_at);
        assert_eq!(seen, expected, "{way:?}");

        for (kind, status) in KINDS
            .into_iter()
            .zip(["creating", "creating", "creating", "created", "running", "stopped"])
        {
            let inside = matches!(kind, "createContainer" | "startContainer");
            let pid = if inside { 1 } else { pid };
            let mut expected = json!({
                "ociVersion": pidone::oci::VERSION,
                "id": id,
                "status": status,
                "pid": pid,
                "bundle": directory,
                "annotations": {"org.example": "a \"b\"\nc"},
            });
            if kind == "poststop" {
                expected.as_object_mut().ok_or("no object")?.remove("pid");
            }
            for name in named(kind) {
                let state: Value = serde_json::from_str(&read(&directory, &name)?)?;
                assert_eq!(state, expected, "{name}");
            }
        }
        // Ids of the pid namespace: the first free ones.
        let own = |name: &str| lines.iter().find(|(own, _)| *own == name).map(|(_, pid)| *pid);
        assert_eq!(own("createContainer0"), Some("2"));
        assert_eq!(own("program"), Some("1"));
        assert!(
            own("startContainer0")
                .and_then(|pid| pid.parse().ok())
                .is_some_and(|pid: i32| pid < 10)
        );
        fs::remove_file(directory.join("log"))?;
        for name in KINDS.iter().flat_map(|kind| named(kind)) {
            fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

/// A program of the host, in the container's namespaces and cgroup, before the root is entered.
fn create_hooks_see_host_and_root(sandbox: &Sandbox) -> Outcome {
    let secret = sandbox.path().join("secret");
    fs::write(&secret, "of the host")?;
    for way in WAYS {
        let mut config = sandbox.config();
        let directory = shared(sandbox, &mut config)?;
        let root = sandbox.rootfs();
        let (place, root, secret) = (directory.display(), root.display(), secret.display());
        let look = format!(
            "for kind in cgroup ipc mnt net pid uts; do \
               echo $kind $(readlink /proc/self/ns/$kind); \
             done >{place}/namespaces; \
             cat /proc/self/cgroup >{place}/cgroup; \
             grep Cap /proc/self/status >{place}/capabilities; \
             test -e /guest && exit 1; \
             cat {secret} >{place}/secret; \
             test -e {root}/guest || exit 2; \
             grep -q ' {root}/proc ' /proc/self/mountinfo || exit 3; \
             test -c {root}/dev/null || exit 4"
        );
        config.hooks.create_container.push(shell(&look));
        // The host's own see neither the container's mounts nor its namespaces.
        let outside = format!(
            "readlink /proc/self/ns/mnt >{place}/outside; \
             grep -q ' {root}/proc ' /proc/self/mountinfo && exit 5; exit 0"
        );
        config.hooks.create_runtime.push(shell(&outside));
        let mut live = way.start(sandbox, &config, process(&["/guest", "report", ",", "sleep"]))?;
        let report: Report = live.say()?;
        live.kill()?;

        let namespaces = read(&directory, "namespaces")?;
        assert_eq!(namespaces.lines().count(), 6);
        for line in namespaces.lines() {
            let (kind, link) = line.split_once(' ').ok_or("no link")?;
            let inode = report.namespaces.get(kind).ok_or("no namespace")?;
            // A container without its own has the host's.
            assert_eq!(link, format!("{kind}:[{inode}]"), "{way:?}");
        }
        let own = fs::read_link("/proc/self/ns/mnt")?;
        assert_eq!(read(&directory, "outside")?.trim(), own.to_string_lossy());
        assert!(read(&directory, "cgroup")?.contains(sandbox.name()));
        assert_eq!(read(&directory, "secret")?, "of the host");
        let effective = read(&directory, "capabilities")?;
        let own = fs::read_to_string("/proc/self/status")?;
        let line =
            |text: &str| text.lines().find(|line| line.starts_with("CapEff")).map(str::to_owned);
        assert_eq!(line(&effective), line(&own), "{way:?}");
    }
    Ok(())
}

/// A program of the container, with all that its own program has.
fn start_hooks_are_as_the_program(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        for filtered in [false, true] {
            let mut config = sandbox.config();
            let directory = shared(sandbox, &mut config)?;
            fs::create_dir_all(sandbox.rootfs().join("work"))?;
            config.capabilities = vec!["KILL".into(), "NET_RAW".into()];
            let refused = SeccompSyscall {
                value: u32::try_from(libc::SYS_sethostname)?,
                action: libc::EXDEV,
                args: Vec::new(),
            };
            config.seccomp = filtered.then(|| Seccomp { syscalls: vec![refused] });
            let look = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|Umask)' /proc/self/status; \
                 readlink /proc/self/ns/mnt /proc/self/ns/pid; /bin/busybox pwd; ls /; \
                 /bin/busybox hostname x 2>&1; cat /proc/self/cgroup";
            let place = directory.display();
            config.hooks.start_container.push(shell(&format!("({look}) >{place}/hook")));
            let script = format!("({look}) >{place}/program");
            let mut program = process(&["/bin/sh", "-c", &script]);
            program.user = "1000:29".into();
            program.cwd = "/work".into();
            let mut live = way.start(sandbox, &config, program)?;
            live.running.wait()?;
            live.container.destroy()?;
            let hook = read(&directory, "hook")?;
            assert_eq!(hook, read(&directory, "program")?, "{way:?}");
            assert!(hook.contains("Uid:\t1000\t1000"), "{hook}");
            assert!(hook.contains("/work\n") && hook.contains("guest\n"), "{hook}");
            let mode = format!("Seccomp:\t{}\n", if filtered { 2 } else { 0 });
            assert!(hook.contains(&mode), "{hook}");
            assert_eq!(hook.contains("Invalid cross-device link"), filtered, "{hook}");
            for name in ["hook", "program"] {
                fs::remove_file(directory.join(name))?;
            }
        }
    }
    Ok(())
}

fn get_their_environment_and_no_descriptors(sandbox: &Sandbox) -> Outcome {
    // One that this process forgot to close at exec.
    let leaked = fs::File::open("/dev/null")?;
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty())?;
    for way in WAYS {
        let mut config = sandbox.config();
        let directory = shared(sandbox, &mut config)?;
        let place = directory.display();
        for kind in KINDS {
            // The hook of the host in the container's namespaces has another id in this proc.
            let script = format!(
                "set -- /proc/self/fd/*; echo \"$@\" >{place}/descriptors; \
                 cat </proc/self/environ >{place}/{kind}; cat {place}/descriptors >{place}/{kind}.fd; \
                 exit 0"
            );
            let mut hook = shell(&script);
            hook.env = Some(vec!["A=b=c".into(), "EMPTY=".into(), "PATH=/bin:/usr/bin".into()]);
            of(&mut config.hooks, kind).push(hook);
        }
        let live = way.start(sandbox, &config, process(&["/guest", "sleep"]))?;
        live.kill()?;
        for kind in KINDS {
            let environment = read(&directory, kind)?;
            assert_eq!(environment, "A=b=c\0EMPTY=\0PATH=/bin:/usr/bin\0", "{kind}");
            let descriptors = read(&directory, &format!("{kind}.fd"))?;
            let numbers: Vec<&str> = descriptors
                .split_whitespace()
                .filter_map(|path| path.rsplit_once('/').map(|(_, number)| number))
                .collect();
            // While it lists them the shell has the directory open.
            let mut known = vec!["0", "1", "2"];
            known.extend(numbers.get(3));
            assert_eq!(numbers, known, "{kind}");
        }
        for kind in KINDS {
            fs::remove_file(directory.join(kind))?;
        }
    }
    drop(leaked);
    Ok(())
}

fn poststart_runs_after_exec(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        let mut config = sandbox.config();
        let directory = shared(sandbox, &mut config)?;
        let script = format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
             cat /proc/$pid/comm >{place}/name; readlink /proc/self/ns/pid >{place}/namespace",
            place = directory.display()
        );
        config.hooks.poststart.push(shell(&script));
        let live = way.start(sandbox, &config, process(&["/guest", "sleep"]))?;
        // It has ended before the start is done.
        assert_eq!(read(&directory, "name")?, "guest\n", "{way:?}");
        let own = fs::read_link("/proc/self/ns/pid")?;
        assert_eq!(read(&directory, "namespace")?.trim(), own.to_string_lossy());
        live.kill()?;
        fs::remove_file(directory.join("name"))?;
    }
    Ok(())
}

fn poststop_runs_after_destroy(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        let mut config = sandbox.config();
        let directory = shared(sandbox, &mut config)?;
        let states = sandbox.factory().root().display().to_string();
        let script = format!("/bin/ls {states} >{}/left", directory.display());
        config.hooks.poststop.push(shell(&script));
        let mut live = way.start(sandbox, &config, process(&["/guest", "sleep"]))?;
        live.container.kill()?;
        live.running.wait()?;
        assert!(!directory.join("left").exists());
        // A handle removes it that did not start it.
        let id = live.container.id().to_owned();
        sandbox.factory().load(&id)?.destroy()?;
        assert_eq!(read(&directory, "left")?, "", "{way:?}");
        fs::remove_file(directory.join("left"))?;
    }
    Ok(())
}

/// Whatever fails before the program comes ends the start, which names it.
fn a_failure_ends_the_start(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        for kind in &KINDS[..4] {
            let mut config = sandbox.config();
            let directory = shared(sandbox, &mut config)?;
            let program = logging(&mut config, &directory);
            of(&mut config.hooks, kind).insert(1, shell("echo the reason >&2; exit 3"));
            let error = way.start(sandbox, &config, program).err().ok_or("started")?;
            let text = error.to_string();
            let expected = format!("hook `{kind}[1] /bin/sh`: exited with status 3 (the reason)");
            assert!(text.ends_with(&expected) || text.contains(&expected), "{text}");
            let log = read(&directory, "log")?;
            let mut seen =
                log.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
            assert!(seen.clone().any(|name| name == format!("{kind}0")), "{log}");
            assert!(
                !seen.clone().any(|name| name == "program" || name == format!("{kind}1")),
                "{log}"
            );
            assert!(!seen.any(|name| name == "poststart0"), "{log}");
            nothing_is_left(sandbox)?;
            fs::remove_file(directory.join("log"))?;
        }
        // What cannot be executed at all, on either side.
        for kind in &KINDS[..4] {
            let mut config = sandbox.config();
            shared(sandbox, &mut config)?;
            let missing = Hook { path: "/no/such/hook".into(), ..Hook::default() };
            of(&mut config.hooks, kind).push(missing);
            let program = process(&["/guest", "sleep"]);
            let error = way.start(sandbox, &config, program).err().ok_or("started")?.to_string();
            assert!(error.contains(&format!("hook `{kind}[0] /no/such/hook`")), "{error}");
            assert!(error.to_lowercase().contains("no such file or directory"), "{error}");
            nothing_is_left(sandbox)?;
        }
    }
    Ok(())
}

fn nothing_is_left(sandbox: &Sandbox) -> Outcome {
    let left = pidone_tests::leftover::cgroups(sandbox.name());
    assert!(left.is_empty(), "{left:?}");
    let processes = pidone_tests::leftover::processes(sandbox.name());
    assert!(processes.is_empty(), "{processes:?}");
    assert!(sandbox.factory().list()?.is_empty());
    Ok(())
}

fn a_failed_poststart_hook_kills_the_container(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        let mut config = sandbox.config();
        shared(sandbox, &mut config)?;
        config.hooks.poststart = vec![shell("exit 0"), shell("kill -9 $$")];
        let error =
            way.start(sandbox, &config, process(&["/guest", "sleep"])).err().ok_or("started")?;
        let expected = "hook `poststart[1] /bin/sh`: killed by signal 9";
        assert_eq!(error.to_string(), expected, "{way:?}");
        nothing_is_left(sandbox)?;
    }
    Ok(())
}

fn a_failed_poststop_hook_is_reported(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        let mut config = sandbox.config();
        let directory = shared(sandbox, &mut config)?;
        let touch = format!(": >{}/last", directory.display());
        config.hooks.poststop = vec![shell("echo why >&2; exit 4"), shell(&touch)];
        let mut live = way.start(sandbox, &config, process(&["/guest", "exit", "0"]))?;
        live.running.wait()?;
        live.container.destroy()?;
        let failures = live.container.poststop_failures();
        let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert_eq!(failures, ["hook `poststop[0] /bin/sh`: exited with status 4 (why)"]);
        assert!(live.container.poststop_failures().is_empty());
        assert!(directory.join("last").exists(), "the others run all the same");
        nothing_is_left(sandbox)?;
        fs::remove_file(directory.join("last"))?;
    }
    Ok(())
}

/// Also what a hook has started inside, in a pid namespace where nobody else would end it.
fn a_timeout_kills_the_process_group_of_a_hook(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
            let mut config = sandbox.config();
            let directory = shared(sandbox, &mut config)?;
            // The child writes if it is not killed.
            let script = format!(
                "PATH=/bin; sh -c 'until [ -e {place}/go ]; do sleep 0.05; done; \
                 : >{place}/outlived' & : >{place}/began; wait",
                place = directory.display()
            );
            of(&mut config.hooks, kind).push(Hook { timeout: Some(1), ..shell(&script) });
            let program = process(&["/guest", "sleep"]);
            let error = way.start(sandbox, &config, program).err().ok_or("started")?.to_string();
            let expected = format!("hook `{kind}[0] /bin/sh`: not done after 1 s, and killed");
            assert!(error.contains(&expected), "{error}");
            assert!(directory.join("began").exists());
            nothing_is_left(sandbox)?;
            fs::remove_file(directory.join("began"))?;
        }
    }
    fs::write(sandbox.path().join("shared/go"), "")?;
    // Long enough for one that lives.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!sandbox.path().join("shared/outlived").exists());
    Ok(())
}

fn further_processes_have_none(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let directory = shared(sandbox, &mut config)?;
    logging(&mut config, &directory);
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let before = read(&directory, "log")?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "exit", "0"]))?;
    running.wait()?;
    assert_eq!(read(&directory, "log")?, before);
    live.kill()?;
    Ok(())
}

fn all_kinds_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    for way in WAYS {
        let mut config = sandbox.config();
        let map = vec![pidone::config::IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
        config.set_id_maps(map.clone(), map);
        let directory = shared(sandbox, &mut config)?;
        let place = directory.display().to_string();
        let mut program = logging(&mut config, &directory);
        // Both sides append.
        fs::write(directory.join("log"), "")?;
        fs::set_permissions(directory.join("log"), Permissions::from_mode(0o666))?;
        for kind in ["createContainer", "startContainer"] {
            let script = format!(
                "readlink /proc/self/ns/user >{place}/{kind}.user; id -u >{place}/{kind}.id"
            );
            of(&mut config.hooks, kind).push(shell(&script));
        }
        program.user = "1000".into();
        let mut live = way.start(sandbox, &config, program)?;
        let own = fs::read_link("/proc/self/ns/user")?;
        let inside = read(&directory, "createContainer.user")?;
        assert_ne!(inside.trim(), own.to_string_lossy());
        assert_eq!(read(&directory, "startContainer.user")?, inside);
        assert_eq!(read(&directory, "createContainer.id")?, "0\n");
        assert_eq!(read(&directory, "startContainer.id")?, "1000\n");
        live.running.wait()?;
        live.container.destroy()?;
        assert_eq!(read(&directory, "log")?.lines().count(), 13);
        fs::remove_dir_all(&directory)?;
        fs::remove_dir_all(sandbox.rootfs().join("bin"))?;
        fs::create_dir(sandbox.rootfs().join("bin"))?;
    }
    Ok(())
}
