//! The targets, and whether they are met. They are for ratios within one run, never for times.

use std::fmt::{self, Write as _};

use pidone_benches::contestant::{Contestant, Verb};
use pidone_benches::experiment::Row;
use pidone_benches::figures::ratio;
use pidone_benches::place::View;
use pidone_benches::profile::Profile;
use pidone_benches::scenario::Scenario;
use serde::Serialize;

use crate::Report;

/// A target.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    /// What the figure is.
    pub(crate) what: String,
    /// The bound for the figure.
    pub(crate) bound: Bound,
    /// The figure; `None` if it could not be measured.
    pub(crate) figure: Option<f64>,
    /// Whether the figure is within the bound.
    pub(crate) met: bool,
    /// Related figures.
    pub(crate) note: String,
    /// What to profile if the target is not met.
    #[serde(skip)]
    pub(crate) subject: Option<Subject>,
    /// The profile, if the target is not met.
    pub(crate) profile: Option<Profile>,
}

/// What to profile to find out why a target is not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) contestant: Contestant,
    pub(crate) verb: Verb,
    pub(crate) view: View,
    pub(crate) mounts: usize,
    /// The number of mounts of a profile to compare with; `None` for the floor.
    pub(crate) base: Option<usize>,
}

/// The bound of a target.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// In units of 1024 bytes.
    KilobytesAtMost(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "≤ {bound:.2}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound:.2}"),
            Self::KilobytesAtMost(bound) => write!(f, "≤ {bound:.0} KB"),
        }
    }
}

impl Target {
    /// Compares a figure with its bound.
    fn new(what: &str, bound: Bound, figure: Option<f64>, note: String) -> Self {
        let met = figure.is_some_and(|figure| match bound {
            Bound::AtMost(most) | Bound::KilobytesAtMost(most) => figure <= most,
            Bound::AtLeast(least) => figure >= least,
        });
        Self { what: what.to_owned(), bound, figure, met, note, subject: None, profile: None }
    }

    /// Sets what to profile if the target is not met.
    fn about(mut self, report: &Report, contestant: Contestant, wanted: Wanted) -> Self {
        let mounts = |wanted: Wanted| Some(wanted.find(report, contestant)?.mounts);
        let Wanted { verb, view, most_mounts, .. } = wanted;
        let base = if most_mounts { mounts(Wanted { most_mounts: false, ..wanted }) } else { None };
        self.subject =
            mounts(wanted).map(|mounts| Subject { contestant, verb, view, mounts, base });
        self
    }

    /// Returns the profile in words; empty if there is none.
    pub(crate) fn in_the_way(&self) -> String {
        self.profile.as_ref().map_or(String::new(), Profile::words)
    }

    /// Returns the figure as text.
    pub(crate) fn shown(&self) -> String {
        match (self.figure, self.bound) {
            (None, _) => "not measured".to_owned(),
            (Some(figure), Bound::KilobytesAtMost(_)) => format!("{figure:.1} KB"),
            (Some(figure), _) => format!("{figure:.2}"),
        }
    }

    /// Returns whether the target is met, as text.
    pub(crate) fn verdict(&self) -> &'static str {
        match (self.figure, self.met) {
            (None, _) => "–",
            (_, true) => "met",
            (_, false) => "not met",
        }
    }
}

/// Selects a row among those of a report. What is not a field is as in the plain situation.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) verb: Verb,
    pub(crate) view: View,
    /// Whether to take the row with the most mounts, and not the fewest.
    pub(crate) most_mounts: bool,
    pub(crate) workers: usize,
}

impl Wanted {
    pub(crate) const RUN: Self =
        Self { verb: Verb::Run, view: View::V2, most_mounts: false, workers: 1 };

    /// Returns the row of a contestant.
    pub(crate) fn find(self, report: &Report, contestant: Contestant) -> Option<&Row> {
        let same = |row: &&Row| {
            row.contestant == contestant
                && row.verb == self.verb
                && row.view == self.view
                && row.workers == self.workers
                && row.scenario == Scenario::OciNet
                && row.pause == 0
        };
        let rows = report.rows.iter().filter(same);
        if self.most_mounts {
            rows.max_by_key(|row| row.mounts)
        } else {
            rows.min_by_key(|row| row.mounts)
        }
    }

    /// Returns the ratio of a figure of one contestant to that of another.
    fn ratio(
        self,
        report: &Report,
        [one, other]: [Contestant; 2],
        figure: fn(&Row) -> f64,
    ) -> Option<f64> {
        Some(figure(self.find(report, one)?) / figure(self.find(report, other)?))
            .filter(|figure| figure.is_finite())
    }
}

const KILOBYTE: u64 = 1024;

