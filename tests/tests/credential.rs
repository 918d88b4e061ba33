//! Who a process is, where that is said in numbers: ids, capability sets, limits, keyring, names.

use std::fs;
use std::process::Command;

use pidone::config::{CapabilitySets, IdMap, Rlimit};
use pidone::{Config, Ids, Process};
use pidone_tests::{Case, GUEST, Outcome, Read, Report, Sandbox, Stop, case, output, process};

pub(crate) const CASES: &[Case] = &[
    case!(ids_are_these_and_no_others).and_init(),
    case!(groups_are_refused_where_they_cannot_be_set).ordinary(),
    case!(umask_is_as_given).and_init(),
    case!(five_capability_sets).and_init(),
    case!(ambient_capabilities_reach_the_program_of_a_user).and_init(),
    case!(limits_take_the_place_of_the_containers).and_init(),
    case!(a_missing_working_directory_is_made).and_init(),
    case!(domain_name).and_init(),
    case!(session_keyring).and_init(),
    case!(session_keyring_in_a_user_namespace).and_init(),
];

fn user_namespace(config: &mut Config) {
    let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    config.set_id_maps(map.clone(), map);
}

/// What a first and a further process report.
fn both(
    sandbox: &Sandbox,
    config: &Config,
    change: impl Fn(&mut Process),
) -> Result<[Report; 2], Stop> {
    let mut first = process(&["/guest", "report", ",", "sleep"]);
    change(&mut first);
    let mut live = sandbox.start(config, first)?;
    let said = live.say()?;
    let mut further = process(&["/guest"]);
    change(&mut further);
    let mut running = sandbox.join(&mut live.container, further)?;
    let further = output(&mut running)?.lines()?.pop().ok_or("no report")?;
    live.kill()?;
    Ok([said, further])
}

fn ids_are_these_and_no_others(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    // Both would add groups if the user were given by name.
    config.additional_groups = vec!["audio".into()];
    for in_user_namespace in [false, true] {
        if in_user_namespace {
            user_namespace(&mut config);
        }
        let reports = both(sandbox, &config, |process| {
            process.user = "daemon".into();
            process.ids = Some(Ids { uid: 1000, gid: 77, groups: vec![5, 77, 12], umask: None });
        })?;
        for report in reports {
            assert_eq!((report.uid, report.gid), ([1000; 3], [77; 3]));
            assert_eq!(report.groups, [5, 12, 77]);
            assert_eq!(report.umask, 0o022);
            assert_eq!(report.variable("HOME"), Some("/home/user"));
        }
    }
    let reports = both(sandbox, &config, |process| process.ids = Some(Ids::default()))?;
    assert!(reports.iter().all(|report| report.groups.is_empty()));
    Ok(())
}

fn groups_are_refused_where_they_cannot_be_set(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: 65534, size: 1 }];
    config.set_id_maps(map.clone(), map);
    config.cgroups = None;
    let with =
        |groups| Process { ids: Some(Ids { groups, ..Ids::default() }), ..process(&["/guest"]) };
    let error = sandbox.start(&config, with(vec![0])).err().ok_or("started")?;
    assert!(error.to_string().contains("cannot set groups"), "{error}");
    let report = sandbox.report_of(&config, with(vec![]))?;
    assert_eq!(report.uid, [0; 3]);
    Ok(())
}

fn umask_is_as_given(sandbox: &Sandbox) -> Outcome {
    for umask in [0, 0o027, 0o777] {
        let reports = both(sandbox, &sandbox.config(), |process| {
            process.ids = Some(Ids { umask: Some(umask), ..Ids::default() });
        })?;
        assert_eq!(reports.map(|report| report.umask), [umask; 2]);
    }
    Ok(())
}

fn five_capability_sets(sandbox: &Sandbox) -> Outcome {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let sets = CapabilitySets {
        bounding: set(&["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW", "CAP_SETUID"]),
        permitted: set(&["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"]),
        effective: set(&["CAP_KILL"]),
        inheritable: set(&["CAP_NET_RAW"]),
        ambient: set(&["CAP_NET_RAW", "CAP_KILL"]),
    };
    let reports = both(sandbox, &sandbox.config(), |process| {
        process.capability_sets = Some(sets.clone());
        // What the container says does not count.
        process.capabilities = Some(vec!["SYS_ADMIN".into()]);
    })?;
    const CHOWN: u64 = 1;
    const KILL: u64 = 1 << 5;
    const SETUID: u64 = 1 << 7;
    const NET_RAW: u64 = 1 << 13;
    for report in reports {
        let seen = report.capabilities;
        assert_eq!(seen.bounding, KILL | CHOWN | NET_RAW | SETUID);
        assert_eq!(seen.inheritable, NET_RAW);
        // Only what is permitted and inheritable can be ambient.
        assert_eq!(seen.ambient, NET_RAW);
        // Root gets all of the bounding set at exec: capabilities(7).
        assert_eq!(seen.permitted, seen.bounding);
        assert_eq!(seen.effective, seen.bounding);
    }
    Ok(())
}

fn ambient_capabilities_reach_the_program_of_a_user(sandbox: &Sandbox) -> Outcome {
    const NET_RAW: u64 = 1 << 13;
    let names = || vec!["NET_RAW".to_owned()];
    for ambient in [true, false] {
        let sets = CapabilitySets {
            bounding: names(),
            permitted: names(),
            effective: names(),
            inheritable: names(),
            ambient: if ambient { names() } else { vec![] },
        };
        let reports = both(sandbox, &sandbox.config(), |process| {
            process.ids = Some(Ids { uid: 1000, gid: 1000, ..Ids::default() });
            process.capability_sets = Some(sets.clone());
        })?;
        let expected = if ambient { NET_RAW } else { 0 };
        for report in reports {
            let seen = report.capabilities;
            assert_eq!([seen.permitted, seen.effective, seen.ambient], [expected; 3]);
            assert_eq!([seen.bounding, seen.inheritable], [NET_RAW; 2]);
        }
    }
    Ok(())
}

