//! Containers by id: made, loaded, listed, destroyed; by several at once, and after a crash.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::thread;
use std::time::{Duration, Instant};

use pidone::config::NamespaceType;
use pidone::{Code, Factory, Options, Status, Strategy};
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, eventually, leftover, process};

use crate::role;

pub(crate) const CASES: &[Case] = &[
    case!(states_of_a_life).and_unified(),
    case!(the_state_file_is_as_libcontainers),
    case!(state_files_are_readable_by_their_owner_only),
    case!(wrong_ids_are_refused).once(),
    case!(what_does_not_exist).once(),
    case!(a_running_container_is_not_destroyed).and_unified(),
    case!(loaded_by_another_handle).and_unified(),
    case!(all_are_listed).once(),
    case!(one_of_twelve_creates_of_an_id_succeeds).once(),
    case!(one_of_many_destroys_succeeds_and_the_others_fail).once(),
    case!(many_threads_start_at_once).and_unified(),
    case!(hundreds_of_containers_end_at_once).once(),
    case!(started_again_and_again),
    case!(nothing_is_left_of_a_failed_start).and_unified(),
    case!(nothing_is_left_of_a_killed_starter).and_unified(),
    case!(a_container_with_a_damaged_state_file_can_be_destroyed),
    case!(a_reused_pid_is_not_signalled),
    case!(the_root_may_vanish),
    case!(the_end_of_the_first_is_the_end_of_all),
    case!(the_end_of_the_first_is_the_end_without_a_pid_namespace).and_unified(),
    case!(a_thread_may_end_before_the_container),
    case!(dies_with_its_starter),
    case!(outlives_its_starter_if_asked).and_unified(),
    case!(the_host_is_as_before).once(),
];

fn states_of_a_life(sandbox: &Sandbox) -> Outcome {
    let mut container = sandbox.create(&sandbox.config())?;
    assert_eq!(container.status()?, Status::Destroyed);
    assert_eq!(container.state().err().ok_or("a state")?.code(), Code::ContainerNotExists);
    let mut running = sandbox.join(&mut container, process(&["/guest", "sleep"]))?;
    assert_eq!(container.status()?, Status::Running);
    assert_eq!(container.state()?.init_process_pid, running.pid());
    container.kill()?;
    assert_eq!(container.status()?, Status::Destroyed);
    assert_eq!(running.wait()?.signal, Some(libc::SIGKILL));
    container.destroy()?;
    let id = container.id().to_owned();
    assert_eq!(sandbox.factory().load(&id).err().ok_or("loaded")?.code(), Code::ContainerNotExists);
    assert!(container.destroy().is_err());
    Ok(())
}

/// The seed's `ContainerState`.
fn the_state_file_is_as_libcontainers(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.remove_namespace(NamespaceType::Ipc);
    let live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let state = live.container.state()?;
    for kind in NamespaceType::ALL {
        let path = state.namespace_paths.get(&kind).ok_or("no path")?;
        let own = format!("/proc/{}/ns/{}", live.running.pid(), kind.file());
        assert_eq!(fs::metadata(path)?.ino(), fs::metadata(own)?.ino(), "{kind}");
    }
    assert!(!state.cgroup_paths.is_empty());
    for path in state.cgroup_paths.values() {
        let pids = fs::read_to_string(path.join("cgroup.procs"))?;
        assert!(pids.lines().any(|pid| pid == live.running.pid().to_string()), "{path:?}");
    }
    assert_eq!(state.config, config);
    let file = sandbox.factory().root().join(live.container.id()).join("state.json");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(file)?)?;
    for field in [
        "id",
        "init_process_pid",
        "init_process_start",
        "cgroup_paths",
        "namespace_paths",
        "config",
    ] {
        assert!(!json[field].is_null(), "{field}");
    }
    for kind in ["NEWNET", "NEWPID", "NEWNS", "NEWUTS", "NEWIPC", "NEWUSER"] {
        assert!(json["namespace_paths"][kind].is_string(), "{kind}");
    }
    assert_eq!(json["init_process_pid"], live.running.pid());
    live.kill()?;
    Ok(())
}

