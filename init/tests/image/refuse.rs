//! Whatever a host sends that it should not: a clear failure, and never a hang or a signal.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use pidone_proto::frame::HEADER_LENGTH;
use pidone_proto::{Bincode, Call, Codec, FrameType, Op, Part, Slot, Strings, Text, limits};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{Shutdown, shutdown};

use crate::exec::exec;
use crate::host::{Failed, Init, Said, await_close, body, is_open, part, pipe, spawn, wait};

const EBADF: i32 = 9;
const EINVAL: i32 = 22;
const EPIPE: i32 = 32;
const ENODATA: i32 = 61;
const EPROTO: i32 = 71;
const EMSGSIZE: i32 = 90;

const MALFORMED: (Call, u16, i32) = (Call::Decode, 0, EPROTO);
const UNEXPECTED: (Call, u16, i32) = (Call::Receive, 0, EPROTO);

/// A failure at a step.
fn at(step: u32, (call, detail, errno): (Call, u16, i32)) -> Failed {
    (step, call, detail, errno)
}

/// What an init reports for bytes.
fn answer(bytes: &[u8]) -> Failed {
    let init = Init::start();
    init.send_bytes(bytes, &[]);
    init.failed()
}

/// What an init reports for the body of a part.
fn answer_to_part(body: &[u8]) -> Failed {
    let mut init = Init::start();
    init.send(FrameType::Part, body, &[]);
    init.failed()
}

/// A plan that would run, as a message.
fn good() -> Vec<u8> {
    let body = part(1, &[exec(b"/bin/true\0", b"true\0")], false);
    let mut init = Init::start();
    let header = init.header(FrameType::Part, &body, 0).to_bytes();
    shutdown(&init.socket, Shutdown::Both).unwrap();
    init.ends();
    [&header[..], &body].concat()
}

#[test]
fn headers_are_refused_with_their_code() {
    let good = good();
    let changed = |place: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[place] = byte;
        answer(&bytes)
    };
    let refused = |code| (0, Call::Receive, code, EPROTO);
    assert_eq!(changed(0, b'q'), refused(2));
    assert_eq!(changed(4, 0), refused(3));
    assert_eq!(changed(4, 2), refused(3));
    assert_eq!(changed(5, 2), refused(4));
    assert_eq!(changed(5, 0), refused(4));
    assert_eq!(changed(6, 0), refused(5));
    assert_eq!(changed(6, 7), refused(5));
    // A start is known, and has no place here.
    assert_eq!(changed(6, 4), refused(0));
    assert_eq!(changed(7, 1), refused(7));
    assert_eq!(changed(8, 1), refused(8));
    assert_eq!(changed(11, 1), refused(8));
    assert_eq!(changed(12, good[12] - 1), refused(6));
    assert_eq!(changed(12, good[12] + 1), refused(6));
    assert_eq!(changed(15, 0xff), refused(6));
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    let good = good();
    for length in 1..good.len() {
        let code = if length < HEADER_LENGTH { 1 } else { 6 };
        assert_eq!(answer(&good[..length]), (0, Call::Receive, code, EPROTO), "{length} bytes");
    }
}

#[test]
fn a_plan_cut_anywhere_is_refused() {
    let body = part(1, &[exec(b"/bin/true\0", b"true\0")], false);
    for length in 0..body.len() {
        // Four bytes of head.
        let step = u32::from(length >= 4);
        assert_eq!(answer_to_part(&body[..length]), at(step, MALFORMED), "{length} bytes");
    }
}

#[test]
fn a_message_that_is_too_long_is_refused() {
    let mut bytes = good();
    bytes.resize(limits::FRAME + 1, 0);
    assert_eq!(answer(&bytes), (0, Call::Receive, 0, EMSGSIZE));
}

#[test]
fn a_message_of_no_bytes_is_the_end() {
    assert_eq!(answer(b""), (0, Call::Receive, 0, EPIPE));
}

