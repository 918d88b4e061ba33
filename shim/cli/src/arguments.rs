//! Finds the verb among the arguments, then builds the parser of that verb alone.
//!
//! Building the parsers of all verbs takes longer than some of the verbs do.

use std::ffi::OsString;
use std::iter::once;

use clap::{ArgAction, Args, Command};
use pidone_config::{Code, Error};

use super::failure::{Failure, Outcome};
use super::report::Report;

/// A program with verbs.
#[derive(Debug)]
pub struct Program {
    /// The name of the program.
    pub name: &'static str,
    /// One sentence for the help and the manual page.
    pub about: &'static str,
    /// The text below the options in the help.
    pub notes: &'static str,
    /// Further sections of the manual page, in roff.
    pub manual: &'static [&'static str],
    /// What `--version` prints.
    pub version: &'static str,
    /// Adds the options that are allowed before the verb.
    pub global: fn(Command) -> Command,
    /// The names of those options that take a value.
    pub valued: &'static [&'static str],
    /// The names of those options that take no value.
    pub switches: &'static [&'static str],
    /// The verbs, in the order of the help.
    pub verbs: &'static [Verb],
}

/// A verb of a program: everything about it is in this one entry.
#[derive(Debug)]
pub struct Verb {
    /// The name of the verb.
    pub name: &'static str,
    /// A second name.
    pub alias: Option<&'static str>,
    /// One sentence for the help and the manual page.
    pub about: &'static str,
    /// The text below the options in the help.
    pub notes: &'static str,
    /// Further sections of the manual page, in roff.
    pub manual: &'static [&'static str],
    /// Whether the verb is always refused: help and manual pages leave it out, and it has no help
    /// itself. Clients take a successful `checkpoint --help` as support for the verb.
    pub hidden: bool,
    /// Adds the options of the verb.
    pub options: fn(Command) -> Command,
    /// Executes the verb.
    pub run: fn(&Invocation<'_>, &mut Report) -> Outcome,
}

impl Verb {
    /// Returns a verb that is shown in the help and has nothing but its options.
    #[must_use]
    pub const fn new(
        name: &'static str,
        about: &'static str,
        options: fn(Command) -> Command,
        run: fn(&Invocation<'_>, &mut Report) -> Outcome,
    ) -> Self {
        Self { name, alias: None, about, notes: "", manual: &[], hidden: false, options, run }
    }

    /// Returns a verb like [`Verb::new`] that is always refused, see [`Verb::hidden`].
    #[must_use]
    pub const fn hidden(
        name: &'static str,
        about: &'static str,
        options: fn(Command) -> Command,
        run: fn(&Invocation<'_>, &mut Report) -> Outcome,
    ) -> Self {
        Self { hidden: true, ..Self::new(name, about, options, run) }
    }
}

impl Program {
    /// Returns the parser of the program with all verbs, for help, completions and manual pages.
    pub(super) fn command(&self) -> Command {
        (self.global)(self.versioned(Command::new(self.name)))
            .about(self.about)
            .after_help(self.notes)
            .disable_help_subcommand(true)
            .subcommand_required(!self.verbs.is_empty())
            .subcommands(self.shown_verbs().map(|verb| self.verb_command(verb)))
    }

    /// Returns the verbs that have a help and a manual page.
    pub(super) fn shown_verbs(&self) -> impl Iterator<Item = &Verb> {
        self.verbs.iter().filter(|verb| !verb.hidden)
    }

    fn verb_command(&self, verb: &Verb) -> Command {
        let command = Command::new(verb.name);
        let command = if verb.hidden {
            command.hide(true).disable_help_flag(true).disable_version_flag(true)
        } else {
            self.versioned(command)
        };
        (verb.options)(command)
            .visible_aliases(verb.alias)
            .about(verb.about)
            .after_help(verb.notes)
            .args_override_self(true)
    }

    /// Returns the parser of one verb, which names itself with the program: `pidone run`.
    pub(super) fn standalone_command(&self, verb: &Verb) -> Command {
        self.verb_command(verb).bin_name(format!("{} {}", self.name, verb.name))
    }

    /// Returns the verb with a name or alias.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] if the program has no such verb.
    pub(super) fn find_verb(&self, name: &str) -> Result<&Verb, Failure> {
        let verb = self.verbs.iter().find(|verb| verb.name == name || verb.alias == Some(name));
        verb.ok_or_else(|| {
            Error::reason(Code::ConfigInvalid, "command", name, "unknown")
                .with_hint(format!("see {} --help", self.name))
                .into()
        })
    }

    /// Returns the verb with a name or alias whose help or manual page is wanted.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] if the program has no such verb, or always refuses it.
    pub(super) fn find_shown_verb(&self, name: &str) -> Result<&Verb, Failure> {
        let verb = self.find_verb(name)?;
        if verb.hidden {
            let reason = "always refused, and has no help";
            return Err(Error::reason(Code::ConfigInvalid, "command", name, reason).into());
        }
        Ok(verb)
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
    verb: Option<&'a Verb>,
    before: Vec<OsString>,
    after: Vec<OsString>,
}

impl<'a> Invocation<'a> {
    /// Splits the arguments into those before the verb, the verb, and those after it.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] if an option before the verb is not one of the program, or if the
    /// program has no such verb.
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
                let verb = Some(program.find_verb(&text)?);
                return Ok(Self { program, verb, before, after: arguments.collect() });
            }
            let has_no_value = name.len() == text.len();
            if program.valued.contains(&name) {
                before.push(argument);
                before.extend(has_no_value.then(|| arguments.next()).flatten());
            } else if has_no_value && program.switches.contains(&name) {
                before.push(argument);
            } else {
                return Err(Error::reason(Code::ConfigInvalid, "option", text, "unknown")
                    .with_hint(format!("see {} --help", program.name))
                    .into());
            }
        }
        Ok(Self { program, verb: None, before, after: Vec::new() })
    }

