//! The process of one place, and how it is spoken to: JSON, a line for each message.
//!
//! A process has one mount namespace, so that each place needs one of its own. It is the running
//! program once more, with other arguments.

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

/// The first argument of such a process; then come the number of mounts and the view.
const ROLE: &str = "serve";

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// A few starts.
    Block(Block),
    /// What a container that waits for its start keeps.
    Memory(Contestant),
    /// What so many starts of the library spend their time on, and a picture of one of them.
    Waterfall(usize),
    /// What so many starts by somebody spend their time on.
    Profile(Contestant, Verb, usize),
}

/// A process that starts containers at a place.
#[derive(Debug)]
pub struct Server {
    /// The number of mounts there.
    pub mounts: usize,
    /// Which control groups it sees.
    pub view: View,
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// An answer: figures, or why there are none.
pub type Answer<T> = std::result::Result<T, String>;

impl Server {
    /// Starts the process.
    ///
    /// # Errors
    /// There is no room for another.
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

    /// Has a block run.
    ///
    /// # Errors
    /// The process has ended, for which it told the reason.
    pub fn run(&mut self, block: Block) -> Result<Answer<Measured>> {
        self.ask(&Request::Block(block))
    }

    /// Has a container wait, and looks at it.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn memory(&mut self, contestant: Contestant) -> Result<Answer<Memory>> {
        self.ask(&Request::Memory(contestant))
    }

    /// Has the library start the full scenario that often.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn waterfall(&mut self, starts: usize) -> Result<Answer<Waterfall>> {
        self.ask(&Request::Waterfall(starts))
    }

    /// Looks at what somebody spends time on who starts the full scenario that often.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn profile(
        &mut self,
        contestant: Contestant,
        verb: Verb,
        starts: usize,
    ) -> Result<Answer<Profile>> {
        self.ask(&Request::Profile(contestant, verb, starts))
    }

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
    /// Waits until it has cleaned up, which it does at the end of its input.
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.process.wait();
    }
}

/// Is such a process if the arguments say so, and answers requests until there are no more;
/// `false` if they do not.
///
/// # Errors
/// The place cannot be made: this needs root.
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
