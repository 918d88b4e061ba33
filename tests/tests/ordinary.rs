//! An ordinary user, with nothing but what a user namespace gives.

use pidone::Code;
use pidone::config::{IdMap, NamespaceType};
use pidone::{Config, Stdio};
use pidone_tests::{Case, Outcome, Report, Sandbox, case, output, process};

pub(crate) const CASES: &[Case] = &[
    case!(starts_a_container).ordinary(),
    case!(many_start_containers).ordinary(),
    case!(runs_ps).ordinary(),
    case!(joins_a_container).ordinary(),
    case!(has_a_terminal).ordinary(),
    case!(runs_programs_of_the_host).ordinary(),
    case!(protects_paths).ordinary(),
    case!(cannot_set_groups).ordinary(),
    case!(cannot_have_limits_without_a_cgroup).ordinary(),
    case!(needs_a_user_namespace).ordinary(),
    case!(mapping_ids_of_others_is_refused).ordinary(),
    case!(cannot_read_states_of_root).ordinary(),
    case!(can_load_pause_nothing_and_kill).ordinary(),
];

/// The user of the view.
const NOBODY: u32 = 65534;

fn config(sandbox: &Sandbox) -> Config {
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: NOBODY, size: 1 }];
    config.set_id_maps(map.clone(), map);
    config.cgroups = None;
    config
}

fn starts_a_container(sandbox: &Sandbox) -> Outcome {
    let report = sandbox.report(&config(sandbox))?;
    assert_eq!((report.uid, report.gid, report.pid), ([0; 3], [0; 3], 1));
    let map = report.uid_map.clone().ok_or("no map")?;
    let numbers: Vec<&str> = map[0].split_ascii_whitespace().collect();
    assert_eq!(numbers, ["0", "65534", "1"]);
    assert_eq!(report.mount("/proc").ok_or("no proc")?.fstype, "proc");
    assert_eq!(report.mount("/sys").ok_or("no sys")?.fstype, "sysfs");
    assert_eq!(report.device("/dev/null").ok_or("no null")?.kind, "c");
    assert_eq!(report.hostname, "nsinit");
    let numbers: Vec<u32> = report.descriptors.iter().map(|seen| seen.number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    for kind in [NamespaceType::User, NamespaceType::Mount, NamespaceType::Network] {
        let own = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(format!(
            "/proc/self/ns/{}",
            kind.file()
        ))?);
        assert_ne!(report.namespaces.get(kind.file()), Some(&own), "{kind}");
    }
    // No mount of the host is left.
    let roots = report.mounts().iter().filter(|mount| mount.point == "/").count();
    assert_eq!(roots, 1);
    assert!(!report.mounts().iter().any(|mount| mount.point == "/tmp"));
    Ok(())
}

/// Whatever is slow or fast on either side.
fn many_start_containers(sandbox: &Sandbox) -> Outcome {
    for _ in 0..50 {
        let output = sandbox.guest(&config(sandbox), &["exit", "5"])?;
        assert_eq!(output.exit.code, Some(5));
    }
    Ok(())
}

/// The seed's `UsernsExecPS`, by a user.
fn runs_ps(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let output = sandbox.run(&config(sandbox), process(&["/bin/busybox", "ps"]))?;
    assert_eq!(output.stdout.lines().count(), 2, "{}", output.stdout);
    Ok(())
}

fn joins_a_container(sandbox: &Sandbox) -> Outcome {
    let mut live = sandbox.start(&config(sandbox), process(&["/guest", "report", ",", "sleep"]))?;
    let first: Report = live.say()?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest"]))?;
    let further: Report = output(&mut running)?.lines()?.pop().ok_or("no report")?;
    assert_eq!(further.namespaces, first.namespaces);
    assert_eq!(further.uid, [0; 3]);
    assert_eq!(live.container.processes()?, [live.running.pid()]);
    live.kill()?;
    Ok(())
}

fn has_a_terminal(sandbox: &Sandbox) -> Outcome {
    let mut container = sandbox.create(&config(sandbox))?;
    let mut asked = process(&["/guest", "exit", "7"]);
    asked.terminal = Some(pidone::TerminalSize { rows: 5, columns: 6 });
    let mut running = sandbox.join(&mut container, asked)?;
    assert!(running.console.is_some());
    assert_eq!(running.wait()?.code, Some(7));
    container.destroy()?;
    Ok(())
}