/// Returns all targets with their figures.
pub(crate) fn all(report: &Report) -> Vec<Target> {
    use Contestant::{Crun, Floor, Library, Pidone};
    let first: fn(&Row) -> f64 = |row| ratio(row.first.p50, 1);
    let whole: fn(&Row) -> f64 = |row| ratio(row.whole.p50, 1);
    let cpu: fn(&Row) -> f64 = |row| ratio(row.cpu, 1);
    let rate: fn(&Row) -> f64 = |row| row.rate;
    let note = |name: &str, figure: Option<f64>| {
        figure.map_or(String::new(), |figure| format!("{name} {figure:.2}"))
    };

    let run = Wanted::RUN;
    let over_floor = |figure| run.ratio(report, [Library, Floor], figure);
    let mut targets = vec![
        Target::new(
            "library cold start, OCI default with a network namespace, over the floor",
            Bound::AtMost(1.2),
            over_floor(first),
            note("until removed", over_floor(whole)) + &note(", processor time", over_floor(cpu)),
        )
        .about(report, Library, run),
    ];

    let many = Wanted { most_mounts: true, ..run };
    let most = many.find(report, Library);
    targets.push(
        Target::new(
            &format!("the same with {} host mounts, over itself with the fewest", mounts(most)),
            Bound::AtMost(1.2),
            most.map(|row| row.first_over_fewest_mounts),
            note("crun", many.find(report, Crun).map(|row| row.first_over_fewest_mounts)),
        )
        .about(report, Library, many),
    );

    // crun supports all controllers on cgroup v1. If the host has no cgroup v1, v2 is used.
    let view = if (Wanted { view: View::V1, ..run }).find(report, Crun).is_some() {
        View::V1
    } else {
        View::V2
    };
    for (verb, name) in [(Verb::Run, "run"), (Verb::Exec, "exec")] {
        let here = Wanted { verb, view, ..run };
        let other = Wanted { verb, view: View::V2, ..run };
        let pair = [Pidone, Crun];
        for (kind, figure) in [("wall clock", whole), ("processor time", cpu)] {
            let on_v2 = note("on cgroup v2", other.ratio(report, pair, figure));
            targets.push(
                Target::new(
                    &format!(
                        "pidone {name}, whole process, over crun {name}: {kind}, cgroup {view}"
                    ),
                    Bound::AtMost(0.3),
                    here.ratio(report, pair, figure),
                    on_v2,
                )
                .about(report, Pidone, here),
            );
        }
    }

    let spawn = Wanted { verb: Verb::Spawn, ..run };
    targets.push(
        Target::new(
            "spawn in supervise mode, over vfork and exec of the same program on the host",
            Bound::AtMost(1.5),
            spawn.ratio(report, [Library, Floor], first),
            note("until reaped", spawn.ratio(report, [Library, Floor], whole))
                + &note(", crun exec", spawn.ratio(report, [Crun, Floor], first)),
        )
        .about(report, Library, spawn),
    );

    let pool = Wanted { verb: Verb::Pool, ..run };
    targets.push(
        Target::new(
            "start from a warm pool, rootfs known, over vfork and exec on the host",
            Bound::AtMost(1.5),
            pool.ratio(report, [Library, Floor], first),
            note("until reaped", pool.ratio(report, [Library, Floor], whole)),
        )
        .about(report, Library, pool),
    );

    let workers = report.host.processors;
    let all = Wanted { workers, view, ..run };
    targets.push(
        Target::new(
            &format!("throughput of the library at {workers} workers, over crun, cgroup {view}"),
            Bound::AtLeast(3.0),
            all.ratio(report, [Library, Crun], rate),
            note(
                "on cgroup v2",
                Wanted { view: View::V2, ..all }.ratio(report, [Library, Crun], rate),
            ),
        )
        .about(report, Library, all),
    );

    targets.push(Target::new(
        "image of the init",
        Bound::KilobytesAtMost(32.0),
        u64::try_from(report.image).ok().map(|size| ratio(size, KILOBYTE)),
        String::new(),
    ));
    let resident = |contestant| {
        let waiting = report.memory.iter().find(|waiting| waiting.contestant == contestant);
        waiting.map(|waiting| ratio(waiting.memory.resident, KILOBYTE))
    };
    targets.push(Target::new(
        "resident while a created container waits",
        Bound::KilobytesAtMost(64.0),
        resident(Library),
        resident(Crun).map_or(String::new(), |crun| format!("crun {crun:.0} KB")),
    ));
    targets
}

/// Returns the number of mounts of a row as text.
fn mounts(row: Option<&Row>) -> String {
    row.map_or("many".to_owned(), |row| row.mounts.to_string())
}

/// Returns the targets as lines of text.
pub(crate) fn text(targets: &[Target]) -> String {
    let mut text = String::new();
    for target in targets {
        let (bound, shown) = (target.bound.to_string(), target.shown());
        let _ = writeln!(text, "{bound:>10} {shown:>14} {:8} {}", target.verdict(), target.what);
        let in_the_way = target.in_the_way();
        if !in_the_way.is_empty() {
            let _ = writeln!(text, "{:35}{in_the_way}", "");
        }
    }
    text
}
