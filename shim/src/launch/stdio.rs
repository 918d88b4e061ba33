//! The descriptors of a new process, and the caller's ends of its pipes.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidone_config::{Error, Process, Result, Stdio};
use pidone_host::descriptor::open_null;
use rustix::fs::{FileType, fstat, makedev};
use rustix::pipe::{PipeFlags, pipe_with};

/// The descriptors of a new process.
pub(crate) struct Descriptors<'a> {
    /// 0, 1 and 2. `None` for the null device, which is not opened.
    standard: [Option<End<'a>>; 3],
    /// The descriptors from 3 up.
    extra: &'a [OwnedFd],
    /// The caller's ends of pipes, by the number of the other end.
    pub(crate) kept: [Option<File>; 3],
}

/// A descriptor of a new process.
enum End<'a> {
    /// The null device.
    Null(OwnedFd),
    Own(OwnedFd),
    Lent(BorrowedFd<'a>),
}

impl<'a> Descriptors<'a> {
    /// Opens the descriptors that the process requests.
    ///
    /// With a terminal they are the null device, until the init has created the terminal.
    pub(crate) fn open(process: &'a Process) -> Result<Self> {
        let stdio = [&process.stdin, &process.stdout, &process.stderr];
        let stdio = if process.terminal.is_none() { stdio } else { [&Stdio::Null; 3] };
        Self::from_stdio(stdio, &process.extra_files)
    }

    /// Opens the descriptors that the process requests, except the null device: 0, 1 and 2 are
    /// missing where the process has it.
    pub(crate) fn without_null(process: &'a Process) -> Result<Self> {
        if process.terminal.is_some() {
            return Self::open_some([&Stdio::Null; 3], &process.extra_files);
        }
        let stdio = [&process.stdin, &process.stdout, &process.stderr];
        let mut some = Self::open_some(stdio, &process.extra_files)?;
        for end in &mut some.standard {
            if end.as_ref().is_some_and(|end| is_null(end.as_fd())) {
                *end = None;
            }
        }
        Ok(some)
    }

    /// Opens 0, 1 and 2, and adds further descriptors.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if a pipe or the null device cannot be opened.
    pub(crate) fn from_stdio(stdio: [&'a Stdio; 3], extra: &'a [OwnedFd]) -> Result<Self> {
        let mut all = Self::open_some(stdio, extra)?;
        for end in all.standard.iter_mut().filter(|end| end.is_none()) {
            *end = Some(End::Null(open_null()?));
        }
        Ok(all)
    }

    /// Opens those of 0, 1 and 2 that are not the null device.
    fn open_some(stdio: [&'a Stdio; 3], extra: &'a [OwnedFd]) -> Result<Self> {
        let mut kept = [None, None, None];
        let mut standard = [const { None }; 3];
        let inherited: [BorrowedFd<'static>; 3] =
            [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        for (number, stdio) in stdio.into_iter().enumerate() {
            standard[number] = Some(match stdio {
                Stdio::Null => continue,
                // A descriptor that the caller has closed becomes the null device. Another file
                // with its number now is close-on-exec, so it is not meant to be inherited.
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
        Ok(Self { standard, extra, kept })
    }

    /// Returns which of 0, 1 and 2 are open.
    pub(crate) fn opened_stdio(&self) -> [bool; 3] {
        self.standard.each_ref().map(Option::is_some)
    }

    /// Returns those of 0, 1 and 2 that the process requests, except the null device.
    pub(crate) fn stdio(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.standard.iter().flatten().filter_map(|end| match end {
            End::Null(_) => None,
            end => Some(end.as_fd()),
        })
    }

    /// Returns the open descriptors in the order of their numbers.
    pub(crate) fn all(&self) -> Vec<BorrowedFd<'_>> {
        let standard = self.standard.iter().flatten().map(End::as_fd);
        standard.chain(self.extra.iter().map(AsFd::as_fd)).collect()
    }
}

impl End<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Null(fd) | Self::Own(fd) => fd.as_fd(),
            Self::Lent(fd) => fd.as_fd(),
        }
    }
}

/// Whether a descriptor is the null device.
fn is_null(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(1, 3)
    })
}
