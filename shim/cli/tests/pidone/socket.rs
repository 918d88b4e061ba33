//! Sockets and descriptors: the terminal, the pidfd, what is passed on.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::{Case, case};
use pidone_tests::{Bench, Call, DEADLINE, eventually};

pub(crate) const CASES: &[Case] = &[
    case("the_master_goes_to_the_console_socket", &[], the_master_goes_to_the_console_socket),
    case("long_socket_paths_work", &[], long_socket_paths_work),
    case("a_pidfd_goes_to_its_socket", &[], a_pidfd_goes_to_its_socket),
    case("descriptors_are_preserved", &[], descriptors_are_preserved),
    case("listening_sockets_are_passed_on", &[], listening_sockets_are_passed_on),
    case(
        "readiness_is_reported_to_a_service_manager",
        &[],
        readiness_is_reported_to_a_service_manager,
    ),
    case("nothing_else_is_inherited", &[], nothing_else_is_inherited),
];

/// What one connection sends: a descriptor with its name.
fn receive(listener: &UnixListener) -> (OwnedFd, String) {
    let (stream, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    let mut buffers = [IoSliceMut::new(&mut name)];
    let received =
        recvmsg(stream.as_fd(), &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut files: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(files.len(), 1);
    (files.remove(0), String::from_utf8(name[..received.bytes].to_vec()).unwrap())
}

/// Reads from a terminal until it has said something.
fn expect(master: &mut File, wanted: &str) {
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains(wanted) {
        let count = master.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

fn the_master_goes_to_the_console_socket(bench: &Bench) {
    let socket = bench.text("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let line = "read word; echo got:$word:$(tty); while :; do sleep 0.05; done";
    let mut config = bench.config(&["sh", "-c", line]);
    config["process"]["terminal"] = json!(true);
    config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    let bundle = bench.bundle(&config);
    let refused = bench.run(&["create", "-b", &bundle, "t"]).error(1);
    assert!(refused.contains("a detached process with a terminal needs one"), "{refused}");
    bench.run(&["create", "-b", &bundle, "--console-socket", &socket, "t"]).ok();
    let (master, name) = receive(&listener);
    assert_eq!(name, "/dev/ptmx");
    assert!(rustix::termios::isatty(&master));
    let size = rustix::termios::tcgetwinsize(&master).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (33, 77));
    bench.run(&["start", "t"]).ok();
    let mut master = File::from(master);
    master.write_all(b"hello\n").unwrap();
    expect(&mut master, "got:hello:/dev/");

    let arguments =
        ["exec", "-t", "-d", "--console-socket", &socket, "t", "sh", "-c", "tty; sleep 9"];
    bench.run(&arguments).ok();
    let (master, _) = receive(&listener);
    expect(&mut File::from(master), "/dev/pts/");
    bench.delete("t");
}

fn long_socket_paths_work(bench: &Bench) {
    let directory = bench.path(&"d".repeat(120));
    fs::create_dir(&directory).unwrap();
    // It is bound by a short name, and moved.
    let listener = UnixListener::bind(bench.path("short")).unwrap();
    let path = directory.join("console");
    fs::rename(bench.path("short"), &path).unwrap();
    let mut config = bench.staying();
    config["process"]["terminal"] = json!(true);
    let bundle = bench.bundle(&config);
    bench.run(&["create", "-b", &bundle, "--console-socket", path.to_str().unwrap(), "t"]).ok();
    assert!(rustix::termios::isatty(receive(&listener).0));
    bench.delete("t");
}

fn a_pidfd_goes_to_its_socket(bench: &Bench) {
    let socket = bench.text("pidfd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let bundle = bench.bundle(&bench.staying());
    bench.detached(&["run", "-d", "-b", &bundle, "--pidfd-socket", &socket, "p"]);
    let (pidfd, name) = receive(&listener);
    assert_eq!(name, "standard");
    bench.detached(&["exec", "-d", "--pidfd-socket", &socket, "p", "sleep", "1000"]);
    let (joined, name) = receive(&listener);
    assert_eq!(name, "setns");
    for pidfd in [&joined, &pidfd] {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let ended = |wait: i64| {
            let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec { tv_sec: wait, tv_nsec: 0 })).unwrap() == 1
        };
        assert!(!ended(0));
        rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL).unwrap();
        assert!(ended(60));
    }
    bench.delete("p");
}

/// Runs a line of a shell in which `$0` is pidone with the test's state root.
fn shell(bench: &Bench, line: &str) -> pidone_tests::Finished {
    let mut command = Command::new("sh");
    command
        .args(["-c", line, env!("CARGO_BIN_EXE_pidone")])
        .arg(bench.path("state"))
        .arg(bench.bundle(&bench.config(&["sh", "-c", "cat <&3; cat <&4; env; ls /proc/self/fd"])))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(bench.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    bench.finish(&mut command)
}

fn descriptors_are_preserved(bench: &Bench) {
    bench.write("three", "three\n");
    bench.write("four", "four\n");
    let text =
        shell(bench, "exec \"$0\" --root \"$1\" run -b \"$2\" --preserve-fds 2 p 3<three 4<four")
            .ok();
    assert!(text.starts_with("three\nfour\n"), "{text}");
    // ls has one more for the directory.
    assert!(text.ends_with("\n0\n1\n2\n3\n4\n5\n"), "{text}");
    let refused =
        shell(bench, "exec \"$0\" --root \"$1\" run -b \"$2\" --preserve-fds 2 p 3<three");
    assert!(refused.error(1).contains("preserve descriptor `4`: Bad file"));
    // What pidone has open itself is never counted.
    let refused =
        shell(bench, "exec \"$0\" --root \"$1\" --log log run -b \"$2\" --preserve-fds 1 p");
    assert!(refused.error(1).contains("preserve descriptor `3`: Bad file"));
    bench.keep("e", &bench.staying());
    let text =
        shell(bench, "exec \"$0\" --root \"$1\" exec --preserve-fds 1 e sh -c 'cat <&3' 3<three")
            .ok();
    assert_eq!(text, "three\n");
    bench.delete("e");
}

fn listening_sockets_are_passed_on(bench: &Bench) {
    bench.write("three", "three\n");
    bench.write("four", "four\n");
    let line = "export LISTEN_FDS=1 LISTEN_PID=$$; \
                exec \"$0\" --root \"$1\" run -b \"$2\" --preserve-fds 1 p 3<three 4<four";
    let text = shell(bench, line).ok();
    assert!(text.starts_with("three\nfour\n"), "{text}");
    assert!(text.contains("\nLISTEN_FDS=1\n") && text.contains("\nLISTEN_PID=1\n"), "{text}");
    // They are meant for the process that they name.
    let line = "export LISTEN_FDS=1 LISTEN_PID=1; \
                exec \"$0\" --root \"$1\" run -b \"$2\" --preserve-fds 2 p 3<three 4<four";
    let text = shell(bench, line).ok();
    assert!(!text.contains("LISTEN_"), "{text}");
}

fn readiness_is_reported_to_a_service_manager(bench: &Bench) {
    let socket = bench.text("manager.sock");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let hear = || {
        let mut buffer = [0; 4096];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    // logger(1) is the one program of busybox that writes to a datagram socket.
    let line = "ln -s $NOTIFY_SOCKET /dev/log; busybox logger \"$(printf 'x\\nREADY=1')\"; \
                while :; do sleep 0.05; done";
    let bundle = bench.bundle(&bench.config(&["sh", "-c", line]));
    let command = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        command.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert_eq!(bench.finish(&mut command(&["create", "-b", &bundle, "n"])).code(), 0);
    let mut start = Call::start(&mut command(&["start", "n"]));
    let pid = bench.state("n")["pid"].to_string();
    assert_eq!(hear(), format!("MAINPID={pid}\nREADY=1\n"));
    // It goes on once the manager has read everything.
    assert_eq!(hear(), "BARRIER=1");
    assert!(eventually(|| !start.is_running()));
    bench.delete("n");
    // In the foreground this process is the one to watch.
    let run = Call::start(&mut command(&["run", "-b", &bundle, "n"]));
    assert_eq!(hear(), format!("MAINPID={}\nREADY=1\n", run.pid()));
    assert_eq!(hear(), "BARRIER=1");
    bench.run(&["kill", "n", "KILL"]).ok();
    assert_eq!(run.finish().code(), 137);
}

fn nothing_else_is_inherited(bench: &Bench) {
    bench.write("three", "three\n");
    let mut command = Command::new("sh");
    let bundle = bench.bundle(&bench.config(&["ls", "/proc/self/fd"]));
    command
        .args(["-c", "exec \"$0\" --root \"$1\" run -b \"$2\" n 3<three 7<three"])
        .args([env!("CARGO_BIN_EXE_pidone"), &bench.text("state"), &bundle])
        .current_dir(bench.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    assert_eq!(bench.finish(&mut command).ok(), "0\n1\n2\n3\n");
    assert!(eventually(|| bench.run(&["list", "-q"]).stdout.is_empty()));
}
