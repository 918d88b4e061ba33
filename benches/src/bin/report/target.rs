//! The targets, and whether they are met. Ratios of one run are judged, never times.

use std::fmt::{self, Write as _};

use pidone_benches::contestant::{Contestant, Verb};
use pidone_benches::experiment::Row;
use pidone_benches::figures::ratio;
use pidone_benches::place::View;
use pidone_benches::profile::Profile;
use pidone_benches::scenario::Scenario;
use serde::Serialize;

use crate::Report;

/// One target.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    /// The figure; `None` if what it is made of could not be measured.
    pub(crate) figure: Option<f64>,
    pub(crate) met: bool,
    /// Whatever a reader might ask next.
    pub(crate) note: String,
    /// Whose time a figure that falls short is made of.
    #[serde(skip)]
    pub(crate) subject: Option<Subject>,
    /// What that time goes to: measured where the target is not met.
    pub(crate) profile: Option<Profile>,
}

/// What is looked at to learn what is in the way of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) contestant: Contestant,
    pub(crate) verb: Verb,
    pub(crate) view: View,
    pub(crate) mounts: usize,
    /// The number of mounts with which the same is compared; else the floor, where it has parts.
    pub(crate) base: Option<usize>,
}

/// What a figure is held against.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Kilobytes of 1024 bytes.
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
    fn new(what: &str, bound: Bound, figure: Option<f64>, note: String) -> Self {
        let met = figure.is_some_and(|figure| match bound {
            Bound::AtMost(most) | Bound::KilobytesAtMost(most) => figure <= most,
            Bound::AtLeast(least) => figure >= least,
        });
        Self { what: what.to_owned(), bound, figure, met, note, subject: None, profile: None }
    }

    /// Says whose time it is about.
    fn of(mut self, report: &Report, contestant: Contestant, wanted: Wanted) -> Self {
        let mounts = |wanted: Wanted| Some(wanted.of(report, contestant)?.mounts);
        let Wanted { verb, view, most_mounts, .. } = wanted;
        let base = if most_mounts { mounts(Wanted { most_mounts: false, ..wanted }) } else { None };
        self.subject =
            mounts(wanted).map(|mounts| Subject { contestant, verb, view, mounts, base });
        self
    }

    /// What is in the way, in words; empty where nothing is.
    pub(crate) fn in_the_way(&self) -> String {
        self.profile.as_ref().map_or(String::new(), Profile::words)
    }

    /// The figure as it is shown.
    pub(crate) fn shown(&self) -> String {
        match (self.figure, self.bound) {
            (None, _) => "not measured".to_owned(),
            (Some(figure), Bound::KilobytesAtMost(_)) => format!("{figure:.1} KB"),
            (Some(figure), _) => format!("{figure:.2}"),
        }
    }

    /// Whether it is met, in words.
    pub(crate) fn verdict(&self) -> &'static str {
        match (self.figure, self.met) {
            (None, _) => "–",
            (_, true) => "met",
            (_, false) => "not met",
        }
    }
}

/// One row of those that were measured; the situation is the plain one but for what is said.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) verb: Verb,
    pub(crate) view: View,
    /// The most mounts instead of the fewest.
    pub(crate) most_mounts: bool,
    pub(crate) workers: usize,
}

impl Wanted {
    pub(crate) const RUN: Self =
        Self { verb: Verb::Run, view: View::V2, most_mounts: false, workers: 1 };

