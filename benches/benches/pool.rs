//! A start from a warm pool, beside vfork and exec of the same program: up to its first instruction.
//!
//! As single figures; `compare --verb pool` interleaves them.

mod beside;

use pidone_benches::Result;
use pidone_benches::floor::Plain;
use pidone_benches::warm::Warm;

fn main() -> Result<()> {
    beside::main("pool", |place, scenario| {
        Ok(vec![
            ("plain", Box::new(Plain::new(place)?)),
            ("warm", Box::new(Warm::new(place, scenario, 0)?)),
        ])
    })
}
