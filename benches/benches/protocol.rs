//! From a configuration to the bytes that the init gets, and back: the two codecs beside JSON.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput};
use pidone::Config;
use pidone::plan::container::{Facts, compile};
use pidone::plan::{Capabilities, Plan, Process};
use pidone::seccomp;
use pidone_benches::scenario::Scenario;
use pidone_proto::{Bincode, Codec, Op, Postcard};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(2))
        .configure_from_args();
    let config = Scenario::OciNet.config(Path::new("/srv/rootfs"), ("/parent", "name"));
    let process = process(&config);
    let plan = plan(&config, &process);
    plans(&mut criterion);
    encode(&mut criterion, &plan, &config);
    decode(&mut criterion, &plan, &config);
    criterion.final_summary();
}

/// The process of a container with docker's defaults, its filter included.
fn process(config: &Config) -> Process {
    let mask = pidone::config::capability::mask(&config.capabilities).expect("known names");
    let filter = config.seccomp.as_ref().map(|list| {
        let profile = seccomp::seed::profile(list).expect("known system calls");
        seccomp::compile(&profile).expect("few rules")
    });
    Process {
        args: ["nginx", "-g", "daemon off;"].map(str::to_owned).into(),
        env: [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=0a1b2c3d4e5f",
            "NGINX_VERSION=1.29.1",
            "HOME=/root",
        ]
        .map(str::to_owned)
        .into(),
        cwd: "/".to_owned(),
        groups: Some(vec![0]),
        capabilities: Capabilities {
            bounding: mask,
            effective: mask,
            permitted: mask,
            ..Capabilities::default()
        },
        rlimits: config.rlimits.iter().map(|limit| (limit.kind, limit.soft, limit.hard)).collect(),
        no_new_privileges: true,
        seccomp: filter.map(|filter| (filter.flags(), filter.bytes())),
        umask: 0o022,
        ..Process::default()
    }
}

fn plan(config: &Config, process: &Process) -> Plan {
    let new = config.namespaces.iter().fold(0, |flags, new| flags | new.kind.clone_flag());
    let facts = Facts {
        new,
        joined: Vec::new(),
        in_user_namespace: false,
        by_path: false,
        sees_host: false,
        at: "/r".into(),
        cgroups: BTreeMap::from([(String::new(), "/sys/fs/cgroup/parent/name".into())]),
        barrier: false,
        waits: false,
        keyring: None,
        is_directory: &|_| Ok(true),
    };
    compile(config, process, &facts).expect("a plain configuration")
}

/// From a configuration to operations, and from rules to a filter.
fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for scenario in [Scenario::Minimal, Scenario::OciNet] {
        let config = scenario.config(Path::new("/srv/rootfs"), ("/parent", "name"));
        let process = process(&config);
        group.bench_function(BenchmarkId::from_parameter(scenario), |bencher| {
            bencher.iter(|| plan(black_box(&config), black_box(&process)));
        });
    }
    let config = Scenario::OciNet.config(Path::new("/srv/rootfs"), ("/parent", "name"));
    group.bench_function("seccomp", |bencher| {
        bencher.iter(|| {
            let list = config.seccomp.as_ref().expect("it has one");
            let profile = seccomp::seed::profile(black_box(list)).expect("known system calls");
            seccomp::compile(&profile).expect("few rules").bytes()
        });
    });
    group.finish();
}

/// All operations one behind the other.
fn encoded<C: Codec>(operations: &[Op<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for operation in operations {
        C::append(operation, &mut bytes).expect("a vector grows");
    }
    bytes
}

/// As the init reads them: one at a time, in place. Answers how many there are.
fn decoded<C: Codec>(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let (operation, length) = C::decode::<Op<'_>>(bytes).expect("it was encoded");
        black_box(operation);
        bytes = &bytes[length..];
        count += 1;
    }
    count
}

fn encode(criterion: &mut Criterion, plan: &Plan, config: &Config) {
    let operations: Vec<_> = plan.operations().collect();
    let mut group = criterion.benchmark_group("wire/encode");
    group.throughput(Throughput::Bytes(encoded::<Bincode>(&operations).len() as u64));
    group.bench_function("bincode", |bencher| {
        bencher.iter(|| encoded::<Bincode>(black_box(&operations)));
    });
    group.throughput(Throughput::Bytes(encoded::<Postcard>(&operations).len() as u64));
    group.bench_function("postcard", |bencher| {
        bencher.iter(|| encoded::<Postcard>(black_box(&operations)));
    });
    let json = || serde_json::to_vec(black_box(config)).expect("a configuration has no odd keys");
    group.throughput(Throughput::Bytes(json().len() as u64));
    group.bench_function("json", |bencher| bencher.iter(json));
    group.finish();
}

fn decode(criterion: &mut Criterion, plan: &Plan, config: &Config) {
    let operations: Vec<_> = plan.operations().collect();
    let bincode = encoded::<Bincode>(&operations);
    let postcard = encoded::<Postcard>(&operations);
    let json = serde_json::to_vec(config).expect("a configuration has no odd keys");
    assert_eq!(decoded::<Bincode>(&bincode), operations.len());
    assert_eq!(decoded::<Postcard>(&postcard), operations.len());
    let mut group = criterion.benchmark_group("wire/decode");
    group.throughput(Throughput::Bytes(bincode.len() as u64));
    group.bench_function("bincode", |bencher| {
        bencher.iter(|| decoded::<Bincode>(black_box(&bincode)));
    });
    group.throughput(Throughput::Bytes(postcard.len() as u64));
    group.bench_function("postcard", |bencher| {
        bencher.iter(|| decoded::<Postcard>(black_box(&postcard)));
    });
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("json", |bencher| {
        bencher.iter(|| Config::from_json(black_box(&json)).expect("it was encoded"));
    });
    group.finish();
}