/// The default configuration of a program of the host.
fn runs_programs_of_the_host(sandbox: &Sandbox) -> Outcome {
    let mut config = Config::embedded("/".as_ref())?;
    let map = vec![IdMap { container_id: 0, host_id: NOBODY, size: 1 }];
    config.set_id_maps(map.clone(), map);
    config.cgroups = None;
    let mut shell =
        process(&["/bin/sh", "-c", "echo $((6*7)); id -u; cat /etc/shadow; : > /etc/x"]);
    shell.stdin = Stdio::Null;
    let output = sandbox.run(&config, shell)?;
    assert_eq!(output.stdout, "42\n0\n", "{}", output.stderr);
    Ok(())
}

fn protects_paths(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    std::fs::write(root.join("secret"), "secret")?;
    std::fs::create_dir(root.join("kept"))?;
    let mut config = config(sandbox);
    config.mask_paths.push("/secret".into());
    config.readonly_paths.push("/kept".into());
    config.readonlyfs = true;
    // Else the file itself would refuse.
    config.capabilities.push("NET_ADMIN".into());
    let output = sandbox.guest(
        &config,
        &[
            "read",
            "/secret",
            ",",
            "write",
            "/kept/x",
            "x",
            ",",
            "write",
            "/x",
            "x",
            ",",
            "write",
            "/proc/sys/net/ipv4/ip_forward",
            "x",
        ],
    )?;
    let erofs = libc::EROFS;
    let expected = format!("{{\"errno\":0,\"text\":\"\"}}\n{erofs}\n{erofs}\n{erofs}\n");
    assert_eq!(output.stdout, expected);
    Ok(())
}

fn cannot_set_groups(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.additional_groups = vec!["0".into()];
    let error = sandbox.start(&config, process(&["/guest"])).err().ok_or("started")?;
    assert_eq!(error.code(), Code::ConfigInvalid);
    // CVE-2014-8989: nor can those inside.
    let output = sandbox.guest(&self::config(sandbox), &["read", "/proc/self/setgroups"])?;
    assert!(output.stdout.contains("deny"), "{}", output.stdout);
    let setgroups = libc::SYS_setgroups.to_string();
    let output = sandbox.guest(&self::config(sandbox), &["syscall", &setgroups, "0", "0"])?;
    assert_eq!(output.stdout.trim(), libc::EPERM.to_string());
    Ok(())
}

fn cannot_have_limits_without_a_cgroup(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.cgroups = sandbox.config().cgroups;
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.pids_limit = Some(5);
    }
    assert!(sandbox.start(&config, process(&["/guest"])).is_err());
    Ok(())
}

fn needs_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.cgroups = None;
    let error = sandbox.start(&config, process(&["/guest"])).err().ok_or("started")?;
    assert_eq!(error.errno(), Some(rustix::io::Errno::PERM), "{error}");
    Ok(())
}

fn mapping_ids_of_others_is_refused(sandbox: &Sandbox) -> Outcome {
    for (host_id, size) in [(0, 1), (1000, 1), (NOBODY, 2)] {
        let mut config = config(sandbox);
        let map = vec![IdMap { container_id: 0, host_id, size }];
        config.set_id_maps(map.clone(), map);
        assert!(sandbox.start(&config, process(&["/guest"])).is_err(), "{host_id}");
    }
    Ok(())
}

/// CVE-2014-3499.
fn cannot_read_states_of_root(sandbox: &Sandbox) -> Outcome {
    // A directory of root's that everybody may list.
    assert!(pidone::Factory::new("/etc", sandbox.options()).is_err());
    assert!(pidone::Factory::new("/root/pidone", sandbox.options()).is_err());
    Ok(())
}

fn can_load_pause_nothing_and_kill(sandbox: &Sandbox) -> Outcome {
    let mut live =
        sandbox.start(&config(sandbox), process(&["/guest", "fork", "3", ",", "sleep"]))?;
    live.line()?;
    let mut loaded = sandbox.factory().load(live.container.id())?;
    assert_eq!(loaded.processes()?.len(), 4);
    assert!(loaded.pause().is_err());
    loaded.kill()?;
    live.running.wait()?;
    loaded.destroy()?;
    Ok(())
}