fn state_files_are_readable_by_their_owner_only(sandbox: &Sandbox) -> Outcome {
    let live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let mut left = vec![sandbox.factory().root().to_owned()];
    let mut count = 0;
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata()?;
        count += 1;
        if metadata.is_dir() {
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o700, "{path:?}");
            for entry in path.read_dir()? {
                left.push(entry?.path());
            }
        } else {
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o600, "{path:?}");
        }
    }
    assert!(count > 3);
    live.kill()?;
    Ok(())
}

fn wrong_ids_are_refused(sandbox: &Sandbox) -> Outcome {
    let long = "x".repeat(1025);
    for id in ["", ".", "..", "a/b", "../x", "-x", "a b", "ä", "a\0", "a\n", &long] {
        let config = sandbox.config();
        let created = sandbox.factory().create(id, &config).err().ok_or(id.to_owned())?;
        let loaded = sandbox.factory().load(id).err().ok_or(id.to_owned())?;
        assert_eq!((created.code(), loaded.code()), (Code::InvalidIdFormat, Code::InvalidIdFormat));
    }
    // A name that the file system takes is 255 bytes long.
    for id in ["a", "_", "A-b.c_d+e", ".x", &"x".repeat(255)] {
        let mut container = sandbox.factory().create(id, &sandbox.config())?;
        let error = sandbox.factory().create(id, &sandbox.config()).err().ok_or(id.to_owned())?;
        assert_eq!(error.code(), Code::IdInUse);
        container.destroy()?;
    }
    Ok(())
}

fn what_does_not_exist(sandbox: &Sandbox) -> Outcome {
    assert_eq!(sandbox.factory().load("x").err().ok_or("loaded")?.code(), Code::ContainerNotExists);
    let mut config = sandbox.config();
    config.rootfs = sandbox.path().join("missing");
    let error = sandbox.create(&config).err().ok_or("created")?;
    assert_eq!(error.code(), Code::ConfigInvalid);
    // A link in its path is refused, and so is what is no directory.
    std::os::unix::fs::symlink(sandbox.rootfs(), sandbox.path().join("link"))?;
    for name in ["link", "link/etc", "rootfs/guest", "rootfs/../rootfs", "rootfs/"] {
        config.rootfs = sandbox.path().join(name);
        assert!(sandbox.create(&config).is_err(), "{name}");
    }
    assert!(sandbox.factory().list()?.is_empty());
    // States of somebody else are not looked at.
    let foreign = sandbox.path().join("foreign");
    fs::create_dir(&foreign)?;
    std::os::unix::fs::chown(&foreign, Some(1000), Some(1000))?;
    assert!(Factory::new(&foreign, Options::default()).is_err());
    Ok(())
}

fn a_running_container_is_not_destroyed(sandbox: &Sandbox) -> Outcome {
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let error = live.container.destroy().err().ok_or("destroyed")?;
    assert_eq!(error.code(), Code::ContainerNotStopped);
    assert_eq!(live.container.status()?, Status::Running);
    live.container.pause()?;
    let error = live.container.destroy().err().ok_or("destroyed")?;
    assert_eq!(error.code(), Code::ContainerNotStopped);
    // A paused container can be killed.
    live.kill()?;
    Ok(())
}

fn loaded_by_another_handle(sandbox: &Sandbox) -> Outcome {
    let config = sandbox.config();
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let mut other = sandbox.factory().load(live.container.id())?;
    assert_eq!(other.status()?, Status::Running);
    assert_eq!(other.config(), &config);
    assert_eq!(other.processes()?, [live.running.pid()]);
    let mut running = sandbox.join(&mut other, process(&["/guest", "exit", "3"]))?;
    assert_eq!(running.wait()?.code, Some(3));
    other.pause()?;
    assert_eq!(live.container.status()?, Status::Paused);
    live.container.resume()?;
    assert_eq!(other.status()?, Status::Running);
    other.kill()?;
    live.running.wait()?;
    other.destroy()?;
    assert!(live.container.destroy().is_err());
    Ok(())
}

