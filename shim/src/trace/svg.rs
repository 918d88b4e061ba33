//! Draws a trace as a self-contained SVG file, which browsers and README pages can show.
//!
//! It has no background and no style sheet. Its colours are readable on white and on black.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{Span, Trace, WAIT, Who, cut, micros};

/// The width of the picture. All measures are in pixels.
const WIDTH: u64 = 1000;
/// The beginning and the end of the time axis. To its left are the descriptions, then the times.
const AXIS: [u64; 2] = [410, 984];
const TIMES: u64 = AXIS[0] - 10;
/// The top of the two lanes, which have all spans of the host and of the init.
const LANES: u64 = 48;
const LANE: u64 = 22;
/// The top of the rows, each of which has one span.
const ROWS: u64 = LANES + 2 * LANE + 28;
const ROW: u64 = 16;
/// The width of a character of the descriptions, which have a fixed-width font.
const CHARACTER: u64 = 7;

const TEXT: &str = "#768390";
const HOST: &str = "#4f8fdc";
const INIT: &str = "#e0823d";
const FAILED: &str = "#d8433f";

/// The picture of a trace.
pub(super) struct Picture<'a>(pub(super) &'a Trace);

/// A row: one span, or consecutive spans with the same name.
struct Row {
    who: Who,
    what: String,
    count: usize,
    bar: Bar,
}

/// The bar of a span or a row.
#[derive(Clone, Copy)]
struct Bar {
    start: Duration,
    end: Duration,
    /// The total duration of the spans, without the time between them.
    took: Duration,
    /// Whether the host waits for the init.
    waits: bool,
    failed: bool,
}

impl Bar {
    fn new(span: &Span) -> Self {
        Self {
            start: span.start,
            end: span.start + span.duration,
            took: span.duration,
            waits: span.name == WAIT,
            failed: span.failed,
        }
    }

    fn colour(self, who: Who) -> &'static str {
        match who {
            _ if self.failed => FAILED,
            Who::Host => HOST,
            Who::Init => INIT,
        }
    }
}

/// Returns the rows of the spans, in the order in which they begin.
fn rows(spans: &[Span]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut names = Vec::new();
    for span in spans {
        let bar = Bar::new(span);
        if let (Some(row), Some(name)) = (rows.last_mut(), names.last())
            && (row.who, *name) == (span.who, span.name)
            && !bar.failed
        {
            row.count += 1;
            row.bar.end = bar.end;
            row.bar.took += bar.took;
            row.what = format!("{} ({})", span.name, row.count);
            continue;
        }
        let longest = usize::try_from((TIMES - 60) / CHARACTER).unwrap_or(0);
        rows.push(Row {
            who: span.who,
            what: cut(span.name, &span.object, longest),
            count: 1,
            bar,
        });
        names.push(span.name);
    }
    rows
}

/// The time axis of a trace with this duration.
struct Axis(Duration);

impl Axis {
    /// Returns the length of a time on the axis.
    fn length(&self, time: Duration) -> Tenths {
        let whole = u128::from(AXIS[1] - AXIS[0]) * 10;
        let part = time.min(self.0).as_nanos() * whole / self.0.as_nanos().max(1);
        Tenths(u64::try_from(part).unwrap_or(0))
    }

    /// Returns the position of a time on the axis, from the left edge of the picture.
    fn position(&self, time: Duration) -> Tenths {
        Tenths(self.length(time).0 + AXIS[0] * 10)
    }

    /// Returns at most eight round times from the beginning on, in microseconds.
    fn ticks(&self) -> impl Iterator<Item = u64> {
        let total = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        let mut step = 1_u64;
        for factor in [2, 5, 10].into_iter().cycle() {
            if total / step < 8 {
                break;
            }
            // 1, 2, 5, 10, 20, 50 and so on.
            let power = if factor == 2 { step } else { step / if factor == 5 { 2 } else { 5 } };
            step = power.saturating_mul(factor);
        }
        (0..8).map(move |tick| tick * step).take_while(move |tick| *tick <= total)
    }
}

