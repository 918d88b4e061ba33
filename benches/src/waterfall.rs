//! Where one start of the library spends its time: the host's steps and each operation of the init.

use pidone::trace::{self, Trace};
use pidone::{Options, Strategy};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::library::Library;
use crate::place::Place;
use crate::scenario::Scenario;

/// The start that took the median of the time of several. Recording it costs a little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waterfall {
    /// How many starts there were.
    pub starts: usize,
    /// The median one as a table.
    pub table: String,
    /// The median one as a picture.
    pub svg: String,
}

impl Waterfall {
    /// Starts a container again and again.
    ///
    /// # Errors
    /// It does not start.
    pub fn measure(
        place: &Place,
        scenario: Scenario,
        strategy: Strategy,
        starts: usize,
    ) -> Result<Self> {
        let options = Options::default().strategy(strategy);
        let mut library = Library::with(place, scenario, options, 0)?.named("waterfall-");
        // What is made once is made by the first start.
        library.phases()?;
        let mut traces: Vec<Trace> = Vec::with_capacity(starts);
        for _ in 0..starts {
            let (started, trace) = trace::record(|| library.phases());
            started?;
            traces.push(trace);
        }
        traces.sort_by_key(Trace::total);
        let median = traces.get(starts / 2).ok_or("no start at all")?;
        Ok(Self { starts, table: median.to_string(), svg: median.svg().to_string() })
    }
}
