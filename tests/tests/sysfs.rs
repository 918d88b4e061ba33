//! `/sys` in user namespaces: whose network it shows, and whether it can be written to.

use nix::mount::{MsFlags, mount};
use pidone::Config;
use pidone::config::mount::flags::{BIND, RDONLY, REC};
use pidone::config::{IdMap, Mount, NamespaceType};
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(it_shows_the_network_in_a_user_namespace_of_the_caller).nested().once(),
    case!(it_is_read_only_where_the_hosts_is).alone(),
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

/// `podman run --privileged` wants to write to it, whatever the host has.
fn it_is_read_only_where_the_hosts_is(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let mut user = sandbox.config();
    let ids = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    user.set_id_maps(ids.clone(), ids);
    user.devices.retain(|device| std::path::Path::new(&device.path).exists());
    user.mounts.retain(|mount| mount.destination != "/sys");
    let with = |mount: Mount| {
        let mut config = user.clone();
        config.readonly_paths.clear();
        config.mask_paths.clear();
        config.mounts.push(Mount { destination: "/sys".into(), ..mount });
        config
    };
    let new = with(Mount { device: "sysfs".into(), source: "sysfs".into(), ..Mount::default() });
    let mut bound = with(Mount {
        device: "bind".into(),
        source: "/sys".into(),
        flags: BIND | REC,
        cleared: RDONLY,
        ..Mount::default()
    });
    bound.remove_namespace(NamespaceType::Network);
    bound.networks.clear();
    let option = "busybox grep ' /sys sysfs' /proc/mounts | busybox cut -d ' ' -f 4 | \
                  busybox cut -d , -f 1";
    for config in [&new, &bound] {
        assert_eq!(shell(sandbox, config, option)?, "rw\n", "control");
    }
    let none = None::<&str>;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(none, "/sys", none, read_only, none)?;
    for config in [&new, &bound] {
        assert_eq!(shell(sandbox, config, option)?, "ro\n");
    }
    // Without a user namespace nothing is locked.
    let mut config = sandbox.config();
    config.mounts.retain(|mount| mount.destination != "/sys");
    config.mounts.push(bound.mounts.last().ok_or("no mount")?.clone());
    assert_eq!(shell(sandbox, &config, option)?, "rw\n");
    Ok(())
}
