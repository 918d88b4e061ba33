//! Errors: what was being done, the object it was done to, and why it failed.
//!
//! An error displays as one line of text, ``step `object`: cause (hint)``. It also carries one of
//! libcontainer's codes, so that a caller can react to it without parsing the text.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use crate::text::Escaped;

/// The result of the functions of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// The class of an error, with libcontainer's names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// A container with this id already exists.
    IdInUse = 0,
    /// The id is not a valid container id.
    InvalidIdFormat = 1,
    /// No container has this id.
    ContainerNotExists = 2,
    /// The container is paused.
    ContainerPaused = 3,
    /// The container is still running.
    ContainerNotStopped = 4,
    /// The container is not running.
    ContainerNotRunning = 5,
    /// The process was not started.
    ProcessNotExecuted = 6,
    /// The configuration is invalid; the subject names the field.
    ConfigInvalid = 7,
    /// A system call failed.
    SystemError = 8,
}

/// What was being done when the error occurred.
///
/// It displays as a verb, in the words of the kernel or of the OCI specification. The object is in
/// [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A step on the host: `mkdir`, `write`, `clone3`.
    Host(Verb),
    /// An operation of the init.
    Init {
        /// The operation, such as `mount`.
        op: Verb,
        /// The system call of the operation that failed, such as `fsopen`.
        call: Verb,
        /// The number of the operation in the plan, counted from 1.
        number: u32,
        /// The number of operations in the plan.
        of: u32,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(verb) => verb.fmt(f),
            Self::Init { op, call, .. } if op == call => op.fmt(f),
            Self::Init { op, call, .. } => write!(f, "{op}: {call}"),
        }
    }
}

/// The name of a step, of an operation of the init, or of a system call.
///
/// Names that callers compare have their own variants. `From<&'static str>` selects the variant, so
/// that no caller has to compare text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verb {
    /// The clone of the init: `clone3`.
    Clone,
    /// The execution of the program: `exec`.
    Exec,
    /// Any other name, as it is displayed.
    Other(&'static str),
}

impl From<&'static str> for Verb {
    fn from(text: &'static str) -> Self {
        match text {
            "clone3" => Self::Clone,
            "exec" => Self::Exec,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clone => "clone3",
            Self::Exec => "exec",
            Self::Other(text) => text,
        })
    }
}

/// The object that a step was applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// No object, or one without a name.
    None,
    /// A file.
    Path(PathBuf),
    /// A container id, a process id, a network interface, a field and its value, and so on.
    Name(String),
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The error number that the kernel returned.
    Errno(Errno),
    /// A rule of this library or of a specification that was broken.
    Reason(Cow<'static, str>),
}

/// An error of this library: a step, a subject and a cause.
///
/// ```
/// use pidone_config::{Code, Config};
///
/// let error = Config::from_json(br#"{"hostnam": "box"}"#).unwrap_err();
/// assert_eq!(error.code(), Code::ConfigInvalid);
/// assert_eq!(
///     error.to_string(),
///     "configuration `hostnam = \"box\"`: unknown field (line 1 column 10)"
/// );
/// ```
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: Code,
    step: Step,
    subject: Subject,
    cause: Cause,
    hint: Option<Cow<'static, str>>,
}

impl Error {
    /// Returns an error made of these parts, without a hint.
    #[must_use]
    pub fn new(code: Code, step: Step, subject: Subject, cause: Cause) -> Self {
        Self(Box::new(Inner { code, step, subject, cause, hint: None }))
    }

    /// Returns the error of a system call that failed on a file, with [`Code::SystemError`].
    #[must_use]
    pub fn path(
        verb: impl Into<Verb>,
        path: impl AsRef<Path>,
        errno: impl Into<ErrnoLike>,
    ) -> Self {
        let subject = Subject::Path(path.as_ref().to_owned());
        Self::new(Code::SystemError, Step::Host(verb.into()), subject, Cause::Errno(errno.into().0))
    }

    /// Returns the error of a system call that failed on a named object, or on none if `name` is
    /// empty, with [`Code::SystemError`].
    #[must_use]
    pub fn system(
        verb: impl Into<Verb>,
        name: impl Into<String>,
        errno: impl Into<ErrnoLike>,
    ) -> Self {
        let name = name.into();
        let subject = if name.is_empty() { Subject::None } else { Subject::Name(name) };
        Self::new(Code::SystemError, Step::Host(verb.into()), subject, Cause::Errno(errno.into().0))
    }

