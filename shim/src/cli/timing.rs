//! How long each operation of a start took, for people.

use std::fmt;
use std::time::Duration;

use crate::Timing;

/// The operations of a start, below each other: each bar begins where the one before ends.
pub(super) struct Waterfall<'a>(pub(super) &'a [Timing]);

/// How wide all bars are together, in characters.
const WIDTH: u128 = 40;

impl fmt::Display for Waterfall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: Duration = self.0.iter().map(|timing| timing.took).sum();
        let micros = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
        let column = |time: Duration| {
            usize::try_from(time.as_nanos() * WIDTH / total.as_nanos().max(1)).unwrap_or(0)
        };
        write!(f, "{} operations of the init, {} us", self.0.len(), micros(total))?;
        let mut before = Duration::ZERO;
        for (number, timing) in (1..).zip(self.0) {
            let until = before + timing.took;
            let (from, to) = (column(before), column(until));
            let bar = "#".repeat((to - from).max(1));
            let (name, took) = (timing.operation, micros(timing.took));
            write!(f, "\n{number:4} {name:<24} {took:>8} us  {:from$}{bar}", "")?;
            before = until;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_where_the_time_went() {
        let timing = |operation, micros| Timing { operation, took: Duration::from_micros(micros) };
        let times = [timing("mount", 10), timing("seccomp", 30), timing("umask", 0)];
        assert_eq!(
            Waterfall(&times).to_string(),
            format!(
                "3 operations of the init, 40.0 us\n\
                 \x20  1 mount                        10.0 us  {}\n\
                 \x20  2 seccomp                      30.0 us  {:10}{}\n\
                 \x20  3 umask                         0.0 us  {:40}#",
                "#".repeat(10),
                "",
                "#".repeat(30),
                ""
            )
        );
        assert_eq!(Waterfall(&[]).to_string(), "0 operations of the init, 0.0 us");
    }
}
