//! Users and groups: names are the container's, numbers are numbers.

use std::fs;
use std::os::unix::fs::symlink;

use pidone_tests::{Case, Outcome, Sandbox, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(users_by_name_and_number).and_init(),
    case!(wrong_users_are_refused).once(),
    case!(a_user_named_by_a_number_is_that_number).and_init(),
    case!(additional_groups).and_init(),
    case!(groups_of_the_caller_are_dropped).alone(),
    case!(without_files_numbers_work).and_init(),
    case!(files_of_the_host_are_not_read).and_init(),
];

fn users_by_name_and_number(sandbox: &Sandbox) -> Outcome {
    for (user, uid, gid, groups) in [
        ("", 0, 0, &[][..]),
        ("root", 0, 0, &[]),
        ("user", 1000, 1000, &[29, 44]),
        ("1000", 1000, 1000, &[29, 44]),
        ("user:audio", 1000, 29, &[]),
        ("user:44", 1000, 44, &[]),
        ("1000:video", 1000, 44, &[]),
        ("1:2", 1, 2, &[]),
        ("0:0", 0, 0, &[]),
        ("daemon", 1, 1, &[]),
        ("4711", 4711, 0, &[]),
        ("4294967294:4294967294", 4_294_967_294, 4_294_967_294, &[]),
    ] {
        let mut process = process(&["/guest"]);
        process.user = user.into();
        let report = sandbox.report_of(&sandbox.config(), process)?;
        assert_eq!((report.uid, report.gid), ([uid; 3], [gid; 3]), "{user}");
        assert_eq!(report.groups, groups, "{user}");
    }
    Ok(())
}

/// CVE-2026-30892: `1` read as user 0.
fn wrong_users_are_refused(sandbox: &Sandbox) -> Outcome {
    for user in [
        "nobody-here",
        "1:",
        ":1",
        "1:2:3",
        "4294967295",
        "4294967296",
        "-1",
        "+1",
        "1 ",
        " 1",
        "user:none",
        "0x1",
        "1e3",
        ":",
        "root\n",
        "user:",
    ] {
        let mut process = process(&["/guest"]);
        process.user = user.into();
        let error = sandbox.start(&sandbox.config(), process).err().ok_or(user.to_owned())?;
        assert_eq!(error.code(), pidone::Code::ConfigInvalid, "{user}: {error}");
    }
    Ok(())
}

/// CVE-2016-3697.
fn a_user_named_by_a_number_is_that_number(sandbox: &Sandbox) -> Outcome {
    fs::write(
        sandbox.rootfs().join("etc/passwd"),
        "1000:x:0:0:evil:/root:/bin/sh\n0:x:1:1::/:\n01001:x:0:0:::\n",
    )?;
    for (user, uid) in [("1000", 1000), ("0", 0), ("1001", 1001)] {
        let mut process = process(&["/guest"]);
        process.user = user.into();
        let report = sandbox.report_of(&sandbox.config(), process)?;
        assert_eq!(report.uid, [uid; 3], "{user}");
    }
    Ok(())
}

/// The seed's `AdditionalGroups`.
fn additional_groups(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.additional_groups = ["audio", "4711", "0"].map(str::to_owned).into();
    let mut seen = sandbox.report(&config)?.groups;
    seen.sort_unstable();
    assert_eq!(seen, [0, 29, 4711]);
    // Besides those of the user.
    let mut process = process(&["/guest"]);
    process.user = "user".into();
    let mut seen = sandbox.report_of(&config, process)?.groups;
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [0, 29, 44, 4711]);
    config.additional_groups = vec!["no-such-group".into()];
    assert!(sandbox.start(&config, pidone_tests::process(&["/guest"])).is_err());
    Ok(())
}

fn groups_of_the_caller_are_dropped(sandbox: &Sandbox) -> Outcome {
    use nix::unistd::{Gid, setgroups};
    setgroups(&[Gid::from_raw(4), Gid::from_raw(24)])?;
    assert_eq!(sandbox.report(&sandbox.config())?.groups, [] as [u32; 0]);
    let mut process = process(&["/guest"]);
    process.user = "1000:1000".into();
    assert_eq!(sandbox.report_of(&sandbox.config(), process)?.groups, [] as [u32; 0]);
    Ok(())
}

fn without_files_numbers_work(sandbox: &Sandbox) -> Outcome {
    fs::remove_dir_all(sandbox.rootfs().join("etc"))?;
    for (user, uid, gid) in [("", 0, 0), ("5", 5, 0), ("5:6", 5, 6)] {
        let mut process = process(&["/guest"]);
        process.user = user.into();
        let report = sandbox.report_of(&sandbox.config(), process)?;
        assert_eq!((report.uid, report.gid), ([uid; 3], [gid; 3]), "{user}");
    }
    let mut process = process(&["/guest"]);
    process.user = "user".into();
    assert!(sandbox.start(&sandbox.config(), process).is_err());
    Ok(())
}

fn files_of_the_host_are_not_read(sandbox: &Sandbox) -> Outcome {
    let bait = sandbox.path().join("bait");
    fs::write(&bait, "someone:x:7:7::/:\n")?;
    let passwd = sandbox.rootfs().join("etc/passwd");
    for target in [bait.display().to_string(), format!("../../..{}", bait.display())] {
        fs::remove_file(&passwd)?;
        symlink(&target, &passwd)?;
        let mut process = process(&["/guest"]);
        process.user = "someone".into();
        assert!(sandbox.start(&sandbox.config(), process).is_err(), "{target}");
    }
    // A fifo must not hold the host.
    fs::remove_file(&passwd)?;
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o644))?;
    let mut process = process(&["/guest"]);
    process.user = "someone".into();
    assert!(sandbox.start(&sandbox.config(), process).is_err());
    Ok(())
}
