//! The process of a place, which is sent requests as lines of JSON.
//!
//! A process is in only one mount namespace, so each place needs its own process. It is the running
//! program again, with other arguments.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pidone::Strategy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::block::{Block, Measured, Starters};
use crate::Result;
use crate::contestant::{Contestant, Verb};
use crate::memory::{self, Memory};
use crate::place::{Place, View};
use crate::profile::Profile;
use crate::scenario::Scenario;
use crate::waterfall::Waterfall;

/// The first argument of such a process, before the number of mounts and the view.
const ROLE: &str = "serve";

/// A request to the process of a place.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Run a block.
    Block(Block),
    /// Measure a container that waits for its start.
    Memory(Contestant),
    /// Record this many starts by the library, step by step.
    Waterfall(usize),
    /// Make a profile of this many starts.
    Profile(Contestant, Verb, usize),
}

/// A process that starts containers at a place.
#[derive(Debug)]
pub struct Server {
    /// The number of mounts of the place.
    pub mounts: usize,
    /// The visible cgroups of the place.
    pub view: View,
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// An answer: the result, or the reason why there is none.
pub type Answer<T> = std::result::Result<T, String>;

impl Server {
    /// Starts the process.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(mounts: usize, view: View) -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .args([ROLE, &mounts.to_string(), &view.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take();
        let answers = process.stdout.take().ok_or("no pipe from the server")?;
        Ok(Self { mounts, view, process, requests, answers: BufReader::new(answers) })
    }

    /// Has the process run a block.
    ///
    /// # Errors
    /// If the process has ended. It has printed the reason.
    pub fn run(&mut self, block: Block) -> Result<Answer<Measured>> {
        self.ask(&Request::Block(block))
    }

    /// Has the process measure a container that waits for its start.
    ///
    /// # Errors
    /// As for [`Server::run`].
    pub fn memory(&mut self, contestant: Contestant) -> Result<Answer<Memory>> {
        self.ask(&Request::Memory(contestant))
    }

    /// Has the process record starts of the full scenario by the library.
    ///
    /// # Errors
    /// As for [`Server::run`].
    pub fn waterfall(&mut self, starts: usize) -> Result<Answer<Waterfall>> {
        self.ask(&Request::Waterfall(starts))
    }

    /// Has the process make a profile of starts of the full scenario.
    ///
    /// # Errors
    /// As for [`Server::run`].
    pub fn profile(
        &mut self,
        contestant: Contestant,
        verb: Verb,
        starts: usize,
    ) -> Result<Answer<Profile>> {
        self.ask(&Request::Profile(contestant, verb, starts))
    }

    /// Sends a request and waits for the answer.
    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<Answer<T>> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.requests.as_mut().ok_or("no pipe to the server")?.write_all(&line)?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            let Self { mounts, view, .. } = self;
            return Err(format!("the process for {mounts} mounts and {view} ended").into());
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Server {
    /// Waits until the process has cleaned up, which it does at the end of its input.
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.process.wait();
    }
}

/// Serves requests, if the arguments are those of a place's process. Returns whether they are.
///
/// Every program that uses [`Servers`](super::Servers) must call this first.
///
/// # Errors
/// If the place cannot be made, which needs root.
pub fn serve() -> Result<bool> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [role, mounts, view] = &arguments[..] else { return Ok(false) };
    if role != ROLE {
        return Ok(false);
    }
    let view = <View as clap::ValueEnum>::from_str(view, false)?;
    let place = Place::enter(Some(mounts.parse()?), view)?;
    let mut starters = Starters::default();
    let mut output = io::stdout().lock();
    for line in io::stdin().lines() {
        match serde_json::from_str(&line?)? {
            Request::Block(block) => reply(&mut output, starters.run(&place, &block))?,
            Request::Memory(contestant) => {
                reply(&mut output, memory::waiting(contestant, &place))?;
            }
            Request::Waterfall(starts) => {
                let scenario = Scenario::OciNet;
                let measured = Waterfall::measure(&place, scenario, Strategy::Auto, starts);
                reply(&mut output, measured)?;
            }
            Request::Profile(contestant, verb, starts) => {
                let scenario = Scenario::OciNet;
                let profile = Profile::measure(contestant, verb, &place, scenario, starts);
                reply(&mut output, profile)?;
            }
        }
    }
    Ok(true)
}

fn reply<T: Serialize>(output: &mut impl io::Write, answer: Result<T>) -> Result<()> {
    let answer: Answer<T> = answer.map_err(|error| error.to_string());
    serde_json::to_writer(&mut *output, &answer)?;
    writeln!(output)?;
    Ok(output.flush()?)
}