    pub(crate) fn of(self, report: &Report, contestant: Contestant) -> Option<&Row> {
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

    /// A figure of one contestant over that of another.
    fn over(
        self,
        report: &Report,
        [one, other]: [Contestant; 2],
        figure: fn(&Row) -> f64,
    ) -> Option<f64> {
        Some(figure(self.of(report, one)?) / figure(self.of(report, other)?))
            .filter(|figure| figure.is_finite())
    }
}

const KILOBYTE: u64 = 1024;

/// All targets.
pub(crate) fn all(report: &Report) -> Vec<Target> {
    use Contestant::{Crun, Floor, Library, Pidone};
    let first: fn(&Row) -> f64 = |row| ratio(row.first.p50, 1);
    let whole: fn(&Row) -> f64 = |row| ratio(row.whole.p50, 1);
    let cpu: fn(&Row) -> f64 = |row| ratio(row.cpu, 1);
    let rate: fn(&Row) -> f64 = |row| row.rate;
    let told = |name: &str, figure: Option<f64>| {
        figure.map_or(String::new(), |figure| format!("{name} {figure:.2}"))
    };

    let run = Wanted::RUN;
    let over_floor = |figure| run.over(report, [Library, Floor], figure);
    let mut targets = vec![
        Target::new(
            "library cold start, OCI default with a network namespace, over the floor",
            Bound::AtMost(1.2),
            over_floor(first),
            told("until removed", over_floor(whole)) + &told(", processor time", over_floor(cpu)),
        )
        .of(report, Library, run),
    ];

    let many = Wanted { most_mounts: true, ..run };
    let most = many.of(report, Library);
    targets.push(
        Target::new(
            &format!("the same with {} host mounts, over itself with the fewest", mounts(most)),
            Bound::AtMost(1.2),
            most.map(|row| row.first_over_fewest_mounts),
            told("crun", many.of(report, Crun).map(|row| row.first_over_fewest_mounts)),
        )
        .of(report, Library, many),
    );

    // crun is at home on version 1; where there is none, the other view has to do.
    let view = if (Wanted { view: View::V1, ..run }).of(report, Crun).is_some() {
        View::V1
    } else {
        View::V2
    };
    for (verb, name) in [(Verb::Run, "run"), (Verb::Exec, "exec")] {
        let here = Wanted { verb, view, ..run };
        let other = Wanted { verb, view: View::V2, ..run };
        let pair = [Pidone, Crun];
        for (kind, figure) in [("wall clock", whole), ("processor time", cpu)] {
            let note = told("on cgroup v2", other.over(report, pair, figure));
            targets.push(
                Target::new(
                    &format!(
                        "pidone {name}, whole process, over crun {name}: {kind}, cgroup {view}"
                    ),
                    Bound::AtMost(0.3),
                    here.over(report, pair, figure),
                    note,
                )
                .of(report, Pidone, here),
            );
        }
    }

    let spawn = Wanted { verb: Verb::Spawn, ..run };
    targets.push(
        Target::new(
            "spawn in supervise mode, over vfork and exec of the same program on the host",
            Bound::AtMost(1.5),
            spawn.over(report, [Library, Floor], first),
            told("until reaped", spawn.over(report, [Library, Floor], whole))
                + &told(", crun exec", spawn.over(report, [Crun, Floor], first)),
        )
        .of(report, Library, spawn),
    );

    let pool = Wanted { verb: Verb::Pool, ..run };
    targets.push(
        Target::new(
            "start from a warm pool, rootfs known, over vfork and exec on the host",
            Bound::AtMost(1.5),
            pool.over(report, [Library, Floor], first),
            told("until reaped", pool.over(report, [Library, Floor], whole)),
        )
        .of(report, Library, pool),
    );

    let workers = report.host.processors;
    let all = Wanted { workers, view, ..run };
    targets.push(
        Target::new(
            &format!("throughput of the library at {workers} workers, over crun, cgroup {view}"),
            Bound::AtLeast(3.0),
            all.over(report, [Library, Crun], rate),
            told(
                "on cgroup v2",
                Wanted { view: View::V2, ..all }.over(report, [Library, Crun], rate),
            ),
        )
        .of(report, Library, all),
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

fn mounts(row: Option<&Row>) -> String {
    row.map_or("many".to_owned(), |row| row.mounts.to_string())
}

/// The targets as lines.
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
