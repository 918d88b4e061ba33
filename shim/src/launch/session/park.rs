//! A start in two halves: the init waits between them for a plan that is not known yet.
//!
//! It waits as for any further part of a plan. When this end of the socket closes, with the process
//! or by [`Parked::end`], it exits.

use std::os::fd::AsFd;
use std::time::Duration;

use pidone_config::Result;
use pidone_host::descriptor::any_readable;
use pidone_plan::Plan;

use super::{Host, Launch, Session, Started};
use crate::launch::channel::Channel;
use crate::launch::clone::Child;
use crate::launch::outbox::Outbox;
use crate::launch::source::Lent;

/// An init that has run the first half of its plan.
#[derive(Debug)]
pub(crate) struct Parked {
    channel: Channel,
    child: Child,
    /// How many operations it has run.
    operations: u32,
}

impl Launch<'_> {
    /// Starts an init, which runs the plan and waits for another one. The plan ends with
    /// [`BARRIER_PARKED`](pidone_plan::barrier::BARRIER_PARKED).
    ///
    /// If something fails, no process is left behind.
    pub(crate) fn park(&self, host: &mut impl Host) -> Result<Parked> {
        let Session { channel, child, .. } = self.lead(host, true)?;
        Ok(Parked { channel, child, operations: self.plan.len() })
    }
}

impl Parked {
    /// Whether the init still waits: it neither ended nor said anything.
    pub(crate) fn waits(&self) -> bool {
        any_readable([self.child.pidfd.as_fd(), self.channel.as_fd()]) == Ok(false)
    }

    /// Lets the init become its program, by the second half of the plan.
    ///
    /// If something fails, no process is left behind.
    pub(crate) fn finish(
        self,
        plan: &Plan,
        lent: Lent<'_>,
        timeout: Duration,
        host: &mut impl Host,
    ) -> Result<Started> {
        let Self { channel, child, operations } = self;
        let outbox = Outbox::new(plan, lent, false).behind(operations);
        let waits = outbox.has_waits();
        let mut session = Session::new((plan, operations), outbox, (channel, child), timeout);
        session.silent = !session.listens && !waits;
        let outcome = session.send_parts().and_then(|()| session.lead(host));
        session.end_if(outcome).map(Session::started)
    }

    /// Ends the init, and reaps it.
    pub(crate) fn end(self) {
        self.child.end();
    }
}
