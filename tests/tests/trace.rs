//! What a recording has of a start.

use pidone::config::{NamespaceType, TimeOffset};
use pidone::trace::{Span, Trace, record};
use pidone::{Code, Config, Strategy};
use pidone_tests::trace::{check, check_operations};
use pidone_tests::{Case, Outcome, Sandbox, case, need, process};

pub(crate) const CASES: &[Case] = &[
    case!(a_start_is_recorded),
    case!(a_further_process_is_recorded),
    case!(a_start_by_an_init_is_recorded).once(),
    case!(another_clock_is_corrected).once(),
    case!(a_failure_is_recorded),
    case!(starts_of_other_threads_are_not_recorded).once(),
];

fn a_start_is_recorded(sandbox: &Sandbox) -> Outcome {
    let config = sandbox.config();
    let mut container = sandbox.create(&config)?;
    let (started, trace) = record(|| sandbox.join(&mut container, process(&["/guest"])));
    started?.wait()?;
    container.destroy()?;
    let [host, init] = check(&trace);
    check_operations(&init, "exec", &trace);
    assert_eq!((trace.error(), trace.mounts().is_some()), (None, true));
    let template = sandbox.options().strategy == Strategy::Template;
    let mounts = trace.mounts().ok_or("no strategy")?;
    assert_eq!((mounts.template, mounts.reason.is_some()), (template, !template));
    let place = |name: &str| host.iter().position(|span| span.name == name);
    let steps = ["compile the plan", "send the plan", "clone", "wait for the init", "start seen"];
    let places: Option<Vec<_>> = steps.iter().map(|name| place(name)).collect();
    assert!(places.is_some_and(|places| places.is_sorted()), "{trace}");
    // The plan for the host's mounts is as the configuration says, but for a network namespace that
    // is made beside it.
    if !template {
        let plan = pidone::first_plan(&config, &process(&["/guest"]))?;
        let planned = plan.operations().map(|op| op.name());
        let own = init[1..].iter().map(|span| span.name).filter(|name| *name != "setns");
        assert!(own.eq(planned), "{trace}");
    }
    let proc = |span: &&Span| span.name == "attach" && span.object.starts_with("proc at /proc");
    assert_eq!(init.iter().filter(proc).count(), 1, "{trace}");
    // It lives from the clone on until the host has seen its exec.
    let (clone, seen) = (&host[place("clone").unwrap_or(0)], host.last().ok_or("no span")?);
    let end = init.last().map(|span| span.start + span.duration);
    assert!(init[0].start >= clone.start && end <= Some(seen.start + seen.duration), "{trace}");
    Ok(())
}

fn a_further_process_is_recorded(sandbox: &Sandbox) -> Outcome {
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let (joined, trace) = record(|| sandbox.join(&mut live.container, process(&["/guest"])));
    joined?.wait()?;
    live.kill()?;
    let [_, init] = check(&trace);
    check_operations(&init, "exec", &trace);
    assert_eq!(trace.mounts(), None);
    Ok(())
}

/// An init that stays does not report when it did what, but the host records its own work.
fn a_start_by_an_init_is_recorded(sandbox: &Sandbox) -> Outcome {
    let config = Config { supervise: true, ..sandbox.config() };
    let mut container = sandbox.create(&config)?;
    let first = process(&["/guest", "sleep"]);
    let (started, trace) = record(|| sandbox.join(&mut container, first));
    let mut first = started?;
    let [_, init] = check(&trace);
    check_operations(&init, "supervise", &trace);
    let (spawned, trace) = record(|| sandbox.join(&mut container, process(&["/guest"])));
    spawned?.wait()?;
    container.kill()?;
    first.wait()?;
    container.destroy()?;
    let [host, init] = check(&trace);
    assert!(init.is_empty(), "{trace}");
    let names: Vec<_> = host.iter().map(|span| span.name).collect();
    assert!(names.contains(&"ask the init") && names.last() == Some(&"start seen"), "{trace}");
    Ok(())
}

/// The init that joins a time namespace reads another clock from then on.
fn another_clock_is_corrected(sandbox: &Sandbox) -> Outcome {
    need::file("/proc/self/timens_offsets")?;
    for (secs, nanosecs) in [(5 * 86400, 1), (2, 0), (-2, 500_000_000)] {
        let mut config = sandbox.config();
        config.set_namespace(NamespaceType::Time, "");
        config.time_offsets = [("monotonic".to_owned(), TimeOffset { secs, nanosecs })].into();
        let mut container = sandbox.create(&config)?;
        let first = process(&["/guest", "sleep"]);
        let (started, trace) = record(|| sandbox.join(&mut container, first));
        let mut first = started?;
        let [_, init] = check(&trace);
        check_operations(&init, "exec", &trace);
        let (joined, trace) = record(|| sandbox.join(&mut container, process(&["/guest"])));
        joined?.wait()?;
        container.kill()?;
        first.wait()?;
        container.destroy()?;
        let [_, init] = check(&trace);
        check_operations(&init, "exec", &trace);
        // Wrong stamps would all be cut at one end or the other.
        let joins = init.iter().position(|span| span.name == "setns").ok_or("no setns")?;
        let behind = &init[joins + 1..];
        let lasting = behind.iter().filter(|span| !span.duration.is_zero());
        assert!(lasting.count() > behind.len() / 2, "{secs} s:\n{trace}");
    }
    Ok(())
}

fn a_failure_is_recorded(sandbox: &Sandbox) -> Outcome {
    let mut container = sandbox.create(&sandbox.config())?;
    let (started, trace) = record(|| sandbox.join(&mut container, process(&["/missing"])));
    let error = started.err().ok_or("started")?;
    assert_eq!(trace.error(), Some(error.to_string().as_str()));
    let [host, init] = check(&trace);
    check_operations(&init, "exec", &trace);
    let failed: Vec<_> = host.iter().chain(&init).filter(|span| span.failed).collect();
    assert_eq!(failed, [init.last().ok_or("no span")?]);
    // In the middle of the plan.
    let mut absent = process(&["/guest"]);
    absent.cwd = "/missing".into();
    let (started, trace) = record(|| sandbox.join(&mut container, absent));
    assert!(started.is_err());
    let [_, init] = check(&trace);
    check_operations(&init, "chdir", &trace);
    assert!(init.iter().filter(|span| span.failed).eq(init.last()), "{trace}");
    // On the host.
    let mut unknown = process(&["/guest"]);
    unknown.user = "nobody-knows".into();
    let (started, trace) = record(|| sandbox.join(&mut container, unknown));
    assert_eq!(started.err().map(|error| error.code()), Some(Code::ConfigInvalid));
    let [host, init] = check(&trace);
    assert!(init.is_empty());
    let last = host.last().map(|span| (span.name, span.failed));
    assert_eq!(last, Some(("compile the plan", true)), "{trace}");
    container.destroy()?;
    Ok(())
}

fn starts_of_other_threads_are_not_recorded(sandbox: &Sandbox) -> Outcome {
    let run = || -> pidone::Result<Trace> {
        // They would have the same cgroup.
        let config = Config { cgroups: None, ..sandbox.config() };
        let mut container = sandbox.create(&config)?;
        let (started, trace) = record(|| sandbox.join(&mut container, process(&["/guest"])));
        started?.wait()?;
        container.destroy()?;
        Ok(trace)
    };
    let traces: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    for trace in traces {
        let trace = trace.map_err(|_| "a thread panicked")??;
        let [host, init] = check(&trace);
        check_operations(&init, "exec", &trace);
        assert_eq!(host.iter().filter(|span| span.name == "clone").count(), 1, "{trace}");
    }
    Ok(())
}
