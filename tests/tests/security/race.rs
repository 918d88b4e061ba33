//! A payload that moves things while a runtime looks at them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pidone::config::Mount;
use pidone_tests::canary::Canary;
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, leftover, process};
use rustix::fs::{CWD, RenameFlags, renameat_with};

pub(crate) const CASES: &[Case] = &[
    case!(a_destination_is_exchanged_for_a_link).and_init(),
    case!(what_is_read_only_is_exchanged_for_a_link).and_init(),
];

/// How often it is tried.
const ROUNDS: usize = 120;

/// Runs `work` while a directory and a link are exchanged all the time.
fn exchanging<T>(one: &Path, other: &Path, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
            }
        });
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

/// A directory and a link to the canary in the root of the container.
fn pair(root: &Path, canary: &Canary) -> Result<[std::path::PathBuf; 2], Stop> {
    let pair = [root.join("race"), root.join("other")];
    fs::create_dir(&pair[0])?;
    symlink(canary.path(), &pair[1])?;
    Ok(pair)
}

/// CVE-2021-30465.
fn a_destination_is_exchanged_for_a_link(sandbox: &Sandbox) -> Outcome {
    let control = Canary::new(sandbox.path().join("control"))?;
    let root = sandbox.path().join("naive");
    sandbox.make_root(&root)?;
    let [one, other] = pair(&root, &control)?;
    exchanging(&one, &other, || {
        for round in 0..ROUNDS * 4 {
            let _ = fs::create_dir_all(one.join(format!("sub/{round}")));
        }
    });
    assert!(!control.changes()?.is_empty(), "the bait does not work");

    let canary = Canary::new(sandbox.path().join("canary"))?;
    let [one, other] = pair(&sandbox.rootfs(), &canary)?;
    let mut config = sandbox.config();
    config.cgroups = None;
    for destination in ["/race", "/race/sub/x"] {
        config.mounts.push(Mount {
            source: "tmpfs".into(),
            destination: destination.into(),
            device: "tmpfs".into(),
            ..Mount::default()
        });
    }
    let host = fs::metadata("/")?;
    let host =
        (std::os::unix::fs::MetadataExt::dev(&host), std::os::unix::fs::MetadataExt::ino(&host));
    let mut started = 0;
    exchanging(&one, &other, || -> Outcome {
        for _ in 0..ROUNDS {
            // It may be refused.
            let Ok(live) = sandbox.start(&config, process(&["/guest", "report"])) else { continue };
            let reports: Vec<pidone_tests::Report> = live.finish()?.lines()?;
            let root = reports[0].root.ok_or("no root")?;
            assert_ne!((root.dev, root.ino), host);
            started += 1;
        }
        Ok(())
    })?;
    assert!(started > 0);
    assert_eq!(leftover::of(sandbox.name(), canary.path()), [] as [String; 0]);
    canary.check()
}

/// GHSA-3q8j-pf29-vwv8: swapped between the look and the mount.
fn what_is_read_only_is_exchanged_for_a_link(sandbox: &Sandbox) -> Outcome {
    let canary = Canary::new(sandbox.path().join("canary"))?;
    let [one, other] = pair(&sandbox.rootfs(), &canary)?;
    fs::write(one.join("file"), "secret")?;
    let mut config = sandbox.config();
    config.cgroups = None;
    config.readonly_paths.push("/race".into());
    config.mask_paths.push("/race/file".into());
    exchanging(&one, &other, || -> Outcome {
        for _ in 0..ROUNDS {
            if let Ok(live) = sandbox.start(&config, process(&["/guest", "exit", "0"])) {
                live.finish()?;
            }
        }
        Ok(())
    })?;
    canary.check()
}
