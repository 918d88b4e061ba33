//! Arguments: first the verb is found, then the parser of that verb alone is built.
//!
//! Building the parsers of all verbs costs more than some of the verbs themselves.

use std::ffi::OsString;
use std::iter::once;

use clap::{ArgAction, Args, Command};
use pidone_config::error::Escaped;
use pidone_config::{Code, Error};

use super::failure::{Failure, Outcome};

/// A program with verbs.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// One sentence about it.
    pub about: &'static str,
    /// What stands below its help.
    pub notes: &'static str,
    /// What `--version` prints.
    pub version: &'static str,
    /// Adds the options that every verb takes.
    pub global: fn(Command) -> Command,
    /// Those of them that may stand before the verb and take a value.
    pub valued: &'static [&'static str],
    /// Those of them that may stand before the verb and take none.
    pub switches: &'static [&'static str],
    /// The verbs, in the order of the help.
    pub verbs: &'static [Verb],
}

/// A verb.
#[derive(Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// Another name.
    pub alias: Option<&'static str>,
    /// One sentence about it.
    pub about: &'static str,
    /// What stands below its help.
    pub notes: &'static str,
    /// Whether the list of verbs leaves it out.
    pub hidden: bool,
    /// Adds its options, those of every verb among them.
    pub options: fn(Command) -> Command,
}

impl Program {
    /// The parser of all verbs: for help, completions and manuals.
    pub(super) fn command(&self) -> Command {
        (self.global)(self.versioned(Command::new(self.name)))
            .about(self.about)
            .after_help(self.notes)
            .disable_help_subcommand(true)
            .subcommand_required(!self.verbs.is_empty())
            .subcommands(self.verbs.iter().map(|verb| self.verb(verb)))
    }

    /// The parser of one verb.
    fn verb(&self, verb: &Verb) -> Command {
        (verb.options)(self.versioned(Command::new(verb.name)))
            .visible_aliases(verb.alias)
            .about(verb.about)
            .after_help(verb.notes)
            .hide(verb.hidden)
            .args_override_self(true)
    }

    /// The parser of the verb with this name, as it is called.
    ///
    /// # Errors
    /// No verb has this name.
    pub(super) fn called(&self, name: &str) -> Result<Command, Failure> {
        let verb = self.verbs.iter().find(|verb| verb.name == name || verb.alias == Some(name));
        let verb = verb.ok_or_else(|| {
            Error::reason(Code::ConfigInvalid, "command", name, "unknown")
                .with_hint(format!("see {} --help", self.name))
        })?;
        Ok(self.verb(verb).bin_name(format!("{} {}", self.name, verb.name)))
    }

    fn versioned(&self, command: Command) -> Command {
        let version = clap::Arg::new("version")
            .short('v')
            .long("version")
            .action(ArgAction::Version)
            .help("Print version");
        command.version(self.version).disable_version_flag(true).arg(version)
    }
}

/// One call of a program.
#[derive(Debug)]
pub struct Invocation<'a> {
    program: &'a Program,
    verb: Option<String>,
    before: Vec<OsString>,
    after: Vec<OsString>,
}

impl<'a> Invocation<'a> {
    /// Finds the verb among the arguments.
    ///
    /// # Errors
    /// An option before the verb that is none of the program's own.
    pub fn split(
        program: &'a Program,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Failure> {
        let mut arguments = arguments.into_iter();
        let mut before = Vec::new();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy();
            let name = text.split_once('=').map_or(&*text, |(name, _)| name);
            if !text.starts_with('-') || text == "-" {
                let verb = Some(text.into_owned());
                return Ok(Self { program, verb, before, after: arguments.collect() });
            }
            let alone = name.len() == text.len();
            if program.valued.contains(&name) {
                before.push(argument);
                before.extend(alone.then(|| arguments.next()).flatten());
            } else if alone && program.switches.contains(&name) {
                before.push(argument);
            } else {
                return Err(Error::reason(Code::ConfigInvalid, "option", text, "unknown")
                    .with_hint(format!("see {} --help", program.name))
                    .into());
            }
        }
        Ok(Self { program, verb: None, before, after: Vec::new() })
    }

    /// The program that was called.
    #[must_use]
    pub fn program(&self) -> &'a Program {
        self.program
    }

    /// The verb.
    #[must_use]
    pub fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// Parses the arguments as those of the verb.
    ///
    /// # Errors
    /// What is wrong with them, or help or the version if that was asked for.
    pub fn parse<T: Args>(&self) -> Result<T, Failure> {
        let command = self.program.called(self.verb().unwrap_or_default())?;
        self.parse_as(command, self.before.iter().chain(&self.after))
    }

    /// Parses what follows the verb, and nothing before it, as its arguments.
    ///
    /// # Errors
    /// As for [`Invocation::parse`].
    pub fn own<T: Args>(&self) -> Result<T, Failure> {
        let command = self.program.called(self.verb().unwrap_or_default())?;
        self.parse_as(command, self.after.iter())
    }

    /// Parses what stands before the verb as options of the program.
    ///
    /// # Errors
    /// As for [`Invocation::parse`].
    pub fn global<T: Args>(&self) -> Result<T, Failure> {
        let command = self.program.versioned(Command::new(self.program.name));
        self.parse_as((self.program.global)(command), self.before.iter())
    }

    fn parse_as<'b, T: Args>(
        &self,
        command: Command,
        arguments: impl Iterator<Item = &'b OsString>,
    ) -> Result<T, Failure> {
        let caller = command.get_bin_name().unwrap_or(self.program.name).to_owned();
        let name = OsString::from(self.program.name);
        command
            .args_override_self(true)
            .try_get_matches_from(once(name).chain(arguments.cloned()))
            .and_then(|mut matches| T::from_arg_matches_mut(&mut matches))
            .map_err(|error| Failure::Usage { error, caller })
    }

    /// Refuses the verb.
    ///
    /// # Errors
    /// Always.
    pub fn unknown(&self) -> Outcome {
        self.program.called(self.verb().unwrap_or_default()).map(|_| 0)
    }

    /// What is asked for without a verb: help or the version. An error where it is neither.
    ///
    /// # Errors
    /// Always: help and version travel as such.
    pub fn without_verb(&self) -> Outcome {
        let name = OsString::from(self.program.name);
        let mut command = self.program.command().arg_required_else_help(true);
        let error = match command.try_get_matches_from_mut(once(&name).chain(&self.before)) {
            Ok(_) => command.error(clap::error::ErrorKind::MissingSubcommand, "no command given"),
            Err(error) => error,
        };
        Err(Failure::Usage { error, caller: self.program.name.to_owned() })
    }
}

