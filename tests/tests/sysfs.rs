//! `/sys` in user namespaces: whose network it shows.

use pidone::Config;
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(it_shows_the_network_in_a_user_namespace_of_the_caller).nested().once(),
];

/// Runs a shell script in a container.
fn shell(sandbox: &Sandbox, config: &Config, script: &str) -> Result<String, Stop> {
    let output = sandbox.run(config, process(&["/bin/busybox", "sh", "-c", script]))?;
    assert_eq!(output.exit.status(), 0, "{}{}", output.stdout, output.stderr);
    Ok(output.stdout)
}

/// Rootless podman is root of a user namespace, and with `--network none` its containers get a
/// network namespace but no user namespace.
fn it_shows_the_network_in_a_user_namespace_of_the_caller(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let mut config = sandbox.config();
    config.cgroups = None;
    config.devices.retain(|device| std::path::Path::new(&device.path).exists());
    let script = "busybox ls /sys/class/net; busybox grep -c ' /sys sysfs' /proc/mounts";
    assert_eq!(shell(sandbox, &config, script)?, "lo\n1\n");
    Ok(())
}