#[test]
fn messages_that_only_the_init_sends_or_that_come_too_early_are_refused() {
    for frame_type in [FrameType::Report, FrameType::Proceed] {
        let mut init = Init::start();
        init.send(frame_type, b"", &[]);
        assert_eq!(init.failed(), at(0, UNEXPECTED));
    }
}

#[test]
fn descriptors_that_were_not_announced_are_refused() {
    let (_ours, theirs) = pipe();
    let init = Init::start();
    init.send_bytes(&good(), &[theirs.as_fd(), theirs.as_fd()]);
    assert_eq!(init.failed(), (0, Call::Receive, 7, EPROTO));
}

#[test]
fn the_init_ends_with_its_host() {
    let init = Init::start();
    let Init { mut child, socket, .. } = init;
    drop(socket);
    assert_eq!(wait(&mut child).code(), Some(125));
}

#[test]
fn a_host_that_stops_sending_is_an_error() {
    let init = Init::start();
    shutdown(&init.socket, Shutdown::Write).unwrap();
    assert_eq!(init.failed(), (0, Call::Receive, 0, EPIPE));

    let mut init = Init::start();
    let umask = Op::Umask { mask: 0 };
    init.send(FrameType::Part, &part(1, &[umask, umask], true), &[]);
    shutdown(&init.socket, Shutdown::Write).unwrap();
    assert_eq!(init.failed(), (2, Call::Receive, 0, EPIPE), "between two parts");

    let mut init = Init::start();
    init.plan(&[umask, Op::Barrier { id: 1 }]);
    assert_eq!(init.said(), Said::Barrier(1));
    shutdown(&init.socket, Shutdown::Write).unwrap();
    assert_eq!(init.failed(), (2, Call::Receive, 0, EPIPE), "at a barrier");
}

#[test]
fn unknown_operations_are_refused_at_their_step() {
    let umask = Op::Umask { mask: 0 };
    let mut unknown = part(1, &[umask, umask], false);
    unknown[1] = 3;
    for bytes in [&[250][..], &[251, 0xff, 0xff], &[255], &[22, 3, b'a', b'b', b'c'], &[22, 0]] {
        assert_eq!(answer_to_part(&[&unknown, bytes].concat()), at(3, MALFORMED), "{bytes:?}");
    }
}

#[test]
fn a_key_without_a_value_is_refused() {
    for options in [&b"ro\0"[..], b"mode\x00755\0ro\0"] {
        let op = Op::MakeMount {
            into: Slot(256),
            fstype: Text(c"tmpfs"),
            options: Strings::new(options).unwrap(),
            attributes: 0,
        };
        assert_eq!(answer_to_part(&part(1, &[op], false)), at(1, MALFORMED));
    }
}

#[test]
fn a_part_of_an_instruction_is_refused() {
    // A return of SECCOMP_RET_ALLOW, and a byte.
    let filter = [6, 0, 0, 0, 0, 0, 0xff, 0x7f, 0];
    let seccomp = Op::Seccomp { flags: 0, filter: &filter };
    let failed = answer_to_part(&part(1, &[Op::NoNewPrivileges, seccomp], false));
    assert_eq!(failed, (2, Call::Seccomp, 0, EINVAL));
    let whole = Op::Seccomp { flags: 0, filter: &filter[..8] };
    let failed = answer_to_part(&part(1, &[Op::NoNewPrivileges, whole], false));
    assert_eq!(failed, (2, Call::Decode, 0, ENODATA), "the whole one is installed");
}

#[test]
fn bytes_after_the_operations_are_refused() {
    let mut body = part(1, &[Op::Umask { mask: 0 }], false);
    body.push(0);
    assert_eq!(answer_to_part(&body), at(1, MALFORMED));
    assert_eq!(answer_to_part(&[1, 0, 0, 0, 0]), at(0, MALFORMED));
    // Before exec, which leaves nobody to look.
    let mut body = part(1, &[exec(b"/bin/true\0", b"true\0")], false);
    body.push(0);
    assert_eq!(answer_to_part(&body), at(1, MALFORMED));
}

