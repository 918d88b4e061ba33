//! What the agent of a seccomp filter sees of a start: one execve, of the file that a search has
//! found.
#![allow(unsafe_code, reason = "the ioctl of a listener")]

use std::fs;
use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use pidone::oci::linux::seccomp::{Seccomp, Syscall};
use pidone::{Config, Process};
use pidone_tests::{Case, DEADLINE, Outcome, Sandbox, Stop, case, output, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

pub(crate) const CASES: &[Case] = &[case!(an_agent_sees_one_execve).and_init()];

/// `struct seccomp_notif` with its data: `linux/seccomp.h`.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction_pointer: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
/// Lets the kernel execute the call: `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;

/// Waits for a descriptor. Returns whether there is something to read.
fn wait(file: &impl std::os::fd::AsFd) -> Result<bool, Stop> {
    let mut files = [PollFd::new(file, PollFlags::IN)];
    let time = Timespec::try_from(DEADLINE).map_err(|_| "the deadline")?;
    if poll(&mut files, Some(&time))? == 0 {
        return Err(Stop::Failed("nothing has arrived".into()));
    }
    Ok(files[0].revents().contains(PollFlags::IN))
}

/// Receives one listener, and permits every call that it is asked about until no process has the
/// filter. Returns their numbers.
fn serve(socket: &UnixListener) -> Result<Vec<i64>, Stop> {
    wait(socket)?;
    let (mut stream, _) = socket.accept()?;
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    recvmsg(&stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut listener: Option<OwnedFd> = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut received) = message {
            listener = received.next();
        }
    }
    let listener = listener.ok_or("no listener")?;
    stream.read_to_end(&mut Vec::new())?;
    let mut numbers = Vec::new();
    while wait(&listener)? {
        let mut asked = Notification::default();
        // SAFETY: the kernel writes a notification, of the size that the number of the call has.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) } != 0 {
            // Its process was killed.
            continue;
        }
        numbers.push(asked.number.into());
        let mut answer = Response { id: asked.id, value: 0, error: 0, flags: CONTINUE };
        // SAFETY: the kernel reads a response.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut answer) };
    }
    Ok(numbers)
}

/// A program that is searched for, and is in the last directory.
fn searched(args: &[&str], no_new_privileges: bool) -> Process {
    let mut process = process(args);
    process.env = vec!["PATH=/nowhere:/etc:/tmp:/".into()];
    process.no_new_privileges = no_new_privileges;
    process
}

fn an_agent_sees_one_execve(sandbox: &Sandbox) -> Outcome {
    let path = sandbox.path().join("agent");
    let rule = Syscall {
        names: vec!["execve".into(), "execveat".into()],
        action: "SCMP_ACT_NOTIFY".into(),
        ..Syscall::default()
    };
    let config = Config {
        seccomp_profile: Some(Seccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            listener_path: path.display().to_string(),
            syscalls: vec![rule],
            ..Seccomp::default()
        }),
        ..sandbox.config()
    };
    let agent = || -> Result<JoinHandle<_>, Stop> {
        let _ = fs::remove_file(&path);
        let socket = UnixListener::bind(&path)?;
        Ok(thread::spawn(move || serve(&socket)))
    };
    let seen = |agent: JoinHandle<Result<Vec<i64>, Stop>>| agent.join().map_err(|_| "panicked")?;
    for no_new_privileges in [false, true] {
        let of_first = agent()?;
        let first = searched(&["guest", "sleep"], no_new_privileges);
        let mut live = sandbox.start(&config, first)?;
        let of_further = agent()?;
        let further = searched(&["guest", "attempt"], no_new_privileges);
        let mut running = sandbox.join(&mut live.container, further)?;
        output(&mut running)?;
        assert_eq!(seen(of_further)?, [libc::SYS_execve], "{no_new_privileges}");
        live.kill()?;
        assert_eq!(seen(of_first)?, [libc::SYS_execve], "{no_new_privileges}");

        let of_prepared = agent()?;
        let prepared = searched(&["guest", "sleep"], no_new_privileges);
        let live = sandbox.prepare(&config, prepared)?.release()?;
        live.kill()?;
        assert_eq!(seen(of_prepared)?, [libc::SYS_execve], "{no_new_privileges}");
    }
    Ok(())
}
