//! The timeline of one start, divided into named parts.

use std::collections::BTreeMap;

use pidone::trace::{Trace, Who};
use serde::Deserialize;

use crate::Result;
use crate::part::Part;

/// Nanoseconds by name.
pub(super) type Parts = BTreeMap<String, u64>;

/// The step of the host in which it has nothing to do.
const WAIT: &str = "wait for the init";

/// The span of the init in which it may have to wait for the host.
const RECEIVE: &str = "receive the plan";

/// The name of the time during which an init works that records nothing.
pub(super) const UNRECORDED: &str = "the init and the process that it starts";

/// A recorded span, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug)]
struct Piece {
    /// Whether the init did it, and not the host.
    init: bool,
    name: String,
    from: u64,
    to: u64,
}

/// The recording of one start.
#[derive(Debug)]
pub(super) struct Timeline {
    /// When the recording began.
    begin: u64,
    pieces: Vec<Piece>,
}

/// The JSON object that `--trace FILE.json` writes.
#[derive(Debug, Deserialize)]
struct Written {
    begin: u64,
    spans: Vec<WrittenSpan>,
}

#[derive(Debug, Deserialize)]
struct WrittenSpan {
    who: String,
    name: String,
    start: u64,
    duration: u64,
}

impl Timeline {
    /// Converts a recording of the library.
    pub(super) fn from_trace(trace: &Trace) -> Result<Self> {
        let begin = u64::try_from(trace.begin().as_nanos())?;
        let piece = |span: pidone::trace::Span| -> Result<Piece> {
            let from = begin + u64::try_from(span.start.as_nanos())?;
            let to = from + u64::try_from(span.duration.as_nanos())?;
            Ok(Piece { init: span.who == Who::Init, name: span.name.to_owned(), from, to })
        };
        Ok(Self { begin, pieces: trace.spans().into_iter().map(piece).collect::<Result<_>>()? })
    }

    /// Reads a recording that the command line wrote.
    pub(super) fn read(text: &[u8]) -> Result<Self> {
        let Written { begin, spans } = serde_json::from_slice(text)?;
        let piece = |span: WrittenSpan| {
            let from = begin.saturating_add(span.start);
            let to = from.saturating_add(span.duration);
            Piece { init: span.who == Who::Init.name(), name: span.name, from, to }
        };
        Ok(Self { begin, pieces: spans.into_iter().map(piece).collect() })
    }

    /// Divides the time from `begin` to `end`, so that every nanosecond belongs to one name.
    ///
    /// While both host and init work, the time belongs to the init, since the program is executed
    /// when the init is done.
    pub(super) fn divide(&self, [begin, end]: [u64; 2]) -> Parts {
        let inside = |time: u64| begin < time && time < end;
        let mut borders: Vec<u64> =
            self.pieces.iter().flat_map(|piece| [piece.from, piece.to]).collect();
        borders.push(self.begin);
        borders.retain(|time| inside(*time));
        borders.extend([begin, end]);
        borders.sort_unstable();
        let cloned = self.cloned();
        let mut parts = Parts::new();
        for pair in borders.windows(2) {
            if let &[from, to] = pair
                && from < to
            {
                *parts.entry(self.owner(from, cloned)).or_default() += to - from;
            }
        }
        parts
    }

    /// Returns the time from the host's clone to the first span of the init.
    fn cloned(&self) -> Option<[u64; 2]> {
        let clone = self.pieces.iter().find(|piece| !piece.init && piece.name == "clone")?;
        let first = self.pieces.iter().filter(|piece| piece.init).map(|piece| piece.from).min()?;
        Some([clone.from, first])
    }

    /// Returns the name of the time that begins at a border.
    fn owner(&self, time: u64, cloned: Option<[u64; 2]>) -> String {
        let at = |piece: &&Piece| piece.from <= time && time < piece.to;
        let init = self.pieces.iter().filter(|piece| piece.init).find(at);
        let host = self.pieces.iter().filter(|piece| !piece.init).find(at);
        let knows_init = self.pieces.iter().any(|piece| piece.init);
        match (init.map(|piece| piece.name.as_str()), host.map(|piece| piece.name.as_str())) {
            (Some(operation), _) if operation != RECEIVE => {
                Part::from_operation(operation).name().to_owned()
            }
            _ if cloned.is_some_and(|[from, to]| from <= time && time < to) => {
                Part::Clone.name().to_owned()
            }
            (_, Some(step)) if step != WAIT => match Part::from_step(step) {
                Some(part) => part.name().to_owned(),
                None => format!("host: {step}"),
            },
            (Some(_), _) => "the init receives the plan".to_owned(),
            (None, Some(_)) if knows_init => "host: wait for the init's end".to_owned(),
            (None, Some(_)) => UNRECORDED.to_owned(),
            (None, None) if time < self.begin => "fork and exec of the command line".to_owned(),
            (None, None) => "host: between its steps".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(pieces: &[(bool, &str, u64, u64)]) -> Timeline {
        let piece = |&(init, name, from, to): &(bool, &str, u64, u64)| Piece {
            init,
            name: name.to_owned(),
            from,
            to,
        };
        Timeline { begin: 10, pieces: pieces.iter().map(piece).collect() }
    }

    fn parts(parts: &[(&str, u64)]) -> Parts {
        parts.iter().map(|(name, time)| ((*name).to_owned(), *time)).collect()
    }

    #[test]
    fn time_is_divided_without_overlap() {
        let timeline = timeline(&[
            (false, "make cgroups", 12, 20),
            (false, "clone", 25, 40),
            (false, "compile the plan", 40, 60),
            (false, WAIT, 62, 100),
            (true, RECEIVE, 45, 63),
            (true, "mount", 63, 80),
            (true, "attach", 80, 90),
            (true, "exec", 90, 100),
        ]);
        let divided = timeline.divide([5, 98]);
        assert_eq!(divided.values().sum::<u64>(), 93);
        assert_eq!(
            divided,
            parts(&[
                ("fork and exec of the command line", 5),
                ("host: between its steps", 2 + 5),
                (Part::Cgroup.name(), 8),
                (Part::Clone.name(), 20),
                ("host: compile the plan", 15),
                ("the init receives the plan", 3),
                (Part::Mounts.name(), 27),
                (Part::Exec.name(), 8),
            ]),
        );
    }

    #[test]
    fn wait_for_an_unrecorded_init_is_time_of_the_init() {
        let timeline = timeline(&[(false, "ask the init", 10, 15), (false, WAIT, 15, 30)]);
        let wanted = [("host: ask the init", 5), (UNRECORDED, 5)];
        assert_eq!(timeline.divide([10, 20]), parts(&wanted));
    }

    #[test]
    fn recording_of_the_command_line_is_read() {
        let text = br#"{"begin": 7, "total": 9, "spans": [
            {"who": "host", "name": "journal", "start": 1, "duration": 2, "number": null},
            {"who": "init", "name": "mask", "start": 3, "duration": 4, "number": 1}]}"#;
        let divided = Timeline::read(text).unwrap().divide([7, 14]);
        let wanted =
            [("host: between its steps", 1), ("host: journal", 2), (Part::Protection.name(), 4)];
        assert_eq!(divided, parts(&wanted));
        assert!(Timeline::read(b"{}").is_err());
    }
}
