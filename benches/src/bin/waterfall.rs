//! Where a start of the library spends its time: its phases, and each operation of the init.
//!
//! `waterfall [minimal|oci|oci-net] [template|host] [COUNT]`
//!
//! Times are medians in microseconds. Stamps cost a little themselves, and the stamped starts are
//! others than those whose phases are shown.

use std::env;
use std::io::{self, Write as _};

use clap::ValueEnum as _;
use pidone::{Options, Strategy};
use pidone_benches::library::{Library, Phases};
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Error, Result};

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let scenario = match arguments.next() {
        Some(name) => Scenario::from_str(&name, false)?,
        None => Scenario::OciNet,
    };
    let strategy = match arguments.next().as_deref() {
        None | Some("template") => Strategy::Template,
        Some("host") => Strategy::Host,
        Some(other) => return Err(format!("{other}: not template or host").into()),
    };
    let count: usize = arguments.next().as_deref().unwrap_or("1000").parse()?;
    let place = Place::enter(None, View::V2)?;
    let options = Options::default().strategy(strategy);
    let mut plain = Library::with(&place, scenario, options.clone(), 0)?;
    let mut stamped = Library::with(&place, scenario, options.timing(true), 1)?;
    // What is made once is made by the first starts.
    plain.phases()?;
    let mut operations = names(&mut stamped)?;
    let mut phases: Vec<Phases> = Vec::with_capacity(count);
    for _ in 0..count {
        phases.push(plain.phases()?);
        let (_, running) = stamped.run()?;
        for ((_, times), timing) in operations.iter_mut().zip(&running.times) {
            times.push(timing.took.as_nanos());
        }
    }

    let mut output = io::stdout().lock();
    writeln!(output, "{scenario}, {strategy:?}, {count} starts\n")?;
    type Column = (&'static str, fn(&Phases) -> u64);
    let columns: [Column; 5] = [
        ("created", |phases| phases.created),
        ("first instruction", |phases| phases.first),
        ("start returned", |phases| phases.started),
        ("reaped", |phases| phases.reaped),
        ("removed", |phases| phases.removed),
    ];
    for (name, of) in columns {
        let times = phases.iter().map(|phases| u128::from(of(phases))).collect();
        writeln!(output, "{:>9} {name}", microseconds(median(times)))?;
    }
    writeln!(output, "\nof each operation of the init:")?;
    let mut sum = 0;
    for (number, (name, times)) in operations.into_iter().enumerate() {
        let time = median(times);
        sum += time;
        writeln!(output, "{:>9} {:>3} {name}", microseconds(time), number + 1)?;
    }
    writeln!(output, "{:>9} together", microseconds(sum))?;
    Ok(())
}

/// An operation's name, and the times that it took.
type Operation = (&'static str, Vec<u128>);

/// Starts once for the names of the operations.
fn names(library: &mut Library) -> std::result::Result<Vec<Operation>, Error> {
    let (_, running) = library.run()?;
    Ok(running.times.iter().map(|timing| (timing.operation, Vec::new())).collect())
}

fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

fn microseconds(nanoseconds: u128) -> String {
    format!("{}.{}", nanoseconds / 1000, nanoseconds % 1000 / 100)
}