    /// Executes the verb. Without a verb, prints help or the version if the arguments ask for it.
    pub(super) fn execute(&self, report: &mut Report) -> Outcome {
        match self.verb {
            Some(verb) => (verb.run)(self, report),
            None => self.without_verb(),
        }
    }

    /// Returns the program that was called.
    #[must_use]
    pub fn program(&self) -> &'a Program {
        self.program
    }

    /// Returns the name of the verb, or an empty string without a verb.
    #[must_use]
    pub fn verb_name(&self) -> &'static str {
        self.verb.map_or("", |verb| verb.name)
    }

    /// Parses all arguments, those before the verb too, as the options of the verb.
    ///
    /// # Errors
    /// [`Failure::Usage`] if they are wrong, or ask for help or the version.
    pub fn parse<T: Args>(&self) -> Result<T, Failure> {
        self.parse_as(self.verb_or_program(), self.before.iter().chain(&self.after))
    }

    /// Parses the arguments after the verb as its options.
    ///
    /// # Errors
    /// As [`Invocation::parse`].
    pub fn parse_verb<T: Args>(&self) -> Result<T, Failure> {
        self.parse_as(self.verb_or_program(), self.after.iter())
    }

    /// Parses the arguments before the verb as the options of the program.
    ///
    /// # Errors
    /// As [`Invocation::parse`].
    pub fn parse_global<T: Args>(&self) -> Result<T, Failure> {
        let command = self.program.versioned(Command::new(self.program.name));
        self.parse_as((self.program.global)(command), self.before.iter())
    }

    fn verb_or_program(&self) -> Command {
        match self.verb {
            Some(verb) => self.program.standalone_command(verb),
            None => self.program.command(),
        }
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

    /// Fails with the help or the version if the arguments ask for them, else with the error that
    /// the verb is missing.
    fn without_verb(&self) -> Outcome {
        let name = OsString::from(self.program.name);
        let mut command = self.program.command().arg_required_else_help(true);
        let error = match command.try_get_matches_from_mut(once(&name).chain(&self.before)) {
            Ok(_) => command.error(clap::error::ErrorKind::MissingSubcommand, "no command given"),
            Err(error) => error,
        };
        Err(Failure::Usage { error, caller: self.program.name.to_owned() })
    }
}

