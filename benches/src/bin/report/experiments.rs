//! The experiments of the report.

use pidone_benches::contestant::{Contestant, Verb};
use pidone_benches::experiment::Experiment;
use pidone_benches::place::View;
use pidone_benches::scenario::Scenario;

/// How much is measured.
pub(crate) struct Scale {
    /// Starts of each contestant in each experiment.
    pub(crate) starts: usize,
    /// Starts of each contestant in experiments with pauses.
    pub(crate) spaced: usize,
    /// Starts in a row before it is the next contestant's turn.
    pub(crate) block: usize,
    /// Numbers of host mounts.
    pub(crate) mounts: &'static [usize],
}

impl Scale {
    /// For meaningful figures.
    pub(crate) const FULL: Self =
        Self { starts: 300, spaced: 200, block: 10, mounts: &[20, 1000, 5000] };
    /// To check that everything works.
    pub(crate) const QUICK: Self = Self { starts: 2, spaced: 1, block: 1, mounts: &[20, 300] };
}

/// The pause before each start in experiments with pauses, in milliseconds.
const PAUSE: u64 = 50;

/// The contestants on cgroup v1: the library and the OCI runtimes.
const RUNTIMES: [Contestant; 5] =
    [Contestant::Library, Contestant::Host, Contestant::Pidone, Contestant::Crun, Contestant::Runc];

/// The contestants whose waiting containers are measured.
pub(crate) const WAITING: [(Contestant, View); 5] = [
    (Contestant::Library, View::V2),
    (Contestant::Pidone, View::V2),
    (Contestant::Crun, View::V2),
    (Contestant::Crun, View::V1),
    (Contestant::Runc, View::V2),
];

/// Returns all experiments, the most informative ones first.
pub(crate) fn all(scale: &Scale, processors: usize) -> Vec<Experiment> {
    let fewest: Vec<usize> = scale.mounts.iter().copied().min().into_iter().collect();
    let plain = Experiment {
        verb: Verb::Run,
        scenario: Scenario::OciNet,
        view: View::V2,
        mounts: fewest,
        workers: 1,
        pause: 0,
        starts: scale.starts,
        contestants: Contestant::ALL.into(),
    };
    let old = Experiment { view: View::V1, contestants: RUNTIMES.into(), ..plain.clone() };
    let spaced = |of: &Experiment| Experiment { pause: PAUSE, starts: scale.spaced, ..of.clone() };
    let with = |workers, of: &Experiment| Experiment { workers, ..of.clone() };
    let mut all = vec![
        Experiment { mounts: scale.mounts.into(), ..plain.clone() },
        Experiment { verb: Verb::Exec, ..plain.clone() },
        Experiment { verb: Verb::Spawn, ..plain.clone() },
        Experiment { verb: Verb::Pool, ..plain.clone() },
        Experiment { verb: Verb::Create, ..plain.clone() },
        Experiment { scenario: Scenario::Oci, ..plain.clone() },
        Experiment { scenario: Scenario::Minimal, ..plain.clone() },
        spaced(&plain),
        with(processors, &plain),
        with(4 * processors, &plain),
        Experiment { verb: Verb::Exec, ..old.clone() },
        spaced(&old),
        with(processors, &old),
        old,
    ];
    // With one processor, two experiments are the same.
    all.dedup();
    all
}

/// Returns the name of an experiment.
pub(crate) fn name(experiment: &Experiment) -> String {
    let Experiment { verb, scenario, view, workers, pause, .. } = experiment;
    let mut name = format!("{verb}, {scenario}, cgroup {view}");
    if *workers > 1 {
        name += &format!(", {workers} at a time");
    }
    if *pause > 0 {
        name += &format!(", {pause} ms apart");
    }
    name
}
