//! The init that stands alone: it runs one program, forwards signals to it and reaps what it
//! leaves behind, as tini and catatonit do and with their options.
//!
//! It sleeps in the kernel until there is a signal: nothing is looked at again and again.

mod arguments;
mod exec;
mod message;

use crate::child::{self, Waited};
use crate::strings::Strings;
use crate::{interpret, signal, sys};
use arguments::{Options, Stop};
use message::Level;

/// Runs the program that the arguments name, and exits with its status.
pub(crate) fn run(arguments: Strings, environment: Strings) -> ! {
    let mut options = Options::new(arguments);
    let status = match options.parse() {
        Ok(()) => {
            options.read(environment);
            supervise(&options, environment)
        }
        Err(Stop::Print(text)) => {
            message::print(1, text);
            0
        }
        Err(Stop::Refuse(what, which)) => {
            message::say(Level::Fatal, what, which);
            message::print(2, arguments::usage());
            interpret::FAILED
        }
    };
    sys::exit(status)
}

/// Runs the program until it ends: the status to exit with.
fn supervise(options: &Options, environment: Strings) -> u8 {
    let before = signal::block();
    if options.parent_death != 0 {
        // The number is that of a signal, which is all that the kernel asks.
        let _ = child::set_parent_death(options.parent_death);
    }
    // As PID 1 it gets the orphans anyway.
    let _ = child::become_subreaper();
    let mut program = 0;
    if !options.pause {
        // Before there is a child, whose group this process changes, too.
        let had_terminal = child::has_terminal();
        match child::fork() {
            Ok(None) => {
                let _ = child::lead_group(0);
                if had_terminal {
                    // By the child: an init above may put this one in the background any time.
                    child::take_terminal();
                }
                before.restore();
                return exec::exec(options.before_program, environment);
            }
            Ok(Some(child)) => program = child,
            Err(errno) => {
                message::note(Level::Fatal, b"fork failed: errno ", errno.raw_os_error());
                return interpret::FAILED;
            }
        }
        // Here too: a signal for the group may come before the child has made it.
        let _ = child::lead_group(program);
        options.note(Level::Info, b"Spawned child process with pid ", program);
    }
    // What is held here could not be unmounted, and the other end of a pipe would wait for ever.
    let _ = rustix::process::chdir(c"/");
    sys::close_range(3, u32::MAX);
    let status = attend(options, program);
    if options.is_expected(status) { 0 } else { status }
}

/// Forwards signals and reaps children until the program ends: its status. Without a program, which
/// is number 0, it ends at `SIGTERM` and `SIGINT`.
fn attend(options: &Options, program: i32) -> u8 {
    loop {
        let signal = signal::wait();
        if signal == signal::CHLD {
            if let Some(status) = reap(options, program) {
                return status;
            }
        } else if program != 0 {
            forward(options, program, signal);
        } else if matches!(signal, signal::INT | signal::TERM) {
            return 0;
        }
    }
}

/// Reaps all that have ended: the status of the program, if it is among them.
fn reap(options: &Options, program: i32) -> Option<u8> {
    let mut status = None;
    while let Waited::Ended(ended) = child::reap() {
        if ended.pid == program {
            let told = ended.shell_status();
            options.note(Level::Info, b"Main child exited with status ", i32::from(told));
            status = Some(told);
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
        // The program may have changed its user: no reason to end.
        options.note(Level::Warn, b"Failed to forward signal ", i32::from(signal));
    }
}
