//! Namespaces that are joined, and the child that enters them.

use pidone_proto::{Call, Report, Slot};
use rustix::fd::AsFd;

use crate::failure::{Context, Result};
use crate::interpret::Init;
use crate::sys;

/// Joins namespaces.
pub(crate) fn join(init: &mut Init, target: Slot, flags: u32) -> Result {
    let target = init.slots.take(target)?;
    sys::setns(target.as_fd(), flags).during(Call::SetNamespaces)
}

/// Goes on as a child, which is where a joined pid namespace begins.
///
/// The child is a sibling: the host is its parent and can wait for it. It stands still until the
/// host has its pidfd, so that no report of it can come before that one.
pub(crate) fn fork(init: &mut Init, flags: u32) -> Result {
    match sys::fork(flags).during(Call::Clone)? {
        Some(child) => {
            init.channel.send(&Report::Forked, Some(child.as_fd()))?;
            sys::exit(0)
        }
        None => {
            init.channel.forked();
            init.wait()
        }
    }
}
