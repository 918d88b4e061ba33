//! What an init claims about its times.

use pidone_config::Error;
use pidone_config::config::NamespaceType;
use pidone_config::error::Step;
use pidone_host::proc;
use pidone_host::span::{is_on, now};
use pidone_plan::Plan;
use pidone_proto::{Op, limits};

use super::recording::record_init;

/// When an init says that it did what.
#[derive(Debug)]
pub(crate) struct Claims {
    /// The init was not there before.
    since: u64,
    stamps: Vec<u64>,
    offset: Offset,
}

impl Claims {
    /// None, if nothing is recorded.
    pub(crate) fn begin(plan: &Plan) -> Option<Self> {
        is_on().then(|| Self { since: now(), stamps: Vec::new(), offset: Offset::of(plan) })
    }

    /// Looks at the clock of a child that the init has forked, and that stands still.
    pub(crate) fn read_offset(&mut self, pid: i32) {
        if let Offset::Behind(_, ahead) = &mut self.offset {
            *ahead = proc::clock_difference(pid);
        }
    }

    /// Adds stamps from the one with a number on. Answers whether they are the next ones.
    pub(crate) fn add(&mut self, first: u32, stamps: Vec<u64>, plan: &Plan) -> bool {
        // Two before those of the operations.
        let room = usize::try_from(plan.len()).unwrap_or(usize::MAX).saturating_add(2);
        let next = self.stamps.len();
        if usize::try_from(first) != Ok(next) || !(1..=room - next).contains(&stamps.len()) {
            return false;
        }
        self.stamps.extend(stamps);
        true
    }

    /// Tells the recording.
    pub(crate) fn record(self, plan: &Plan, error: Option<&Error>) {
        let Self { since, stamps, offset } = self;
        let outcome = match error.map(Error::step) {
            None => Outcome::Done,
            Some(Step::Init { number, .. }) => Outcome::Failed(*number),
            Some(_) => Outcome::Lost,
        };
        let life = [since, now()];
        record_init(Life { plan: plan.clone(), stamps, offset, life, outcome });
    }
}

/// The life of an init: its plan, and when it says that it did what.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) plan: Plan,
    /// Nanoseconds of its clock: its beginning, the plan's arrival, and the end of each operation.
    pub(super) stamps: Vec<u64>,
    /// How the clock of the namespace that the plan enters differs from the host's.
    pub(super) offset: Offset,
    /// What the host knows by itself: it did not live before, and what it did was done by then.
    pub(super) life: [u64; 2],
    /// Whether it came to its last operation that is timed.
    pub(super) outcome: Outcome,
}

/// How an init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// In the program, or in the wait for the start.
    Done,
    /// In this operation, counted from 1.
    Failed(u32),
    /// Without a word about it.
    Lost,
}

/// Nanoseconds by which the clock of a time namespace is ahead of the host's: `time_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offset {
    /// The init stays in that of the host.
    None,
    /// Behind the operation with this number its clock is ahead by so much; `None` if nobody knows.
    Behind(u32, Option<i64>),
}

impl Offset {
    /// That of a plan, which nobody knows yet.
    fn of(plan: &Plan) -> Self {
        let time = NamespaceType::Time.clone_flag();
        let enters = |op| matches!(op, Op::SetNamespaces { flags, .. } if flags & time != 0);
        let mut operations = (1..).zip(plan.operations());
        let entry = operations.find(|(_, op)| enters(*op));
        entry.map_or(Self::None, |(number, _)| Self::Behind(number, None))
    }

    /// A stamp as one of the host's clock. `None` where that cannot be told.
    fn correct(self, index: usize, stamp: u64) -> Option<u64> {
        match self {
            Self::Behind(number, ahead) if index > usize::try_from(number).ok()? => {
                stamp.checked_add_signed(ahead?.checked_neg()?)
            }
            _ => Some(stamp),
        }
    }
}

impl Life {
    /// Tells each span: the number and the name of the operation, what it was about, from when to
    /// when, and whether it failed.
    pub(super) fn spans(
        &self,
        mut each: impl FnMut(Option<u32>, &'static str, String, [u64; 2], bool),
    ) {
        let [born, gone] = self.life;
        let gone = gone.max(born);
        let mut last = born;
        let mut stamps = self.stamps.iter().enumerate().map_while(|(index, stamp)| {
            // What it claims moves its own bars, within what the host has seen itself.
            last = self.offset.correct(index, *stamp)?.clamp(last, gone);
            Some(last)
        });
        let (Some(begun), Some(received)) = (stamps.next(), stamps.next()) else {
            let failed = self.outcome != Outcome::Done;
            return each(None, "init", String::new(), [born, gone], failed);
        };
        let failed = self.outcome == Outcome::Failed(0);
        each(None, "receive the plan", String::new(), [begun, received], failed);
        let mut begin = received;
        let mut over = failed;
        self.plan.for_each_operation(|number, name, about| {
            if over {
                return;
            }
            let failed = self.outcome == Outcome::Failed(number);
            let stamp = stamps.next();
            // The last one has no stamp: the host has seen its end.
            over = stamp.is_none() || failed;
            let end = stamp.unwrap_or(gone);
            if stamp.is_none() && self.stamps.len() >= limits::TIMES {
                each(None, "more operations", String::new(), [begin, end], false);
            } else {
                let lost = stamp.is_none() && self.outcome == Outcome::Lost;
                each(Some(number), name, about, [begin, end], failed || lost);
            }
            begin = end;
        });
    }
}

#[cfg(test)]
mod tests {
    use pidone_proto::Slot;

