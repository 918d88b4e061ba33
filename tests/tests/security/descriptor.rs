//! Descriptors of the host that are open where a container begins.

use std::fs::File;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::os::unix::fs::symlink;

use pidone_tests::canary::Canary;
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, output, process};
use serde::Deserialize;

use super::naive::Naive;

pub(crate) const CASES: &[Case] = &[
    case!(the_working_directory_is_none_of_them).alone(),
    case!(the_program_is_none_of_them).alone(),
    case!(processes_that_join_hold_none).and_init(),
];

/// Opens a directory of the host so that every program that is executed would have it.
fn leak(canary: &Canary) -> Result<i32, Stop> {
    let directory = File::open(canary.path())?;
    let leaked = rustix::io::dup(&directory)?;
    assert!(!rustix::io::fcntl_getfd(&leaked)?.contains(rustix::io::FdFlags::CLOEXEC));
    // For the life of this process, which runs one case.
    Ok(leaked.into_raw_fd())
}

/// CVE-2024-21626.
fn the_working_directory_is_none_of_them(sandbox: &Sandbox) -> Outcome {
    let canary = Canary::new(sandbox.path().join("canary"))?;
    let leaked = leak(&canary)?;
    let root = sandbox.path().join("naive");
    sandbox.make_root(&root)?;
    let naive = Naive {
        root,
        mounts: vec![("proc".into(), "proc".into())],
        cwd: format!("/proc/self/fd/{leaked}"),
        args: ["/guest", "read", "file"].map(str::to_owned).into(),
        ..Naive::default()
    };
    let text = String::from_utf8_lossy(&naive.run()?.stdout).into_owned();
    assert!(text.contains("canary file"), "the bait does not work: {text}");

    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let link = sandbox.rootfs().join("link");
    for number in 0..32 {
        let _ = std::fs::remove_file(&link);
        symlink(format!("/proc/self/fd/{number}"), &link)?;
        let cwds = [
            format!("/proc/self/fd/{number}"),
            format!("/proc/1/fd/{number}"),
            format!("/proc/thread-self/fd/{number}/../.."),
            "/link".to_owned(),
            "/link/..".to_owned(),
        ];
        for cwd in cwds {
            let mut asked = process(&["/guest", "read", "file"]);
            asked.cwd.clone_from(&cwd);
            if let Ok(started) = sandbox.start(&without_cgroup(sandbox), asked) {
                refuse(&started.finish()?.stdout, &cwd)?;
            }
            let mut asked = process(&["/guest", "read", "file"]);
            asked.cwd.clone_from(&cwd);
            if let Ok(mut running) = sandbox.join(&mut live.container, asked) {
                refuse(&output(&mut running)?.stdout, &cwd)?;
            }
        }
    }
    live.kill()?;
    canary.check()
}

fn without_cgroup(sandbox: &Sandbox) -> pidone::Config {
    let mut config = sandbox.config();
    config.cgroups = None;
    config
}

fn refuse(text: &str, how: &str) -> Outcome {
    if text.contains("canary") {
        return Err(Stop::Failed(format!("{how} leads to the host: {text}")));
    }
    Ok(())
}

fn the_program_is_none_of_them(sandbox: &Sandbox) -> Outcome {
    let canary = Canary::new(sandbox.path().join("canary"))?;
    // A program that only the host has.
    pidone_tests::install(pidone_tests::GUEST, sandbox.path().join("program"))?;
    let directory = File::open(sandbox.path())?;
    let leaked = rustix::io::dup(&directory)?.into_raw_fd();
    let program = format!("/proc/self/fd/{leaked}/program");
    let root = sandbox.path().join("naive");
    sandbox.make_root(&root)?;
    let naive = Naive {
        root,
        mounts: vec![("proc".into(), "proc".into())],
        args: vec![program.clone(), "say".into(), "of the host".into()],
        ..Naive::default()
    };
    let text = String::from_utf8_lossy(&naive.run()?.stdout).into_owned();
    assert!(text.contains("of the host"), "the bait does not work: {text}");

    for number in (0..32).chain([leaked, directory.as_raw_fd()]) {
        let program = format!("/proc/self/fd/{number}/program");
        if let Ok(live) = sandbox.start(&sandbox.config(), process(&[&program, "say", "canary"])) {
            refuse(&live.finish()?.stdout, &program)?;
        }
    }
    canary.check()
}

/// What the guest prints about its looks at other processes.
#[derive(Debug, Deserialize)]
struct Peeked {
    looks: u64,
    found: u64,
}

/// CVE-2016-9962: the first process watches those that join, with the right to look at them.
fn processes_that_join_hold_none(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.capabilities.push("SYS_PTRACE".into());
    let stop = sandbox.rootfs().join("stop");
    // The control: a process of the container that holds a directory of another file system.
    let mut live = sandbox.start(&config, process(&["/guest", "peek", "/stop"]))?;
    let mut holder = process(&["/guest", "sleep"]);
    holder.extra_files = vec![File::open("/proc")?.into()];
    let mut running = sandbox.join(&mut live.container, holder)?;
    std::fs::write(&stop, "")?;
    let peeked: Peeked = live.say()?;
    assert!(peeked.found > 0, "the bait does not work: {peeked:?}");
    let _ = running.signal(libc::SIGKILL);
    running.wait()?;
    live.finish()?;
    std::fs::remove_file(&stop)?;

    let mut live = sandbox.start(&config, process(&["/guest", "peek", "/stop"]))?;
    let joined = 100;
    for _ in 0..joined {
        let mut running = sandbox.join(&mut live.container, process(&["/guest", "exit", "0"]))?;
        running.wait()?;
    }
    std::fs::write(&stop, "")?;
    let peeked: Peeked = live.say()?;
    // On average at least one look at each, on a machine with much other work too.
    assert!(peeked.looks > joined, "{peeked:?}");
    assert_eq!(peeked.found, 0, "{peeked:?} of {joined}");
    live.finish()?;
    Ok(())
}
