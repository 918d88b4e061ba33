//! The standalone init: it runs one program, forwards signals to it and reaps orphans, like tini
//! and catatonit and with their options.
//!
//! It sleeps in the kernel until a signal comes, and never polls.
#![allow(unsafe_code, reason = "closes descriptors by their numbers")]

mod arguments;
mod exec;
mod message;
mod signal_name;

use rustix::process::{Pid, chdir, set_child_subreaper, setpgid};

use crate::failure::EXIT_STATUS;
use crate::kernel::descriptor::close_range;
use crate::kernel::process::{self, Waited};
use crate::kernel::signal;
use crate::strings::Strings;
use arguments::{Options, Stop};
use message::Level;

/// Runs the program that the arguments name, and exits with its status.
pub(crate) fn run(arguments: Strings, environment: Strings) -> ! {
    let mut options = Options::new(arguments);
    let status = match options.parse() {
        Ok(()) => {
            options.read_environment(environment);
            supervise(&options, environment)
        }
        Err(Stop::Print(text)) => {
            message::print(1, text);
            0
        }
        Err(Stop::Refuse(what, which)) => {
            message::say(Level::Fatal, what, which);
            message::print(2, arguments::usage());
            EXIT_STATUS
        }
    };
    process::exit(status)
}

/// Runs the program until it ends; returns the status to exit with.
fn supervise(options: &Options, environment: Strings) -> u8 {
    let saved = signal::block();
    if options.parent_death != 0 {
        // It cannot fail: the number is a signal.
        let _ = process::set_parent_death(options.parent_death.into());
    }
    // As PID 1 it gets the orphans anyway.
    let _ = set_child_subreaper(Some(Pid::INIT));
    let mut program = 0;
    if !options.pause {
        // Before there is a child, whose process group this process changes too.
        let in_foreground = process::is_in_foreground();
        match process::fork() {
            Ok(None) => {
                let _ = setpgid(None, None);
                if in_foreground {
                    // In the child: this process may be put in the background at any time.
                    process::enter_foreground();
                }
                saved.restore();
                return exec::exec(options.before_program, environment);
            }
            Ok(Some(child)) => program = child,
            Err(errno) => {
                message::note(Level::Fatal, b"fork failed: errno ", errno.raw_os_error());
                return EXIT_STATUS;
            }
        }
        // Here too: a signal for the group may come before the child has made the group.
        let _ = setpgid(Pid::from_raw(program), None);
        options.note(Level::Info, b"Spawned child process with pid ", program);
    }
    // Otherwise this process would keep file systems busy and pipes open.
    let _ = chdir(c"/");
    // SAFETY: this program owns no descriptor.
    unsafe { close_range(3, u32::MAX) };
    let status = wait_for_program(options, program);
    if options.is_expected(status) { 0 } else { status }
}

/// Forwards signals and reaps children until the program ends; returns its status. Without a
/// program (0), returns at `SIGTERM` and `SIGINT`.
fn wait_for_program(options: &Options, program: i32) -> u8 {
    loop {
        match signal::wait() {
            signal::CHLD => {}
            signal if program != 0 => forward(options, program, signal),
            signal::INT | signal::TERM => return 0,
            _ => {}
        }
        // At every signal: those with lower numbers come before `SIGCHLD`, however many they are.
        if let Some(status) = reap(options, program) {
            return status;
        }
    }
}

/// Reaps all children that have ended; returns the status of the program if it is one of them.
fn reap(options: &Options, program: i32) -> Option<u8> {
    let mut status = None;
    while let Waited::Ended(ended) = process::reap() {
        if ended.pid == program {
            let code = ended.shell_status();
            options.note(Level::Info, b"Main child exited with status ", i32::from(code));
            status = Some(code);
        } else {
            let level = if options.warn { Level::Warn } else { Level::Debug };
            options.note(level, b"Reaped zombie process with pid=", ended.pid);
        }
    }
    status
}

/// Passes a signal to the program, or to its process group.
fn forward(options: &Options, program: i32, signal: u8) {
    options.note(Level::Debug, b"Passing signal ", i32::from(signal));
    let target = if options.group { -program } else { program };
    if signal::send(target, signal).is_err() {
        // The program may have changed its user, so this is not fatal.
        options.note(Level::Warn, b"Failed to forward signal ", i32::from(signal));
    }
}
