//! The identity of the container: host name, sysctls, labels, loopback.

use pidone_proto::{Call, Slot, Text};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::failure::{Context, Failure, Result};
use crate::kernel::socket::loopback_up;
use crate::state::Init;

/// Sets the host name.
pub(crate) fn set_host_name(name: Text<'_>) -> Result {
    let name = name.as_c_str();
    rustix::system::sethostname(name.to_bytes()).during(Call::HostName)
}

/// Sets the NIS domain name.
pub(crate) fn set_domain_name(name: Text<'_>) -> Result {
    let name = name.as_c_str();
    rustix::system::setdomainname(name.to_bytes()).during(Call::DomainName)
}

/// Writes a file below a mount of proc that only the init has: the container's `/proc` may be
/// anything.
pub(crate) fn write_proc(
    init: &Init,
    proc: Slot,
    directory: &core::ffi::CStr,
    path: Text<'_>,
    value: Text<'_>,
) -> Result {
    let path = path.as_c_str();
    let proc = init.slots.get(proc)?;
    let open = |from, name: &core::ffi::CStr, flags, resolve| {
        openat2(from, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    // `thread-self` is an ordinary link to a path in the same mount.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let directory =
        open(proc, directory, OFlags::PATH | OFlags::DIRECTORY, resolve).during(Call::Open)?;
    let resolve = resolve | ResolveFlags::NO_SYMLINKS;
    let file = open(directory.as_fd(), path, OFlags::WRONLY, resolve).during(Call::Open)?;
    let value = value.as_c_str().to_bytes();
    match write(&file, value) {
        Ok(written) if written == value.len() => Ok(()),
        Ok(_) => Err(Failure::new(Call::Write, Errno::IO)),
        Err(errno) => Err(errno).during(Call::Write),
    }
}

/// Brings the interface `lo` up.
pub(crate) fn enable_loopback() -> Result {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .during(Call::Socket)?;
    loopback_up(socket.as_fd()).during(Call::Ioctl)
}
