//! Cases, and how they are run.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sys::signal::{SigHandler, Signal};

use crate::leftover::Baseline;
use crate::{DEADLINE, Need, Sandbox, View, systemd};

/// How a case ended.
pub type Outcome = Result<(), Stop>;

/// Why a case did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// It failed.
    Failed(String),
    /// The machine lacks what it needs, which can be installed or is a matter of privileges.
    Lacking(String),
    /// The processor of the machine cannot do it: nothing that can be installed would help.
    Unable(String),
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
            Self::Failed(text) | Self::Lacking(text) | Self::Unable(text) => text,
        }
    }
}

/// What the cases of a test program work on: each run of a case gets its own.
pub trait Ground: Sized + 'static {
    /// How it is made, where there is more than one way.
    type Way: Way;

    /// The ways in which a case runs that names none.
    const WAYS: &'static [Self::Way];

    /// Makes the ground for one run of the case with this name.
    ///
    /// # Errors
    /// It cannot be made.
    fn open(name: &str, way: Self::Way) -> Result<Self, Stop>;

    /// Removes the ground, and returns what is then still left on the host.
    fn close(self) -> Vec<String> {
        Vec::new()
    }
}

/// A way in which a case runs.
pub trait Way: Copy + Send + Sync + 'static {
    /// What it adds to the name of a case.
    fn suffix(&self) -> &'static str;

    /// What it needs of the machine.
    fn needs(&self) -> &'static [Need] {
        &[]
    }
}

/// For cases that make whatever they need themselves.
impl Ground for () {
    type Way = ();

    const WAYS: &'static [()] = &[()];

    fn open(_: &str, (): ()) -> Result<Self, Stop> {
        Ok(())
    }
}

impl Way for () {
    fn suffix(&self) -> &'static str {
        ""
    }
}

/// What a case does.
enum Test<G> {
    /// Returns whether it held; a panic is a failure as well.
    Returns(fn(&G) -> Outcome),
    /// Panics if something does not hold.
    Panics(fn(&G)),
}

impl<G> Clone for Test<G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G> Copy for Test<G> {}

/// A test, what it needs, and the views and ways it runs in.
pub struct Case<G: Ground = Sandbox> {
    name: &'static str,
    test: Test<G>,
    needs: &'static [Need],
    ways: &'static [G::Way],
    views: &'static [View],
}

impl<G: Ground> Clone for Case<G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G: Ground> Copy for Case<G> {}

/// Makes a [`Case`] that is named by the path of its function.
#[macro_export]
macro_rules! case {
    ($test:ident) => {
        $crate::Case::new(concat!(module_path!(), "::", stringify!($test)), $test)
    };
}

/// The same for a function without arguments.
#[macro_export]
macro_rules! plain_case {
    ($test:ident) => {
        $crate::Case::new(concat!(module_path!(), "::", stringify!($test)), |_| $test())
    };
}

impl<G: Ground> Case<G> {
    /// A case that returns whether it held.
    #[must_use]
    pub const fn new(name: &'static str, test: fn(&G) -> Outcome) -> Self {
        Self::with(name, Test::Returns(test))
    }

    /// A case that panics if something does not hold.
    #[must_use]
    pub const fn panicking(name: &'static str, test: fn(&G)) -> Self {
        Self::with(name, Test::Panics(test))
    }

    const fn with(name: &'static str, test: Test<G>) -> Self {
        Self { name, test, needs: &[], ways: G::WAYS, views: &[View::Common] }
    }

    /// Needs this of the machine.
    #[must_use]
    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// Runs in these ways.
    #[must_use]
    pub const fn ways(mut self, ways: &'static [G::Way]) -> Self {
        self.ways = ways;
        self
    }

    /// Runs in its own process.
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
    fn runs(self) -> impl Iterator<Item = Run<G>> {
        let all =
            self.views.iter().flat_map(move |&view| self.ways.iter().map(move |&way| (view, way)));
        all.map(move |(view, way)| Run {
            name: format!("{}{}{}", self.short_name(), way.suffix(), view.suffix()),
            case: self,
            way,
            view,
        })
    }
}

/// One way in which a case runs.
struct Run<G: Ground> {
    name: String,
    case: Case<G>,
    way: G::Way,
    view: View,
}

/// The variable that names the case of a process that was started for one.
pub const SELECTED: &str = "PIDONE_TEST_CASE";

/// The status of a process whose case lacks something, as in automake.
const LACKING: u8 = 77;
/// The exit status of a process for a case that the processor cannot run.
const UNABLE: u8 = 4;

/// How long a case may take: longer than any one wait in it, which then says what it waited for.
const LIMIT: Duration = DEADLINE.saturating_mul(5);

/// Runs the cases that the command line selects; the whole `main` of the test program.
#[must_use]
pub fn main<G: Ground>(groups: &[&[Case<G>]]) -> ExitCode {
    let runs = groups.iter().copied().flatten().flat_map(|case| case.runs());
    if let Ok(selected) = std::env::var(SELECTED) {
        return match runs.into_iter().find(|run| run.name == selected) {
            Some(run) => run.here(),
            None => ExitCode::FAILURE,
        };
    }
    run_trials(runs.map(Run::trial).collect())
}

