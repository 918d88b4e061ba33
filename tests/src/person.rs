//! A person at a terminal, played by a test with a pty.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::{Bench, Call, eventually};

/// A terminal with a person in front of it.
#[derive(Debug)]
pub struct Person {
    master: OwnedFd,
    terminal: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Person {
    /// Opens a terminal of this size.
    pub fn new(rows: u16, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = openat(CWD, name.as_c_str(), flags, Mode::empty()).unwrap();
        let person = Self { master, terminal, seen: Arc::default() };
        person.resize(rows, columns);
        person
    }

    /// Sets the size of the terminal.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// Types keys.
    pub fn types(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    /// What the terminal has shown so far.
    pub fn seen(&self) -> String {
        let mut seen = self.seen.lock().unwrap();
        let mut bytes = [0; 4096];
        let mut eyes = File::from(self.master.try_clone().unwrap());
        let has_more = || {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::IN)
        };
        while has_more() {
            let Ok(count @ 1..) = eyes.read(&mut bytes) else { break };
            seen.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Waits until the terminal has shown a text.
    #[track_caller]
    pub fn waits_for(&self, text: &str) {
        assert!(eventually(|| self.seen().contains(text)), "no {text:?} in {:?}", self.seen());
    }

    /// Whether keys are echoed and lines are edited, as they are for a shell.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap();
        modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Starts the program of a bench with this terminal, as a shell does: it leads a session, and
    /// the kernel sends it the signals of the terminal.
    pub fn starts(&self, bench: &Bench, arguments: &[&str]) -> Call {
        let state = bench.text("state");
        let program = bench.program().to_str().unwrap();
        let all = [&["-c", program, "--root", &state], arguments].concat();
        let mut command = bench.command_of(Path::new("/usr/bin/setsid"), &all);
        let end = || Stdio::from(self.terminal.as_fd().try_clone_to_owned().unwrap());
        bench.start(command.stdin(end()).stdout(end()).stderr(end()))
    }

    /// Closes the window: the terminal hangs up, and the kernel says so to the program.
    pub fn leaves(self) {}
}
