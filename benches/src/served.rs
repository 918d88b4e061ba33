//! Starts by the service of a warm pool, `pidone pool serve`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::IoSlice;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::Value;

use crate::payload::{self, Output};
use crate::peer::{Peer, Runtime};
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock};

/// The size of the pool.
const SIZE: u64 = 16;

/// How long the service may take to start, and the pool to fill.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts the payload by requests to a service.
#[derive(Debug)]
pub struct Served {
    service: Child,
    socket: PathBuf,
    null: File,
    output: Output,
}

impl Served {
    /// Starts the service. `worker` distinguishes services that exist at the same time.
    ///
    /// # Errors
    /// If the program is not built, or the service does not start.
    pub fn new(place: &Place, scenario: Scenario, worker: usize) -> Result<Self> {
        let id = format!("served-{scenario}-{worker}");
        let runtime = Runtime::new(Peer::Pidone, place, scenario, &id, &[payload::PATH])?;
        let directory = format!("{}/service", runtime.bundle);
        let size = SIZE.to_string();
        let words = [
            "pool",
            "serve",
            "--size",
            &size,
            "--low",
            "2",
            "--bundle",
            &runtime.bundle,
            &directory,
        ];
        let mut command = Command::new(&runtime.path);
        command.args(runtime.arguments(&words)).stdin(Stdio::null()).stdout(Stdio::null());
        let served = Self {
            service: command.stderr(runtime.errors.try_clone()?).spawn()?,
            socket: PathBuf::from(directory).join("socket"),
            null: File::options().read(true).write(true).open("/dev/null")?,
            output: Output::new()?,
        };
        let begin = Instant::now();
        while !served.socket.exists() {
            if begin.elapsed() > TIMEOUT {
                return Err("the service does not start".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        served.wait_until(|_| false)?;
        Ok(served)
    }

    /// Waits until the service has removed what ended, and until it is full unless `suffices` holds
    /// for the number of ready containers.
    fn wait_until(&self, suffices: impl Fn(u64) -> bool) -> Result<()> {
        let begin = Instant::now();
        let mut enough = false;
        while begin.elapsed() < TIMEOUT {
            let status = self.ask(r#"{"status":{}}"#)?;
            let number = |name| status["status"][name].as_u64().unwrap_or_default();
            let ready = number("ready");
            enough |= suffices(ready) || ready == SIZE;
            if enough && number("ended") == 0 {
                return Ok(());
            }
            thread::sleep(Duration::from_micros(200));
        }
        Err("the pool does not become full".into())
    }

    /// Sends a request that has one answer, and returns it.
    fn ask(&self, request: &str) -> Result<Value> {
        answer(&mut BufReader::new(self.send(request, false)?))
    }

    /// Connects and sends a request, with the payload's descriptors if `files`.
    fn send(&self, request: &str, files: bool) -> Result<UnixStream> {
        let socket = UnixStream::connect(&self.socket)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let stdio = [self.null.as_fd(), self.output.writer(), self.null.as_fd()];
        if files {
            ancillary.push(SendAncillaryMessage::ScmRights(&stdio));
        }
        let line = [IoSlice::new(request.as_bytes()), IoSlice::new(b"\n")];
        sendmsg(&socket, &line, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(socket)
    }
}

impl Starter for Served {
    fn start(&mut self) -> Result<Sample> {
        self.wait_until(|ready| ready > 1)?;
        let begin = clock::now();
        let mut lines = BufReader::new(self.send(r#"{"run":{}}"#, true)?);
        let started = answer(&mut lines)?;
        let exited = answer(&mut lines)?;
        let end = clock::now();
        if started["started"]["warm"] != true || exited["exited"]["status"] != 0 {
            return Err(format!("the service sent {started}, {exited}").into());
        }
        let first = self.output.stamp()?;
        Ok(Sample::from_clock(begin, first, end))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A drained service ends. One that does not respond is killed; the cgroups that it leaves
        // are removed with the place.
        if self.ask(r#"{"drain":{}}"#).is_err() {
            let _ = self.service.kill();
        }
        let _ = self.service.wait();
    }
}

/// Reads the next answer.
fn answer(lines: &mut BufReader<UnixStream>) -> Result<Value> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
