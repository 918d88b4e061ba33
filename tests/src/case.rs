//! Cases, and how they are run.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use pidone::Strategy;

use crate::leftover::Baseline;
use crate::{Sandbox, View};

/// How a case ended.
pub type Outcome = Result<(), Stop>;

/// Why a case did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// It failed.
    Failed(String),
    /// The machine lacks what it needs.
    Lacking(String),
}

impl<E: Display> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Stop {
    /// The text.
    fn text(&self) -> &str {
        match self {
            Self::Failed(text) | Self::Lacking(text) => text,
        }
    }
}

/// What a case does.
type Test = fn(&Sandbox) -> Outcome;

/// A test, and the views and ways it runs in.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    name: &'static str,
    test: Test,
    ways: &'static [Way],
    views: &'static [View],
}

/// Makes a [`Case`] that is named by the path of its function.
#[macro_export]
macro_rules! case {
    ($test:ident) => {
        $crate::Case::new(concat!(module_path!(), "::", stringify!($test)), $test)
    };
}

/// How containers are started.
#[derive(Debug, Clone, Copy)]
struct Way {
    strategy: Strategy,
    /// Whether the init of a [`Sandbox::config`] stays process 1.
    supervise: bool,
    suffix: &'static str,
}

const HOST: Way = Way { strategy: Strategy::Host, supervise: false, suffix: "::host" };
const TEMPLATE: Way = Way { strategy: Strategy::Template, supervise: false, suffix: "::template" };
const ONCE: Way = Way { strategy: Strategy::Auto, supervise: false, suffix: "" };
const INIT: Way = Way { strategy: Strategy::Auto, supervise: true, suffix: "::init" };

impl Case {
    /// A case that runs under both launch strategies.
    #[must_use]
    pub const fn new(name: &'static str, test: Test) -> Self {
        Self { name, test, ways: &[HOST, TEMPLATE], views: &[View::Common] }
    }

    /// Runs once, under the strategy that the library chooses.
    #[must_use]
    pub const fn once(mut self) -> Self {
        self.ways = &[ONCE];
        self
    }

    /// Runs under both launch strategies, and with an init that stays process 1.
    #[must_use]
    pub const fn and_init(mut self) -> Self {
        self.ways = &[HOST, TEMPLATE, INIT];
        self
    }

    /// Runs once, with an init that stays process 1.
    #[must_use]
    pub const fn with_init(mut self) -> Self {
        self.ways = &[INIT];
        self
    }

    /// Runs in processes of their own.
    #[must_use]
    pub const fn alone(mut self) -> Self {
        self.views = &[View::Alone];
        self
    }

    /// Runs in the common view, and where there is only cgroup v2.
    #[must_use]
    pub const fn and_unified(mut self) -> Self {
        self.views = &[View::Common, View::Unified];
        self
    }

    /// Runs where there is only cgroup v2.
    #[must_use]
    pub const fn unified(mut self) -> Self {
        self.views = &[View::Unified];
        self
    }

    /// Runs as an ordinary user.
    #[must_use]
    pub const fn ordinary(mut self) -> Self {
        self.views = &[View::Ordinary];
        self
    }

    /// Runs as an ordinary user who may map ranges of ids.
    #[must_use]
    pub const fn delegated(mut self) -> Self {
        self.views = &[View::Delegated];
        self
    }

    /// Runs as root of a user namespace.
    #[must_use]
    pub const fn nested(mut self) -> Self {
        self.views = &[View::Nested];
        self
    }

    /// The name without that of the test program.
    fn short_name(&self) -> &'static str {
        self.name.split_once("::").map_or(self.name, |(_, name)| name)
    }

    /// All ways in which it runs, with their names.
    fn runs(self) -> impl Iterator<Item = Run> {
        let all =
            self.views.iter().flat_map(move |&view| self.ways.iter().map(move |&way| (view, way)));
        all.map(move |(view, way)| Run {
            name: format!("{}{}{}", self.short_name(), way.suffix, view.suffix()),
            test: self.test,
            way,
            view,
        })
    }
}