/// A length in tenths of a pixel, printed with one decimal.
#[derive(Clone, Copy)]
struct Tenths(u64);

impl Display for Tenths {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Escapes text for XML. Characters that XML cannot represent become question marks.
struct Xml<'a>(&'a str);

impl Display for Xml<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&apos;")?,
                '\u{fffe}' | '\u{ffff}' => f.write_str("?")?,
                c if c.is_control() => f.write_str("?")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

impl Display for Picture<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let trace = self.0;
        let (spans, axis) = (trace.spans(), Axis(trace.total()));
        let rows = rows(&spans);
        let bottom = ROWS + ROW * u64::try_from(rows.len()).unwrap_or(0) + 8;
        let mut title = format!("Start: {} us", micros(trace.total()));
        if let Some(mounts) = trace.mounts() {
            title = format!("{title}, strategy: {mounts}");
        }
        let title = cut(&title, "", 110);
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{bottom}\" \
             viewBox=\"0 0 {WIDTH} {bottom}\" role=\"img\" fill=\"{TEXT}\" font-size=\"11\" \
             font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\">\n\
             <title>{0}</title>\n\
             <text x=\"8\" y=\"18\" font-size=\"14\" font-weight=\"bold\">{0}</text>",
            Xml(&title)
        )?;
        if let Some(error) = trace.error() {
            let error = cut("failed:", error, 130);
            writeln!(f, "<text x=\"8\" y=\"36\" fill=\"{FAILED}\">{}</text>", Xml(&error))?;
        }
        write_axis(f, &axis, bottom)?;
        write_lanes(f, &axis, &spans)?;
        for (row, top) in rows.iter().zip((ROWS..).step_by(16)) {
            write_row(f, &axis, row, top)?;
        }
        f.write_str("</svg>\n")
    }
}

/// Writes the grid lines of the time axis and their labels.
fn write_axis(f: &mut Formatter<'_>, axis: &Axis, bottom: u64) -> fmt::Result {
    let labels = LANES + 2 * LANE + 16;
    for tick in axis.ticks() {
        let x = axis.position(Duration::from_micros(tick));
        writeln!(
            f,
            "<path d=\"M{x} {LANES}V{bottom}\" stroke=\"{TEXT}\" stroke-opacity=\"0.3\"/>\
             <text x=\"{x}\" y=\"{labels}\" text-anchor=\"middle\">{tick}</text>"
        )?;
    }
    writeln!(f, "<text x=\"{TIMES}\" y=\"{labels}\" text-anchor=\"end\">us</text>")
}

/// Writes a lane for the host and one for the init, with all their spans. A span has its name if
/// there is room for it.
fn write_lanes(f: &mut Formatter<'_>, axis: &Axis, spans: &[Span]) -> fmt::Result {
    for (who, top) in [(Who::Host, LANES), (Who::Init, LANES + LANE)] {
        let (text, colour) = (top + 14, if who == Who::Host { HOST } else { INIT });
        writeln!(
            f,
            "<text x=\"{TIMES}\" y=\"{text}\" text-anchor=\"end\" font-weight=\"bold\" \
             fill=\"{colour}\">{}</text>",
            who.name()
        )?;
        for span in spans.iter().filter(|span| span.who == who) {
            write_bar(f, axis, who, Bar::new(span), [top + 2, LANE - 4])?;
            let room = axis.length(span.duration).0 / 10 / CHARACTER;
            if u64::try_from(span.name.len()).is_ok_and(|length| length < room) {
                let middle = axis.position(span.start + span.duration / 2);
                writeln!(
                    f,
                    "<text x=\"{middle}\" y=\"{text}\" text-anchor=\"middle\" \
                     fill=\"{}\">{}</text>",
                    if span.name == WAIT { TEXT } else { "#fff" },
                    span.name
                )?;
            }
        }
    }
    Ok(())
}

