//! A trace as a picture, a file by itself that browsers and README pages show.
//!
//! It has no background and no style sheet: its colours can be read on white and on black.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{Span, Trace, WAIT, Who, cut, micros};

/// The width of the picture; all measures are pixels.
const WIDTH: u64 = 1000;
/// Where the time axis begins and ends. Descriptions stand left of it, and the times right of them.
const AXIS: [u64; 2] = [410, 984];
const TIMES: u64 = AXIS[0] - 10;
/// The top of the two lanes in which all spans of the host and of the init stand.
const LANES: u64 = 48;
const LANE: u64 = 22;
/// The top of the rows, each of one span.
const ROWS: u64 = LANES + 2 * LANE + 28;
const ROW: u64 = 16;
/// The width of a character of the descriptions, which stand in a fixed pitch.
const CHARACTER: u64 = 7;

const TEXT: &str = "#768390";
const HOST: &str = "#4f8fdc";
const INIT: &str = "#e0823d";
const FAILED: &str = "#d8433f";

/// The picture of a trace.
pub(super) struct Picture<'a>(pub(super) &'a Trace);

/// Spans of one kind, one behind the other: they share a row.
struct Row {
    who: Who,
    what: String,
    count: usize,
    bar: Bar,
}

/// Where something stands on the axis.
#[derive(Clone, Copy)]
struct Bar {
    start: Duration,
    end: Duration,
    took: Duration,
    waits: bool,
    failed: bool,
}

impl Bar {
    fn of(span: &Span) -> Self {
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

/// Puts the spans in rows, as they begin.
fn rows(spans: &[Span]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut names = Vec::new();
    for span in spans {
        let bar = Bar::of(span);
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

/// The axis of a time: where each moment stands.
struct Axis(Duration);

impl Axis {
    /// A length on it, in tenths of a pixel.
    fn length(&self, time: Duration) -> Tenths {
        let whole = u128::from(AXIS[1] - AXIS[0]) * 10;
        let part = time.min(self.0).as_nanos() * whole / self.0.as_nanos().max(1);
        Tenths(u64::try_from(part).unwrap_or(0))
    }

    fn place(&self, time: Duration) -> Tenths {
        Tenths(self.length(time).0 + AXIS[0] * 10)
    }

    /// Round times from the beginning on, in microseconds: at most eight of them.
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

/// A number with one digit behind the point.
#[derive(Clone, Copy)]
struct Tenths(u64);

impl Display for Tenths {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Text of XML. Of a character that XML has no way to say, there is a question mark.
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

fn write_axis(f: &mut Formatter<'_>, axis: &Axis, bottom: u64) -> fmt::Result {
    let labels = LANES + 2 * LANE + 16;
    for tick in axis.ticks() {
        let x = axis.place(Duration::from_micros(tick));
        writeln!(
            f,
            "<path d=\"M{x} {LANES}V{bottom}\" stroke=\"{TEXT}\" stroke-opacity=\"0.3\"/>\
             <text x=\"{x}\" y=\"{labels}\" text-anchor=\"middle\">{tick}</text>"
        )?;
    }
    writeln!(f, "<text x=\"{TIMES}\" y=\"{labels}\" text-anchor=\"end\">us</text>")
}

/// All spans of each side, with its name where there is room for it.
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
            write_bar(f, axis, who, Bar::of(span), [top + 2, LANE - 4])?;
            let room = axis.length(span.duration).0 / 10 / CHARACTER;
            if u64::try_from(span.name.len()).is_ok_and(|length| length < room) {
                let middle = axis.place(span.start + span.duration / 2);
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
    let x = axis.place(bar.start);
    // What took next to no time is seen too.
    let width = Tenths((axis.place(bar.end).0 - x.0).max(10));
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
    fn bars_stand_on_the_axis() {
        let axis = Axis(Duration::from_micros(1000));
        let place = |micros| axis.place(Duration::from_micros(micros)).to_string();
        assert_eq!(place(0), "410.0");
        assert_eq!(place(500), "697.0");
        assert_eq!(place(1000), "984.0");
        assert_eq!(place(u64::MAX), "984.0");
        assert_eq!(Axis(Duration::ZERO).place(Duration::ZERO).to_string(), "410.0");
    }

    #[test]
    fn the_picture_has_every_span_and_no_markup_of_others() {
        let svg = sample().svg().to_string();
        // Six in the lanes, and as many in rows of their own.
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
    fn text_has_only_what_xml_can_say() {
        assert_eq!(Xml("a\u{0}\u{ffff}\u{85}<ä>").to_string(), "a???&lt;ä&gt;");
    }

    #[test]
    fn equal_steps_share_a_row() {
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
        let told: Vec<_> = rows.iter().map(|row| (row.what.as_str(), row.bar.took)).collect();
        assert_eq!(
            told,
            [("mask (2)", Duration::from_micros(10)), ("mask /x", Duration::from_micros(5))]
        );
        assert_eq!(rows[0].bar.end, Duration::from_micros(10));
        assert_eq!(rows[1].bar.colour(Who::Init), FAILED);
    }

    #[test]
    fn a_failure_is_told() {
        let (result, trace) = super::super::record(|| Err::<(), _>("no <such> file"));
        assert!(result.is_err());
        let svg = trace.svg().to_string();
        assert!(svg.contains(">failed: no &lt;such&gt; file</text>"), "{svg}");
    }
}