#[cfg(test)]
impl Program {
    /// Returns the options before the verb that are missing in [`Program::valued`] and
    /// [`Program::switches`], or in the wrong one of them.
    pub(super) fn unlisted_options(&self) -> Vec<String> {
        let mut command = (self.global)(self.versioned(Command::new(self.name)));
        command.build();
        let options = command.get_arguments().flat_map(|argument| {
            let listed =
                if argument.get_action().takes_values() { self.valued } else { self.switches };
            let short = argument.get_short().map(|name| format!("-{name}"));
            let long = argument.get_long().map(|name| format!("--{name}"));
            let names = short.into_iter().chain(long);
            names.filter(|name| !listed.contains(&name.as_str())).collect::<Vec<_>>()
        });
        options.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::failure::one_line;
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
        manual: &[],
        version: "1",
        global: |command| command,
        valued: &["--root"],
        switches: &["--debug", "--help"],
        verbs: &[Verb::new("exec", "", Exec::augment_args, |_, _| Ok(0))],
    };

    fn split(line: &str) -> Result<Invocation<'static>, Failure> {
        static STATIC: Program = PROGRAM;
        Invocation::split(&STATIC, line.split_whitespace().map(OsString::from))
    }

    fn error_of(line: &str) -> String {
        match split(line).and_then(|invocation| invocation.parse::<Exec>()).unwrap_err() {
            Failure::Usage { error, caller } => one_line(&error, &caller),
            Failure::Error(error) => error.to_string(),
            Failure::OutputClosed => unreachable!(),
        }
    }

    #[test]
    fn global_options_are_accepted_before_and_after_the_verb() {
        for line in [
            "--root /x --debug exec --tty sh",
            "--root=/x exec --debug --tty sh",
            "exec --tty --root /x --debug sh",
            "--root /y exec --debug --debug --root /x --tty -- sh",
        ] {
            let invocation = split(line).unwrap();
            assert_eq!(invocation.verb_name(), "exec", "{line}");
            let exec: Exec = invocation.parse().unwrap();
            assert!(exec.tty && exec.global.debug, "{line}");
            assert_eq!(exec.global.root.unwrap(), PathBuf::from("/x"), "{line}");
            assert_eq!(exec.program, ["sh"], "{line}");
        }
        assert_eq!(split("--root exec").unwrap().verb_name(), "");
        assert_eq!(split("").unwrap().verb_name(), "");
    }

    #[test]
    fn arguments_after_the_program_are_not_options() {
        let exec: Exec = split("exec sh -c --tty --root -- x").unwrap().parse().unwrap();
        assert!(!exec.tty && exec.global.root.is_none());
        assert_eq!(exec.program, ["sh", "-c", "--tty", "--root", "--", "x"]);
    }

    #[test]
    fn a_usage_error_is_one_line_without_control_characters() {
        // clap's hint differs between versions.
        let unknown = error_of("exec --ty sh");
        assert!(unknown.starts_with("unexpected argument '--ty' found ("), "{unknown}");
        assert!(
            unknown.ends_with("see nsinit exec --help)") && !unknown.contains('\n'),
            "{unknown}"
        );
        assert_eq!(
            error_of("exec"),
            "the following required arguments were not provided: <PROGRAM>... \
             (see nsinit exec --help)"
        );
        assert_eq!(error_of("--tty exec sh"), "option `--tty`: unknown (see nsinit --help)");
        assert_eq!(error_of("excec sh"), "command `excec`: unknown (see nsinit --help)");
        let odd = OsString::from("--a\n\u{1b}[2J");
        let invocation = Invocation { after: vec![odd], ..split("exec").unwrap() };
        let Failure::Usage { error, caller } = invocation.parse::<Exec>().unwrap_err() else {
            panic!("not about the usage");
        };
        let line = one_line(&error, &caller);
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
