//! Distributions as strips on a logarithmic axis, as SVG.

use std::fmt::Write as _;

use pidone_benches::contestant::Contestant;
use pidone_benches::experiment::{Row, Times};
use pidone_benches::figures::ratio;

/// The width of all pictures. A README shows them somewhat smaller.
pub(crate) const WIDTH: f64 = 860.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 710.0;
const LINE: f64 = 24.0;
const TITLE: f64 = 34.0;
const AXIS: f64 = 34.0;

/// Strips under a title.
pub(crate) struct Panel<'a> {
    pub(crate) title: String,
    /// Contestants, distributions, and the text after the median.
    pub(crate) lines: Vec<(Contestant, &'a Times, String)>,
}

impl<'a> Panel<'a> {
    /// Makes a panel of the times to the first instruction.
    pub(crate) fn from_rows(title: String, rows: impl Iterator<Item = &'a Row>) -> Self {
        let lines = rows.map(|row| {
            let over = match row.first_over_floor {
                0.0 => String::new(),
                over => format!("{over:.2} ×"),
            };
            (row.contestant, &row.first, over)
        });
        Self { title, lines: lines.collect() }
    }
}

impl Panel<'_> {
    fn title_height(&self) -> f64 {
        if self.title.is_empty() { 8.0 } else { TITLE }
    }
}

/// Draws panels with a common axis.
pub(crate) fn svg(panels: &[Panel<'_>], heading: &str) -> String {
    let lines: usize = panels.iter().map(|panel| panel.lines.len()).sum();
    let heading_height = if heading.is_empty() { 0.0 } else { 40.0 };
    let height = heading_height
        + AXIS
        + panels.iter().map(Panel::title_height).sum::<f64>()
        + LINE * size(lines)
        + 12.0;
    let axis = Axis::for_panels(panels);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         width=\"{WIDTH}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    if !heading.is_empty() {
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"26\" font-size=\"15\" font-weight=\"bold\" fill=\"#222\">{}</text>",
            escape(heading)
        );
    }
    axis.draw(&mut svg, heading_height + 6.0, height - AXIS);
    let mut y = heading_height;
    for panel in panels {
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{:.0}\" font-weight=\"bold\" fill=\"#444\">{}</text>",
            y + 24.0,
            escape(&panel.title)
        );
        y += panel.title_height();
        for (contestant, times, over) in &panel.lines {
            line(&mut svg, &axis, y + LINE / 2.0, (*contestant, times, over));
            y += LINE;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Draws a strip: percentiles 1 to 99, thicker from 10 to 90 and from 25 to 75, and the median.
fn line(svg: &mut String, axis: &Axis, y: f64, (who, times, over): (Contestant, &Times, &str)) {
    let colour = colour(who);
    let at = |percent: usize| axis.at(times.percentiles.get(percent).copied().unwrap_or(0));
    for (from, to, height, opacity) in
        [(1, 99, 2.0, 0.5), (10, 90, 6.0, 0.45), (25, 75, 12.0, 0.55)]
    {
        let (from, to) = (at(from), at(to));
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height}\" \
             fill=\"{colour}\" opacity=\"{opacity}\"/>",
            y - height / 2.0,
            (to - from).max(1.0),
        );
    }
    let _ = writeln!(
        svg,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"3\" height=\"16\" fill=\"{colour}\"/>\n\
         <text x=\"10\" y=\"{:.1}\" fill=\"#222\">{who}</text>\n\
         <text x=\"{:.0}\" y=\"{:.1}\" fill=\"#222\" text-anchor=\"end\">{}</text>\n\
         <text x=\"{:.0}\" y=\"{:.1}\" fill=\"#666\" text-anchor=\"end\">{}</text>",
        at(50) - 1.5,
        y - 8.0,
        y + 4.5,
        RIGHT + 75.0,
        y + 4.5,
        duration(times.p50),
        WIDTH - 10.0,
        y + 4.5,
        escape(over),
    );
}