#[test]
fn parts_are_numbered() {
    let umask = Op::Umask { mask: 0 };
    for first in [0, 2, u32::MAX] {
        assert_eq!(answer_to_part(&part(first, &[umask], false)), at(0, MALFORMED));
    }
    for first in [0, 1, 2, 4] {
        let mut init = Init::start();
        init.send(FrameType::Part, &part(1, &[umask, umask], true), &[]);
        init.send(FrameType::Part, &part(first, &[umask], false), &[]);
        assert_eq!(init.failed(), at(2, MALFORMED), "{first}");
    }
}

#[test]
fn a_plan_must_end_in_exec() {
    assert_eq!(answer_to_part(&part(1, &[], false)), (0, Call::Decode, 0, ENODATA));
    let umask = Op::Umask { mask: 0 };
    assert_eq!(answer_to_part(&part(1, &[umask], false)), (1, Call::Decode, 0, ENODATA));
}

#[test]
fn a_head_can_lie_about_its_operations() {
    // So many that they could not be there.
    let head = Part { first: 1, operations: u32::MAX, more: false, timed: false };
    let umask = Op::Umask { mask: 0 };
    assert_eq!(answer_to_part(&body(head, &[umask, umask])), at(3, MALFORMED));
}

#[test]
fn slots_that_hold_nothing_are_refused() {
    for slot in [0, 1, 253, 256, 511, 512, u16::MAX] {
        let close = Op::Close { slot: Slot(slot) };
        assert_eq!(answer_to_part(&part(1, &[close], false)), (1, Call::Slot, 0, EBADF));
    }
}

#[test]
fn a_barrier_takes_nothing_but_proceed() {
    let barred = || {
        let mut init = Init::start();
        init.plan(&[Op::Barrier { id: 3 }, exec(b"/bin/true\0", b"true\0")]);
        assert_eq!(init.said(), Said::Barrier(3));
        init
    };
    let mut init = barred();
    init.send(FrameType::Part, b"", &[]);
    assert_eq!(init.failed(), at(1, UNEXPECTED));
    let mut init = barred();
    init.send(FrameType::Part, &part(2, &[Op::Umask { mask: 0 }], false), &[]);
    assert_eq!(init.failed(), (1, Call::Receive, 0, EMSGSIZE));
    let mut init = barred();
    init.send(FrameType::Proceed, b"x", &[]);
    assert_eq!(init.failed(), (1, Call::Receive, 0, EMSGSIZE));
    let mut init = barred();
    let mut early = init.header(FrameType::Proceed, b"", 0);
    early.sequence += 1;
    init.send_bytes(&early.to_bytes(), &[]);
    assert_eq!(init.failed(), (1, Call::Receive, 8, EPROTO));
    let mut init = barred();
    let header = init.header(FrameType::Proceed, b"", 0).to_bytes();
    init.send_bytes(&header[..HEADER_LENGTH - 1], &[]);
    assert_eq!(init.failed(), (1, Call::Receive, 1, EPROTO));
    let init = barred();
    let Init { mut child, socket, .. } = init;
    drop(socket);
    assert_eq!(wait(&mut child).code(), Some(125));
}

/// A memory file with seals.
fn memory(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let file = memfd_create("plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    assert_eq!(rustix::io::write(&file, bytes).unwrap(), bytes.len());
    fcntl_add_seals(&file, seals).unwrap();
    file
}

const ENOUGH: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK);

#[test]
fn a_plan_in_a_memfd_runs_if_it_cannot_change() {
    let environment = [&[b'x'; 200_000][..], b"=1\0"].concat();
    let large = |seals| {
        let mut op = exec(b"/bin/true\0", b"true\0");
        if let Op::Exec { environment: place, .. } = &mut op {
            // Larger than a message, smaller than what the kernel takes for one string.
            *place = Strings::new(&environment[100_000..]).unwrap();
        }
        memory(&part(1, &[op], false), seals)
    };
    for seals in [ENOUGH, ENOUGH | SealFlags::GROW | SealFlags::SEAL] {
        let mut init = Init::start();
        init.send(FrameType::PartInMemfd, b"", &[large(seals).as_fd()]);
        assert_eq!(init.executes(), Some(0));
    }
    for seals in [
        SealFlags::empty(),
        SealFlags::WRITE,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        SealFlags::FUTURE_WRITE | SealFlags::SHRINK,
    ] {
        let mut init = Init::start();
        init.send(FrameType::PartInMemfd, b"", &[large(seals).as_fd()]);
        assert_eq!(init.failed(), at(0, UNEXPECTED), "{seals:?}");
    }
}

