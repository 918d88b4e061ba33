//! Help, manual pages and completions, all made from the parsers.

use clap_mangen::Man;

use super::{PROGRAM, flags};
use crate::cli::arguments::Invocation;
use crate::cli::output;
use crate::cli::report::{Outcome, Report};
use crate::error::Error;

/// Prints help.
///
/// # Errors
/// There is no such command.
pub fn help(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let flags: flags::About = invocation.parse()?;
    let mut command = match &flags.command {
        Some(verb) => PROGRAM.called(verb)?,
        None => PROGRAM.command(),
    };
    output::styled(&command.render_help())?;
    Ok(0)
}

/// Prints a manual page.
///
/// # Errors
/// There is no such command.
pub fn man(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let flags: flags::About = invocation.parse()?;
    let command = match &flags.command {
        Some(verb) => {
            let command = PROGRAM.called(verb)?;
            command.display_name(format!("{}-{verb}", PROGRAM.name))
        }
        None => PROGRAM.command(),
    };
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|error| Error::system("render", "manual page", error))?;
    output::bytes(&page)?;
    Ok(0)
}

/// Prints completions for a shell.
///
/// # Errors
/// There is no such shell.
pub fn completions(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let flags: flags::Completions = invocation.parse()?;
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut PROGRAM.command(), PROGRAM.name, &mut script);
    output::bytes(&script)?;
    Ok(0)
}
