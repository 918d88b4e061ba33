//! The agent that answers for system calls: it gets the listener of a container's filter.
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;

use super::oci::Seccomp;
use crate::error::{Error, Result};
use crate::oci::{State, VERSION};

/// "The Container Process State" of `config-linux.md`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    metadata: &'a str,
    state: &'a State<'a>,
}

/// Hands the listener over.
pub(crate) fn hand_over(
    listener: BorrowedFd<'_>,
    profile: &Seccomp,
    pid: i32,
    state: &State<'_>,
) -> Result<()> {
    let path = &profile.listener_path;
    let state = ContainerProcessState {
        oci_version: VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: &profile.listener_metadata,
        state,
    };
    let text = serde_json::to_vec(&state)
        .map_err(|_| Error::system("encode", "state", rustix::io::Errno::INVAL))?;
    let socket = UnixStream::connect(path).map_err(|error| Error::path("connect", path, error))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [listener];
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(&socket, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(|errno| Error::path("send", path, errno))
}
