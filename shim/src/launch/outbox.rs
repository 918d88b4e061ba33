//! What of a plan is still to be sent to the init.

use std::os::fd::AsFd;

use pidone_config::Result;
use pidone_plan::{Plan, Source};
use pidone_proto::Op;

use super::channel::{Channel, violation};
use super::source::{self, Lent, Opened};
use crate::trace;

/// A plan on its way.
///
/// An init that waits for the host to let it go on takes nothing else: what comes behind an
/// operation at which it waits is held back until then.
pub(super) struct Outbox<'a> {
    plan: &'a Plan,
    lent: Lent<'a>,
    /// Whether the init stamps its operations.
    timed: bool,
    /// Parts that were sent.
    sent: usize,
    /// The number of the first operation of the next part.
    first: u32,
    /// Operations in them at which the init still has to be let go on.
    waits: usize,
    /// Whether another plan follows.
    more: bool,
    /// New file systems that were sent. Who closes the last descriptor of one that was never
    /// attached itself waits for an RCU grace period, a tenth of a start: not the init, then.
    made: Vec<Opened<'a>>,
}

impl<'a> Outbox<'a> {
    /// Nothing was sent yet.
    pub(super) fn new(plan: &'a Plan, lent: Lent<'a>, timed: bool) -> Self {
        Self { plan, lent, timed, sent: 0, first: 1, waits: 0, more: false, made: Vec::new() }
    }

    /// Another plan follows.
    pub(super) fn with_more(self) -> Self {
        Self { more: true, ..self }
    }

    /// As many operations came before, of another plan.
    pub(super) fn behind(self, before: u32) -> Self {
        Self { first: before.saturating_add(1), ..self }
    }

    /// Everything was sent by somebody else.
    pub(super) fn sent(plan: &'a Plan) -> Self {
        let mut all = Self::new(plan, Lent::default(), false);
        all.sent = plan.parts().len();
        all.waits = plan.operations().filter(waits).count();
        all
    }

    /// Whether the host has to answer somewhere on the way.
    pub(super) fn has_waits(&self) -> bool {
        self.plan.operations().any(|op| waits(&op))
    }

    /// Whether there is something that only waits for room.
    pub(super) fn is_pressing(&self) -> bool {
        self.waits == 0 && self.sent < self.plan.parts().len()
    }

    /// Sends parts as long as there is room, and no further than the first `most`.
    pub(super) fn send(&mut self, channel: &mut Channel, most: usize) -> Result<()> {
        let parts = self.plan.parts();
        while let Some(part) = parts.get(self.sent).filter(|_| self.waits == 0 && self.sent < most)
        {
            let head = pidone_proto::Part {
                first: self.first,
                operations: part.operations,
                more: self.more || self.sent + 1 < parts.len(),
                timed: self.timed,
            };
            let opened = source::open_all(part, self.lent)?;
            let files: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
            let send = || channel.send_part(part, head, &files);
            if !trace::span("send the plan", send)? {
                return Ok(());
            }
            self.sent += 1;
            self.first += part.operations;
            self.waits += part.operations().filter(waits).count();
            let made =
                part.sources.iter().zip(opened).filter(|(source, _)| **source == Source::Empty);
            self.made.extend(made.map(|(_, opened)| opened));
        }
        Ok(())
    }

    /// Lets the init go on, and sends what was held back.
    pub(super) fn proceed(&mut self, channel: &mut Channel) -> Result<()> {
        self.waits =
            self.waits.checked_sub(1).ok_or_else(|| violation("waits out of its place"))?;
        channel.proceed()?;
        self.send(channel, usize::MAX)
    }
}

/// Whether the init waits at an operation until the host lets it go on.
fn waits(op: &Op<'_>) -> bool {
    matches!(op, Op::Barrier { .. } | Op::Fork { .. })
}
