//! The tables of the README.

use std::fmt::Write as _;

use pidone_benches::contestant::{Contestant, Verb};
use pidone_benches::place::View;

use crate::Report;
use crate::strip::duration;
use crate::target::Wanted;

/// The contestants in the table, with their names.
const CONTESTANTS: [(Contestant, &str); 7] = [
    (Contestant::Floor, "the bare system calls (floor)"),
    (Contestant::Library, "**pidone, the library**"),
    (Contestant::Pidone, "**`pidone`, the program**"),
    (Contestant::Crun, "`crun`"),
    (Contestant::Runc, "`runc`"),
    (Contestant::Bwrap, "`bwrap`, without cgroup and filter"),
    (Contestant::Unshare, "`unshare`, without even more"),
];

/// Returns the tables: medians to the first instruction, starts per second, memory; and targets.
pub(crate) fn table(report: &Report) -> String {
    let run = Wanted::RUN;
    let many = Wanted { most_mounts: true, ..run };
    let exec = Wanted { verb: Verb::Exec, ..run };
    let pool = Wanted { verb: Verb::Pool, ..run };
    let spawn = Wanted { verb: Verb::Spawn, ..run };
    let workers = report.host.processors;
    let all = Wanted { workers, ..run };
    let mounts = many.find(report, Contestant::Library).map_or(0, |row| row.mounts);
    let mut text = format!(
        "| | start | × floor | with {mounts} host mounts | from a pool | exec | \
         exec, supervised | starts/s, {workers} workers | waiting |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for (who, name) in CONTESTANTS {
        let Some(row) = run.find(report, who) else { continue };
        let median = |wanted: Wanted| {
            wanted.find(report, who).map_or_else(String::new, |row| duration(row.first.p50))
        };
        let rate = all.find(report, who).map_or_else(String::new, |row| format!("{:.0}", row.rate));
        let waiting = |view| {
            let mut all = report.memory.iter();
            all.find(|waiting| waiting.contestant == who && waiting.view == view)
        };
        let waiting = waiting(View::V2).or_else(|| waiting(View::V1));
        let memory = waiting
            .map_or_else(String::new, |waiting| format!("{} KB", waiting.memory.resident / 1024));
        let _ = writeln!(
            text,
            "| {name} | {} | {:.2} | {} | {} | {} | {} | {rate} | {memory} |",
            duration(row.first.p50),
            row.first_over_floor,
            median(many),
            median(pool),
            median(exec),
            // The others do the same as for exec.
            if matches!(who, Contestant::Floor | Contestant::Library) {
                median(spawn)
            } else {
                String::new()
            },
        );
    }
    let _ = writeln!(
        text,
        "\n{}. Medians of {} interleaved starts, back to back, cgroup v2. {}.",
        report.host,
        run.find(report, Contestant::Library).map_or(0, |row| row.starts),
        report.host.peers.join("; ")
    );
    targets(&mut text, report);
    text
}

/// Appends the table of targets, and where the time goes for those that are not met.
fn targets(text: &mut String, report: &Report) {
    text.push_str("\n| target | bound | figure | | in the way |\n|---|---:|---:|---|---|\n");
    for target in &report.targets {
        let (bound, shown, verdict) = (target.bound, target.shown(), target.verdict());
        let in_the_way = target.in_the_way();
        let _ =
            writeln!(text, "| {} | {bound} | {shown} | {verdict} | {in_the_way} |", target.what);
    }
}
