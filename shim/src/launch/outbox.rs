//! Sends the parts of a plan to the init.

use std::os::fd::{AsFd, BorrowedFd};

use pidone_config::Result;
use pidone_plan::{Plan, Source};
use pidone_proto::Op;

use super::channel::{Channel, violation};
use super::source::{self, Lent, Opened};
use crate::trace;

/// A plan that is being sent.
///
/// An init that waits for [`Outbox::proceed`] accepts no other message. The parts after one with an
/// operation at which it waits are held back until then.
pub(super) struct Outbox<'a> {
    plan: &'a Plan,
    lent: Lent<'a>,
    /// Whether the init reports the times of its operations.
    timed: bool,
    /// The number of parts that were sent.
    sent: usize,
    /// The number of the first operation of the next part.
    first: u32,
    /// The number of operations in the sent parts at which the init has yet to proceed.
    waits: usize,
    /// Whether another plan follows.
    more: bool,
    /// Whether the root is kept.
    keeps_root: bool,
    root: Option<Opened<'a>>,
    /// The new file systems that were sent. Closing the last descriptor of an unattached mount
    /// waits for an RCU grace period, a tenth of a start, so the host closes them and not the init.
    file_systems: Vec<Opened<'a>>,
}

impl<'a> Outbox<'a> {
    /// Returns the outbox of a plan of which nothing was sent yet.
    pub(super) fn new(plan: &'a Plan, lent: Lent<'a>, timed: bool) -> Self {
        Self {
            plan,
            lent,
            timed,
            sent: 0,
            first: 1,
            waits: 0,
            more: false,
            keeps_root: false,
            root: None,
            file_systems: Vec::new(),
        }
    }

    /// Announces to the init that another plan follows. With `keeps_root`, [`Outbox::root`] returns
    /// the root of this one.
    pub(super) fn with_more(self, keeps_root: bool) -> Self {
        Self { more: true, keeps_root, ..self }
    }

    /// Returns the directory that the init was sent as its root. By this descriptor the host sees
    /// what the init has mounted below.
    pub(super) fn root(&self) -> Option<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd)
    }

    /// Continues with a plan that has further parts after those that were sent.
    pub(super) fn continue_with(&mut self, plan: &'a Plan) {
        self.plan = plan;
        self.more = false;
    }

    /// Numbers the operations after `before` operations of another plan.
    pub(super) fn numbered_after(self, before: u32) -> Self {
        Self { first: before.saturating_add(1), ..self }
    }

    /// Returns the outbox of a plan that another process has sent.
    pub(super) fn already_sent(plan: &'a Plan) -> Self {
        let mut all = Self::new(plan, Lent::default(), false);
        all.sent = plan.parts().len();
        all.waits = plan.operations().filter(waits).count();
        all
    }

    /// Whether the init waits for the host anywhere in the plan.
    pub(super) fn has_waits(&self) -> bool {
        self.plan.operations().any(|op| waits(&op))
    }

    /// Whether a part could be sent if the socket had room.
    pub(super) fn is_pressing(&self) -> bool {
        self.waits == 0 && self.sent < self.plan.parts().len()
    }

    /// Sends parts while the socket has room, up to the first `most` of the plan.
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
            let root = if self.keeps_root { part.operations().find_map(root_slot) } else { None };
            for (index, (source, opened)) in part.sources.iter().zip(opened).enumerate() {
                if root == Some(index) {
                    self.root = Some(opened);
                } else if *source == Source::Empty {
                    self.file_systems.push(opened);
                }
            }
        }
        Ok(())
    }

    /// Lets the init continue, and sends the parts that were held back.
    pub(super) fn proceed(&mut self, channel: &mut Channel) -> Result<()> {
        self.waits =
            self.waits.checked_sub(1).ok_or_else(|| violation("waits out of its place"))?;
        channel.proceed()?;
        self.send(channel, usize::MAX)
    }
}

/// Returns the slot of the root, at the operation that sets it.
fn root_slot(op: Op<'_>) -> Option<usize> {
    match op {
        Op::Root { tree: slot, .. } | Op::Chroot { directory: slot } => Some(slot.0.into()),
        _ => None,
    }
}

/// Whether the init waits at an operation until the host lets it continue.
fn waits(op: &Op<'_>) -> bool {
    matches!(op, Op::Barrier { .. } | Op::Fork { .. })
}