fn limits_take_the_place_of_the_containers(sandbox: &Sandbox) -> Outcome {
    let limit = |kind: u32, soft, hard| Rlimit { kind, soft, hard };
    let [files, core] = [libc::RLIMIT_NOFILE, libc::RLIMIT_CORE];
    let (files_index, core_index) = (usize::try_from(files)?, usize::try_from(core)?);
    let mut config = sandbox.config();
    config.rlimits = vec![limit(files, 100, 200), limit(core, 0, 0)];
    let reports = both(sandbox, &config, |_| {})?;
    for report in &reports {
        assert_eq!(report.rlimits[files_index], Some([100, 200]));
        assert_eq!(report.rlimits[core_index], Some([0, 0]));
    }
    let reports = both(sandbox, &config, |process| {
        process.rlimits = Some(vec![limit(files, 64, 65)]);
    })?;
    for report in reports {
        assert_eq!(report.rlimits[files_index], Some([64, 65]));
        // None of the container's.
        assert_ne!(report.rlimits[core_index], Some([0, 0]));
    }
    Ok(())
}

fn a_missing_working_directory_is_made(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.readonlyfs = true;
    let with = |make_cwd| Process { cwd: "/made/deep/".into(), make_cwd, ..process(&["/guest"]) };
    assert!(sandbox.start(&config, with(false)).is_err());
    assert!(!sandbox.rootfs().join("made").exists());
    let report = sandbox.report_of(&config, with(true))?;
    assert_eq!(report.cwd.as_deref(), Some("/made/deep"));
    assert!(sandbox.rootfs().join("made/deep").is_dir());
    // The second time it exists.
    sandbox.report_of(&config, with(true))?;
    // A link of the image does not lead out.
    let outside = sandbox.path().join("outside");
    fs::create_dir(&outside)?;
    std::os::unix::fs::symlink(&outside, sandbox.rootfs().join("link"))?;
    let through = Process { cwd: "/link/x".into(), make_cwd: true, ..process(&["/guest"]) };
    let _ = sandbox.run(&sandbox.config(), through);
    assert!(!outside.join("x").exists());
    Ok(())
}

fn domain_name(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.domainname = "example.org".into();
    let reports = both(sandbox, &config, |_| {})?;
    for report in &reports {
        assert_eq!(report.domainname, "example.org");
        assert_eq!(report.hostname, "nsinit");
    }
    assert_ne!(fs::read_to_string("/proc/sys/kernel/domainname")?.trim(), "example.org");
    Ok(())
}

/// The commands that print the serial number of the session keyring, and name the keys in sight.
fn keyring_commands() -> Vec<String> {
    // keyctl(2): KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING.
    let call = libc::SYS_keyctl.to_string();
    ["value", &call, "0", "-3", "0", ",", "read", "/proc/keys"].map(str::to_owned).into()
}

fn keyrings(sandbox: &Sandbox, config: &Config) -> Outcome {
    let commands = keyring_commands();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    // What this process has: the keyring is inherited.
    let own = Command::new(GUEST).args(&commands[..5]).output()?;
    let own: i64 = String::from_utf8_lossy(&own.stdout).trim().parse()?;
    assert!(own > 0, "{own}");
    // Without its own session keyring a process has that of its user.
    let in_user_namespace = !config.uid_mappings.is_empty();
    let user = if in_user_namespace { "1000" } else { "" };
    let inside = |config: &Config| -> Result<_, Stop> {
        let mut first = process(&[&["/guest"], commands.as_slice(), &[",", "sleep"]].concat());
        first.user = user.into();
        let mut live = sandbox.start(config, first)?;
        let (first, keys): (i64, Read) = (live.say()?, live.say()?);
        let mut further = process(&[&["/guest"], commands.as_slice()].concat());
        further.user = user.into();
        let mut running = sandbox.join(&mut live.container, further)?;
        let said = output(&mut running)?.stdout;
        let (further, further_keys) = said.trim().split_once('\n').ok_or("no keys")?;
        let further_keys: Read = serde_json::from_str(further_keys)?;
        let id = live.container.id().to_owned();
        live.kill()?;
        Ok((id, [first, further.parse()?], [keys.text, further_keys.text]))
    };
    let mut config = config.clone();
    // Where they can be read they are hidden otherwise.
    config.mask_paths.retain(|path| path != "/proc/keys");
    config.new_keyring = true;
    let (id, serials, keys) = inside(&config)?;
    assert!(serials[0] > 0 && serials[0] != own, "{serials:?}, the host's is {own}");
    assert_eq!(serials[0], serials[1], "a further process has the container's");
    for keys in keys {
        assert!(keys.contains(&format!("_ses.{id}")), "{keys}");
        // The host's root may look at what is its own.
        let hosts = format!("{own:08x} ");
        assert!(!in_user_namespace || !keys.lines().any(|line| line.starts_with(&hosts)), "{keys}");
    }
    // Another container has another one.
    let (_, others, _) = inside(&config)?;
    assert_ne!(others[0], serials[0]);
    // And without the request it is the host's.
    config.new_keyring = false;
    let (_, inherited, _) = inside(&config)?;
    assert!(in_user_namespace || inherited == [own; 2], "{inherited:?}");
    assert!(!inherited.contains(&serials[0]), "{inherited:?}");
    Ok(())
}

fn session_keyring(sandbox: &Sandbox) -> Outcome {
    keyrings(sandbox, &sandbox.config())
}

fn session_keyring_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    user_namespace(&mut config);
    keyrings(sandbox, &config)
}
