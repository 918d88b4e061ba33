//! A root without `pivot_root(2)`, under which the mounts of the host stay in the namespace.

use pidone::Config;
use pidone::config::mount::flags;
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, process};

pub(crate) const CASES: &[Case] = &[case!(no_bare_proc_of_the_host_is_left).and_init()];

/// Mounts a file system in a new user namespace in a container, and returns the errno.
fn mount_in_a_user_namespace(
    sandbox: &Sandbox,
    config: &Config,
    fstype: &str,
) -> Result<i32, Stop> {
    let (mount, name) = (libc::SYS_mount.to_string(), format!("@{fstype}"));
    let output = sandbox.run(
        config,
        process(&[
            "/bin/busybox",
            "unshare",
            "-U",
            "-r",
            "-m",
            "-n",
            "-p",
            "-f",
            "/guest",
            "syscall",
            &mount,
            &name,
            "@/tmp",
            &name,
            "0",
            "0",
        ]),
    )?;
    output.lines()?.pop().ok_or_else(|| format!("no errno: {}", output.stderr).into())
}

/// The kernel lets a user namespace mount a proc or a sysfs only while a complete one without masks
/// is in its mount namespace. One of the host would do, though no path leads there.
fn no_bare_proc_of_the_host_is_left(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    for fstype in ["proc", "sysfs"] {
        for no_pivot_root in [false, true] {
            let mut config = sandbox.config();
            config.no_pivot_root = no_pivot_root;
            let refused = mount_in_a_user_namespace(sandbox, &config, fstype)?;
            assert_eq!(refused, libc::EPERM, "{fstype} {no_pivot_root}");
            // The control: without masks the container's own is one, and writable.
            config.mask_paths.clear();
            config.readonly_paths.clear();
            for own in config.mounts.iter_mut().filter(|mount| mount.device == fstype) {
                own.flags &= !flags::RDONLY;
            }
            let allowed = mount_in_a_user_namespace(sandbox, &config, fstype)?;
            assert_eq!(allowed, 0, "{fstype} {no_pivot_root}");
        }
    }
    Ok(())
}