/// Writes the description, the time and the bar of a row.
fn write_row(f: &mut Formatter<'_>, axis: &Axis, row: &Row, top: u64) -> fmt::Result {
    let text = top + 12;
    writeln!(
        f,
        "<text x=\"8\" y=\"{text}\">{}</text>\
         <text x=\"{TIMES}\" y=\"{text}\" text-anchor=\"end\">{}</text>",
        Xml(&row.what),
        micros(row.bar.took)
    )?;
    write_bar(f, axis, row.who, row.bar, [top + 3, ROW - 6])
}

fn write_bar(
    f: &mut Formatter<'_>,
    axis: &Axis,
    who: Who,
    bar: Bar,
    [top, height]: [u64; 2],
) -> fmt::Result {
    let x = axis.position(bar.start);
    // A bar is at least a pixel wide, so that it is visible.
    let width = Tenths((axis.position(bar.end).0 - x.0).max(10));
    let opacity = if bar.waits { " fill-opacity=\"0.25\"" } else { "" };
    writeln!(
        f,
        "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" \
         fill=\"{}\"{opacity}/>",
        bar.colour(who)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    fn ticks(micros: u64) -> Vec<u64> {
        Axis(Duration::from_micros(micros)).ticks().collect()
    }

    #[test]
    fn ticks_are_few_and_round() {
        assert_eq!(ticks(0), [0]);
        assert_eq!(ticks(7), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(ticks(8), [0, 2, 4, 6, 8]);
        assert_eq!(ticks(1089), [0, 200, 400, 600, 800, 1000]);
        assert_eq!(ticks(4000), [0, 1000, 2000, 3000, 4000]);
        assert_eq!(ticks(3999), [0, 500, 1000, 1500, 2000, 2500, 3000, 3500]);
        assert!((1..=8).contains(&ticks(u64::MAX / 2).len()));
    }

    #[test]
    fn times_are_at_these_positions_of_the_axis() {
        let axis = Axis(Duration::from_micros(1000));
        let position = |micros| axis.position(Duration::from_micros(micros)).to_string();
        assert_eq!(position(0), "410.0");
        assert_eq!(position(500), "697.0");
        assert_eq!(position(1000), "984.0");
        assert_eq!(position(u64::MAX), "984.0");
        assert_eq!(Axis(Duration::ZERO).position(Duration::ZERO).to_string(), "410.0");
    }

    #[test]
    fn the_picture_has_every_span_and_escapes_their_objects() {
        let svg = sample().svg().to_string();
        // Six in the lanes, and the same six in rows.
        assert_eq!(svg.matches("<rect ").count(), 12);
        assert!(
            svg.contains("<title>Start: 1000.0 us, strategy: host (asked for)</title>"),
            "{svg}"
        );
        let hostile = "read configuration /b &lt;&amp;\\u{1b}&quot;&apos;&gt;</text>";
        assert!(svg.contains(hostile), "{svg}");
        assert!(!svg.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn characters_that_xml_cannot_represent_become_question_marks() {
        assert_eq!(Xml("a\u{0}\u{ffff}\u{85}<ä>").to_string(), "a???&lt;ä&gt;");
    }

    #[test]
    fn consecutive_spans_of_one_name_share_a_row_unless_they_fail() {
        let span = |name, start: u64, failed| Span {
            who: Who::Init,
            name,
            object: "/x".into(),
            number: None,
            start: Duration::from_micros(start),
            duration: Duration::from_micros(5),
            failed,
        };
        let spans = [span("mask", 0, false), span("mask", 5, false), span("mask", 10, true)];
        let rows = rows(&spans);
        let shown: Vec<_> = rows.iter().map(|row| (row.what.as_str(), row.bar.took)).collect();
        assert_eq!(
            shown,
            [("mask (2)", Duration::from_micros(10)), ("mask /x", Duration::from_micros(5))]
        );
        assert_eq!(rows[0].bar.end, Duration::from_micros(10));
        assert_eq!(rows[1].bar.colour(Who::Init), FAILED);
    }

    #[test]
    fn the_picture_has_the_error() {
        let (result, trace) = super::super::record(|| Err::<(), _>("no <such> file"));
        assert!(result.is_err());
        let svg = trace.svg().to_string();
        assert!(svg.contains(">failed: no &lt;such&gt; file</text>"), "{svg}");
    }
}
