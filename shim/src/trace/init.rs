//! The times that inits report.

use pidone_config::Error;
use pidone_config::config::NamespaceType;
use pidone_config::error::Step;
use pidone_host::proc;
use pidone_host::span::{is_on, now};
use pidone_plan::Plan;
use pidone_proto::{Op, limits};

use super::recording::record_init;

/// The timestamps that an init has reported so far.
#[derive(Debug)]
pub(crate) struct Claims {
    /// A time before the clone, on the monotonic clock in nanoseconds.
    since: u64,
    stamps: Vec<u64>,
    offset: Offset,
}

impl Claims {
    /// Begins to collect the timestamps of an init that is about to be cloned; `None` if nothing is
    /// recorded.
    pub(crate) fn begin(plan: &Plan) -> Option<Self> {
        is_on().then(|| Self { since: now(), stamps: Vec::new(), offset: Offset::from_plan(plan) })
    }

    /// Reads the clock offset of the child that the init has forked, while it waits.
    pub(crate) fn read_offset(&mut self, pid: i32) {
        if let Offset::After(_, ahead) = &mut self.offset {
            *ahead = proc::clock_difference(pid);
        }
    }

    /// Adds timestamps, of which the first one has the number `first`. Returns whether they are the
    /// next ones of the plan; nothing is added otherwise.
    pub(crate) fn add(&mut self, first: u32, stamps: Vec<u64>, plan: &Plan) -> bool {
        // Two timestamps come before those of the operations.
        let room = usize::try_from(plan.len()).unwrap_or(usize::MAX).saturating_add(2);
        let next = self.stamps.len();
        if usize::try_from(first) != Ok(next) || !(1..=room - next).contains(&stamps.len()) {
            return false;
        }
        self.stamps.extend(stamps);
        true
    }

    /// Adds the timestamps to the recording of the thread, with the error that the start ended
    /// with.
    pub(crate) fn record(self, plan: &Plan, error: Option<&Error>) {
        let Self { since, stamps, offset } = self;
        let outcome = match error.map(Error::step) {
            None => Outcome::Done,
            Some(Step::Init { number, .. }) => Outcome::Failed(*number),
            Some(_) => Outcome::Lost,
        };
        let bounds = [since, now()];
        record_init(InitRecord { plan: plan.clone(), stamps, offset, bounds, outcome });
    }
}

/// The recording of an init: its plan, and the times that it has reported.
#[derive(Debug, Clone)]
pub(super) struct InitRecord {
    pub(super) plan: Plan,
    /// The timestamps in nanoseconds of its clock: its beginning, the arrival of the plan, and the
    /// end of each operation.
    pub(super) stamps: Vec<u64>,
    /// The offset of the time namespace that the plan joins.
    pub(super) offset: Offset,
    /// The host's own times, which bound those of the init: before its clone, and after its report
    /// that it was done.
    pub(super) bounds: [u64; 2],
    /// How the init ended.
    pub(super) outcome: Outcome,
}

/// How an init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It executed the program, or waits for the start.
    Done,
    /// The operation with this number failed, counted from 1.
    Failed(u32),
    /// It ended without a report, or the host gave up on it.
    Lost,
}

/// The offset of a time namespace from the host's monotonic clock: `time_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offset {
    /// The init stays in the host's time namespace.
    None,
    /// After the operation with this number, its clock is ahead by these nanoseconds; `None` if the
    /// offset is unknown.
    After(u32, Option<i64>),
}

impl Offset {
    /// Returns the offset of a plan, of which only the operation is known yet.
    fn from_plan(plan: &Plan) -> Self {
        let time = NamespaceType::Time.clone_flag();
        let enters = |op| matches!(op, Op::SetNamespaces { flags, .. } if flags & time != 0);
        let mut operations = (1..).zip(plan.operations());
        let entry = operations.find(|(_, op)| enters(*op));
        entry.map_or(Self::None, |(number, _)| Self::After(number, None))
    }

    /// Converts a timestamp to the host's clock; `None` if the offset is unknown.
    fn correct(self, index: usize, stamp: u64) -> Option<u64> {
        match self {
            Self::After(number, ahead) if index > usize::try_from(number).ok()? => {
                stamp.checked_add_signed(ahead?.checked_neg()?)
            }
            _ => Some(stamp),
        }
    }
}

