//! What holds for every recording of a start.

use std::time::Duration;

use pidone::trace::{Span, Trace, Who};

/// Checks what holds for every trace. Returns the spans of the host and of the init.
///
/// # Panics
/// A span begins before the one before it ends, or ends after the trace.
#[must_use]
pub fn check(trace: &Trace) -> [Vec<Span>; 2] {
    let spans = trace.spans();
    for who in [Who::Host, Who::Init] {
        let mut last = Duration::ZERO;
        for span in spans.iter().filter(|span| span.who == who) {
            assert!(last <= span.start, "{trace}");
            last = span.start + span.duration;
            assert!(last <= trace.total(), "{trace}");
        }
    }
    let (init, host) = spans.into_iter().partition(|span: &Span| span.who == Who::Init);
    [host, init]
}

/// Checks that every operation up to the last of the plan has a span, in its order.
///
/// # Panics
/// One is missing.
pub fn check_operations(init: &[Span], last: &str, trace: &Trace) {
    assert_eq!(init[0].name, "receive the plan", "{trace}");
    let numbers: Vec<_> = init[1..].iter().map(|span| span.number).collect();
    let expected: Vec<_> = (1..).take(numbers.len()).map(Some).collect();
    assert_eq!(numbers, expected, "{trace}");
    assert_eq!(init.last().map(|span| span.name), Some(last), "{trace}");
}