/// The names of all runs of cases, by which [`SELECTED`] selects them.
#[must_use]
pub fn names<G: Ground>(groups: &[&[Case<G>]]) -> Vec<String> {
    let cases = groups.iter().copied().flatten();
    cases.flat_map(|case| case.runs()).map(|run| run.name).collect()
}

/// The trials of cases, for a test program that runs those of several grounds. None of them may be
/// in another [`View`] than the common one.
#[must_use]
pub fn trials<G: Ground>(cases: &[Case<G>]) -> Vec<Trial> {
    cases.iter().flat_map(|case| case.runs()).map(Run::trial).collect()
}

/// Runs the trials that the command line selects, and checks that the process is then as before.
#[must_use]
pub fn run_trials(trials: Vec<Trial>) -> ExitCode {
    default_signals();
    let arguments = Arguments::from_args();
    let baseline = (!arguments.list).then(Baseline::take);
    let conclusion = libtest_mimic::run(&arguments, trials);
    systemd::end();
    let left = baseline.map(|baseline| baseline.left()).unwrap_or_default();
    for item in &left {
        eprintln!("left by the tests: {item}");
    }
    if left.is_empty() { conclusion.exit_code() } else { ExitCode::FAILURE }
}

/// Gives signals their default action. A shell starts what runs in the background with some of them
/// ignored, nohup(1) another one, and every program that a test starts would inherit that.
#[allow(unsafe_code, reason = "actions of signals")]
fn default_signals() {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        // SAFETY: No handler is installed or replaced: the test program has none for these.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
}

impl<G: Ground> Run<G> {
    /// The trial for the test runner.
    fn trial(self) -> Trial {
        Trial::ignorable_test(self.name.clone(), move || {
            let name = self.name.clone();
            let mut needs = self.way.needs().iter().chain(self.case.needs);
            let outcome = needs.try_for_each(|need| need.check()).and_then(|()| match self.view {
                View::Common => self.within_limit(),
                _ => self.in_own_process(),
            });
            completion(&name, outcome)
        })
    }

    /// Runs the case in a thread that is given up when it takes too long.
    fn within_limit(self) -> Outcome {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name(self.name.clone()).spawn(move || {
            // Nobody listens if it took too long.
            let _ = sender.send(self.run());
        })?;
        match receiver.recv_timeout(LIMIT) {
            Ok(outcome) => outcome,
            Err(_) => Err(Stop::Failed(format!("not done in {} s", LIMIT.as_secs()))),
        }
    }

    /// Runs the case, and checks that it left nothing.
    fn run(self) -> Outcome {
        let ground = caught(|| G::open(self.case.short_name(), self.way))?;
        let outcome = caught(|| match self.case.test {
            Test::Returns(test) => test(&ground),
            Test::Panics(test) => {
                test(&ground);
                Ok(())
            }
        });
        let left = ground.close();
        match (outcome, left) {
            (Ok(()), left) if !left.is_empty() => {
                Err(Stop::Failed(format!("left behind: {}", left.join(", "))))
            }
            (outcome, _) => outcome,
        }
    }

    /// Runs the case in this process, which was started for it.
    fn here(self) -> ExitCode {
        let outcome = self.view.enter().and_then(|()| self.within_limit());
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(stop) => {
                eprint!("{}", stop.text());
                match stop {
                    Stop::Failed(_) => ExitCode::FAILURE,
                    Stop::Lacking(_) => ExitCode::from(LACKING),
                    Stop::Unable(_) => ExitCode::from(UNABLE),
                }
            }
        }
    }

    /// Runs the case in a new process.
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
            Some(code) if code == i32::from(UNABLE) => Err(Stop::Unable(said)),
            Some(_) => Err(Stop::Failed(said)),
            None => Err(Stop::Failed(format!("{}\n{said}", output.status))),
        }
    }
}

/// Calls a function; a panic becomes a failure with its message.
fn caught<T>(call: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(Stop::Failed(panic_text(&*panic))))
}

/// Converts an outcome for the test runner. A case that lacks something is ignored, with the reason
/// on standard error, or fails where nothing may be lacking. What the processor cannot do is
/// ignored there too.
///
/// # Errors
/// It failed.
pub fn completion(name: &str, outcome: Outcome) -> Result<Completion, Failed> {
    let required = std::env::var("PIDONE_REQUIRE_ALL").is_ok_and(|value| value == "1");
    match outcome {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::Lacking(text)) if required => Err(Failed::from(text)),
        Err(Stop::Lacking(reason) | Stop::Unable(reason)) => {
            eprintln!("{name}: skipped: {reason}");
            Ok(Completion::ignored_with(reason))
        }
        Err(Stop::Failed(text)) => Err(Failed::from(text)),
    }
}

/// The message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