fn all_are_listed(sandbox: &Sandbox) -> Outcome {
    let mut containers = Vec::new();
    for id in ["b", "a", "c"] {
        containers.push(sandbox.factory().create(id, &sandbox.config())?);
    }
    // What is no container does not disturb.
    fs::write(sandbox.factory().root().join("not an id"), "x")?;
    assert_eq!(sandbox.factory().list()?, ["a", "b", "c"]);
    for mut container in containers {
        container.destroy()?;
    }
    assert!(sandbox.factory().list()?.is_empty());
    Ok(fs::remove_file(sandbox.factory().root().join("not an id"))?)
}

fn one_of_twelve_creates_of_an_id_succeeds(sandbox: &Sandbox) -> Outcome {
    for _ in 0..5 {
        let config = sandbox.config();
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..12)
                .map(|_| scope.spawn(|| sandbox.factory().create("same", &config)))
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 11));
        for error in lost.into_iter().filter_map(Result::err) {
            assert_eq!(error.code(), Code::IdInUse, "{error}");
        }
        sandbox.factory().load("same")?.destroy()?;
    }
    Ok(())
}

fn one_of_many_destroys_succeeds_and_the_others_fail(sandbox: &Sandbox) -> Outcome {
    for _ in 0..10 {
        let container = sandbox.create(&sandbox.config())?;
        let id = container.id();
        let results: Vec<_> = thread::scope(|scope| {
            let destroy = || sandbox.factory().load(id).and_then(|mut loaded| loaded.destroy());
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(destroy)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.code(), Code::ContainerNotExists, "{error}");
        }
    }
    Ok(())
}

