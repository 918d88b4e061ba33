//! Plans that are as they should be, up to a program that runs or cannot be run.

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use pidone_proto::{Call, FrameType, Op, Part, Slot, Strings, Text};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::host::{Init, Said, await_close, body, part, pipe};

const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const ENOEXEC: i32 = 8;

/// An operation that executes the first of the candidates that there is.
pub(crate) fn exec<'a>(candidates: &'a [u8], arguments: &'a [u8]) -> Op<'a> {
    Op::Exec {
        candidates: Strings::new(candidates).unwrap(),
        arguments: Strings::new(arguments).unwrap(),
        environment: Strings::new(b"STATUS=42\0").unwrap(),
        preserved: 0,
        filter_flags: 0,
        filter: &[],
    }
}

fn shell(command: &[u8]) -> Vec<u8> {
    [b"sh\0-c\0", command, b"\0"].concat()
}

#[test]
fn the_init_becomes_the_program() {
    let mut init = Init::start();
    init.plan(&[exec(b"/bin/true\0", b"true\0")]);
    assert_eq!(init.executes(), Some(0));
    let mut init = Init::start();
    init.plan(&[exec(b"/bin/sh\0", &shell(b"exit $STATUS"))]);
    assert_eq!(init.executes(), Some(42));
}

#[test]
fn the_example_of_the_specification_runs() {
    let page = include_str!("../../../proto/WIRE.md");
    let example = page.split("## An example").nth(1).unwrap();
    let messages: Vec<Vec<u8>> = example
        .split("```")
        .skip(1)
        .step_by(2)
        .map(|hex| {
            let bytes = hex.trim_start_matches("text").split_whitespace();
            bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
        })
        .collect();
    let mut init = Init::start();
    // All but the host name, which only a container may change: two operations from 2 up.
    let mut plan = messages[0].clone();
    plan.drain(20..26);
    plan[17] = 2;
    plan[12] -= 6;
    init.send_bytes(&plan, &[]);
    assert_eq!(init.said(), Said::Barrier(7));
    init.send_bytes(&messages[2], &[]);
    assert_eq!(init.executes(), Some(0));
}

#[test]
fn candidates_are_tried_in_their_order() {
    let mut init = Init::start();
    init.plan(&[exec(
        b"/nonexistent/sh\0/etc/passwd/sh\0/bin/sh\0/bin/false\0",
        &shell(b"exit 7"),
    )]);
    assert_eq!(init.executes(), Some(7));
}

/// How executing one of the candidates fails, after the report that it is next.
fn fails(candidates: &[u8]) -> (u32, Call, u16, i32) {
    let mut init = Init::start();
    init.plan(&[Op::Umask { mask: 0o77 }, exec(candidates, b"x\0")]);
    assert_eq!(init.said(), Said::Executing);
    init.failed()
}

#[test]
fn a_program_that_cannot_be_executed_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned() + "\0";
    let file = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    file("plain", "text", 0o644);
    file("script", "#!/nonexistent/interpreter\n", 0o755);
    file("empty", "", 0o755);
    let both = |one: &str, other: &str| path(one) + &path(other);
    let fails = |candidates: String| fails(candidates.as_bytes());
    assert_eq!(fails(String::new()), (2, Call::Exec, 0, ENOENT));
    assert_eq!(fails(path("missing")), (2, Call::Exec, 0, ENOENT));
    assert_eq!(fails(path("plain")), (2, Call::Exec, 1, EACCES));
    assert_eq!(fails(both("missing", "plain")), (2, Call::Exec, 2, EACCES));
    assert_eq!(fails(both("plain", "missing")), (2, Call::Exec, 1, EACCES));
    assert_eq!(fails(path("script")), (2, Call::Interpreter, 1, ENOENT));
    assert_eq!(fails(both("missing", "script")), (2, Call::Interpreter, 2, ENOENT));
    assert_eq!(fails(path("empty")), (2, Call::Exec, 1, ENOEXEC));
    assert_eq!(fails(path(".")), (2, Call::Exec, 1, EACCES));
}

