//! Starts the floor repeatedly, to examine it with `strace(1)` or `perf(1)`.
//!
//! `floor [minimal|oci|oci-net] [COUNT]`

use std::env;
use std::io::{self, Write as _};

use clap::ValueEnum as _;
use pidone_benches::floor::Floor;
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, Starter as _};

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let scenario = match arguments.next() {
        Some(name) => Scenario::from_str(&name, false)?,
        None => Scenario::OciNet,
    };
    let count: usize = arguments.next().as_deref().unwrap_or("1000").parse()?;
    let place = Place::enter(None, View::V2)?;
    let mut floor = Floor::new(&place, scenario, 0)?;
    let mut samples = (0..count).map(|_| floor.start()).collect::<Result<Vec<_>>>()?;
    let mut output = io::stdout().lock();
    samples.sort_by_key(|sample| sample.first);
    if let Some(middle) = samples.get(samples.len() / 2) {
        let first = middle.first / 1000;
        writeln!(output, "{scenario}: {count} starts, median {first} us to the first instruction")?;
    }
    Ok(())
}
