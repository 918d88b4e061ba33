//! The container's network, made for real: every test has its own network namespace for the
//! host, with a bridge in it, and others for the containers.
//!
//! Needs root, unshare(1) and ip(8).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Cases of functions without arguments.
macro_rules! cases {
    ($($test:ident),+ $(,)?) => {
        &[$(pidone_tests::Case::panicking(stringify!($test), |_| $test())),+]
    };
}

mod device;
mod veth;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::thread;

use pidone_config::config::{Network, Route};
use pidone_host::net::Plan;
use pidone_tests::{Ground, Stop};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// A network namespace, kept by a process that waits for the end of its input.
struct Namespace {
    keeper: Child,
    file: File,
}

impl Namespace {
    fn new() -> Self {
        Self::with(&["-n"]).unwrap()
    }

    /// Makes a namespace with options of unshare(1).
    fn with(options: &[&str]) -> Result<Self, String> {
        let mut keeper = Command::new("unshare")
            .args(options)
            // The line comes after the namespace was made.
            .args(["sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut line = [0];
        if keeper.stdout.as_mut().unwrap().read_exact(&mut line).is_err() {
            return Err(format!("unshare {options:?}: {}", keeper.wait().unwrap()));
        }
        let file = File::open(format!("/proc/{}/ns/net", keeper.id())).unwrap();
        Ok(Self { keeper, file })
    }

    fn pidfd(&self) -> OwnedFd {
        let pid = Pid::from_raw(self.keeper.id().cast_signed()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    }

    fn enter(&self) {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Runs something in the namespace.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join().unwrap()
        })
    }

    fn ip(&self, arguments: &str) -> Value {
        self.within(|| ip(arguments))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Runs ip(8) in the namespace of the calling thread.
fn ip(arguments: &str) -> Value {
    let output =
        Command::new("ip").args(["-j", "-d"]).args(arguments.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The names of all links in the namespace of the calling thread.
fn links() -> Vec<String> {
    let links = ip("link show");
    let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

fn bridge(name: &str, addresses: &[&str]) {
    ip(&format!("link add {name} up type bridge"));
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        ip(&format!("address add {address} dev {name} {nodad}"));
    }
}

/// The network of most tests: `eth0` with 10.77.0.2 on the bridge `br0`, which has 10.77.0.1.
fn eth0() -> Network {
    Network {
        kind: "veth".into(),
        name: "eth0".into(),
        bridge: "br0".into(),
        address: "10.77.0.2/24".into(),
        gateway: "10.77.0.1".into(),
        host_interface_name: "vethx".into(),
        ..Network::default()
    }
}

/// A bridge and a container.
fn lab() -> Namespace {
    bridge("br0", &["10.77.0.1/24", "2001:db8:77::1/64"]);
    Namespace::new()
}

fn plan(networks: &[Network], routes: &[Route]) -> Plan {
    Plan::new(networks, &BTreeMap::new(), routes, "lab").unwrap()
}

/// Applies a plan that must fail, without a trace on the host.
fn refusal(plan: &Plan, container: &Namespace) -> String {
    // An interface that was moved back is the last.
    let names = || links().into_iter().collect::<BTreeSet<_>>();
    let before = names();
    let error = plan.apply(container.file.as_fd()).unwrap_err();
    assert_eq!(names(), before);
    error.to_string()
}

/// A network namespace that is the host of one test: the thread of the test is in it, and so are
/// the programs that it starts.
struct Host(#[expect(dead_code, reason = "the namespace lives as long")] Namespace);

impl Ground for Host {
    type Way = ();

    const WAYS: &'static [()] = &[()];

    fn open(_: &str, (): ()) -> Result<Self, Stop> {
        static MISSING: OnceLock<Option<String>> = OnceLock::new();
        if let Some(missing) = MISSING.get_or_init(missing) {
            return Err(Stop::Lacking(missing.clone()));
        }
        let host = Namespace::new();
        host.enter();
        Ok(Self(host))
    }
}

type Case = pidone_tests::Case<Host>;

/// Returns what this machine lacks for a network of a container.
fn missing() -> Option<String> {
    let probe = || -> Result<(), String> {
        let namespace = Namespace::with(&["-n"])?;
        let attempt = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                namespace.enter();
                for kind in ["bridge", "veth"] {
                    let mut add = Command::new("ip");
                    add.args(["link", "add", "probe", "type", kind]);
                    let output = add.output().map_err(|error| format!("ip: {error}"))?;
                    if !output.status.success() {
                        return Err(format!(
                            "no {kind}: {}",
                            String::from_utf8_lossy(&output.stderr).trim()
                        ));
                    }
                    ip("link delete probe");
                }
                Ok(())
            });
            thread.join()
        });
        attempt.unwrap_or_else(|_| Err("setns is not permitted".to_owned()))
    };
    probe().err()
}

fn main() -> ExitCode {
    pidone_tests::main(&[veth::TESTS, device::TESTS])
}
