//! Where a start of the library spends its time: its phases, the steps of the host, and the
//! operations of the init.
//!
//! Times are medians. Recording costs a little itself, so phases are measured in other starts than
//! steps and operations.

use std::time::Duration;

use pidone::trace::{self, Span, Trace, Who};
use pidone::{Options, Strategy};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::figures::median;
use crate::library::{Library, Phases};
use crate::place::Place;
use crate::scenario::Scenario;

/// The phases and operations of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waterfall {
    /// The number of starts, recorded and not.
    pub starts: usize,
    /// Nanoseconds from the beginning to the end of each phase.
    pub phases: Vec<(String, u64)>,
    /// Nanoseconds of each step of the host, in order. Steps with the same name are added up.
    pub steps: Vec<(String, u64)>,
    /// Nanoseconds of each operation, in order.
    pub operations: Vec<(String, u64)>,
    /// A picture of the start with the median duration, as SVG.
    pub picture: String,
}

impl Waterfall {
    /// Starts a container repeatedly.
    ///
    /// # Errors
    /// If a container does not start.
    pub fn measure(
        place: &Place,
        scenario: Scenario,
        strategy: Strategy,
        starts: usize,
    ) -> Result<Self> {
        let options = Options::default().strategy(strategy);
        let name = "waterfall-";
        let mut plain = Library::with(place, scenario, options.clone(), 0)?.named(name);
        let mut recorded = Library::with(place, scenario, options, 1)?.named(name);
        // The first starts also make what later ones reuse.
        plain.phases()?;
        let example = record(&mut recorded)?;
        let mut operations: Vec<(&str, Vec<u64>)> =
            spans(&example, Who::Init).map(|span| (span.name, Vec::new())).collect();
        let mut steps: Vec<(&str, Vec<u64>)> = Vec::new();
        for span in spans(&example, Who::Host) {
            if !steps.iter().any(|(name, _)| *name == span.name) {
                steps.push((span.name, Vec::new()));
            }
        }
        let mut phases: Vec<Phases> = Vec::with_capacity(starts);
        let mut traces = Vec::with_capacity(starts);
        for _ in 0..starts {
            phases.push(plain.phases()?);
            let trace = record(&mut recorded)?;
            for ((_, times), span) in operations.iter_mut().zip(spans(&trace, Who::Init)) {
                times.push(u64::try_from(span.duration.as_nanos())?);
            }
            for (name, times) in &mut steps {
                let same = spans(&trace, Who::Host).filter(|span| span.name == *name);
                let time: Duration = same.map(|span| span.duration).sum();
                times.push(u64::try_from(time.as_nanos())?);
            }
            traces.push(trace);
        }
        traces.sort_by_key(Trace::total);
        let picture = traces.get(starts / 2).map_or(String::new(), |trace| trace.svg().to_string());
        type Phase = (&'static str, fn(&Phases) -> u64);
        let columns: [Phase; 5] = [
            ("created", |phases| phases.created),
            ("first instruction", |phases| phases.first),
            ("start returned", |phases| phases.started),
            ("reaped", |phases| phases.reaped),
            ("removed", |phases| phases.removed),
        ];
        let medians = |times: Vec<(&str, Vec<u64>)>| {
            times.into_iter().map(|(name, times)| (name.to_owned(), median(times))).collect()
        };
        Ok(Self {
            starts,
            phases: columns
                .into_iter()
                .map(|(name, of)| (name.to_owned(), median(phases.iter().map(of))))
                .collect(),
            steps: medians(steps),
            operations: medians(operations),
            picture,
        })
    }
}

/// Records one start.
fn record(library: &mut Library) -> Result<Trace> {
    let (started, trace) = trace::record(|| library.phases());
    started.map(|_| trace)
}

/// Returns the spans of the host or of the init.
fn spans(trace: &Trace, who: Who) -> impl Iterator<Item = Span> {
    trace.spans().into_iter().filter(move |span| span.who == who)
}
