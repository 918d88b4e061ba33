//! A start in two stages: between them, the init waits for a plan that is not known yet.
//!
//! It waits as for any further part of a plan. It exits when the host's end of the socket closes,
//! with the host's process or by [`Parked::end`].

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use pidone_config::Result;
use pidone_host::descriptor::any_readable;
use pidone_plan::Plan;

use super::{Host, Launch, Rest, Session, Started};
use crate::launch::channel::Channel;
use crate::launch::clone::Child;
use crate::launch::outbox::Outbox;
use crate::launch::source::Lent;

/// An init that has run the first stage of its plan.
#[derive(Debug)]
pub(crate) struct Parked {
    channel: Channel,
    child: Child,
    /// The number of operations that it has run.
    operations: u32,
}

impl Launch<'_> {
    /// Starts an init that runs the plan and then waits for another one. The plan ends with
    /// [`BARRIER_PARKED`](pidone_plan::barrier::BARRIER_PARKED).
    ///
    /// No process is left behind if it fails.
    pub(crate) fn park(&self, host: &mut impl Host) -> Result<Parked> {
        let Session { channel, child, .. } = self.run_session(host, true)?;
        Ok(Parked { channel, child, operations: self.plan.len() })
    }
}

impl Parked {
    /// Returns the pid and the pidfd of the init.
    pub(crate) fn ids(&self) -> (i32, BorrowedFd<'_>) {
        self.child.ids()
    }

    /// Whether the init still waits: it has neither ended nor reported anything.
    pub(crate) fn waits(&self) -> bool {
        any_readable([self.child.pidfd.as_fd(), self.channel.as_fd()]) == Ok(false)
    }

    /// Sends the second stage of the plan, by which the init becomes its program. `rest` is what
    /// follows after it, if that is not known yet.
    ///
    /// No process is left behind if it fails.
    pub(crate) fn finish(
        self,
        (plan, rest): (&Plan, Option<Rest<'_>>),
        lent: Lent<'_>,
        timeout: Duration,
        host: &mut impl Host,
    ) -> Result<Started> {
        let Self { channel, child, operations } = self;
        let mut outbox = Outbox::new(plan, lent, false).numbered_after(operations);
        if rest.is_some() {
            outbox = outbox.with_more(true);
        }
        let waits = outbox.has_waits();
        let mut session = Session::new((plan, operations), outbox, (channel, child), timeout);
        session.silent = !session.listens && !waits;
        session.rest = rest;
        let outcome = session.send_parts().and_then(|()| session.handle_reports(host));
        session.kill_on_error(outcome).map(Session::started)
    }

    /// Kills and reaps the init.
    pub(crate) fn end(self) {
        self.child.end();
    }
}
