//! Namespaces that are made or joined, and the child that enters them.
#![allow(unsafe_code, reason = "clones this process")]

use pidone_proto::{Call, Report, Slot};
use rustix::fd::AsFd;

use crate::failure::{Context, Result};
use crate::kernel;
use crate::kernel::namespace::setns;
use crate::kernel::process::{clone_sibling, exit};
use crate::state::Init;

/// Joins the namespaces of a descriptor.
pub(crate) fn join(init: &mut Init, target: Slot, flags: u32) -> Result {
    let target = init.slots.take(target)?;
    setns(target.as_fd(), flags).during(Call::SetNamespaces)
}

/// Makes new namespaces for this process.
pub(crate) fn unshare(flags: u32) -> Result {
    kernel::namespace::unshare(flags).during(Call::Unshare)
}

/// Continues in a child, since a joined pid namespace takes effect only for children.
///
/// The child is a sibling of this process: the host is its parent and can wait for it. It waits
/// until the host has its pidfd, so that none of its reports comes before the pidfd.
pub(crate) fn fork(init: &mut Init, flags: u32) -> Result {
    // SAFETY: the plan is the host's, and these are flags of new namespaces: `Op::Fork`.
    match unsafe { clone_sibling(flags) }.during(Call::Clone)? {
        Some(child) => {
            init.channel.send(&Report::Forked, Some(child.as_fd()))?;
            exit(0)
        }
        None => {
            init.channel.forked();
            init.wait()
        }
    }
}
