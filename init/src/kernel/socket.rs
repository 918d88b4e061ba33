//! Messages with descriptors, and the loopback interface.
//!
//! Rustix has `sendmsg(2)` and `recvmsg(2)` too, with buffers for every kind of control message.
//! They make the image 0.5 and 1.1 KB larger.
#![allow(unsafe_code, reason = "raw system calls")]

use core::ffi::{c_char, c_void};
use core::ptr;

use linux_raw_sys::general::{__NR_ioctl, __NR_recvmsg, __NR_sendmsg, __NR_write, iovec};
use linux_raw_sys::ioctl::SIOCSIFFLAGS;
use linux_raw_sys::net::{
    MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_NOSIGNAL, MSG_TRUNC, SCM_RIGHTS, SOL_SOCKET, cmsghdr, ifreq,
    ifreq__bindgen_ty_1, ifreq__bindgen_ty_2, msghdr, net_device_flags,
};
use pidone_proto::limits::DESCRIPTORS;
use rustix::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use rustix::io::Errno;

use super::{raw, syscall};

/// A control message of descriptors.
#[repr(C)]
struct Rights<const N: usize> {
    header: cmsghdr,
    numbers: [RawFd; N],
}

/// Sends one message, with or without a descriptor: `sendmsg(2)`. If the other end is gone, this is
/// an error and not a signal.
///
/// With `written` it is sent by `write(2)`, which every seccomp profile allows, and without a
/// descriptor. If the other end is gone, this is a signal, unless the process ignores it.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
    written: bool,
) -> Result<(), Errno> {
    let number = descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd());
    // The length is without the padding at the end.
    let control = Rights {
        header: cmsghdr {
            cmsg_len: size_of::<cmsghdr>() + size_of::<RawFd>(),
            cmsg_level: SOL_SOCKET.cast_signed(),
            cmsg_type: SCM_RIGHTS.cast_signed(),
        },
        numbers: [number],
    };
    let length = if descriptor.is_some() { size_of_val(&control) } else { 0 };
    let piece = iovec {
        iov_base: message.as_ptr().cast_mut().cast(),
        iov_len: u64::try_from(message.len()).unwrap_or(u64::MAX),
    };
    let header = header(&piece, (&raw const control).cast_mut().cast(), length);
    let (number, data, last) = if written {
        (__NR_write, message.as_ptr() as usize, message.len())
    } else {
        (__NR_sendmsg, (&raw const header) as usize, MSG_NOSIGNAL as usize)
    };
    // SAFETY: the kernel only reads the structures and what they point to, which outlive the call.
    unsafe { syscall(number, [raw(socket), data, last, 0, 0, 0]) }.map(drop)
}

/// Receives one message: `recvmsg(2)`. Passes its descriptors, which are close-on-exec, to `each`.
/// Returns the length, and whether a part was cut off.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    each: &mut dyn FnMut(OwnedFd),
) -> Result<(usize, bool), Errno> {
    let mut control = Rights::<{ DESCRIPTORS }> {
        header: cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 },
        numbers: [-1; DESCRIPTORS],
    };
    let piece = iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: u64::try_from(buffer.len()).unwrap_or(u64::MAX),
    };
    let mut header = header(&piece, (&raw mut control).cast(), size_of_val(&control));
    let args = [raw(socket), (&raw mut header) as usize, MSG_CMSG_CLOEXEC as usize, 0, 0, 0];
    // SAFETY: the kernel writes no more than the lengths say, into memory that is borrowed for it.
    let length = unsafe { syscall(__NR_recvmsg, args) }?;
    // No other kind of control message comes: none was requested on this socket.
    let kind = (control.header.cmsg_level, control.header.cmsg_type);
    if kind == (SOL_SOCKET.cast_signed(), SCM_RIGHTS.cast_signed()) {
        let count = control.header.cmsg_len.saturating_sub(size_of::<cmsghdr>());
        for &number in control.numbers.iter().take(count / size_of::<RawFd>()) {
            // SAFETY: the kernel made the descriptor for this message.
            each(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok((length, header.msg_flags & (MSG_TRUNC | MSG_CTRUNC) != 0))
}

/// Returns the header of a message in one piece of memory.
fn header(piece: &iovec, control: *mut c_void, length: usize) -> msghdr {
    msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: ptr::from_ref(piece).cast_mut().cast(),
        msg_iovlen: 1,
        msg_control: control,
        msg_controllen: length,
        msg_flags: 0,
    }
}

/// Brings the interface `lo` up: `SIOCSIFFLAGS` of `netdevice(7)`.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    const UP: i16 = net_device_flags::IFF_UP as i16 | net_device_flags::IFF_RUNNING as i16;
    let mut name = [0; 16];
    [name[0], name[1]] = [b'l', b'o'].map(|byte| c_char::from_ne_bytes([byte]));
    let request = ifreq {
        ifr_ifrn: ifreq__bindgen_ty_1 { ifrn_name: name },
        ifr_ifru: ifreq__bindgen_ty_2 { ifru_flags: UP },
    };
    let args = [raw(socket), SIOCSIFFLAGS as usize, (&raw const request) as usize, 0, 0, 0];
    // SAFETY: the kernel reads the structure and writes none for this request.
    unsafe { syscall(__NR_ioctl, args) }.map(drop)
}
