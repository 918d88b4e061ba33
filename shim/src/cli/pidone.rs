//! The verbs of `pidone`, the OCI runtime.

use super::arguments::{Invocation, Program};
use super::report::{Outcome, Report};
use crate::error::{Code, Error};

/// The program.
pub static PROGRAM: Program = Program {
    name: "pidone",
    about: "Runs containers as the OCI runtime specification describes them",
    notes: "The commands of the specification do not exist yet; see nsinit.",
    version: concat!("pidone version ", env!("CARGO_PKG_VERSION")),
    global: |command| command,
    valued: &[],
    switches: &["-h", "--help", "-v", "--version"],
    verbs: &[],
};

/// Refuses a verb.
///
/// # Errors
/// Always.
pub fn refuse(invocation: &Invocation<'_>, _: &mut Report) -> Outcome {
    let verb = invocation.verb().unwrap_or_default();
    Err(Error::reason(Code::ConfigInvalid, "command", verb, "does not exist yet")
        .with_hint("see pidone --help")
        .into())
}
