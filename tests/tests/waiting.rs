//! A container that is made and waits for its start: what those inside can get at.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use pidone::config::{IdMap, NamespaceType};
use pidone_tests::{Case, Outcome, Report, Sandbox, case, output, process, until};

pub(crate) const CASES: &[Case] = &[
    case!(has_stdio_and_a_socket_open),
    case!(has_the_container_as_its_root).and_init(),
    case!(processes_inside_cannot_reach_it),
    case!(is_not_dumpable),
    case!(joining_processes_hold_nothing_of_the_host).and_init(),
];

/// What is open in a process, by number.
fn descriptors(pid: i32) -> Result<Vec<(u32, String)>, pidone_tests::Stop> {
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse()?;
        // One that is closed meanwhile is none.
        if let Ok(target) = fs::read_link(entry.path()) {
            open.push((number, target.to_string_lossy().into_owned()));
        }
    }
    open.sort_unstable();
    Ok(open)
}

fn has_stdio_and_a_socket_open(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    // With mounts, a keyring and hooks there are descriptors to close.
    let source = sandbox.path().join("source");
    fs::create_dir(&source)?;
    config.mounts.push(crate::mount::bind(&source, "/m", 0));
    config.new_keyring = true;
    let hook = pidone::config::Hook { path: "/guest".into(), ..Default::default() };
    config.hooks.start_container.push(hook);
    let live = sandbox.prepare(&config, process(&["/guest", "sleep"]))?;
    // The connection to the process that prepared it closes after the message that it waits.
    let mut open = Vec::new();
    until("the connection closes", || {
        open = descriptors(live.running.pid())?;
        assert!(open[3..].iter().all(|(_, target)| target.starts_with("socket:")), "{open:?}");
        Ok(open.len() <= 4)
    })?;
    let numbers: Vec<u32> = open.iter().map(|(number, _)| *number).collect();
    assert!(numbers.len() == 4 && numbers[..3] == [0, 1, 2], "{open:?}");
    assert!(open[3].1.starts_with("socket:"), "{open:?}");
    let live = live.release()?;
    assert_eq!(descriptors(live.running.pid())?.len(), 3);
    live.kill()?;
    Ok(())
}

fn has_the_container_as_its_root(sandbox: &Sandbox) -> Outcome {
    let live = sandbox.prepare(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let root = fs::metadata(sandbox.rootfs())?;
    for link in ["root", "cwd"] {
        let own = fs::metadata(format!("/proc/{}/{link}", live.running.pid()))?;
        assert_eq!((own.dev(), own.ino()), (root.dev(), root.ino()), "{link}");
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", live.running.pid()))?;
    let of_host = |line: &&str| line.contains(&sandbox.path().display().to_string());
    let shown: Vec<&str> = mounts.lines().filter(of_host).collect();
    assert_eq!(shown.len(), 1, "only the root comes from there: {shown:?}");
    live.release()?.kill()?;
    Ok(())
}

/// A process without `CAP_SYS_PTRACE` reaches nothing that the waiting init has, which has all
/// capabilities itself.
fn processes_inside_cannot_reach_it(sandbox: &Sandbox) -> Outcome {
    let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    for in_user_namespace in [false, true] {
        let mut config = sandbox.config();
        if in_user_namespace {
            config.set_id_maps(map.clone(), map.clone());
        }
        let mut live = sandbox.prepare(&config, process(&["/guest", "sleep"]))?;
        let commands = [
            "/guest",
            "open",
            "/proc/1/mem",
            "0",
            ",",
            "open",
            "/proc/1/environ",
            "0",
            ",",
            "open",
            "/proc/1/root/etc",
            "0",
            ",",
            "open",
            "/proc/1/cwd",
            "0",
            ",",
            "open",
            "/proc/1/exe",
            "0",
        ];
        let mut running = sandbox.join(&mut live.container, process(&commands))?;
        let seen: Vec<i32> = output(&mut running)?.lines()?;
        assert_eq!(seen, [libc::EACCES; 5], "{in_user_namespace}");
        // The control: once the program runs it is as any other.
        let mut live = live.release()?;
        let mut running = sandbox.join(&mut live.container, process(&commands))?;
        let seen: Vec<i32> = output(&mut running)?.lines()?;
        assert_eq!(seen, [0; 5]);
        live.kill()?;
    }
    Ok(())
}

/// Its files in `/proc` are root's then, where a program's would be its user's: proc(5).
fn is_not_dumpable(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    config.set_id_maps(map.clone(), map);
    let other = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    // In a user namespace that the init joins it is the host's root.
    let mut config = sandbox.config();
    let file = format!("/proc/{}/ns/user", other.running.pid());
    config.set_namespace(NamespaceType::User, file);
    config.cgroups.as_mut().ok_or("no cgroup")?.name += "-second";
    let live = sandbox.prepare(&config, process(&["/guest", "sleep"]))?;
    let owner = |pid| fs::metadata(format!("/proc/{pid}/fd")).map(|own| own.uid());
    assert_eq!(owner(live.running.pid())?, 0);
    let live = live.release()?;
    assert_eq!(owner(live.running.pid())?, 100_000);
    live.kill()?;
    other.kill()?;
    Ok(())
}

fn joining_processes_hold_nothing_of_the_host(sandbox: &Sandbox) -> Outcome {
    // One that this process forgot to close at exec.
    let leaked = fs::File::open("/")?;
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty())?;
    let mut live =
        sandbox.prepare(&sandbox.config(), process(&["/guest", "report", ",", "sleep"]))?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest"]))?;
    let joined: Report = output(&mut running)?.lines()?.pop().ok_or("no report")?;
    let mut live = live.release()?;
    let first: Report = live.say()?;
    drop(leaked);
    for report in [&joined, &first] {
        let numbers: Vec<u32> = report.descriptors.iter().map(|own| own.number).collect();
        assert_eq!(numbers, [0, 1, 2]);
    }
    assert_eq!(joined.namespaces, first.namespaces);
    assert_eq!(joined.root, first.root);
    assert!(joined.pid > 1);
    live.kill()?;
    Ok(())
}
