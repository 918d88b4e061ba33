//! A further process that a container's supervising init starts, and vfork and exec of the same
//! program on the host: up to its first instruction.
//!
//! Measures them separately; `compare --verb spawn` interleaves them.

mod side_by_side;

use pidone_benches::floor::Plain;
use pidone_benches::{Result, library};

fn main() -> Result<()> {
    side_by_side::main("spawn", |place, scenario| {
        Ok(vec![
            ("plain", Box::new(Plain::new(place)?)),
            ("spawn", Box::new(library::Exec::supervised(place, scenario, 0)?)),
        ])
    })
}