fn many_threads_start_at_once(sandbox: &Sandbox) -> Outcome {
    thread::scope(|scope| -> Outcome {
        let threads: Vec<_> = (0..8)
            .map(|number: i32| {
                scope.spawn(move || -> Outcome {
                    for round in 0..8 {
                        let mut config = sandbox.config();
                        if let Some(cgroup) = &mut config.cgroups {
                            cgroup.name.push_str(&format!("-{number}"));
                        }
                        config.hostname = format!("host-{number}-{round}");
                        let report = sandbox.report(&config)?;
                        assert_eq!((report.hostname, report.pid), (config.hostname, 1));
                        let numbers: Vec<u32> =
                            report.descriptors.iter().map(|seen| seen.number).collect();
                        assert_eq!(numbers, [0, 1, 2]);
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })
}

fn hundreds_of_containers_end_at_once(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.cgroups = None;
    let mut container = sandbox.create(&config)?;
    for round in 0..400 {
        let code = round % 256;
        let mut running =
            sandbox.join(&mut container, process(&["/guest", "exit", &code.to_string()]))?;
        assert_eq!(running.wait()?.code, Some(code));
    }
    container.destroy()?;
    Ok(())
}

fn started_again_and_again(sandbox: &Sandbox) -> Outcome {
    let mut container = sandbox.create(&sandbox.config())?;
    for round in 0..10 {
        let mut running = sandbox
            .join(&mut container, process(&["/guest", "exit", &round.to_string()]))
            .map_err(|error| format!("round {round}: {error}"))?;
        assert_eq!(running.wait()?.code, Some(round));
        assert_eq!(container.status()?, Status::Destroyed);
    }
    container.destroy()?;
    Ok(())
}

fn nothing_is_left_of_a_failed_start(sandbox: &Sandbox) -> Outcome {
    let mut container = sandbox.create(&sandbox.config())?;
    let before = fs::read_dir("/proc/self/fd")?.count();
    for _ in 0..3 {
        assert!(sandbox.join(&mut container, process(&["/missing"])).is_err());
        let left = leftover::of(sandbox.name(), &sandbox.path());
        assert_eq!(left, [] as [String; 0]);
    }
    // Others may be at work.
    let _ = before;
    // It can still be started.
    let mut running = sandbox.join(&mut container, process(&["/guest", "exit", "0"]))?;
    assert_eq!(running.wait()?.code, Some(0));
    container.destroy()?;
    Ok(())
}

/// The strategy of a sandbox.
fn strategy(sandbox: &Sandbox) -> Strategy {
    sandbox.options().strategy
}

/// Loads, kills and destroys what may be there of a container whose starter is dead.
fn clean(sandbox: &Sandbox, id: &str) -> Outcome {
    match sandbox.factory().load(id) {
        Ok(mut container) => {
            container.kill()?;
            Ok(container.destroy()?)
        }
        // It had not come so far.
        Err(error) if error.code() == Code::ContainerNotExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whatever is left when a starter is killed at any moment, one destroy removes.
fn nothing_is_left_of_a_killed_starter(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.parent_death_signal = 0;
    // How long one takes here and now.
    let begun = Instant::now();
    let mut whole = role::starter(sandbox, "whole", strategy(sandbox), &config)?;
    role::pid(&mut whole)?;
    let takes = begun.elapsed();
    whole.kill()?;
    whole.wait()?;
    clean(sandbox, "whole")?;
    for round in 0..20 {
        let mut starter = role::starter(sandbox, "killed", strategy(sandbox), &config)?;
        // Kills it at another moment in each round.
        thread::sleep(takes * round / 20);
        starter.kill()?;
        starter.wait()?;
        clean(sandbox, "killed").map_err(|error| format!("round {round}: {error:?}"))?;
        let left = leftover::settled(|| leftover::of(sandbox.name(), &sandbox.path()));
        assert!(left.is_empty(), "round {round}: {left:?}");
        // The id is free.
        sandbox.factory().create("killed", &config)?.destroy()?;
    }
    Ok(())
}

fn a_container_with_a_damaged_state_file_can_be_destroyed(sandbox: &Sandbox) -> Outcome {
    for damage in ["", "{", "null", "[1]", "{\"id\": 5}", "\u{0}\u{0}"] {
        let live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
        let id = live.container.id().to_owned();
        let file = sandbox.factory().root().join(&id).join("state.json");
        fs::write(&file, damage)?;
        assert_eq!(sandbox.factory().list()?, [id.as_str()]);
        let mut loaded = sandbox.factory().load(&id)?;
        assert_eq!(loaded.status()?, Status::Running, "{damage:?}");
        loaded.kill()?;
        loaded.destroy()?;
        assert_eq!(leftover::cgroups(sandbox.name()), [] as [String; 0], "{damage:?}");
        drop(live);
    }
    // Or gone altogether.
    let live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let id = live.container.id().to_owned();
    fs::remove_file(sandbox.factory().root().join(&id).join("state.json"))?;
    let mut loaded = sandbox.factory().load(&id)?;
    loaded.kill()?;
    loaded.destroy()?;
    Ok(())
}

/// A number that was given again must not be taken for the container's process.
fn a_reused_pid_is_not_signalled(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.cgroups = None;
    let mut container = sandbox.create(&config)?;
    let mut running = sandbox.join(&mut container, process(&["/guest", "exit", "0"]))?;
    running.wait()?;
    // Times are kept in ticks of 10 ms: that of the other process is to be another one.
    thread::sleep(Duration::from_millis(30));
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn()?;
    let file = sandbox.factory().root().join(container.id()).join("state.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    json["init_process_pid"] = stranger.id().into();
    fs::write(&file, json.to_string())?;
    let mut loaded = sandbox.factory().load(container.id())?;
    assert_eq!(loaded.status()?, Status::Destroyed);
    assert!(loaded.signal(libc::SIGKILL).is_err());
    loaded.kill()?;
    loaded.destroy()?;
    assert!(stranger.try_wait()?.is_none(), "the stranger was killed");
    stranger.kill()?;
    stranger.wait()?;
    Ok(())
}

fn the_root_may_vanish(sandbox: &Sandbox) -> Outcome {
    let live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    fs::remove_dir_all(sandbox.rootfs())?;
    live.kill()?;
    sandbox.make_root(&sandbox.rootfs())?;
    let mut container = sandbox.create(&sandbox.config())?;
    fs::remove_dir_all(sandbox.rootfs())?;
    assert!(sandbox.join(&mut container, process(&["/guest"])).is_err());
    container.destroy()?;
    Ok(())
}

fn the_end_of_the_first_is_the_end_of_all(sandbox: &Sandbox) -> Outcome {
    let mut live =
        sandbox.start(&sandbox.config(), process(&["/guest", "fork", "5", ",", "sleep", "200"]))?;
    live.line()?;
    assert_eq!(live.container.processes()?.len(), 6);
    live.finish()?;
    assert_eq!(leftover::processes(sandbox.name()), [] as [String; 0]);
    Ok(())
}

fn the_end_of_the_first_is_the_end_without_a_pid_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.remove_namespace(NamespaceType::Pid);
    let mut forks = process(&["/guest", "fork", "5", ",", "echo"]);
    forks.stdin = pidone::Stdio::Pipe;
    // The children keep the pipe open: what counts is the end of the first.
    forks.stderr = pidone::Stdio::Null;
    let mut live = sandbox.start(&config, forks)?;
    live.line()?;
    assert_eq!(live.container.processes()?.len(), 6);
    drop(live.running.stdin.take());
    assert_eq!(live.running.wait()?.code, Some(0));
    assert_eq!(leftover::processes(sandbox.name()), [] as [String; 0]);
    live.container.destroy()?;
    Ok(())
}

/// The parent-death signal fires when the thread ends that cloned.
fn a_thread_may_end_before_the_container(sandbox: &Sandbox) -> Outcome {
    let config = sandbox.config();
    assert_eq!(config.parent_death_signal, libc::SIGKILL);
    let live = thread::scope(|scope| {
        scope
            .spawn(|| sandbox.start(&config, process(&["/guest", "sleep"])))
            .join()
            .map_err(|_| "the thread panicked")
    })??;
    // Long enough for a signal to end it.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(live.container.status()?, Status::Running);
    live.running.signal(0)?;
    live.kill()?;
    Ok(())
}

/// Waits for a process that is no child to end. Returns whether it does.
fn ends(pid: i32) -> bool {
    // Gone, or a zombie whose new parent is slow.
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat"));
    eventually(|| stat().map_or(true, |stat| stat.contains(") Z")))
}

fn dies_with_its_starter(sandbox: &Sandbox) -> Outcome {
    let config = sandbox.config();
    for user_namespace in [false, true] {
        let mut config = config.clone();
        if user_namespace {
            let map =
                vec![pidone::config::IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
            config.set_id_maps(map.clone(), map);
        }
        let mut starter = role::starter(sandbox, "dies", strategy(sandbox), &config)?;
        let pid = role::pid(&mut starter)?;
        let loaded = sandbox.factory().load("dies")?;
        assert_eq!(loaded.status()?, Status::Running);
        starter.kill()?;
        starter.wait()?;
        assert!(ends(pid), "{pid} lives on");
        assert_eq!(loaded.status()?, Status::Destroyed);
        clean(sandbox, "dies")?;
    }
    Ok(())
}

fn outlives_its_starter_if_asked(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.parent_death_signal = 0;
    let mut starter = role::starter(sandbox, "lives", strategy(sandbox), &config)?;
    let pid = role::pid(&mut starter)?;
    drop(starter.stdin.take());
    assert!(starter.wait()?.success());
    let mut loaded = sandbox.factory().load("lives")?;
    assert_eq!(loaded.status()?, Status::Running);
    let mut running = sandbox.join(&mut loaded, process(&["/guest", "exit", "8"]))?;
    assert_eq!(running.wait()?.code, Some(8));
    loaded.pause()?;
    assert_eq!(loaded.status()?, Status::Paused);
    loaded.kill()?;
    assert!(ends(pid));
    loaded.destroy()?;
    Ok(())
}

fn the_host_is_as_before(sandbox: &Sandbox) -> Outcome {
    let seen = || -> Result<_, Stop> {
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o27));
        nix::sys::stat::umask(umask);
        Ok((
            std::env::current_dir()?,
            umask,
            std::env::vars_os().count(),
            fs::read_to_string("/proc/self/oom_score_adj")?,
            rustix::system::uname().nodename().to_owned(),
            fs::metadata("/proc/self/ns/mnt")?.ino(),
            fs::metadata("/")?.ino(),
        ))
    };
    let before = seen()?;
    sandbox.report(&sandbox.config())?;
    assert_eq!(seen()?, before);
    Ok(())
}
