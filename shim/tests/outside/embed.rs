//! A program that embeds the library.

use std::path::Path;

use pidone::{Config, Factory, Options, Process};

fn main() -> pidone::Result<()> {
    let states = std::env::args().nth(1).unwrap_or_default();
    let factory = Factory::new(states, Options::default())?;
    let mut config = Config::embedded(Path::new("/"))?;
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.name = format!("pidone-outside-{}", std::process::id());
    }
    pidone::fit_caller(&mut config)?;
    let mut container = factory.create("outside", &config)?;
    let args = ["/bin/sh", "-c", "echo from outside the workspace"].map(Into::into).into();
    let ended = container
        .start(&Process { args, ..Process::default() })
        .and_then(|mut process| process.wait());
    container.destroy()?;
    println!("ended with {:?}", ended?.code);
    Ok(())
}
