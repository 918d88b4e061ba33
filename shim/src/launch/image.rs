//! The images of the init, and the sealed memory files that they are executed from.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use pidone_config::{Error, Result};
use pidone_proto::Bincode;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// A static program that implements the protocol of `pidone_proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    bytes: &'static [u8],
    codec: Codec,
}

/// The encoding of the messages of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// bincode 2.
    Bincode,
    /// postcard 1.
    #[cfg(feature = "postcard")]
    Postcard,
}

impl Codec {
    /// Returns the number of the codec in the header of a frame.
    pub(crate) fn id(self) -> u8 {
        match self {
            Self::Bincode => <Bincode as pidone_proto::Codec>::ID,
            #[cfg(feature = "postcard")]
            Self::Postcard => <pidone_proto::Postcard as pidone_proto::Codec>::ID,
        }
    }
}

/// The image that was built with this library.
///
/// Run as a program, it is an init for one command, like tini(1). Its bytes can be written to a
/// file for other runtimes, as for `dockerd --init-path`:
///
/// ```
/// use pidone::launch::image::{Codec, EMBEDDED};
///
/// assert!(EMBEDDED.bytes().starts_with(b"\x7fELF"));
/// assert_eq!(EMBEDDED.codec(), Codec::Bincode);
/// ```
pub const EMBEDDED: Image = Image::new(pidone_init::STANDALONE, Codec::Bincode);

/// The image of an init that receives programs after it was started. It implements
/// [`pidone_proto::Op::Supervise`] and [`pidone_proto::Op::Stdio`], and cannot be run as a program.
pub const SUPERVISOR: Image = Image::new(pidone_init::SUPERVISOR, Codec::Bincode);

impl Image {
    /// Returns the image of a program, an ELF file.
    #[must_use]
    pub const fn new(bytes: &'static [u8], codec: Codec) -> Self {
        Self { bytes, codec }
    }

    /// Returns the bytes of the program, an ELF file.
    #[must_use]
    pub const fn bytes(&self) -> &'static [u8] {
        self.bytes
    }

    /// Returns the encoding of its messages.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }
}

/// An image in a sealed memory file.
///
/// If the runtime's own file were executed, a container could reach it through `/proc/self/exe` and
/// overwrite it (CVE-2019-5736). This is a copy, and it cannot be written.
#[derive(Debug)]
pub(crate) struct Sealed(OwnedFd);

impl Sealed {
    /// Copies an image to a sealed memory file.
    pub(crate) fn new(image: &Image) -> Result<Self> {
        seal("pidone-init", image.bytes(), MemfdFlags::EXEC).map(Self).map_err(|error| match error
            .errno()
        {
            Some(Errno::ACCESS) => error.with_hint("vm.memfd_noexec is 2"),
            _ => error,
        })
    }

    /// Returns an embedded image: [`SUPERVISOR`] if the init `supervises`, else [`EMBEDDED`]. Each
    /// is sealed once for the process.
    pub(crate) fn embedded(supervises: bool) -> Result<&'static Self> {
        static INIT: OnceLock<Sealed> = OnceLock::new();
        static SUPERVISING: OnceLock<Sealed> = OnceLock::new();
        let (cell, image) = if supervises { (&SUPERVISING, SUPERVISOR) } else { (&INIT, EMBEDDED) };
        match cell.get() {
            Some(sealed) => Ok(sealed),
            None => {
                let sealed = Self::new(&image)?;
                Ok(cell.get_or_init(|| sealed))
            }
        }
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Creates a sealed memory file with these bytes.
///
/// `execution` is the flag that determines whether the file may be executed, which
/// `vm.memfd_noexec` can make mandatory. Before Linux 6.3 the kernel does not know such a flag.
pub(crate) fn seal(name: &'static str, bytes: &[u8], execution: MemfdFlags) -> Result<OwnedFd> {
    let fail = |verb| move |errno: Errno| Error::system(verb, name, errno);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(name, flags | execution) {
        Err(Errno::INVAL) => memfd_create(name, flags),
        other => other,
    }
    .map_err(fail("memfd_create"))?;
    write_all(file.as_fd(), bytes).map_err(fail("write"))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals).map_err(fail("seal"))?;
    Ok(file)
}

/// Writes all bytes.
fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> std::result::Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
