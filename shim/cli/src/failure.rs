//! Why a program ends without having done its work.

use pidone_config::Error;

/// Why a program ends without having done its work.
#[derive(Debug)]
pub enum Failure {
    /// It could not be done.
    Error(Error),
    /// The arguments are wrong, or ask for help or the version.
    Usage {
        /// What the parser says.
        error: clap::Error,
        /// The program with the verb.
        caller: String,
    },
    /// Nobody reads standard output any more, which is no error.
    OutputClosed,
}

/// What a verb answers: the exit status.
pub type Outcome = Result<u8, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
