//! The memory of a created container while it waits for its start. It does not depend on time, and
//! is printed without criterion.
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use pidone_benches::Result;
use pidone_benches::contestant::Contestant;
use pidone_benches::experiment::{Servers, serve};
use pidone_benches::place::View;

fn main() -> Result<()> {
    // The process of the place is this program, too.
    if serve()? {
        return Ok(());
    }
    let mut servers = Servers::default();
    for contestant in [Contestant::Library, Contestant::Pidone, Contestant::Crun, Contestant::Runc]
    {
        let answer = match servers.at(20, View::V2) {
            Ok(server) => server.memory(contestant),
            Err(error) => Err(error),
        };
        match answer {
            Ok(Ok(memory)) => println!(
                "{contestant:10} {:>6} KB resident, {:>6} KB proportional, {} threads, \
                 {} descriptors",
                memory.resident / 1024,
                memory.proportional / 1024,
                memory.threads,
                memory.descriptors
            ),
            Ok(Err(reason)) => println!("{contestant:10} is skipped: {reason}"),
            Err(error) => println!("{contestant:10} is skipped: {error}"),
        }
    }
    Ok(())
}
