//! The process of one number of mounts, and how it is spoken to: JSON, a line for each message.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pidone_benches::Result;
use pidone_benches::place::Place;

use crate::block::{Block, Measured, Starters};

/// An answer: figures, or why there are none.
type Answer = std::result::Result<Measured, String>;

/// A process that starts containers among a number of mounts.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) mounts: usize,
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the process; its mounts are made when it is asked for the first time.
    pub(crate) fn spawn(mounts: usize) -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .args(["serve", &mounts.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take();
        let answers = process.stdout.take().ok_or("no pipe from the server")?;
        Ok(Self { mounts, process, requests, answers: BufReader::new(answers) })
    }

    /// Has a block run.
    pub(crate) fn ask(&mut self, block: &Block) -> Result<Answer> {
        let mut request = serde_json::to_vec(block)?;
        request.push(b'\n');
        self.requests.as_mut().ok_or("no pipe to the server")?.write_all(&request)?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("the process for {} mounts ended", self.mounts).into());
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

/// Answers requests until there are no more.
pub(crate) fn serve(mounts: usize) -> Result<()> {
    let place = Place::enter(Some(mounts))?;
    let mut starters = Starters::default();
    let mut output = io::stdout().lock();
    for line in io::stdin().lines() {
        let block: Block = serde_json::from_str(&line?)?;
        let answer: Answer = starters.run(&place, &block).map_err(|error| error.to_string());
        serde_json::to_writer(&mut output, &answer)?;
        writeln!(output)?;
        output.flush()?;
    }
    Ok(())
}
