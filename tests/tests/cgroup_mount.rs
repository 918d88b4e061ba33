//! The mount of cgroups: what it shows, and whether it can be written to.

use std::collections::BTreeSet;

use pidone::config::NamespaceType;
use pidone::config::mount::flags;
use pidone_tests::{Case, Mount, Outcome, Read, Report, Sandbox, Stop, case, process};

use crate::mount::file_system;

pub(crate) const CASES: &[Case] = &[
    case!(cgroups_are_read_only_if_asked).and_unified(),
    case!(cgroups_are_writable_otherwise).and_unified(),
];

/// Starts a container with a mount of cgroups, and calls `look` for the container's own cgroup in
/// each hierarchy that it shows. `look` gets the mount and the directory.
fn each_shown(
    sandbox: &Sandbox,
    read_only: u64,
    look: impl Fn(&dyn Fn(&[&str]) -> Result<Vec<String>, Stop>, &Mount, &str) -> Outcome,
) -> Outcome {
    for new in [false, true] {
        let mut config = sandbox.config();
        if new {
            config.set_namespace(NamespaceType::Cgroup, "");
        }
        let flags = read_only | flags::NOSUID | flags::NODEV | flags::NOEXEC;
        config.mounts.push(file_system("cgroup", "/sys/fs/cgroup", flags, ""));
        let commands = ["/guest", "report", ",", "read", "/proc/self/cgroup", ",", "sleep"];
        let mut live = sandbox.start(&config, process(&commands))?;
        let report: Report = live.say()?;
        let cgroup: Read = live.say()?;
        // A read-only copy may cover one that is writable.
        let mounts = report.mounts();
        let points = mounts.iter().map(|mount| mount.point.as_str());
        let points: BTreeSet<&str> =
            points.filter(|point| point.starts_with("/sys/fs/cgroup")).collect();
        assert!(!points.is_empty());
        let live = std::cell::RefCell::new(live);
        let run = |commands: &[&str]| {
            let args = [&["/guest"], commands].concat();
            let mut running = sandbox.join(&mut live.borrow_mut().container, process(&args))?;
            let output = pidone_tests::output(&mut running)?;
            Ok(output.stdout.lines().map(str::to_owned).collect())
        };
        let mut count = 0;
        for point in points {
            let mount = report.mount(point).ok_or("no mount")?;
            if !mount.fstype.starts_with("cgroup") {
                assert_eq!(mount.has("ro"), read_only != 0, "{mount:?}");
                continue;
            }
            // Without a namespace cgroup v2 is shown as a whole.
            let own = cgroup.text.lines().find_map(|line| line.strip_prefix("0::"));
            let directory = match own {
                Some(own) if !new && point == "/sys/fs/cgroup" => format!("{point}{own}"),
                _ => point.to_owned(),
            };
            look(&run, &mount, &directory)?;
            count += 1;
        }
        assert!(count > 0);
        live.into_inner().kill()?;
    }
    Ok(())
}

/// Whether the first process is in a cgroup.
fn has_the_first_process(procs: &str) -> Result<bool, Stop> {
    let read: Read = serde_json::from_str(procs)?;
    Ok(read.text.lines().any(|pid| pid == "1"))
}

fn cgroups_are_read_only_if_asked(sandbox: &Sandbox) -> Outcome {
    each_shown(sandbox, flags::RDONLY, |run, mount, directory| {
        assert!(mount.has("ro"), "{mount:?}");
        let path = format!("{directory}/cgroup.procs");
        let (mkdir, new) = (libc::SYS_mkdir.to_string(), format!("@{directory}/new"));
        let lines =
            run(&["read", &path, ",", "open", &path, "1", ",", "syscall", &mkdir, &new, "0755"])?;
        assert!(has_the_first_process(&lines[0])?, "{path}: {lines:?}");
        assert_eq!(lines[1..], [libc::EROFS.to_string(), libc::EROFS.to_string()], "{path}");
        Ok(())
    })
}

fn cgroups_are_writable_otherwise(sandbox: &Sandbox) -> Outcome {
    each_shown(sandbox, 0, |run, mount, directory| {
        assert!(!mount.has("ro"), "{mount:?}");
        let path = format!("{directory}/cgroup.procs");
        let (mkdir, rmdir) = (libc::SYS_mkdir.to_string(), libc::SYS_rmdir.to_string());
        let new = format!("@{directory}/new");
        let lines = run(&[
            "read", &path, ",", "syscall", &mkdir, &new, "0755", ",", "syscall", &rmdir, &new,
        ])?;
        assert!(has_the_first_process(&lines[0])?, "{path}: {lines:?}");
        assert_eq!(lines[1..], ["0", "0"], "{path}");
        Ok(())
    })
}
