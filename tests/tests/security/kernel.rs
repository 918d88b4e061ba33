//! Ways to the host that the kernel offers: handles, terminals, files of proc and sysfs.

use std::process::{Command, Stdio as Piped};

use pidone::Stdio;
use pidone_tests::{Case, GUEST, Outcome, Sandbox, Stop, case, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde::Deserialize;

pub(crate) const CASES: &[Case] = &[
    case!(files_are_not_opened_by_handle).and_init(),
    case!(nothing_is_typed_into_the_callers_terminal).and_init(),
    case!(little_of_proc_and_sysfs_is_writable).and_init(),
    case!(no_name_is_in_the_abstract).once(),
];

/// What the guest prints about a handle.
#[derive(Debug, Deserialize)]
struct Handle {
    call: String,
    errno: i32,
}

/// The "shocker" of 2014.
fn files_are_not_opened_by_handle(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let seen: Vec<Handle> = sandbox.guest(&config, &["handle", "/guest"])?.lines()?;
    assert_eq!((seen[0].call.as_str(), seen[0].errno), ("open_by_handle_at", libc::EPERM));
    // With the capability that the template does not give, it works.
    config.capabilities.push("DAC_READ_SEARCH".into());
    let seen: Vec<Handle> = sandbox.guest(&config, &["handle", "/guest"])?.lines()?;
    assert_eq!(seen[0].errno, 0, "the bait does not work: {seen:?}");
    Ok(())
}

/// A terminal of the host: the master and the other end.
fn host_terminal() -> Result<(OwnedFd, OwnedFd), Stop> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let peer = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, peer))
}

/// Whether something can be read from the terminal at once.
fn has_input(peer: &OwnedFd) -> Result<bool, Stop> {
    let mut fds = [PollFd::new(peer, PollFlags::IN)];
    let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    Ok(poll(&mut fds, Some(&moment))? > 0)
}

/// CVE-2017-5226: input for the shell that the caller types in.
fn nothing_is_typed_into_the_callers_terminal(sandbox: &Sandbox) -> Outcome {
    let (_master, peer) = host_terminal()?;
    let output = Command::new(GUEST)
        .args(["type", "evil\n"])
        .stdin(Piped::from(peer.try_clone()?))
        .output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "the bait does not work");
    assert!(has_input(&peer)?, "the bait does not work");

    let (_master, peer) = host_terminal()?;
    let mut types = process(&["/guest", "type", "evil\n"]);
    types.stdin = Stdio::Fd(peer.try_clone()?);
    let output = sandbox.run(&sandbox.config(), types)?;
    assert_ne!(output.stdout.trim(), "0");
    assert!(!has_input(&peer)?);
    // Nor does it become the terminal of the container's session.
    let mut reports = process(&["/guest", "report"]);
    reports.stdin = Stdio::Fd(peer.try_clone()?);
    let report = sandbox.report_of(&sandbox.config(), reports)?;
    assert_eq!(report.terminal.ok_or("no terminal")?.session, -1);
    Ok(())
}

/// CVE-2015-3630, CVE-2017-16539, CVE-2018-10892: what is not in the lists.
fn little_of_proc_and_sysfs_is_writable(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let writable = |config: &_| -> Result<Vec<String>, Stop> {
        let lists: Vec<Vec<String>> = sandbox.guest(config, &["writable"])?.lines()?;
        Ok(lists.into_iter().flatten().collect())
    };
    let with_lists = writable(&config)?;
    for path in &with_lists {
        assert!(!path.starts_with("/sys/"), "{path}");
        for closed in ["sys", "irq", "bus", "fs", "sysrq-trigger", "acpi", "scsi", "asound"] {
            let closed = format!("/proc/{closed}");
            assert!(*path != closed && !path.starts_with(&format!("{closed}/")), "{path}");
        }
        // What is left can be opened by root, but has nothing that would take a write: the
        // kernel's own table of partitions, modules and so on, which are read.
        let name = path.trim_start_matches("/proc/");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path)?);
        assert!(mode & 0o222 == 0 || KNOWN.contains(&name), "{path} has the mode {mode:o}");
    }
    config.readonly_paths.clear();
    config.mask_paths.clear();
    for mount in &mut config.mounts {
        if mount.device == "sysfs" {
            mount.flags &= !1;
        }
    }
    let without = writable(&config)?;
    assert!(without.len() > with_lists.len() + 100, "the bait does not work: {without:?}");
    assert!(without.iter().any(|path| path.starts_with("/proc/sys/vm/")), "{without:?}");
    assert!(without.iter().any(|path| path.starts_with("/sys/")), "{without:?}");
    Ok(())
}

/// Files of proc that have a bit for writing and are harmless: each is the container's own, or
/// asks for a capability that the template does not give.
const KNOWN: &[&str] = &["mtrr", "pressure/cpu", "pressure/io", "pressure/irq", "pressure/memory"];

/// CVE-2020-15257: an abstract socket is open to every process in the network namespace.
fn no_name_is_in_the_abstract(sandbox: &Sandbox) -> Outcome {
    let live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let sockets = std::fs::read_to_string("/proc/self/net/unix")?;
    let ours: Vec<&str> = sockets.lines().filter(|line| line.contains("pidone")).collect();
    assert_eq!(ours, [] as [&str; 0]);
    live.kill()?;
    Ok(())
}
