//! The images of the init, and the sealed memory that they are executed from.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use pidone_config::{Error, Result};
use pidone_proto::Bincode;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// A static program that speaks the protocol of `pidone_proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    bytes: &'static [u8],
    codec: Codec,
}

/// How an image expects its messages to be written.
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
    /// The number in the header of a frame.
    pub(crate) fn id(self) -> u8 {
        match self {
            Self::Bincode => <Bincode as pidone_proto::Codec>::ID,
            #[cfg(feature = "postcard")]
            Self::Postcard => <pidone_proto::Postcard as pidone_proto::Codec>::ID,
        }
    }
}

/// The image that was built with this library. Run by itself it is the init of one program.
pub const EMBEDDED: Image = Image::new(pidone_init::STANDALONE, Codec::Bincode);

/// The image of an init that gets programs when it has begun: it can do
/// [`pidone_proto::Op::Supervise`] and [`pidone_proto::Op::Stdio`], and cannot run by itself.
pub const SUPERVISOR: Image = Image::new(pidone_init::SUPERVISOR, Codec::Bincode);

impl Image {
    /// Takes the bytes of a program.
    #[must_use]
    pub const fn new(bytes: &'static [u8], codec: Codec) -> Self {
        Self { bytes, codec }
    }

    /// The bytes of the program, an ELF file.
    #[must_use]
    pub const fn bytes(&self) -> &'static [u8] {
        self.bytes
    }

    /// How it expects its messages.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }
}

/// An image in a memory file that nobody can write again.
///
/// Executing the runtime's own file would let a container reach it through `/proc/self/exe` and
/// overwrite it (CVE-2019-5736); here there is only a copy, and it is sealed.
#[derive(Debug)]
pub(crate) struct Sealed(OwnedFd);

impl Sealed {
    /// Copies an image.
    pub(crate) fn new(image: &Image) -> Result<Self> {
        seal("pidone-init", image.bytes(), MemfdFlags::EXEC).map(Self).map_err(|error| match error
            .errno()
        {
            Some(Errno::ACCESS) => error.with_hint("vm.memfd_noexec is 2"),
            _ => error,
        })
    }

    /// An embedded image, sealed once for the process; `supervises` tells which one.
    pub(crate) fn embedded(supervises: bool) -> Result<&'static Self> {
        static INIT: OnceLock<Sealed> = OnceLock::new();
        static SUPERVISING: OnceLock<Sealed> = OnceLock::new();
        let (place, image) =
            if supervises { (&SUPERVISING, SUPERVISOR) } else { (&INIT, EMBEDDED) };
        match place.get() {
            Some(sealed) => Ok(sealed),
            None => {
                let sealed = Self::new(&image)?;
                Ok(place.get_or_init(|| sealed))
            }
        }
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes a memory file with these bytes that can no longer change.
///
/// `execution` tells whether it may be executed. Where `vm.memfd_noexec` is set a file must say
/// so; before Linux 6.3 neither flag is known.
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

/// Writes all bytes, however many calls it takes.
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
