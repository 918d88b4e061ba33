//! A start from a warm pool, by the library and by its service, and vfork and exec of the same
//! program: up to its first instruction, and for the service also until the client knows the exit.
//!
//! Measures them separately; `compare --verb pool` interleaves them.

mod side_by_side;

use pidone_benches::floor::Plain;
use pidone_benches::served::Served;
use pidone_benches::warm::Warm;
use pidone_benches::{Result, Sample, Starter};

/// Measures the whole start, not only up to the first instruction.
struct Whole<T>(T);

impl<T: Starter> Starter for Whole<T> {
    fn start(&mut self) -> Result<Sample> {
        let sample = self.0.start()?;
        Ok(Sample { first: sample.whole, ..sample })
    }
}

fn main() -> Result<()> {
    side_by_side::main("pool", |place, scenario| {
        Ok(vec![
            ("plain", Box::new(Plain::new(place)?)),
            ("warm", Box::new(Warm::new(place, scenario, 0)?)),
            ("served", Box::new(Served::new(place, scenario, 0)?)),
            ("served to its end", Box::new(Whole(Served::new(place, scenario, 1)?))),
        ])
    })
}