/// One way in which a case runs.
struct Run {
    name: String,
    test: Test,
    way: Way,
    view: View,
}

/// The variable that names the case of a process of its own.
const SELECTED: &str = "PIDONE_TEST_CASE";

/// The status of a process whose case lacks something, as in automake.
const LACKING: u8 = 77;

/// How long a case may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the cases that the command line selects; the whole `main` of the test program.
#[must_use]
pub fn main(groups: &[&[Case]]) -> ExitCode {
    let runs = groups.iter().copied().flatten().flat_map(|case| case.runs());
    if let Ok(selected) = std::env::var(SELECTED) {
        return match runs.into_iter().find(|run| run.name == selected) {
            Some(run) => run.here(),
            None => ExitCode::FAILURE,
        };
    }
    let arguments = Arguments::from_args();
    let trials: Vec<Trial> = runs.map(Run::trial).collect();
    let baseline = (!arguments.list).then(Baseline::take);
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = baseline.map(|baseline| baseline.left()).unwrap_or_default();
    for item in &left {
        eprintln!("left behind by the tests: {item}");
    }
    if left.is_empty() { conclusion.exit_code() } else { ExitCode::FAILURE }
}

impl Run {
    /// The trial for the harness.
    fn trial(self) -> Trial {
        Trial::ignorable_test(self.name.clone(), move || {
            let name = self.name.clone();
            let outcome = match self.view {
                View::Common => self.within_patience(),
                _ => self.in_own_process(),
            };
            completion(&name, outcome)
        })
    }

    /// Runs the case in a thread that is given up when it takes too long.
    fn within_patience(self) -> Outcome {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name(self.name.clone()).spawn(move || {
            // Nobody listens if it took too long.
            let _ = sender.send(self.run());
        })?;
        match receiver.recv_timeout(TIMEOUT) {
            Ok(outcome) => outcome,
            Err(_) => Err(Stop::Failed(format!("not done in {} s", TIMEOUT.as_secs()))),
        }
    }

    /// Runs the case, and looks at what it left behind.
    fn run(self) -> Outcome {
        let sandbox = Sandbox::new(self.way.strategy)?.supervised(self.way.supervise);
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.test)(&sandbox)))
            .unwrap_or_else(|panic| Err(Stop::Failed(panic_text(&*panic))));
        let left = sandbox.close();
        match (outcome, left) {
            (Ok(()), left) if !left.is_empty() => {
                Err(Stop::Failed(format!("left behind: {}", left.join(", "))))
            }
            (outcome, _) => outcome,
        }
    }

    /// Runs the case in this process, which was started for it.
    fn here(self) -> ExitCode {
        let outcome = self.view.enter().and_then(|()| self.within_patience());
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(stop) => {
                eprint!("{}", stop.text());
                match stop {
                    Stop::Failed(_) => ExitCode::FAILURE,
                    Stop::Lacking(_) => ExitCode::from(LACKING),
                }
            }
        }
    }

    /// Runs the case in a process of its own.
    fn in_own_process(self) -> Outcome {
        let output = Command::new(std::env::current_exe()?)
            .env(SELECTED, &self.name)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => Ok(()),
            Some(code) if code == i32::from(LACKING) => Err(Stop::Lacking(said)),
            Some(_) => Err(Stop::Failed(said)),
            None => Err(Stop::Failed(format!("{}\n{said}", output.status))),
        }
    }
}

/// What the harness hears of an outcome: what lacks something is skipped, aloud, or fails where
/// nothing may be lacking.
///
/// # Errors
/// It failed.
pub fn completion(name: &str, outcome: Outcome) -> Result<Completion, Failed> {
    let required = std::env::var("PIDONE_REQUIRE_ALL").is_ok_and(|value| value == "1");
    match outcome {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::Lacking(reason)) if !required => {
            eprintln!("{name}: skipped: {reason}");
            Ok(Completion::ignored_with(reason))
        }
        Err(stop) => Err(Failed::from(stop.text())),
    }
}

/// The message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
