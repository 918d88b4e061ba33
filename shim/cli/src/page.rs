//! The verbs `help`, `man` and `completions`, which are generated from the parsers.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use pidone_config::{Error, Result};

use super::arguments::{Invocation, Program};
use super::failure::Outcome;
use super::output;
use super::report::Report;

/// The options of `help`.
#[derive(Debug, Args)]
pub(super) struct Help {
    /// Command to print help about
    command: Option<String>,
}

/// The options of `man`.
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Command to print the manual page of
    #[arg(conflicts_with = "all")]
    command: Option<String>,

    /// Write all manual pages to this directory, which must exist
    #[arg(long, value_name = "DIR")]
    all: Option<PathBuf>,
}

/// The options of `completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Shell to print the completion script for
    shell: Shell,
}

/// Prints the help of the program or of a verb.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] if the program has no such verb, or always refuses it.
pub(super) fn help(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let flags: Help = invocation.parse_verb()?;
    let program = invocation.program();
    let mut command = match &flags.command {
        Some(name) => program.standalone_command(program.find_shown_verb(name)?),
        None => program.command(),
    };
    output::styled(&command.render_help())?;
    Ok(0)
}

/// Prints the manual page of the program or of a verb, or writes all manual pages to a directory.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] if the program has no such verb, or always refuses it;
/// [`pidone_config::Code::SystemError`] with the path if a file cannot be written.
pub(super) fn man(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let flags: Manual = invocation.parse_verb()?;
    let program = invocation.program();
    if let Some(directory) = &flags.all {
        write_pages(program, directory)?;
        return Ok(0);
    }
    let page = match &flags.command {
        Some(name) => {
            let verb = program.find_shown_verb(name)?;
            Page::of_verb(program, program.standalone_command(verb), verb.manual)
        }
        None => Page::of_program(program),
    };
    output::bytes(&page.render()?)?;
    Ok(0)
}

/// Prints a script for a shell that completes the arguments of the program.
///
/// # Errors
/// [`super::failure::Failure::Usage`] if the shell is not supported.
pub(super) fn completions(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let flags: Completions = invocation.parse_verb()?;
    let program = invocation.program();
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut program.command(), program.name, &mut script);
    output::bytes(&script)?;
    Ok(0)
}

/// Writes the manual pages of a program, of its verbs and of their subcommands to a directory:
/// `pidone.1`, `pidone-run.1`, `pidone-pool-serve.1` and so on. Hidden verbs have no page.
fn write_pages(program: &Program, directory: &Path) -> Result<()> {
    fs::read_dir(directory).map_err(|error| Error::path("open", directory, error))?;
    let mut pages = vec![Page::of_program(program)];
    for verb in program.shown_verbs() {
        let page = Page::of_verb(program, program.standalone_command(verb), verb.manual);
        let nested: Vec<_> = page.command.get_subcommands().cloned().collect();
        pages.push(page);
        pages.extend(nested.into_iter().map(|command| Page::of_verb(program, command, &[])));
    }
    for page in pages {
        let path = directory.join(format!("{}.1", page.name()));
        fs::write(&path, page.render()?).map_err(|error| Error::path("write", &path, error))?;
    }
    Ok(())
}

/// The lines that every output of [`Roff`] begins with: they define a string for apostrophes.
const PREAMBLE: [&str; 2] = [r".ie \n(.g .ds Aq \(aq", ".el .ds Aq '"];

/// A manual page.
///
/// [`Man::render`] is not used: it prints the three lines of `pidone --version` in the header and
/// has no place for the sections of [`super::arguments::Verb::manual`].
struct Page<'a> {
    program: &'a Program,
    command: Command,
    manual: &'a [&'a str],
}

impl<'a> Page<'a> {
    fn of_program(program: &'a Program) -> Self {
        Self { program, command: prepare(program.command()), manual: program.manual }
    }

