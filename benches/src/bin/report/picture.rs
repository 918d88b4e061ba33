//! The picture for the README.

use pidone_benches::contestant::{Contestant, Verb};
use pidone_benches::place::View;

use crate::Report;
use crate::strip::{self, Panel};
use crate::target::Wanted;

/// Draws starts, with few and many mounts and from a pool, and further processes in both ways.
pub(crate) fn picture(report: &Report) -> String {
    let panel = |title: &str, wanted: Wanted| {
        let rows = Contestant::ALL.into_iter().filter_map(|who| wanted.find(report, who));
        Panel::from_rows(title.to_owned(), rows)
    };
    let many = Wanted { most_mounts: true, ..Wanted::RUN };
    let mounts = many.find(report, Contestant::Library).map_or(0, |row| row.mounts);
    let exec = Wanted { verb: Verb::Exec, view: View::V2, ..Wanted::RUN };
    let pool = Wanted { verb: Verb::Pool, ..exec };
    let spawn = Wanted { verb: Verb::Spawn, ..exec };
    let panels = [
        panel("start a container, OCI default with a network namespace", Wanted::RUN),
        panel(&format!("the same on a host with {mounts} mounts"), many),
        panel("a start from a warm pool; the floor is a process of the host", pool),
        panel("a further process in a container that runs", exec),
        panel("the same by an init that stays; the floor is a process of the host", spawn),
    ];
    strip::svg(&panels, "Time to the program's first instruction, and × over the bare system calls")
}
