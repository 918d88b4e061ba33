//! The interpreter, with the host at the other end of the socket.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::vec::Vec;
use std::{fs, vec};

use rustix::fs::Mode;

use pidone_proto::{Codec as _, Report, Slot};
use rustix::fd::AsFd as _;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::*;
use crate::channel::Wire;
use crate::peer::{Peer, is_closed, pipe};
use crate::root::Root;

/// Encodes operations as in a part.
fn encoded(ops: &[Op<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for op in ops {
        let mut buffer = vec![0; 1024];
        let length = Wire::encode(op, &mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..length]);
    }
    bytes
}

/// Runs the operations of a part that claims to have `count`; returns the outcome and the step.
fn run(init: &mut Init, count: u32, bytes: Vec<u8>) -> (Result, u32) {
    let part = Part { first: init.step + 1, operations: count, more: true, timed: false };
    let outcome = run_part(init, part, bytes.leak());
    (outcome.map(drop), init.step)
}

fn close(slot: u16) -> Op<'static> {
    Op::Close { slot: Slot(slot) }
}

#[test]
fn operations_are_counted_over_parts() {
    let (_peer, channel) = Peer::pair();
    let mut init = Init::new(channel);
    for slot in 0..3 {
        init.slots.put(Slot(slot), pipe().1).unwrap();
    }
    assert_eq!(run(&mut init, 2, encoded(&[close(0), close(1)])), (Ok(()), 2));
    assert_eq!(run(&mut init, 0, Vec::new()), (Ok(()), 2));
    // The third succeeds, the fourth fails: its slot is empty by then.
    let failure = Failure::new(Call::Slot, Errno::BADF);
    assert_eq!(run(&mut init, 3, encoded(&[close(2), close(2), close(2)])), (Err(failure), 4));
}

#[test]
fn an_operation_runs_before_the_next_is_decoded() {
    let (_peer, channel) = Peer::pair();
    let mut init = Init::new(channel);
    let (ours, theirs) = pipe();
    init.slots.put(Slot(0), theirs).unwrap();
    let mut bytes = encoded(&[close(0)]);
    bytes.push(250);
    assert_eq!(run(&mut init, 2, bytes), (Err(Failure::unexpected(Call::Decode)), 2));
    assert!(is_closed(&ours));
}

#[test]
fn a_series_of_links_opens_its_directory_once() {
    let base = tempfile::tempdir().unwrap();
    let name = CString::new(base.path().as_os_str().as_bytes()).unwrap();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
    let mut init = Init::new(Peer::pair().1);
    init.set_root(Root::new(root));
    let link = |path| Op::MakeLink { target: Text(c"x"), path: Text(path), replace: false };
    let mut make = |ops: &[Op<'_>]| {
        let count = u32::try_from(ops.len()).unwrap();
        run(&mut init, count, encoded(ops)).0.unwrap();
    };
    make(&[link(c"/d/one")]);
    fs::rename(base.path().join("d"), base.path().join("old")).unwrap();
    make(&[link(c"/d/two"), link(c"/e/three"), link(c"/d/four")]);
    // After any other operation, such as a mount, the path is resolved again.
    fs::rename(base.path().join("d"), base.path().join("older")).unwrap();
    make(&[Op::Umask { mask: 0 }, link(c"/d/five")]);
    for path in ["old/one", "old/two", "e/three", "older/four", "d/five"] {
        assert!(base.path().join(path).is_symlink(), "{path}");
    }
}

#[test]
fn a_part_with_another_number_of_operations_is_refused() {
    let (_peer, channel) = Peer::pair();
    let mut init = Init::new(channel);
    for slot in 0..4 {
        init.slots.put(Slot(slot), pipe().1).unwrap();
    }
    let decode = Err(Failure::unexpected(Call::Decode));
    // The last operation does not run.
    assert_eq!(run(&mut init, 1, encoded(&[close(0), close(1)])), (decode, 1));
    assert!(init.slots.get(Slot(0)).is_ok());
    assert_eq!(run(&mut init, 2, encoded(&[close(2)])), (decode, 3));
    assert_eq!(run(&mut init, 0, vec![0]), (decode, 3));
}

#[test]
fn a_barrier_waits_for_the_host() {
    let (mut peer, channel) = Peer::pair();
    let mut init = Init::new(channel);
    peer.send(FrameType::Proceed, b"", &[]);
    assert_eq!(run(&mut init, 1, encoded(&[Op::Barrier { id: 9 }])), (Ok(()), 1));
    assert_eq!(peer.receive().report(), Report::Barrier { id: 9 });
}

#[test]
fn only_proceed_ends_a_wait() {
    let failed = |send: &dyn Fn(&mut Peer)| {
        let (mut peer, channel) = Peer::pair();
        let mut init = Init::new(channel);
        send(&mut peer);
        let (outcome, _) = run(&mut init, 1, encoded(&[Op::Barrier { id: 9 }]));
        outcome.unwrap_err()
    };
    let part = failed(&|peer| peer.send(FrameType::Part, b"", &[]));
    assert_eq!(part, Failure::unexpected(Call::Receive));
    let part = failed(&|peer| peer.send(FrameType::Part, b"\x02\x01\x00\x00\x04", &[]));
    assert_eq!(part, Failure::new(Call::Receive, Errno::MSGSIZE));
    let report = failed(&|peer| peer.send(FrameType::Report, b"", &[]));
    assert_eq!(report, Failure::unexpected(Call::Receive));
    let longer = failed(&|peer| peer.send(FrameType::Proceed, b"x", &[]));
    assert_eq!(longer, Failure::new(Call::Receive, Errno::MSGSIZE));
    let (_ours, theirs) = pipe();
    let descriptor = failed(&|peer| peer.send(FrameType::Proceed, b"", &[theirs.as_fd()]));
    assert_eq!(descriptor, Failure::unexpected(Call::Receive));
    let short = failed(&|peer| {
        peer.send_bytes(b"pid1", &[]).unwrap();
    });
    assert_eq!(short, Failure { detail: 1, ..Failure::unexpected(Call::Receive) });
}

#[test]
fn the_end_of_the_host_ends_a_wait() {
    for (reads, errno) in [(true, Errno::PIPE), (false, Errno::CONNRESET)] {
        let (peer, channel) = Peer::pair();
        let mut init = Init::new(channel);
        let outcome = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| run(&mut init, 1, encoded(&[Op::Barrier { id: 1 }])));
            std::thread::sleep(core::time::Duration::from_millis(50));
            if reads {
                assert_eq!(peer.receive().report(), Report::Barrier { id: 1 });
            }
            drop(peer);
            waiting.join().unwrap()
        });
        assert_eq!(outcome, (Err(Failure::new(Call::Receive, errno)), 1));
    }
}
