//! Help, manual pages and completions, all made from the parsers.

use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;
use pidone_config::Error;

use super::arguments::Invocation;
use super::failure::Outcome;
use super::output;
use super::report::Report;

/// The options of `help` and `man`.
#[derive(Debug, Args)]
pub(super) struct About {
    /// The command
    command: Option<String>,
}

/// The options of `completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints help.
///
/// # Errors
/// There is no such command.
pub fn help(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let flags: About = invocation.own()?;
    let mut command = match &flags.command {
        Some(verb) => invocation.program().called(verb)?,
        None => invocation.program().command(),
    };
    output::styled(&command.render_help())?;
    Ok(0)
}

/// Prints a manual page.
///
/// # Errors
/// There is no such command.
pub fn man(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let flags: About = invocation.own()?;
    let program = invocation.program();
    let command = match &flags.command {
        Some(verb) => {
            let command = program.called(verb)?;
            command.display_name(format!("{}-{verb}", program.name))
        }
        None => program.command(),
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
    let flags: Completions = invocation.own()?;
    let program = invocation.program();
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut program.command(), program.name, &mut script);
    output::bytes(&script)?;
    Ok(0)
}
