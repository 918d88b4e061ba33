//! From a plan to the bytes that the init receives, and back: the two codecs, and JSON.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput};
use pidone::Config;
use pidone::plan::Plan;
use pidone_benches::compiled;
use pidone_benches::scenario::Scenario;
use pidone_proto::{Bincode, Codec, Op, Postcard};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(2))
        .configure_from_args();
    let config = Scenario::OciNet.config(Path::new("/srv/rootfs"), ("/parent", "name"));
    let process = compiled::process(&config).expect("a plain configuration");
    let plan = compiled::plan(&config, &process).expect("a plain configuration");
    encode(&mut criterion, &plan, &config);
    decode(&mut criterion, &plan, &config);
    criterion.final_summary();
}

/// Encodes all operations in order.
fn encoded<C: Codec>(operations: &[Op<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for operation in operations {
        C::append(operation, &mut bytes).expect("a vector grows");
    }
    bytes
}

/// Decodes operations as the init does, one at a time and in place. Returns their number.
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

/// Measures encoding.
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

/// Measures decoding.
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