#[test]
fn the_program_starts_clean() {
    let mut init = Init::start_with(Stdio::piped());
    let (ours, theirs) = pipe();
    let plan = part(
        1,
        &[exec(b"/bin/sh\0", &shell(b"ls /proc/self/fd; exec cat /proc/self/status"))],
        false,
    );
    // A descriptor that no operation uses must not reach it either.
    init.send(FrameType::Part, &plan, &[theirs.as_fd()]);
    drop(theirs);
    let output = init.output();
    await_close(&ours);
    let (descriptors, status) = output.split_once("Name:").unwrap();
    // ls itself has the directory open.
    assert_eq!(descriptors.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!(field("Umask"), "0000");
    assert_eq!(field("SigIgn"), "0".repeat(16), "this process ignores SIGPIPE");
    assert_eq!(field("SigBlk"), "0".repeat(16));
}

#[test]
fn the_socket_does_not_survive_exec() {
    let mut op = exec(b"/bin/sleep\0", b"sleep\x0030\0");
    if let Op::Exec { preserved, .. } = &mut op {
        // As many as to have the socket among them.
        *preserved = 1000;
    }
    let mut init = Init::start();
    init.plan(&[op]);
    assert_eq!(init.said(), Said::Executing);
    // While the program runs.
    let said = init.said();
    init.child.kill().unwrap();
    assert_eq!(said, Said::End);
    crate::host::wait(&mut init.child);
}

#[test]
fn operations_run_in_their_order() {
    let mut init = Init::start_with(Stdio::piped());
    let command = shell(b"umask; pwd; cut -d ' ' -f 6 /proc/$$/stat; echo $$");
    init.plan(&[
        Op::Umask { mask: 0o27 },
        Op::ChangeDirectory { path: Text(c"/usr/../proc") },
        Op::Session,
        exec(b"/bin/sh\0", &command),
    ]);
    let output = init.output();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..2], ["0027", "/proc"]);
    assert_eq!(lines[2], lines[3], "a session of its own");
}

#[test]
fn a_barrier_waits_for_the_host() {
    let mut init = Init::start();
    let barriers = [Op::Barrier { id: 7 }, Op::Barrier { id: u32::MAX }];
    init.plan(&[barriers[0], barriers[1], exec(b"/bin/true\0", b"true\0")]);
    assert_eq!(init.said(), Said::Barrier(7));
    init.proceed();
    assert_eq!(init.said(), Said::Barrier(u32::MAX));
    init.proceed();
    assert_eq!(init.executes(), Some(0));
}

#[test]
fn a_plan_comes_in_parts_with_their_descriptors() {
    let mut init = Init::start();
    let (first, first_theirs) = pipe();
    let (second, second_theirs) = pipe();
    let close = Op::Close { slot: Slot(0) };
    init.send(FrameType::Part, &part(1, &[close], true), &[first_theirs.as_fd()]);
    init.send(FrameType::Part, &part(2, &[], true), &[]);
    init.send(
        FrameType::Part,
        &part(2, &[close, Op::Barrier { id: 1 }], true),
        &[second_theirs.as_fd()],
    );
    drop((first_theirs, second_theirs));
    assert_eq!(init.said(), Said::Barrier(1));
    await_close(&first);
    await_close(&second);
    init.proceed();
    init.send(FrameType::Part, &part(4, &[exec(b"/bin/true\0", b"true\0")], false), &[]);
    assert_eq!(init.executes(), Some(0));
}

#[test]
fn times_are_reported_before_exec() {
    let mut init = Init::start();
    let mut ops = vec![Op::Umask { mask: 0 }; 300];
    ops.push(exec(b"/bin/true\0", b"true\0"));
    let operations = u32::try_from(ops.len()).unwrap();
    let plan = body(Part { first: 1, operations, more: false, timed: true }, &ops);
    init.send(FrameType::Part, &plan, &[]);
    // Two stamps before those of the operations.
    assert_eq!(init.said(), Said::Times(0, 256));
    assert_eq!(init.said(), Said::Times(256, 46));
    assert_eq!(init.executes(), Some(0));
}

#[test]
fn times_are_reported_before_a_failure() {
    let mut init = Init::start();
    let ops = [Op::Umask { mask: 0 }, Op::Close { slot: Slot(9) }];
    let plan = body(Part { first: 1, operations: 2, more: false, timed: true }, &ops);
    init.send(FrameType::Part, &plan, &[]);
    assert_eq!(init.said(), Said::Times(0, 4));
    assert_eq!(init.failed(), (2, Call::Slot, 0, 9));
}

#[test]
fn a_fork_goes_on_as_a_child_of_the_host() {
    let mut init = Init::start();
    init.plan(&[Op::Fork { flags: 0 }, exec(b"/bin/sh\0", &shell(b"exit $STATUS"))]);
    let (said, pidfd) = init.receive();
    assert_eq!(said, Said::Forked);
    let pidfd = pidfd.unwrap();
    assert_eq!(crate::host::wait(&mut init.child).code(), Some(0));
    init.proceed();
    assert_eq!(init.said(), Said::Executing);
    assert_eq!(init.said(), Said::End);
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    assert_eq!(status.unwrap().exit_status(), Some(42));
}

#[test]
fn a_child_that_is_not_released_ends() {
    let mut init = Init::start();
    init.plan(&[Op::Fork { flags: 0 }, exec(b"/bin/true\0", b"true\0")]);
    let (said, pidfd) = init.receive();
    assert_eq!(said, Said::Forked);
    drop(init.socket);
    let status = waitid(WaitId::PidFd(pidfd.unwrap().as_fd()), WaitIdOptions::EXITED).unwrap();
    assert_eq!(status.unwrap().exit_status(), Some(125));
    assert_eq!(crate::host::wait(&mut init.child).code(), Some(0));
}