    /// Returns the error of a configuration field whose value is not accepted, with
    /// [`Code::ConfigInvalid`].
    ///
    /// An empty `value` is left out of the text.
    #[must_use]
    pub fn config(
        field: impl Into<String>,
        value: impl fmt::Display,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        let value = value.to_string();
        let field = field.into();
        let name = if value.is_empty() { field } else { format!("{field} = {value}") };
        let subject = Subject::Name(name);
        Self::new(
            Code::ConfigInvalid,
            Step::Host(Verb::Other("configuration")),
            subject,
            Cause::Reason(reason.into()),
        )
    }

    /// Returns the error of a broken rule that is not about the configuration. `name` may be empty.
    #[must_use]
    pub fn reason(
        code: Code,
        verb: impl Into<Verb>,
        name: impl Into<String>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        let name = name.into();
        let subject = if name.is_empty() { Subject::None } else { Subject::Name(name) };
        Self::new(code, Step::Host(verb.into()), subject, Cause::Reason(reason.into()))
    }

    /// Returns the error of a container id that is already in use.
    pub fn in_use(id: &str) -> Self {
        Self::reason(Code::IdInUse, "create", id, "a container with this id exists")
    }

    /// Adds a hint for the reader: how to solve the problem.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Replaces the code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    /// Returns the class of the error.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns what was being done.
    #[must_use]
    pub fn step(&self) -> &Step {
        &self.0.step
    }

    /// Returns the object that the step was applied to.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// Returns why a program could not be executed, in the words of Go's `os/exec`, which docker
    /// and podman look for.
    fn exec_cause(&self) -> String {
        let by_path = matches!(&self.0.subject, Subject::Name(program) if program.contains('/'));
        match self.errno() {
            Some(Errno::NOENT) if !by_path => "executable file not found in $PATH".to_owned(),
            Some(errno) => strerror(errno).to_lowercase(),
            None => String::new(),
        }
    }

    /// Returns the kernel's error number, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self.0.cause {
            Cause::Errno(errno) => Some(errno),
            Cause::Reason(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        // Clients of a runtime look for this text.
        if let (Step::Init { op: Verb::Exec, call: Verb::Exec, .. }, Subject::Name(program)) =
            (&inner.step, &inner.subject)
        {
            return write!(f, "exec: \"{}\": {}", Escaped(program), self.exec_cause());
        }
        write!(f, "{}", inner.step)?;
        match &inner.subject {
            Subject::None => {}
            Subject::Path(path) => write!(f, " `{}`", Escaped(&path.to_string_lossy()))?,
            Subject::Name(name) => write!(f, " `{}`", Escaped(name))?,
        }
        if let Step::Init { number, of, .. } = inner.step {
            write!(f, " (step {number} of {of})")?;
        }
        match &inner.cause {
            Cause::Errno(errno) => write!(f, ": {}", strerror(*errno))?,
            Cause::Reason(reason) => write!(f, ": {}", Escaped(reason))?,
        }
        match &inner.hint {
            Some(hint) => write!(f, " ({})", Escaped(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// An error number in any of the forms in which libraries return it.
#[derive(Debug, Clone, Copy)]
pub struct ErrnoLike(Errno);

impl From<Errno> for ErrnoLike {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl From<nix::Error> for ErrnoLike {
    fn from(errno: nix::Error) -> Self {
        Self(Errno::from_raw_os_error(errno as i32))
    }
}

impl From<std::io::Error> for ErrnoLike {
    fn from(error: std::io::Error) -> Self {
        Self(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// Returns the text of C's `strerror`, without the number that Rust appends.
#[must_use]
pub fn strerror(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_has_step_object_and_errno() {
        let error = Error::path("mkdir", "/sys/fs/cgroup/x", Errno::ACCESS);
        assert_eq!(error.to_string(), "mkdir `/sys/fs/cgroup/x`: Permission denied");
        assert_eq!(error.code(), Code::SystemError);
        assert_eq!(error.errno(), Some(Errno::ACCESS));
    }

    #[test]
    fn display_of_an_init_step_has_its_number_in_the_plan() {
        let step = Step::Init { op: "mount".into(), call: "fsmount".into(), number: 12, of: 48 };
        let subject = Subject::Path("/proc".into());
        let error = Error::new(Code::SystemError, step, subject, Cause::Errno(Errno::PERM));
        assert_eq!(
            error.to_string(),
            "mount: fsmount `/proc` (step 12 of 48): Operation not permitted"
        );
    }

    #[test]
    fn display_escapes_control_characters() {
        let error = Error::config("hostname", "a\u{1b}[2J\nb", "has a control character");
        assert_eq!(
            error.to_string(),
            "configuration `hostname = a\\u{1b}[2J\\nb`: has a control character"
        );
    }
}
