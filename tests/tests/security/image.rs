//! The program that starts containers, which those inside must not be able to change.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use pidone::config::{Command, Mount};
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, output, process, script, until};
use rustix::fs::{SealFlags, fcntl_get_seals};

use super::naive::Naive;

pub(crate) const CASES: &[Case] = &[
    case!(a_script_by_the_runtimes_own_program).and_init(),
    case!(the_image_is_sealed_while_it_runs).and_init(),
    case!(the_first_programs_file_is_the_containers),
];

/// What the host's program is, and how it was last changed.
fn own_program() -> Result<(u64, u64, u64, i64, i64), Stop> {
    let seen = fs::metadata(std::env::current_exe()?)?;
    Ok((seen.dev(), seen.ino(), seen.size(), seen.mtime(), seen.mtime_nsec()))
}

/// An entry point that is whatever executes it.
const ENTRY: &str = "#!/proc/self/exe\n";

/// CVE-2019-5736: an entry point that is whatever the runtime was.
fn a_script_by_the_runtimes_own_program(sandbox: &Sandbox) -> Outcome {
    let before = own_program()?;
    let root = sandbox.path().join("naive");
    sandbox.make_root(&root)?;
    script(root.join("script"), ENTRY)?;
    let naive = Naive {
        root,
        mounts: vec![("proc".into(), "proc".into())],
        args: vec!["/script".into()],
        ..Naive::default()
    };
    // The host's program runs inside: these tests, with the script's name as a filter.
    let said = naive.run()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("running 0 tests"), "the bait does not work: {said}");

    script(sandbox.rootfs().join("script"), ENTRY)?;
    let output_of_first = sandbox.run(&sandbox.config(), process(&["/script"]))?;
    assert_eq!((output_of_first.exit.code, output_of_first.stdout.as_str()), (Some(125), ""));
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let mut running = sandbox.join(&mut live.container, process(&["/script"]))?;
    assert_eq!(output(&mut running)?.exit.code, Some(125));
    live.kill()?;
    assert_eq!(own_program()?, before);
    Ok(())
}

/// The process of the image, while a command of the host holds it up.
fn held_up(name: &str) -> Result<i32, Stop> {
    let mut seen = None;
    until("the image is seen", || {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            if !exe.to_string_lossy().contains("memfd:pidone-init") {
                continue;
            }
            // Several cases run at once: it is the one in this sandbox's cgroup.
            let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if groups.contains(name) {
                seen = Some(pid);
            }
        }
        Ok(seen.is_some())
    })?;
    Ok(seen.ok_or("the image was not seen")?)
}

fn the_image_is_sealed_while_it_runs(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.push(Mount {
        source: "tmpfs".into(),
        destination: "/m".into(),
        device: "tmpfs".into(),
        premount_cmds: vec![Command {
            path: "/bin/sleep".into(),
            args: vec!["3".into()],
            ..Command::default()
        }],
        ..Mount::default()
    });
    // It is attached to its cgroup meanwhile, or before.
    thread::scope(|scope| -> Outcome {
        let started = scope.spawn(|| sandbox.guest(&config, &["exit", "0"]));
        let pid = held_up(sandbox.name())?;
        let image = File::open(format!("/proc/{pid}/exe"))?;
        let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        assert!(fcntl_get_seals(&image)?.contains(all));
        let writing = OpenOptions::new().write(true).open(format!("/proc/{pid}/exe"));
        if let Ok(mut file) = writing {
            assert!(std::io::Write::write_all(&mut file, b"x").is_err());
        }
        // It holds the socket, stdio and nothing of the host that could be walked.
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let target = fs::read_link(entry.path())?;
            let seen = fs::metadata(entry.path())?;
            let number = entry.file_name().to_string_lossy().into_owned();
            let root = fs::metadata("/")?;
            assert!(
                !seen.is_dir() || (seen.dev(), seen.ino()) != (root.dev(), root.ino()),
                "{number} -> {target:?}"
            );
        }
        let code = started.join().map_err(|_| "panicked")??.exit.code;
        assert_eq!(code, Some(0));
        Ok(())
    })
}

/// What is at `/proc/1/exe` is the payload, and writing to it changes the image at most.
fn the_first_programs_file_is_the_containers(sandbox: &Sandbox) -> Outcome {
    let before = own_program()?;
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    // open(2): O_WRONLY is 1, O_TRUNC 0o1000.
    for flags in ["1", "01001", "2"] {
        let mut running = sandbox
            .join(&mut live.container, process(&["/guest", "open", "/proc/1/exe", flags]))?;
        assert_eq!(output(&mut running)?.stdout.trim(), libc::ETXTBSY.to_string());
    }
    let exe = fs::read_link(format!("/proc/{}/exe", live.running.pid()))?;
    assert!(exe.ends_with("guest"), "{exe:?}");
    live.kill()?;
    assert_eq!(own_program()?, before);
    Ok(())
}