impl InitRecord {
    /// Calls a function for each span: with the number, the name and the fields of the operation,
    /// the beginning and the end, and whether it failed.
    pub(super) fn spans(
        &self,
        mut each: impl FnMut(Option<u32>, &'static str, String, [u64; 2], bool),
    ) {
        let [first, last] = self.bounds;
        let last = last.max(first);
        let mut previous = first;
        let mut stamps = self.stamps.iter().enumerate().map_while(|(index, stamp)| {
            // Whatever the init claims, the times increase and stay within the host's bounds.
            previous = self.offset.correct(index, *stamp)?.clamp(previous, last);
            Some(previous)
        });
        let (Some(begun), Some(received)) = (stamps.next(), stamps.next()) else {
            let failed = self.outcome != Outcome::Done;
            return each(None, "init", String::new(), [first, last], failed);
        };
        let failed = self.outcome == Outcome::Failed(0);
        each(None, "receive the plan", String::new(), [begun, received], failed);
        let mut begin = received;
        let mut ended = failed;
        self.plan.for_each_operation(|number, name, fields| {
            if ended {
                return;
            }
            let failed = self.outcome == Outcome::Failed(number);
            let stamp = stamps.next();
            // The last operation has no timestamp: it ends at the host's bound.
            ended = stamp.is_none() || failed;
            let end = stamp.unwrap_or(last);
            if stamp.is_none() && self.stamps.len() >= limits::TIMES {
                each(None, "more operations", String::new(), [begin, end], false);
            } else {
                let lost = stamp.is_none() && self.outcome == Outcome::Lost;
                each(Some(number), name, fields, [begin, end], failed || lost);
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

    /// Returns the beginnings and ends of the spans, and the index of the one that failed.
    fn spans_of_record(
        stamps: &[u64],
        offset: Offset,
        outcome: Outcome,
    ) -> (Vec<[u64; 2]>, Option<usize>) {
        let stamps = stamps.to_vec();
        let record = InitRecord { plan: plan(), stamps, offset, bounds: [100, 200], outcome };
        let (mut spans, mut failed_index) = (Vec::new(), None);
        record.spans(|_, _, _, span, failed| {
            if failed {
                failed_index = Some(spans.len());
            }
            spans.push(span);
        });
        (spans, failed_index)
    }

    #[test]
    fn operations_last_from_timestamp_to_timestamp() {
        let (spans, bad) = spans_of_record(&[110, 120, 130, 140, 150], Offset::None, Outcome::Done);
        assert_eq!(spans, [[110, 120], [120, 130], [130, 140], [140, 150], [150, 200]]);
        assert_eq!(bad, None);
    }

    #[test]
    fn an_operation_that_failed_is_the_last() {
        let stamps = [110, 120, 130, 140];
        let (spans, bad) = spans_of_record(&stamps, Offset::None, Outcome::Failed(2));
        assert_eq!((spans.len(), spans.last(), bad), (3, Some(&[130, 140]), Some(2)));
        // Without its own timestamp, it ends at the host's bound.
        let (spans, bad) = spans_of_record(&stamps, Offset::None, Outcome::Failed(3));
        assert_eq!((spans.len(), spans.last(), bad), (4, Some(&[140, 200]), Some(3)));
        assert_eq!(spans_of_record(&[], Offset::None, Outcome::Lost), (vec![[100, 200]], Some(0)));
        assert_eq!(spans_of_record(&[110], Offset::None, Outcome::Done), (vec![[100, 200]], None));
        let (spans, bad) = spans_of_record(&[110, 120], Offset::None, Outcome::Failed(0));
        assert_eq!((spans, bad), (vec![[110, 120]], Some(0)));
    }

    #[test]
    fn claimed_times_are_increasing_and_within_the_bounds() {
        for stamps in [
            [0, 0, 0, 0, 0],
            [u64::MAX, 0, u64::MAX, 1, 150],
            [150, 140, 130, 120, 110],
            [1, 120, u64::MAX, 3, 4],
        ] {
            for offset in [
                Offset::None,
                Offset::After(2, Some(i64::MIN)),
                Offset::After(2, Some(i64::MAX)),
                Offset::After(u32::MAX, None),
                Offset::After(0, None),
            ] {
                let (spans, _) = spans_of_record(&stamps, offset, Outcome::Done);
                let mut last = 100;
                for [begin, end] in spans {
                    assert!(last <= begin && begin <= end && end <= 200, "{stamps:?} {offset:?}");
                    last = end;
                }
            }
        }
    }

    #[test]
    fn times_of_another_clock_are_corrected_or_left_out() {
        let stamps = [110, 120, 130, 5140, 5150];
        let (spans, _) = spans_of_record(&stamps, Offset::After(2, Some(5000)), Outcome::Done);
        assert_eq!(spans, [[110, 120], [120, 130], [130, 140], [140, 150], [150, 200]]);
        let stamps = [5110, 5120, 5130, 140, 150];
        let offset = Offset::After(2, Some(-5000));
        let record = InitRecord {
            plan: plan(),
            stamps: stamps.to_vec(),
            offset,
            bounds: [5100, 5200],
            outcome: Outcome::Done,
        };
        let mut ends = Vec::new();
        record.spans(|_, _, _, [_, end], _| ends.push(end));
        assert_eq!(ends, [5120, 5130, 5140, 5150, 5200]);
        let (spans, _) =
            spans_of_record(&[110, 120, 130, 140, 150], Offset::After(2, None), Outcome::Done);
        assert_eq!(spans, [[110, 120], [120, 130], [130, 200]]);
    }

    #[test]
    fn only_a_plan_that_enters_a_time_namespace_has_an_offset() {
        assert_eq!(Offset::from_plan(&plan()), Offset::After(2, None));
        assert_eq!(Offset::from_plan(&Plan::default()), Offset::None);
    }
}
