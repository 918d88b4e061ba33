//! Prints where a start of the library spends its time: its phases, the steps of the host, the
//! operations of the init, and the parts compared with those of the floor.
//!
//! `waterfall [minimal|oci|oci-net] [auto|template|host|run|exec] [COUNT] [v1|v2]`. Times are in
//! microseconds. With `run` and `exec` it prints the parts of whole processes of the command line.

use std::env;
use std::io::{self, Write as _};

use clap::ValueEnum as _;
use pidone::Strategy;
use pidone_benches::Result;
use pidone_benches::contestant::{Contestant, Verb};
use pidone_benches::place::{Place, View};
use pidone_benches::profile::Profile;
use pidone_benches::scenario::Scenario;
use pidone_benches::waterfall::Waterfall;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let scenario = match arguments.next() {
        Some(name) => Scenario::from_str(&name, false)?,
        None => Scenario::OciNet,
    };
    let subject = arguments.next();
    let strategy = match subject.as_deref() {
        None | Some("auto") => Ok(Strategy::Auto),
        Some("template") => Ok(Strategy::Template),
        Some("host") => Ok(Strategy::Host),
        Some("run") => Err(Verb::Run),
        Some("exec") => Err(Verb::Exec),
        Some(other) => return Err(format!("{other}: neither a strategy nor a verb").into()),
    };
    let count: usize = arguments.next().as_deref().unwrap_or("1000").parse()?;
    let view = match arguments.next() {
        Some(name) => View::from_str(&name, false)?,
        None => View::V2,
    };
    let place = Place::enter(None, view)?;
    let strategy = match strategy {
        Ok(strategy) => strategy,
        Err(verb) => {
            return print_parts(&Profile::measure(
                Contestant::Pidone,
                verb,
                &place,
                scenario,
                count,
            )?);
        }
    };
    let waterfall = Waterfall::measure(&place, scenario, strategy, count)?;

    let mut output = io::stdout().lock();
    writeln!(output, "{scenario}, {strategy:?}, {count} starts\n")?;
    for (name, time) in &waterfall.phases {
        writeln!(output, "{:>9} {name}", microseconds(*time))?;
    }
    writeln!(output, "\nof each step of the host:")?;
    for (name, time) in &waterfall.steps {
        writeln!(output, "{:>9} {name}", microseconds(*time))?;
    }
    writeln!(output, "\nof each operation of the init:")?;
    for (number, (name, time)) in waterfall.operations.iter().enumerate() {
        writeln!(output, "{:>9} {:>3} {name}", microseconds(*time), number + 1)?;
    }
    let sum = waterfall.operations.iter().map(|(_, time)| time).sum();
    writeln!(output, "{:>9} together", microseconds(sum))?;

    let contestant = match strategy {
        Strategy::Host => Contestant::Host,
        _ => Contestant::Library,
    };
    let profile = Profile::measure(contestant, Verb::Run, &place, scenario, count)?;
    drop(output);
    print_parts(&profile)
}

/// Prints a profile.
fn print_parts(profile: &Profile) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "\nof each part, and of the floor's:")?;
    for part in &profile.parts {
        let times = [part.time, part.floor].map(microseconds);
        writeln!(output, "{:>9} {:>9} {}", times[0], times[1], part.name)?;
    }
    let floor = microseconds(profile.floor.unwrap_or(0));
    writeln!(output, "{:>9} {floor:>9} together", microseconds(profile.total))?;
    writeln!(output, "\n{}", profile.words())?;
    Ok(())
}

/// Returns a time in microseconds, with one decimal.
fn microseconds(nanoseconds: u64) -> String {
    format!("{}.{}", nanoseconds / 1000, nanoseconds % 1000 / 100)
}