    use super::*;

    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.push(Op::Umask { mask: 0 });
        plan.push(Op::SetNamespaces { target: Slot(0), flags: 0x80 });
        plan.push(Op::PivotRoot);
        plan.push(Op::Session);
        plan
    }

    /// The spans as numbers, beginnings and ends, and the number of the one that failed.
    fn told(stamps: &[u64], offset: Offset, outcome: Outcome) -> (Vec<[u64; 2]>, Option<usize>) {
        let stamps = stamps.to_vec();
        let stamps = Life { plan: plan(), stamps, offset, life: [100, 200], outcome };
        let (mut spans, mut bad) = (Vec::new(), None);
        stamps.spans(|_, _, _, span, failed| {
            if failed {
                bad = Some(spans.len());
            }
            spans.push(span);
        });
        (spans, bad)
    }

    #[test]
    fn operations_go_from_stamp_to_stamp() {
        let (spans, bad) = told(&[110, 120, 130, 140, 150], Offset::None, Outcome::Done);
        assert_eq!(spans, [[110, 120], [120, 130], [130, 140], [140, 150], [150, 200]]);
        assert_eq!(bad, None);
    }

    #[test]
    fn an_operation_that_failed_is_the_last() {
        let stamps = [110, 120, 130, 140];
        let (spans, bad) = told(&stamps, Offset::None, Outcome::Failed(2));
        assert_eq!((spans.len(), spans.last(), bad), (3, Some(&[130, 140]), Some(2)));
        // Without a stamp of its own it lasts until the host heard of it.
        let (spans, bad) = told(&stamps, Offset::None, Outcome::Failed(3));
        assert_eq!((spans.len(), spans.last(), bad), (4, Some(&[140, 200]), Some(3)));
        assert_eq!(told(&[], Offset::None, Outcome::Lost), (vec![[100, 200]], Some(0)));
        assert_eq!(told(&[110], Offset::None, Outcome::Done), (vec![[100, 200]], None));
        let (spans, bad) = told(&[110, 120], Offset::None, Outcome::Failed(0));
        assert_eq!((spans, bad), (vec![[110, 120]], Some(0)));
    }

    #[test]
    fn lies_stay_in_their_order_and_within_the_life() {
        for stamps in [
            [0, 0, 0, 0, 0],
            [u64::MAX, 0, u64::MAX, 1, 150],
            [150, 140, 130, 120, 110],
            [1, 120, u64::MAX, 3, 4],
        ] {
            for offset in [
                Offset::None,
                Offset::Behind(2, Some(i64::MIN)),
                Offset::Behind(2, Some(i64::MAX)),
                Offset::Behind(u32::MAX, None),
                Offset::Behind(0, None),
            ] {
                let (spans, _) = told(&stamps, offset, Outcome::Done);
                let mut last = 100;
                for [begin, end] in spans {
                    assert!(last <= begin && begin <= end && end <= 200, "{stamps:?} {offset:?}");
                    last = end;
                }
            }
        }
    }

    #[test]
    fn another_clock_is_corrected_or_left_out() {
        let stamps = [110, 120, 130, 5140, 5150];
        let (spans, _) = told(&stamps, Offset::Behind(2, Some(5000)), Outcome::Done);
        assert_eq!(spans, [[110, 120], [120, 130], [130, 140], [140, 150], [150, 200]]);
        let stamps = [5110, 5120, 5130, 140, 150];
        let behind = Offset::Behind(2, Some(-5000));
        let life = Life {
            plan: plan(),
            stamps: stamps.to_vec(),
            offset: behind,
            life: [5100, 5200],
            outcome: Outcome::Done,
        };
        let mut ends = Vec::new();
        life.spans(|_, _, _, [_, end], _| ends.push(end));
        assert_eq!(ends, [5120, 5130, 5140, 5150, 5200]);
        let (spans, _) = told(&[110, 120, 130, 140, 150], Offset::Behind(2, None), Outcome::Done);
        assert_eq!(spans, [[110, 120], [120, 130], [130, 200]]);
    }

    #[test]
    fn only_a_plan_that_enters_a_time_namespace_has_an_offset() {
        assert_eq!(Offset::of(&plan()), Offset::Behind(2, None));
        assert_eq!(Offset::of(&Plan::default()), Offset::None);
    }
}
