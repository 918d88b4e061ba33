//! `pidone pool`: the service and its clients, good and bad.

mod bundles;
mod idle;
mod init;
mod life;
mod protocol;
mod run;
mod terminal;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use pidone_tests::{Bench, Call, DEADLINE, eventually};

pub(crate) use bundles::CASES as BUNDLES;
pub(crate) use idle::CASES as IDLE;
pub(crate) use init::CASES as INIT;
pub(crate) use life::CASES as LIFE;
pub(crate) use protocol::CASES as PROTOCOL;
pub(crate) use run::CASES as RUN;
pub(crate) use terminal::CASES as TERMINAL;

/// A service, at the directory `pool`.
struct Service(Call);

impl Service {
    #[track_caller]
    fn start(bench: &Bench, size: &str) -> Self {
        Self::with(bench, size, &[])
    }

    /// Starts it with further options.
    #[track_caller]
    fn with(bench: &Bench, size: &str, options: &[&str]) -> Self {
        Self::of(bench, size, options, bench.config(&["sh", "-c", "echo from the bundle"]))
    }

    /// Starts it with a bundle of this configuration.
    #[track_caller]
    fn of(bench: &Bench, size: &str, options: &[&str], mut config: Value) -> Self {
        config["linux"]["cgroupsPath"] = json!(format!("/{}/one", bench.cgroup()));
        let bundle = bench.bundle(&config);
        Self::serve(bench, &[&["--size", size, "--bundle", &bundle], options].concat())
    }

    /// Starts it with these options, and waits until it is full.
    #[track_caller]
    fn serve(bench: &Bench, options: &[&str]) -> Self {
        let line = [&["pool", "serve"], options, &["pool"]].concat();
        let service = Self(Call::start(&mut bench.command(&line)));
        let ready = || status(bench).is_some_and(|status| status["ready"] == status["size"]);
        assert!(eventually(ready), "{:?}", status(bench));
        service
    }

    /// Ends it, by a signal.
    #[track_caller]
    fn end(self) {
        self.0.signal(Signal::TERM);
        assert_eq!(self.0.finish().ok(), "");
    }
}

/// What the pool has; `None` as long as there is no service.
fn status(bench: &Bench) -> Option<Value> {
    let outcome = bench.run(&["pool", "status", "pool"]);
    serde_json::from_str(&outcome.stdout).ok()
}

#[track_caller]
fn run(bench: &Bench, program: &[&str]) -> pidone_tests::Finished {
    bench.run(&[&["pool", "run", "pool", "--"], program].concat())
}

/// A client of another make.
struct Client(BufReader<UnixStream>);

impl Client {
    fn new(bench: &Bench) -> Self {
        let stream = UnixStream::connect(bench.path("pool/socket")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line; `None` at the end.
    fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            // Input that the service did not read is lost when another line follows.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A client whose program runs, and the ID of its container.
#[track_caller]
fn started(bench: &Bench, args: &[&str]) -> (Client, String) {
    let mut client = Client::new(bench);
    client.say(&format!("{}\n", json!({ "run": { "args": args } })));
    let answer = client.answer().unwrap();
    let id = answer["started"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (client, id)
}
