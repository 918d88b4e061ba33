//! Why a program ends without having done its work.

use pidone_config::Error;
use pidone_config::error::Escaped;

/// Why a program ends without having done its work.
#[derive(Debug)]
pub enum Failure {
    /// The work failed.
    Error(Error),
    /// The arguments are wrong, or ask for help or the version.
    Usage {
        /// The parser's error.
        error: clap::Error,
        /// The program and the verb, for the hint `see ... --help`.
        caller: String,
    },
    /// The reader of standard output has closed it. This is not an error.
    OutputClosed,
}

/// What a verb returns: the exit status.
pub type Outcome = Result<u8, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Returns an error of the parser on one line: what is wrong, and which help to read.
pub(super) fn one_line(error: &clap::Error, caller: &str) -> String {
    let text = error.render().to_string();
    let mut said = Vec::new();
    let mut hints = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            // Only the first: it is the likeliest.
            hints.extend(hints.is_empty().then(|| tip.to_owned()));
        } else if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        } else if !line.is_empty() {
            said.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    hints.push(format!("see {caller} --help"));
    let line = format!("{} ({})", said.join(" "), hints.join("; "));
    // The line repeats what the user typed.
    Escaped(&line).to_string()
}