/// A logarithmic axis.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    /// Returns an axis from the least 1st percentile to the greatest 99th.
    fn for_panels(panels: &[Panel<'_>]) -> Self {
        let all = || panels.iter().flat_map(|panel| &panel.lines);
        let percent = |percent: usize| {
            all().filter_map(move |(_, times, _)| times.percentiles.get(percent).copied())
        };
        let from = percent(1).min().unwrap_or(0).max(1000);
        let to = percent(99).max().unwrap_or(0).max(2 * from);
        Self { from: ratio(from, 1).ln(), to: ratio(to, 1).ln() }
    }

    /// Returns the x coordinate of a time.
    fn at(&self, nanoseconds: u64) -> f64 {
        let part = (ratio(nanoseconds.max(1), 1).ln() - self.from) / (self.to - self.from);
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// Draws lines at 1, 2 and 5 times the powers of ten, with labels where there is room, powers
    /// of ten first.
    fn draw(&self, svg: &mut String, top: f64, bottom: f64) {
        let mut named: Vec<f64> = Vec::new();
        for step in [1, 5, 2] {
            for tick in (3..11).map(|power| step * 10_u64.pow(power)) {
                if !(self.from..=self.to).contains(&ratio(tick, 1).ln()) {
                    continue;
                }
                let x = self.at(tick);
                let _ = writeln!(
                    svg,
                    "<line x1=\"{x:.1}\" y1=\"{top:.0}\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" \
                     stroke=\"#e4e4e4\"/>"
                );
                if named.iter().all(|other| (x - other).abs() > 58.0) {
                    let y = bottom + 18.0;
                    let _ = writeln!(
                        svg,
                        "<text x=\"{x:.1}\" y=\"{y:.0}\" fill=\"#666\" \
                         text-anchor=\"middle\">{}</text>",
                        round(tick)
                    );
                    named.push(x);
                }
            }
        }
    }
}

fn colour(contestant: Contestant) -> &'static str {
    match contestant {
        Contestant::Floor => "#777777",
        Contestant::Library => "#0b62c4",
        Contestant::Host => "#6aa3e0",
        Contestant::Pidone => "#0a8f5a",
        Contestant::Crun => "#d9822b",
        Contestant::Runc => "#c23030",
        Contestant::Bwrap | Contestant::Unshare => "#9b7653",
    }
}

/// Formats a time with three digits.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let microseconds = ratio(nanoseconds, 1000);
    if microseconds < 99.95 {
        format!("{microseconds:.1} µs")
    } else if microseconds < 999.5 {
        format!("{microseconds:.0} µs")
    } else if microseconds < 9995.0 {
        format!("{:.2} ms", microseconds / 1000.0)
    } else {
        format!("{:.1} ms", microseconds / 1000.0)
    }
}

/// Formats a round time.
fn round(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000_000 => format!("{} µs", nanoseconds / 1000),
        1_000_000..1_000_000_000 => format!("{} ms", nanoseconds / 1_000_000),
        _ => format!("{} s", nanoseconds / 1_000_000_000),
    }
}

/// Escapes text for XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Converts a small count.
#[expect(clippy::cast_precision_loss, reason = "a few")]
pub(crate) fn size(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let shown = [940, 43_210, 99_960, 262_400, 999_600, 4_266_000, 9_996_000, 23_439_000];
        let shown: Vec<_> = shown.into_iter().map(duration).collect();
        let wanted =
            ["0.9 µs", "43.2 µs", "100 µs", "262 µs", "1.00 ms", "4.27 ms", "10.0 ms", "23.4 ms"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }

    #[test]
    fn axis_is_logarithmic_and_clamped() {
        let axis = Axis { from: 1000_f64.ln(), to: 100_000_f64.ln() };
        let middle = axis.at(10_000);
        assert!((middle - f64::midpoint(LEFT, RIGHT)).abs() < 0.01, "{middle}");
        assert!((axis.at(0) - LEFT).abs() < 0.01);
        assert!((axis.at(1_000_000) - RIGHT).abs() < 0.01);
    }
}
