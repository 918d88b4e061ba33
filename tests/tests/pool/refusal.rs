//! Programs and configurations that no waiting container does for.

use std::fs;

use pidone::config::NamespaceType;
use pidone::pool::{Pool, Sizes};
use pidone::{Config, Process};
use pidone_tests::{Case, DEADLINE, Outcome, Sandbox, case};

use super::{config, ids, marked, pool, report, until};

pub(crate) const CASES: &[Case] = &[
    case!(a_process_that_does_not_fit_starts_cold).once(),
    case!(a_failed_start_leaves_nothing).once(),
    case!(a_container_that_cannot_be_made_is_an_error).once(),
    case!(a_configuration_of_one_is_refused).once(),
    case!(another_key_is_refused).once(),
];

fn a_process_that_does_not_fit_starts_cold(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    config.readonlyfs = true;
    config.capabilities = vec!["KILL".into()];
    let pool = pool(sandbox, &config, 1)?;
    let plain = || marked(sandbox, &["/guest", "report"]);
    let misfits = [
        Process { capabilities: Some(vec!["CHOWN".into()]), ..plain() },
        Process { oom_score_adj: Some(100), ..plain() },
        Process { cwd: "/tmp".into(), make_cwd: true, ..plain() },
    ];
    for process in misfits {
        pool.wait_until_full(DEADLINE)?;
        let mut lease = pool.start(&process)?;
        assert!(!lease.is_warm(), "{process:?}");
        let seen = report(&mut lease)?;
        if let Some(score) = process.oom_score_adj {
            assert_eq!(seen.oom_score_adj, Some(score.to_string()));
        }
        if process.capabilities.is_some() {
            assert_eq!(seen.capabilities.bounding, 1);
        }
    }
    Ok(())
}

fn a_failed_start_leaves_nothing(sandbox: &Sandbox) -> Outcome {
    let pool = pool(sandbox, &config(sandbox), 1)?;
    let error = pool.start(&marked(sandbox, &["/no/such"])).err().ok_or("it was started")?;
    assert_eq!(error.to_string(), "exec: \"/no/such\": no such file or directory");
    let error = pool.start(&marked(sandbox, &[""])).err().ok_or("it was started")?;
    assert!(error.to_string().contains("no program"), "{error}");
    pool.drain()?;
    until("the end", || ids(sandbox).is_ok_and(|ids| ids.is_empty()))?;
    Ok(())
}

fn a_container_that_cannot_be_made_is_an_error(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox);
    let source = sandbox.path().join("volume");
    fs::create_dir(&source)?;
    config.mounts.push(pidone::config::Mount {
        device: "bind".into(),
        source: source.to_string_lossy().into_owned(),
        destination: "/tmp".into(),
        flags: 4096,
        ..Default::default()
    });
    let pool = pool(sandbox, &config, 1)?;
    fs::remove_dir(&source)?;
    let lease = pool.start(&marked(sandbox, &["/guest", "report"]))?;
    assert!(lease.is_warm());
    drop(lease);
    until("the error", || pool.status().error.is_some())?;
    let error = pool.status().error.unwrap_or_default();
    assert!(error.contains("volume"), "{error}");
    let error =
        pool.start(&marked(sandbox, &["/guest", "report"])).err().ok_or("it was started")?;
    assert!(error.to_string().contains("volume"), "{error}");
    fs::create_dir(&source)?;
    until("the refill", || pool.status().ready == 1)?;
    assert_eq!(pool.status().error, None);
    Ok(())
}

fn a_configuration_of_one_is_refused(sandbox: &Sandbox) -> Outcome {
    let refused = |config: &Config, sizes: Sizes| {
        let pool = Pool::new(sandbox.factory(), config, marked(sandbox, &["/guest"]), sizes);
        pool.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let mut one = config(sandbox);
    one.net_devices.insert("eth7".into(), "eth0".into());
    let error = refused(&one, Sizes::new(2));
    assert!(error.contains("net_devices") && error.contains("eth7"), "{error}");
    let error = refused(&config(sandbox), Sizes { size: 0, low: 0 });
    assert!(error.contains("size"), "{error}");
    let error = refused(&config(sandbox), Sizes { size: 2, low: 3 });
    assert!(error.contains("low"), "{error}");
    Ok(())
}

fn another_key_is_refused(sandbox: &Sandbox) -> Outcome {
    let config = config(sandbox);
    let pool = Pool::without_root(sandbox.factory(), &config, Sizes::new(1))?;
    pool.wait_until_full(DEADLINE)?;
    let mut other = config.clone();
    other.remove_namespace(NamespaceType::Ipc);
    let process = || marked(sandbox, &["/guest", "report"]);
    let error = pool.start_in(&other, &process()).err().ok_or("it was started")?.to_string();
    assert!(error.contains("namespaces") && error.contains("the pool's"), "{error}");
    let mut broken = config.clone();
    broken.rootfs = sandbox.path().join("nowhere");
    let error = pool.start_in(&broken, &process()).err().ok_or("it was started")?.to_string();
    assert!(error.contains("nowhere"), "{error}");
    pool.wait_until_full(DEADLINE)?;
    // Its own, without a word of the root.
    assert!(pool.start(&process())?.is_warm());
    let whole = self::pool(sandbox, &config, 1)?;
    assert!(whole.start_in(&config, &process())?.is_warm());
    let error = whole.start_in(&other, &process()).err().ok_or("it was started")?.to_string();
    assert!(error.contains("not the same as the pool's"), "{error}");
    Ok(())
}