#[test]
fn a_memfd_takes_no_slot() {
    let (first, first_theirs) = pipe();
    let (second, second_theirs) = pipe();
    let close = |slot| Op::Close { slot: Slot(slot) };
    let barrier = |id| Op::Barrier { id };
    let ops = [close(0), barrier(0), close(1), barrier(1), close(2)];
    let file = memory(&part(1, &ops, false), ENOUGH);
    let mut init = Init::start();
    let files = [file.as_fd(), first_theirs.as_fd(), second_theirs.as_fd()];
    init.send(FrameType::PartInMemfd, b"", &files);
    drop((first_theirs, second_theirs));
    assert_eq!(init.said(), Said::Barrier(0));
    await_close(&first);
    assert!(is_open(&second));
    init.proceed();
    assert_eq!(init.said(), Said::Barrier(1));
    await_close(&second);
    init.proceed();
    assert_eq!(init.failed(), (5, Call::Slot, 0, EBADF));
}

#[test]
fn a_part_is_in_the_message_or_in_the_memfd() {
    let plan = part(1, &[exec(b"/bin/true\0", b"true\0")], false);
    let mut init = Init::start();
    init.send(FrameType::PartInMemfd, &plan, &[memory(&plan, ENOUGH).as_fd()]);
    assert_eq!(init.failed(), at(0, UNEXPECTED));
}

#[test]
fn a_descriptor_that_is_no_memfd_or_plan_is_refused() {
    let answer = |file: OwnedFd| {
        let mut init = Init::start();
        init.send(FrameType::PartInMemfd, b"", &[file.as_fd()]);
        init.failed()
    };
    assert_eq!(answer(pipe().1), (0, Call::Receive, 0, EINVAL));
    assert_eq!(answer(File::open("/etc/passwd").unwrap().into()), (0, Call::Receive, 0, EINVAL));
    assert_eq!(answer(memory(b"", ENOUGH)), (0, Call::Memory, 0, EINVAL));
    assert_eq!(answer(memory(b"\x01", ENOUGH)), at(0, MALFORMED));
    let large = memfd_create("plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&large, limits::PLAN as u64 + 1).unwrap();
    fcntl_add_seals(&large, ENOUGH).unwrap();
    assert_eq!(answer(large), at(0, UNEXPECTED));
    let mut init = Init::start();
    init.send(FrameType::PartInMemfd, b"", &[]);
    assert_eq!(init.failed(), (0, Call::Slot, 0, EBADF));
}

#[test]
fn without_a_socket_the_init_ends() {
    // A file, and a number that is no descriptor.
    let file = File::open("/dev/null").unwrap();
    assert_eq!(wait(&mut spawn(file.into(), Stdio::null())).code(), Some(125));
    for arguments in [
        &["--control="][..],
        &["--control=x"],
        &["--control=2"],
        &["--control=-1"],
        &["--control=400"],
        &["--control=99999999999999999999"],
    ] {
        let mut command = std::process::Command::new(env!("PIDONE_INIT_IMAGE"));
        let mut child = command.args(arguments).stdin(Stdio::null()).spawn().unwrap();
        assert_eq!(wait(&mut child).code(), Some(125), "{arguments:?}");
    }
}

#[test]
fn the_image_speaks_its_codec_alone() {
    assert_eq!(Bincode::ID, 1);
    let file = std::fs::read(env!("PIDONE_INIT_IMAGE")).unwrap();
    assert_eq!(file, pidone::launch::image::EMBEDDED.bytes(), "what is tested is what is embedded");
}
