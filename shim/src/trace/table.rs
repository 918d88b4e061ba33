//! Formats a trace as a table for the terminal.

use std::fmt::{self, Formatter};
use std::time::Duration;

use pidone_config::error::Escaped;

use super::{Trace, WAIT, Who, cut, micros};

/// The width of the time axis in characters.
const WIDTH: u128 = 40;

/// The length of the longest description in characters.
const LONGEST: usize = 80;

/// Writes a line for each span, with a bar at its place on the time axis, and the sums.
pub(super) fn write(trace: &Trace, f: &mut Formatter<'_>) -> fmt::Result {
    let total = trace.total();
    write!(f, "start: {} us", micros(total))?;
    if let Some(mounts) = trace.mounts() {
        write!(f, ", strategy: {mounts}")?;
    }
    if let Some(error) = trace.error() {
        write!(f, ", failed: {}", Escaped(error))?;
    }
    writeln!(f, "\n {:>9} {:>9}", "at us", "took us")?;
    let column = |time: Duration| {
        let column = time.as_nanos() * WIDTH / total.as_nanos().max(1);
        usize::try_from(column.min(WIDTH)).unwrap_or(0)
    };
    let mut sums = [Sum::default(), Sum::default()];
    let mut waited = Duration::ZERO;
    for span in trace.spans() {
        let (from, to) = (column(span.start), column(span.start + span.duration));
        // A span of hardly any time at the end still gets a column.
        let from = from.min(column(total).saturating_sub(1));
        let sign = if span.name == WAIT { "." } else { "#" };
        let bar = format!("{:from$}{}", "", sign.repeat(to.saturating_sub(from).max(1)));
        let what = cut(span.name, &span.object, LONGEST);
        let failed = if span.failed { " FAILED" } else { "" };
        let (who, at, took) = (span.who.name(), micros(span.start), micros(span.duration));
        writeln!(f, " {at:>9} {took:>9} |{bar:<40}| {who} {what}{failed}")?;
        if span.name == WAIT {
            waited += span.duration;
        }
        sums[usize::from(span.who == Who::Init)].add(span.duration);
    }
    let [host, init] = sums;
    writeln!(
        f,
        "host: {} us in {} steps, {} us of them waiting; init: {} us in {} operations",
        micros(host.time),
        host.count,
        micros(waited),
        micros(init.time),
        init.count
    )
}

/// The total time and the number of spans.
#[derive(Default)]
struct Sum {
    time: Duration,
    count: usize,
}

impl Sum {
    fn add(&mut self, time: Duration) {
        self.time += time;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;

    #[test]
    fn bars_are_at_the_times_of_their_spans() {
        let expected = [
            "start: 1000.0 us, strategy: host (asked for)".to_owned(),
            "     at us   took us".to_owned(),
            format!(
                "       0.0     100.0 |{:<40}| host read configuration /b <&\\u{{1b}}\"'>",
                "####"
            ),
            format!("     100.0     200.0 |{:<40}| host clone", "    ########"),
            format!("     250.0      50.0 |{:<40}| init receive the plan", "          ##"),
            format!(
                "     300.0     600.0 |{:<40}| host wait for the init",
                format!("{:12}{}", "", ".".repeat(24))
            ),
            format!("     300.0       0.0 |{:<40}| init umask 0000", "            #"),
            format!(
                "     300.0     600.0 |{:<40}| init pivot_root",
                format!("{:12}{}", "", "#".repeat(24))
            ),
            "host: 900.0 us in 3 steps, 600.0 us of them waiting; \
             init: 650.0 us in 3 operations"
                .to_owned(),
        ];
        assert_eq!(sample().to_string().lines().collect::<Vec<_>>(), expected);
    }
}
