//! One start, step by step: SVG.

use std::fmt::Write as _;

use pidone_benches::experiment::ratio;
use pidone_benches::waterfall::Waterfall;

use crate::strip::{WIDTH, duration, escape, size};

const LEFT: f64 = 190.0;
const RIGHT: f64 = 760.0;
const LINE: f64 = 17.0;

/// The phases as the host sees them, and below the operations of the init, one behind the other.
pub(crate) fn svg(waterfall: &Waterfall) -> String {
    let Waterfall { phases, operations, starts } = waterfall;
    let sum: u64 = operations.iter().map(|(_, time)| time).sum();
    let lines = size(phases.len() + operations.len() + 2);
    let height = LINE * lines + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         width=\"{WIDTH}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut y = 8.0;
    heading(&mut svg, &mut y, &format!("the host, medians of {starts} starts"));
    let end = phases.last().map_or(1, |(_, time)| *time);
    let mut before = 0;
    for (name, time) in phases {
        let took = time.saturating_sub(before);
        bar(&mut svg, &mut y, "#0a8f5a", (name, before, took, end), *time);
        before = *time;
    }
    y += 10.0;
    heading(&mut svg, &mut y, &format!("the init's operations, together {}", duration(sum)));
    let mut before = 0;
    for (name, time) in operations {
        bar(&mut svg, &mut y, "#0b62c4", (name, before, *time, sum), *time);
        before += time;
    }
    svg.push_str("</svg>\n");
    svg
}

fn heading(svg: &mut String, y: &mut f64, text: &str) {
    *y += LINE;
    let _ = writeln!(
        svg,
        "<text x=\"10\" y=\"{:.1}\" font-weight=\"bold\" fill=\"#444\">{}</text>",
        *y - 4.0,
        escape(text)
    );
}

/// A bar from a beginning, of a length, on an axis up to an end; with a time beside it.
fn bar(
    svg: &mut String,
    y: &mut f64,
    colour: &str,
    (name, begin, length, end): (&str, u64, u64, u64),
    shown: u64,
) {
    let scale = |time: u64| ratio(time, end.max(1)) * (RIGHT - LEFT);
    let _ = writeln!(
        svg,
        "<text x=\"10\" y=\"{:.1}\" fill=\"#222\">{}</text>\
         <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\
         <text x=\"{}\" y=\"{:.1}\" fill=\"#222\" text-anchor=\"end\">{}</text>",
        *y + 12.5,
        escape(name),
        LEFT + scale(begin),
        *y + 3.0,
        scale(length).max(0.7),
        LINE - 6.0,
        WIDTH - 10.0,
        *y + 12.5,
        duration(shown),
    );
    *y += LINE;
}
