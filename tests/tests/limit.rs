//! Resource limits, sysctls and system calls that are refused.

use pidone::config::{NamespaceType, Rlimit, Seccomp, SeccompArg, SeccompSyscall};
use pidone_tests::{Case, Outcome, Read, Sandbox, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(resources_are_limited).and_init(),
    case!(limits_are_enforced),
    case!(a_limit_above_the_hosts_is_an_error).and_init(),
    case!(wrong_limits_are_refused).once(),
    case!(sysctls_are_set).and_init(),
    case!(sysctls_of_the_host_are_refused).once(),
    case!(chown_is_refused).and_init(),
    case!(system_calls_are_refused_by_argument).and_init(),
    case!(a_refused_system_call_may_kill),
    case!(a_filter_holds_for_further_processes).and_init(),
    case!(labels_without_a_security_module_are_refused).once(),
];

/// The seed's `Rlimit`, for each resource.
fn resources_are_limited(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let own = sandbox.report(&config)?.rlimits;
    let mut expected = own.clone();
    config.rlimits.clear();
    for (number, limit) in own.iter().enumerate() {
        let [soft, hard] = limit.ok_or("no limit")?;
        // Low enough to be allowed, high enough to live with.
        let lower = |limit: u64| if limit == u64::MAX { 1 << 40 } else { limit / 2 };
        let [soft, hard] = [lower(soft), lower(hard)];
        config.rlimits.push(Rlimit { kind: u32::try_from(number)?, soft, hard });
        expected[number] = Some([soft, hard]);
    }
    assert_eq!(sandbox.report(&config)?.rlimits, expected);
    Ok(())
}

fn limits_are_enforced(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.rlimits.push(Rlimit { kind: libc::RLIMIT_FSIZE, soft: 4, hard: 4 });
    let xfsz = libc::SIGXFSZ.to_string();
    let output = sandbox.guest(
        &config,
        &["ignore", &xfsz, ",", "write", "/small", "1234", ",", "write", "/large", "12345"],
    )?;
    let size = std::fs::metadata(sandbox.rootfs().join("large"))?.len();
    assert_eq!((output.stdout.as_str(), size), ("0\n0\n0\n", 4));
    let mut config = sandbox.config();
    config.rlimits = vec![Rlimit { kind: libc::RLIMIT_NOFILE, soft: 8, hard: 8 }];
    let dup = libc::SYS_dup.to_string();
    let commands = ["syscall", &dup, "0", ","].repeat(6);
    let output = sandbox.guest(&config, &commands)?;
    assert_eq!(output.lines::<i32>()?, [0, 0, 0, 0, 0, libc::EMFILE]);
    Ok(())
}

fn a_limit_above_the_hosts_is_an_error(sandbox: &Sandbox) -> Outcome {
    // Without CAP_SYS_RESOURCE in the caller nobody may raise it; with it the kernel's own bound
    // for descriptors holds.
    let mut config = sandbox.config();
    config.rlimits = vec![Rlimit { kind: libc::RLIMIT_NOFILE, soft: 1 << 40, hard: 1 << 40 }];
    let error = sandbox.start(&config, process(&["/guest"])).err().ok_or("started")?;
    assert_eq!(error.errno(), Some(rustix::io::Errno::PERM));
    Ok(())
}

fn wrong_limits_are_refused(sandbox: &Sandbox) -> Outcome {
    for limits in [
        vec![Rlimit { kind: 7, soft: 2, hard: 1 }],
        vec![Rlimit { kind: 16, soft: 1, hard: 1 }],
        vec![Rlimit { kind: 7, soft: 1, hard: 1 }, Rlimit { kind: 7, soft: 1, hard: 1 }],
    ] {
        let mut config = sandbox.config();
        config.rlimits = limits;
        let error = sandbox.create(&config).err().ok_or("accepted")?;
        assert_eq!(error.code(), pidone::Code::ConfigInvalid);
    }
    Ok(())
}

/// The seed's `SystemProperties`.
fn sysctls_are_set(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let own = "/proc/sys/kernel/shmmni";
    let before = std::fs::read_to_string(own)?;
    for (key, value) in [
        ("kernel.shmmni", "8192"),
        ("net.ipv4.ip_forward", "1"),
        ("net/ipv4/ip_default_ttl", "77"),
        ("fs.mqueue.msg_max", "11"),
    ] {
        config.system_properties.insert(key.into(), value.into());
    }
    let output = sandbox.guest(
        &config,
        &[
            "read",
            own,
            ",",
            "read",
            "/proc/sys/net/ipv4/ip_forward",
            ",",
            "read",
            "/proc/sys/net/ipv4/ip_default_ttl",
            ",",
            "read",
            "/proc/sys/fs/mqueue/msg_max",
        ],
    )?;
    let values: Vec<String> =
        output.lines::<Read>()?.into_iter().map(|read| read.text.trim().to_owned()).collect();
    assert_eq!(values, ["8192", "1", "77", "11"]);
    assert_eq!(std::fs::read_to_string(own)?, before);
    // A value that the kernel refuses ends the start.
    config.system_properties.insert("kernel.shmmni".into(), "many".into());
    assert!(sandbox.start(&config, process(&["/guest"])).is_err());
    Ok(())
}

