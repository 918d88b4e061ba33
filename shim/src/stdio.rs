//! The descriptors that a process gets, and their other ends.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Error, Result};
use crate::process::{Process, Stdio};

/// What becomes 0, 1 and 2, and what the caller keeps of pipes.
pub(crate) struct Descriptors<'a> {
    standard: [End<'a>; 3],
    extra: &'a [OwnedFd],
    /// The caller's ends of pipes.
    pub(crate) kept: [Option<File>; 3],
}

/// A descriptor that a process gets.
enum End<'a> {
    Own(OwnedFd),
    Lent(BorrowedFd<'a>),
}

impl<'a> Descriptors<'a> {
    /// Opens what the process asks for.
    ///
    /// With a terminal, the null device stands in until the init has made it.
    pub(crate) fn open(process: &'a Process) -> Result<Self> {
        let asked = [&process.stdin, &process.stdout, &process.stderr];
        let asked = if process.terminal.is_none() { asked } else { [&Stdio::Null; 3] };
        Self::of(asked, &process.extra_files)
    }

    /// Opens what is asked for, and adds descriptors behind it.
    pub(crate) fn of(asked: [&'a Stdio; 3], extra: &'a [OwnedFd]) -> Result<Self> {
        let mut kept = [None, None, None];
        let mut standard = [const { None }; 3];
        let inherited: [BorrowedFd<'static>; 3] =
            [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        for (number, stdio) in asked.into_iter().enumerate() {
            standard[number] = Some(match stdio {
                Stdio::Null => continue,
                // A descriptor that the caller closed is the null device inside. What has
                // its number now was not meant to be inherited, and says so.
                Stdio::Inherit
                    if !rustix::io::fcntl_getfd(inherited[number])
                        .is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC)) =>
                {
                    continue;
                }
                Stdio::Inherit => End::Lent(inherited[number]),
                Stdio::Fd(fd) => End::Lent(fd.as_fd()),
                Stdio::Pipe => {
                    let (read, write) = pipe_with(PipeFlags::CLOEXEC)
                        .map_err(|errno| Error::system("pipe", "", errno))?;
                    let (ours, theirs) = if number == 0 { (write, read) } else { (read, write) };
                    kept[number] = Some(File::from(ours));
                    End::Own(theirs)
                }
            });
        }
        let [first, second, third] =
            standard.map(|end: Option<End<'a>>| end.map_or_else(|| null().map(End::Own), Ok));
        let standard = [first?, second?, third?];
        Ok(Self { standard, extra, kept })
    }

    /// All descriptors in their order.
    pub(crate) fn all(&self) -> Vec<BorrowedFd<'_>> {
        let standard = self.standard.iter().map(|end| match end {
            End::Own(fd) => fd.as_fd(),
            End::Lent(fd) => fd.as_fd(),
        });
        standard.chain(self.extra.iter().map(AsFd::as_fd)).collect()
    }
}

/// The host's null device. The init opens the container's own in its place.
pub(crate) fn null() -> Result<OwnedFd> {
    const PATH: &str = "/dev/null";
    openat(CWD, PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno: Errno| Error::path("open", PATH, errno))
}
