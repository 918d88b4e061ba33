//! What went wrong: the step, the object it acted on, and why.
//!
//! One line of text, in the form ``step `object`: cause (hint)``. Every error carries one of
//! libcontainer's codes, so that a caller may react to it without reading the text.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use crate::text::Escaped;

/// The result of everything that this library does.
pub type Result<T> = std::result::Result<T, Error>;

/// The class of an error, with libcontainer's names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// A container with this id exists already.
    IdInUse = 0,
    /// The id does not follow the grammar.
    InvalidIdFormat = 1,
    /// No container has this id.
    ContainerNotExists = 2,
    /// The container is paused.
    ContainerPaused = 3,
    /// The container still runs.
    ContainerNotStopped = 4,
    /// The container does not run.
    ContainerNotRunning = 5,
    /// The process was not started.
    ProcessNotExecuted = 6,
    /// The configuration is wrong; the subject names the field.
    ConfigInvalid = 7,
    /// A system call failed.
    SystemError = 8,
}

/// What was being done.
///
/// Its text is a verb in the words of the kernel or the OCI specification; the object stands in
/// [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Something on the host, named by its verb: `mkdir`, `write`, `clone3`.
    Host(Verb),
    /// An operation of the init, its place in the plan, and the length of the plan.
    Init {
        /// The operation, as in `mount`.
        op: Verb,
        /// The system call of it that failed, as in `fsopen`.
        call: Verb,
        /// The number of the operation, counted from 1.
        number: u32,
        /// How many operations the plan has.
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

/// What a step, an operation of the init or a system call does, in a word or two.
///
/// Those on which a caller may act have a variant of their own. Conversion from text finds them, so
/// that no text has to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verb {
    /// The clone of the init: `clone3`.
    Clone,
    /// The execution of the program: `exec`.
    Exec,
    /// Any other, as printed.
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

/// The object that the step acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// Nothing that could be named.
    None,
    /// A file.
    Path(PathBuf),
    /// A container's id, a process id, an interface, a field and its value...
    Name(String),
}

/// Why it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The kernel's answer.
    Errno(Errno),
    /// A rule of ours or of a specification that was broken.
    Reason(Cow<'static, str>),
}

/// An error: step, subject, cause.
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
    /// Makes an error from its parts.
    #[must_use]
    pub fn new(code: Code, step: Step, subject: Subject, cause: Cause) -> Self {
        Self(Box::new(Inner { code, step, subject, cause, hint: None }))
    }

    /// A system call that failed on a file.
    #[must_use]
    pub fn path(
        verb: impl Into<Verb>,
        path: impl AsRef<Path>,
        errno: impl Into<ErrnoLike>,
    ) -> Self {
        let subject = Subject::Path(path.as_ref().to_owned());
        Self::new(Code::SystemError, Step::Host(verb.into()), subject, Cause::Errno(errno.into().0))
    }

    /// A system call that failed on something with a name, or with none (`""`).
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

    /// A configuration field with a value that cannot be accepted.
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

    /// A rule that was broken by something other than the configuration.
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

    /// A container with this id exists already.
    pub fn in_use(id: &str) -> Self {
        Self::reason(Code::IdInUse, "create", id, "a container with this id exists")
    }

    /// Adds a hint for the reader: what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Changes the code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    /// The class of the error.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What was being done.
    #[must_use]
    pub fn step(&self) -> &Step {
        &self.0.step
    }

    /// The object that the step acted on.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// Why a program could not be executed, as Go's `exec` and so docker and podman say it.
    fn exec_cause(&self) -> String {
        let by_path = matches!(&self.0.subject, Subject::Name(program) if program.contains('/'));
        match self.errno() {
            Some(Errno::NOENT) if !by_path => "executable file not found in $PATH".to_owned(),
            Some(errno) => strerror(errno).to_lowercase(),
            None => String::new(),
        }
    }

    /// The kernel's answer, if a system call failed.
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
        // The words that programs which call a runtime look for.
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

/// An errno in any of the forms in which libraries return it.
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

/// The wording of C's `strerror`, without Rust's number behind it.
#[must_use]
pub fn strerror(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_step_object_and_errno() {
        let error = Error::path("mkdir", "/sys/fs/cgroup/x", Errno::ACCESS);
        assert_eq!(error.to_string(), "mkdir `/sys/fs/cgroup/x`: Permission denied");
        assert_eq!(error.code(), Code::SystemError);
        assert_eq!(error.errno(), Some(Errno::ACCESS));
    }

    #[test]
    fn counts_the_steps_of_the_init() {
        let step = Step::Init { op: "mount".into(), call: "fsmount".into(), number: 12, of: 48 };
        let subject = Subject::Path("/proc".into());
        let error = Error::new(Code::SystemError, step, subject, Cause::Errno(Errno::PERM));
        assert_eq!(
            error.to_string(),
            "mount: fsmount `/proc` (step 12 of 48): Operation not permitted"
        );
    }

    #[test]
    fn escapes_what_a_container_may_have_written() {
        let error = Error::config("hostname", "a\u{1b}[2J\nb", "has a control character");
        assert_eq!(
            error.to_string(),
            "configuration `hostname = a\\u{1b}[2J\\nb`: has a control character"
        );
    }
}
