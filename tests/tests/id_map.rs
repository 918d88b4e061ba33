//! The ids of a user namespace: which users may map which.

use pidone::Config;
use pidone::config::IdMap;
use pidone_tests::{Case, DELEGATED, Outcome, Report, Sandbox, Stop, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(a_user_maps_himself_and_his_ranges).delegated(),
    case!(a_user_maps_no_more_than_his_ranges).delegated(),
    // Without its own pid namespace it may mount no proc, and so make no template.
    case!(root_of_a_namespace_maps_what_it_has).nested().once(),
    case!(root_of_a_namespace_maps_nothing_else).nested().once(),
];

const NOBODY: u32 = 65534;

fn map(container_id: u32, host_id: u32, size: u32) -> IdMap {
    IdMap { container_id, host_id, size }
}

fn config(sandbox: &Sandbox, maps: &[IdMap]) -> Config {
    let mut config = sandbox.config();
    config.set_id_maps(maps.to_vec(), maps.to_vec());
    config.cgroups = None;
    config
}

/// The numbers of a map as it is seen inside.
fn numbers(lines: Option<&Vec<String>>) -> Result<Vec<[u32; 3]>, Stop> {
    let line = |line: &String| {
        let numbers = line.split_ascii_whitespace().map(|number| Ok(number.parse()?));
        let numbers: Vec<u32> = numbers.collect::<Result<_, Stop>>()?;
        Ok(numbers.try_into().map_err(|_| "not three numbers")?)
    };
    lines.ok_or("no map")?.iter().map(line).collect()
}

fn a_user_maps_himself_and_his_ranges(sandbox: &Sandbox) -> Outcome {
    // As rootless podman has it: himself as root, the rest from two parts of his range.
    let maps = [map(0, NOBODY, 1), map(1, DELEGATED, 1000), map(1001, DELEGATED + 5000, 60000)];
    let config = config(sandbox, &maps);
    let report: Report = sandbox.report(&config)?;
    let expected = maps.map(|map| [map.container_id, map.host_id, map.size]);
    assert_eq!(numbers(report.uid_map.as_ref())?, expected);
    assert_eq!((report.uid, report.gid), ([0; 3], [0; 3]));

    let mut other = process(&["/guest"]);
    other.user = "1500:7".into();
    let output = sandbox.run(&config, other)?;
    let report: Report = output.lines()?.pop().ok_or("no report")?;
    assert_eq!((report.uid, report.gid), ([1500; 3], [7; 3]));
    Ok(())
}

fn a_user_maps_no_more_than_his_ranges(sandbox: &Sandbox) -> Outcome {
    for wrong in [
        map(1, 0, 1),
        map(1, DELEGATED - 1, 2),
        map(1, DELEGATED, 65537),
        map(1, DELEGATED + 65535, 2),
    ] {
        let config = config(sandbox, &[map(0, NOBODY, 1), wrong]);
        let error = sandbox.start(&config, process(&["/guest"])).err().ok_or("started")?;
        let text = error.to_string();
        assert!(text.starts_with("newuidmap `"), "{text}");
        assert!(text.contains("not allowed"), "{text}");
    }
    Ok(())
}

fn root_of_a_namespace_maps_what_it_has(sandbox: &Sandbox) -> Outcome {
    // No program helps here: these are ids of the namespace.
    let maps = [map(0, 1000, 1), map(1, 1, 999), map(1000, 2000, 60000)];
    let report: Report = sandbox.report(&config(sandbox, &maps))?;
    let expected = maps.map(|map| [map.container_id, map.host_id, map.size]);
    assert_eq!(numbers(report.uid_map.as_ref())?, expected);
    assert_eq!((report.uid, report.gid), ([0; 3], [0; 3]));
    // And groups can be set.
    let mut config = config(sandbox, &maps);
    config.additional_groups = vec!["5".into(), "1234".into()];
    let report: Report = sandbox.report(&config)?;
    assert!(report.groups.contains(&1234), "{:?}", report.groups);
    Ok(())
}

fn root_of_a_namespace_maps_nothing_else(sandbox: &Sandbox) -> Outcome {
    for wrong in [map(0, 65536, 1), map(0, DELEGATED, 1), map(0, 60000, 10000)] {
        let config = config(sandbox, &[wrong]);
        let error = sandbox.start(&config, process(&["/guest"])).err().ok_or("started")?;
        assert_eq!(error.errno(), Some(rustix::io::Errno::PERM), "{error}");
    }
    Ok(())
}
