//! The page: one HTML file that contains everything.

use std::fmt::Write as _;

use pidone_benches::experiment::Row;
use pidone_benches::waterfall::Waterfall;

use crate::strip::{self, Panel, duration, escape};
use crate::{Report, picture};

const STYLE: &str = "body{font-family:sans-serif;font-size:15px;color:#222;background:#fff;\
    max-width:900px;margin:2em auto;padding:0 1em}\
    table{border-collapse:collapse;margin:1em 0;width:100%}\
    th,td{border-bottom:1px solid #ddd;padding:4px 8px;text-align:left;vertical-align:top}\
    td.n,th.n{text-align:right;white-space:nowrap}\
    .met{color:#0a7a3f;font-weight:bold}.not{color:#b3261e;font-weight:bold}\
    svg{max-width:100%;height:auto}small{color:#666}";

/// Returns the page.
pub(crate) fn page(report: &Report) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>How fast pidone starts containers</title>\n<style>{STYLE}</style></head><body>\n\
         <h1>How fast pidone starts containers</h1>\n<p>{}.<br>{}.</p>\n",
        escape(&report.host.to_string()),
        escape(&report.host.peers.join("; "))
    );
    if report.quick {
        html.push_str(
            "<p class=\"not\">A quick run, to check that it works. \
             The figures are meaningless.</p>\n",
        );
    }
    html.push_str(
        "<p>The floor is a program that makes exactly the system calls that a start needs, with \
         arguments known beforehand. All contestants take turns in one run, so that a disturbance \
         of the machine affects all of them alike. Targets are for ratios, not for times. The \
         program that is started has no libc and reports when its first instruction ran.</p>\n\
         <h2>Targets</h2>\n",
    );
    targets(&mut html, report);
    html.push_str("<h2>Overview</h2>\n");
    html.push_str(&picture::picture(report));
    html.push_str(
        "<p><small>Thin line: percentiles 1 to 99. Bars: 10 to 90, and 25 to 75. Mark: the \
         median.</small></p>\n<h2>Memory</h2>\n",
    );
    memory(&mut html, report);
    if let Some(waterfall) = &report.waterfall {
        html.push_str("<h2>One start of the library</h2>\n");
        steps(&mut html, waterfall);
    }
    html.push_str("<h2>All experiments</h2>\n");
    for rows in report.rows.chunk_by(same_situation) {
        situation(&mut html, rows);
    }
    if !report.skipped.is_empty() {
        html.push_str("<h2>Who did not take part</h2>\n<ul>\n");
        for skipped in &report.skipped {
            let _ = writeln!(html, "<li>{}</li>", escape(skipped));
        }
        html.push_str("</ul>\n");
    }
    html.push_str("</body></html>\n");
    html
}

/// Appends the table of targets.
fn targets(html: &mut String, report: &Report) {
    html.push_str(
        "<table><tr><th>what</th><th class=\"n\">target</th><th class=\"n\">figure</th>\
         <th></th><th>also</th><th>in the way</th></tr>\n",
    );
    for target in &report.targets {
        let class = if target.met { "met" } else { "not" };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"{class}\">{}</td><td>{}</td><td><small>{}</small></td></tr>",
            escape(&target.what),
            target.bound,
            target.shown(),
            target.verdict(),
            escape(&target.note),
            escape(&target.in_the_way())
        );
    }
    html.push_str(
        "</table>\n<p><small>In the way: where the time goes, by a profile. The first number is \
         the share of a part in the whole; the second one, if there is a floor, its share in the \
         excess over the floor.</small></p>\n",
    );
}

/// Appends the table of waiting containers.
fn memory(html: &mut String, report: &Report) {
    html.push_str(
        "<p>The first process of a created container that waits for its start.</p>\n\
         <table><tr><th></th><th>cgroup</th><th class=\"n\">resident</th>\
         <th class=\"n\">proportional</th><th class=\"n\">threads</th>\
         <th class=\"n\">descriptors</th></tr>\n",
    );
    for waiting in &report.memory {
        let memory = waiting.memory;
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{} KB</td><td class=\"n\">{} KB</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            waiting.contestant,
            waiting.view,
            memory.resident / 1024,
            memory.proportional / 1024,
            memory.threads,
            memory.descriptors
        );
    }
    html.push_str("</table>\n");
}

/// Appends the phases of a start, and a picture of one.
fn steps(html: &mut String, waterfall: &Waterfall) {
    let phases: Vec<_> = waterfall
        .phases
        .iter()
        .map(|(name, time)| format!("{} {}", escape(name), duration(*time)))
        .collect();
    let _ = writeln!(
        html,
        "<p>Medians of {} starts: {}. Below, the recorded start with the median duration; \
         recording costs a little time itself.</p>",
        waterfall.starts,
        phases.join(", ")
    );
    html.push_str(&waterfall.picture);
}

/// Whether two rows are of the same experiment and number of mounts.
fn same_situation(one: &Row, other: &Row) -> bool {
    (one.verb, one.scenario, one.view, one.mounts, one.workers, one.pause)
        == (other.verb, other.scenario, other.view, other.mounts, other.workers, other.pause)
}

/// Appends the figures of one situation.
fn situation(html: &mut String, rows: &[Row]) {
    let Some(row) = rows.first() else { return };
    let mut title =
        format!("{}, {}, cgroup {}, {} mounts", row.verb, row.scenario, row.view, row.mounts);
    if row.workers > 1 {
        let _ = write!(title, ", {} at a time", row.workers);
    }
    if row.pause > 0 {
        let _ = write!(title, ", {} ms apart", row.pause);
    }
    let _ = writeln!(
        html,
        "<h3>{title}</h3>\n<p><small>{} starts each. First: up to the first instruction. Whole: \
         up to the removal of the container. Processor time and page faults are per \
         start.</small></p>",
        row.starts
    );
    html.push_str(&strip::svg(&[Panel::from_rows(String::new(), rows.iter())], ""));
    html.push_str(
        "<table><tr><th></th><th class=\"n\">first p50</th><th class=\"n\">p90</th>\
         <th class=\"n\">p99</th><th class=\"n\">× floor</th><th class=\"n\">whole p50</th>\
         <th class=\"n\">p90</th><th class=\"n\">p99</th><th class=\"n\">× floor</th>\
         <th class=\"n\">cpu</th><th class=\"n\">faults</th><th class=\"n\">per s</th></tr>\n",
    );
    let over = |over: f64| if over == 0.0 { "–".to_owned() } else { format!("{over:.2}") };
    for row in rows {
        let _ = write!(html, "<tr><td>{}</td>", row.contestant);
        for (times, over_floor) in
            [(&row.first, row.first_over_floor), (&row.whole, row.whole_over_floor)]
        {
            let cells = [times.p50, times.p90, times.p99].map(duration);
            for cell in cells.into_iter().chain([over(over_floor)]) {
                let _ = write!(html, "<td class=\"n\">{cell}</td>");
            }
        }
        let _ = writeln!(
            html,
            "<td class=\"n\">{}</td><td class=\"n\">{:.0}</td><td class=\"n\">{:.0}</td></tr>",
            duration(row.cpu),
            row.faults,
            row.rate
        );
    }
    html.push_str("</table>\n");
}