/// An error of the parser on one line: what is wrong, and where to look.
pub(super) fn one_line(error: &clap::Error, caller: &str) -> String {
    let text = error.render().to_string();
    let mut said = Vec::new();
    let mut hints = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            // The first is the likeliest.
            hints.extend(hints.is_empty().then(|| tip.to_owned()));
        } else if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        } else if !line.is_empty() {
            said.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    hints.push(format!("see {caller} --help"));
    let line = format!("{} ({})", said.join(" "), hints.join("; "));
    // It repeats what was typed.
    Escaped(&line).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[derive(Debug, Args)]
    struct Global {
        #[arg(long)]
        root: Option<PathBuf>,
        #[arg(long)]
        debug: bool,
    }

    #[derive(Debug, Args)]
    struct Exec {
        #[arg(long)]
        tty: bool,
        #[arg(required = true, trailing_var_arg = true)]
        program: Vec<String>,
        #[command(flatten)]
        global: Global,
    }

    const PROGRAM: Program = Program {
        name: "nsinit",
        about: "",
        notes: "",
        version: "1",
        global: |command| command,
        valued: &["--root"],
        switches: &["--debug", "--help"],
        verbs: &[Verb {
            name: "exec",
            alias: None,
            about: "",
            notes: "",
            hidden: false,
            options: Exec::augment_args,
        }],
    };

    fn split(line: &str) -> Result<Invocation<'static>, Failure> {
        static STATIC: Program = PROGRAM;
        Invocation::split(&STATIC, line.split_whitespace().map(OsString::from))
    }

    fn refused(line: &str) -> String {
        match split(line).and_then(|invocation| invocation.parse::<Exec>()).unwrap_err() {
            Failure::Usage { error, caller } => one_line(&error, &caller),
            Failure::Error(error) => error.to_string(),
            Failure::OutputClosed => unreachable!(),
        }
    }

    #[test]
    fn options_of_the_program_stand_on_either_side_of_the_verb() {
        for line in [
            "--root /x --debug exec --tty sh",
            "--root=/x exec --debug --tty sh",
            "exec --tty --root /x --debug sh",
            "--root /y exec --debug --debug --root /x --tty -- sh",
        ] {
            let invocation = split(line).unwrap();
            assert_eq!(invocation.verb(), Some("exec"), "{line}");
            let exec: Exec = invocation.parse().unwrap();
            assert!(exec.tty && exec.global.debug, "{line}");
            assert_eq!(exec.global.root.unwrap(), PathBuf::from("/x"), "{line}");
            assert_eq!(exec.program, ["sh"], "{line}");
        }
        assert_eq!(split("--root exec").unwrap().verb(), None);
        assert_eq!(split("").unwrap().verb(), None);
    }

    #[test]
    fn what_follows_the_program_is_its_own() {
        let exec: Exec = split("exec sh -c --tty --root -- x").unwrap().parse().unwrap();
        assert!(!exec.tty && exec.global.root.is_none());
        assert_eq!(exec.program, ["sh", "-c", "--tty", "--root", "--", "x"]);
    }

    #[test]
    fn errors_take_one_line() {
        // clap's advice differs with its version.
        let unknown = refused("exec --ty sh");
        assert!(unknown.starts_with("unexpected argument '--ty' found ("), "{unknown}");
        assert!(
            unknown.ends_with("see nsinit exec --help)") && !unknown.contains('\n'),
            "{unknown}"
        );
        assert_eq!(
            refused("exec"),
            "the following required arguments were not provided: <PROGRAM>... \
             (see nsinit exec --help)"
        );
        assert_eq!(refused("--tty exec sh"), "option `--tty`: unknown (see nsinit --help)");
        assert_eq!(refused("excec sh"), "command `excec`: unknown (see nsinit --help)");
        let odd = OsString::from("--a\n\u{1b}[2J");
        let invocation = Invocation { after: vec![odd], ..split("exec").unwrap() };
        let Failure::Usage { error, caller } = invocation.parse::<Exec>().unwrap_err() else {
            panic!("not about the usage");
        };
        let line = one_line(&error, &caller);
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
