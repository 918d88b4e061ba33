//! The descriptors that a process gets, and their other ends.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidone_config::{Error, Process, Result, Stdio};
use pidone_host::descriptor::null;
use rustix::fs::{FileType, fstat, makedev};
use rustix::pipe::{PipeFlags, pipe_with};

/// What becomes 0, 1 and 2, and what the caller keeps of pipes.
pub(crate) struct Descriptors<'a> {
    standard: [Option<End<'a>>; 3],
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
        Self::from_stdio(asked, &process.extra_files)
    }

    /// Opens what the process asks for, but for the null device: where it has that, there is none.
    pub(crate) fn without_null(process: &'a Process) -> Result<Self> {
        if process.terminal.is_some() {
            return Self::open_some([&Stdio::Null; 3], &process.extra_files);
        }
        let asked = [&process.stdin, &process.stdout, &process.stderr];
        let mut some = Self::open_some(asked, &process.extra_files)?;
        for end in &mut some.standard {
            if end.as_ref().is_some_and(|end| is_null(end.as_fd())) {
                *end = None;
            }
        }
        Ok(some)
    }

    /// Opens what is asked for, and adds descriptors behind it.
    pub(crate) fn from_stdio(asked: [&'a Stdio; 3], extra: &'a [OwnedFd]) -> Result<Self> {
        let mut all = Self::open_some(asked, extra)?;
        for end in all.standard.iter_mut().filter(|end| end.is_none()) {
            *end = Some(End::Own(null()?));
        }
        Ok(all)
    }

    /// Opens what is asked for and is not the null device.
    fn open_some(asked: [&'a Stdio; 3], extra: &'a [OwnedFd]) -> Result<Self> {
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
        Ok(Self { standard, extra, kept })
    }

    /// Which of 0, 1 and 2 there are.
    pub(crate) fn opened_stdio(&self) -> [bool; 3] {
        self.standard.each_ref().map(Option::is_some)
    }

    /// All descriptors in their order.
    pub(crate) fn all(&self) -> Vec<BorrowedFd<'_>> {
        let standard = self.standard.iter().flatten().map(End::as_fd);
        standard.chain(self.extra.iter().map(AsFd::as_fd)).collect()
    }
}

impl End<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
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