    /// Returns the page of a verb or of a subcommand of one, which is named after its whole call.
    fn of_verb(program: &'a Program, command: Command, manual: &'a [&'a str]) -> Self {
        let name = command.get_bin_name().unwrap_or(program.name).replace(' ', "-");
        Self { program, command: prepare(command.display_name(name)), manual }
    }

    /// Returns the name of the page, which is that of its file without `.1`.
    fn name(&self) -> &str {
        self.command.get_display_name().unwrap_or(self.program.name)
    }

    fn render(&self) -> Result<Vec<u8>> {
        self.write_to().map_err(|error| Error::system("render", "manual page", error))
    }

    fn write_to(&self) -> io::Result<Vec<u8>> {
        let man = Man::new(self.command.clone());
        let name = self.name();
        let mut page = Vec::new();
        writeln!(page, "{}\n{}", PREAMBLE[0], PREAMBLE[1])?;
        let release = format!("{} {}", self.program.name, env!("CARGO_PKG_VERSION"));
        writeln!(page, ".TH {name} 1 \"\" \"{release}\" \"User Commands\"")?;
        write_section(&mut page, |section| man.render_name_section(section))?;
        write_section(&mut page, |section| man.render_synopsis_section(section))?;
        write_section(&mut page, |section| man.render_description_section(section))?;
        write_section(&mut page, |section| self.notes().to_writer(section))?;
        write_section(&mut page, |section| man.render_options_section(section))?;
        if self.command.has_subcommands() {
            write_section(&mut page, |section| man.render_subcommands_section(section))?;
        }
        for section in self.manual {
            page.extend_from_slice(section.as_bytes());
        }
        write_section(&mut page, |section| self.see_also().to_writer(section))?;
        Ok(page)
    }

    /// Returns the section that refers from `pidone pool run` to `pidone pool` and `pidone`, which
    /// has the global options.
    fn see_also(&self) -> Roff {
        let mut roff = Roff::new();
        let call = self.command.get_bin_name().unwrap_or_default();
        let parents: Vec<_> = call.rmatch_indices(' ').map(|(end, _)| &call[..end]).collect();
        if !parents.is_empty() {
            roff.control("SH", ["SEE ALSO"]);
        }
        for parent in parents {
            roff.text([bold(parent.replace(' ', "-")), roman("(1)")]);
        }
        roff
    }

    /// Returns the text below the help as further paragraphs of the description.
    fn notes(&self) -> Roff {
        let mut roff = Roff::new();
        let notes = self.command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for paragraph in notes.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
            roff.control("PP", []);
            for line in paragraph.lines() {
                roff.text([roman(line)]);
            }
        }
        roff
    }
}

/// Prepares a parser for its page: sets the names of its subcommands and the title of their list.
fn prepare(command: Command) -> Command {
    let mut command = command
        .disable_help_subcommand(true)
        .subcommand_help_heading("COMMANDS")
        .subcommand_value_name("COMMAND");
    command.build();
    command
}

/// Appends a section to a page, without the preamble that only the beginning of a page needs.
fn write_section(
    page: &mut Vec<u8>,
    render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut section = Vec::new();
    render(&mut section)?;
    for line in section.split_inclusive(|byte| *byte == b'\n') {
        if !PREAMBLE.iter().any(|preamble| preamble.as_bytes() == line.trim_ascii_end()) {
            page.extend_from_slice(line);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pidone_config::Code;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn all_pages_of_both_programs_are_written_and_refer_to_each_other() {
        for program in [&crate::pidone::PROGRAM, &crate::nsinit::PROGRAM] {
            let directory = tempfile::tempdir().unwrap();
            write_pages(program, directory.path()).unwrap();
            let read = |name: &str| {
                let page = fs::read_to_string(directory.path().join(name));
                page.unwrap_or_else(|error| panic!("{name}: {error}"))
            };
            let names: Vec<String> = fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert!(names.contains(&format!("{}.1", program.name)), "{names:?}");
            for verb in program.verbs {
                let name = format!("{}-{}.1", program.name, verb.name);
                assert_eq!(names.contains(&name), !verb.hidden, "{name}");
            }
            for name in &names {
                let page = read(name);
                let title = format!(".TH {} 1 \"\" \"{} ", &name[..name.len() - 2], program.name);
                assert_eq!(page.matches(&title).count(), 1, "{page}");
                assert_eq!(page.matches(PREAMBLE[0]).count(), 1, "{page}");
                assert_eq!(page.matches("\n.SH OPTIONS\n").count(), 1, "{page}");
                // Each page in a list of commands exists.
                for line in page.lines().filter(|line| line.ends_with("(1)")) {
                    let listed = line.trim_end_matches("(1)").replace("\\-", "-");
                    let listed = listed.replace("\\fB", "").replace("\\fR", "");
                    assert!(names.contains(&format!("{listed}.1")), "{name} lists {line}");
                }
            }
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let program = &crate::pidone::PROGRAM;
        let missing = directory.path().join("missing");
        let error = write_pages(program, &missing).unwrap_err();
        assert_eq!((error.code(), error.errno()), (Code::SystemError, Some(Errno::NOENT)));
        assert!(error.to_string().contains("missing`: No such file or directory"), "{error}");
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(write_pages(program, &file).unwrap_err().errno(), Some(Errno::NOTDIR));
        fs::create_dir(directory.path().join("pidone.1")).unwrap();
        let error = write_pages(program, directory.path()).unwrap_err().to_string();
        assert!(error.ends_with("pidone.1`: Is a directory"), "{error}");
    }
}
