//! Links of the image at mount points and above them: what they lead to is made, in the root.

use std::fs;
use std::os::unix::fs::symlink;

use pidone_tests::canary::Canary;
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, case};

use crate::mount::{bind, file_system};

pub(crate) const CASES: &[Case] =
    &[case!(links_to_nothing_lead_inside).and_init(), case!(a_loop_is_an_error)];

fn links_to_nothing_lead_inside(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    let canary = Canary::new(sandbox.path().join("canary"))?;
    let climbing = format!("../../../../../../../..{}/new", canary.path().display());
    for (link, target) in [
        ("var/run", "/run"),
        ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        ("one", "two"),
        ("two", "deep/three"),
        ("absolute", &canary.path().join("new").display().to_string()),
        ("climbing", &climbing),
    ] {
        let link = root.join(link);
        fs::create_dir_all(link.parent().ok_or("no parent")?)?;
        let _ = fs::remove_file(&link);
        symlink(target, link)?;
    }
    let _ = fs::remove_dir(root.join("run"));
    let file = sandbox.path().join("resolv.conf");
    fs::write(&file, "nameserver")?;
    let mut config = sandbox.config();
    config.mounts.push(bind(&file, "/etc/resolv.conf", 0));
    config.mounts.push(file_system("tmpfs", "/var/run/secrets", 0, ""));
    config.mounts.push(file_system("tmpfs", "/one/below", 0, ""));
    config.mounts.push(file_system("tmpfs", "/absolute", 0, ""));
    config.mounts.push(bind(&file, "/climbing/file", 0));
    // The second time everything exists.
    for _ in 0..2 {
        let output = sandbox.guest(&config, &["read", "/etc/resolv.conf", ",", "report"])?;
        let (read, report) = output.stdout.split_once('\n').ok_or("no report")?;
        assert_eq!(serde_json::from_str::<Read>(read)?.text, "nameserver");
        let report: Report = serde_json::from_str(report)?;
        let inside = canary.path().join("new");
        for point in [
            "/run/systemd/resolve/stub-resolv.conf",
            "/run/secrets",
            "/deep/three/below",
            &inside.display().to_string(),
            &inside.join("file").display().to_string(),
        ] {
            assert!(report.mount(point).is_some(), "{point}: {:?}", report.mounts());
        }
        canary.check()?;
    }
    assert!(root.join("run/systemd/resolve/stub-resolv.conf").is_file());
    assert!(fs::symlink_metadata(root.join("etc/resolv.conf"))?.is_symlink());
    Ok(())
}

fn a_loop_is_an_error(sandbox: &Sandbox) -> Outcome {
    symlink("other", sandbox.rootfs().join("loop"))?;
    symlink("loop", sandbox.rootfs().join("other"))?;
    for destination in ["/loop", "/loop/below"] {
        let mut config = sandbox.config();
        config.mounts.push(file_system("tmpfs", destination, 0, ""));
        let started = sandbox.start(&config, pidone_tests::process(&["/guest"]));
        let error = started.err().ok_or("it was mounted")?;
        assert_eq!(error.errno().map(|errno| errno.raw_os_error()), Some(libc::ELOOP));
    }
    Ok(())
}