fn sysctls_of_the_host_are_refused(sandbox: &Sandbox) -> Outcome {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    for key in [
        "kernel.core_pattern",
        "vm.swappiness",
        "kernel/../vm/swappiness",
        "net.ipv4.a+b",
        "",
        "fs.file-max",
        "kernel.hostname",
    ] {
        let mut config = sandbox.config();
        config.system_properties.insert(key.into(), "1".into());
        let error = sandbox.create(&config).err().ok_or(key.to_owned())?;
        assert_eq!(error.code(), pidone::Code::ConfigInvalid, "{key}");
    }
    let mut config = sandbox.config();
    config.remove_namespace(NamespaceType::Network);
    config.networks.clear();
    config.system_properties.insert("net.ipv4.ip_forward".into(), "1".into());
    assert!(sandbox.create(&config).is_err());
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern")?, pattern);
    Ok(())
}

fn rule(call: libc::c_long, action: i32, args: Vec<SeccompArg>) -> Seccomp {
    let value = u32::try_from(call).unwrap_or(u32::MAX);
    Seccomp { syscalls: vec![SeccompSyscall { value, action, args }] }
}

fn chown(path: &str) -> [String; 5] {
    [
        "syscall".into(),
        libc::SYS_fchownat.to_string(),
        libc::AT_FDCWD.to_string(),
        format!("@{path}"),
        "5".into(),
    ]
}

/// The seed's `SeccompNoChown`.
fn chown_is_refused(sandbox: &Sandbox) -> Outcome {
    let commands = chown("/guest");
    let commands: Vec<&str> = commands.iter().map(String::as_str).chain(["6", "0"]).collect();
    let mut config = sandbox.config();
    assert_eq!(sandbox.guest(&config, &commands)?.stdout, "0\n");
    config.seccomp = Some(rule(libc::SYS_fchownat, libc::EPERM, Vec::new()));
    let output = sandbox.guest(&config, &[&commands, &[",", "report"][..]].concat())?;
    let (refused, report) = output.stdout.split_once('\n').ok_or("no line")?;
    assert_eq!(refused, libc::EPERM.to_string());
    let report: pidone_tests::Report = serde_json::from_str(report)?;
    assert_eq!(report.seccomp, Some(2));
    Ok(())
}

fn system_calls_are_refused_by_argument(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let nr = libc::SYS_getpgid.to_string();
    for (op, value, refused) in [
        (0, 7, [false, true, false]),
        (1, 7, [true, false, true]),
        (2, 7, [false, false, true]),
        (3, 7, [true, false, false]),
        (4, 8, [false, false, true]),
    ] {
        config.seccomp =
            Some(rule(libc::SYS_getpgid, libc::EXDEV, vec![SeccompArg { index: 0, value, op }]));
        let output = sandbox.guest(
            &config,
            &["syscall", &nr, "6", ",", "syscall", &nr, "7", ",", "syscall", &nr, "8"],
        )?;
        let seen: Vec<bool> =
            output.lines::<i32>()?.into_iter().map(|errno| errno == libc::EXDEV).collect();
        assert_eq!(seen, refused, "{op}");
    }
    Ok(())
}

fn a_refused_system_call_may_kill(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.seccomp = Some(rule(libc::SYS_getpgid, -3, Vec::new()));
    let output = sandbox.guest(&config, &["syscall", &libc::SYS_getpgid.to_string(), "0"])?;
    assert_eq!(output.exit.signal, Some(libc::SIGSYS));
    Ok(())
}

fn a_filter_holds_for_further_processes(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.seccomp = Some(rule(libc::SYS_getpgid, libc::EXDEV, Vec::new()));
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let nr = libc::SYS_getpgid.to_string();
    let mut running =
        sandbox.join(&mut live.container, process(&["/guest", "syscall", &nr, "0"]))?;
    let output = pidone_tests::output(&mut running)?;
    assert_eq!(output.stdout.trim(), libc::EXDEV.to_string());
    live.kill()?;
    Ok(())
}

/// A container that should be confined must not run without.
fn labels_without_a_security_module_are_refused(sandbox: &Sandbox) -> Outcome {
    let label = "system_u:system_r:svirt_lxc_net_t:s0:c1,c2";
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let mut config = sandbox.config();
    if !enabled.is_ok_and(|enabled| enabled.starts_with('Y')) {
        config.apparmor_profile = "docker-default".into();
        assert!(sandbox.start(&config, process(&["/guest"])).is_err());
        config.apparmor_profile.clear();
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        config.process_label = label.into();
        assert!(sandbox.start(&config, process(&["/guest"])).is_err());
        config.process_label.clear();
        config.mount_label = label.into();
        assert!(sandbox.start(&config, process(&["/guest"])).is_err());
    }
    Ok(())
}
