//! Clients that die, stall, flood or lie: the others are served, and nothing of them stays.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use pidone_proto::{FrameType, Request, limits};
use pidone_tests::{Case, DEADLINE, GUEST, Outcome, Sandbox, Stop, case, stop, until};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, Init, Said, Spawn, encoded};

pub(crate) const CASES: &[Case] = &[
    case!(that_die).once(),
    case!(that_die_in_the_midst_of_a_spawn).once(),
    case!(that_give_up).once(),
    case!(that_stall).once(),
    case!(that_flood).once(),
    case!(that_lie).once(),
    case!(that_send_descriptors).once(),
    case!(that_come_in_numbers).once(),
];

/// Checks that a process is spawned for a client, which gets its end, before the deadline. A bad
/// client that the init waits for would hold it up for ever.
fn is_served(client: &mut Client) -> Outcome {
    let process = client.spawned(&Spawn::new(&[GUEST, "exit", "3"]))?;
    assert_eq!(client.said()?, Said::Exited { process, code: 3, signal: 0 });
    Ok(())
}

/// The processes that run.
fn running(client: &mut Client) -> Result<Vec<u32>, Stop> {
    client.request(&Request::List, &[])?;
    match client.said()? {
        Said::Processes(processes) => Ok(processes),
        other => Err(Stop::Failed(format!("{other:?}"))),
    }
}

/// Lets bad clients do what they do, again and again: all that they made the init hold is gone
/// after it, and after the first time no page more is used.
fn harmless(sandbox: &Sandbox, mut bad: impl FnMut(&Init, &mut Client) -> Outcome) -> Outcome {
    let (init, mut client) = Init::start(sandbox)?;
    is_served(&mut client)?;
    let open = init.descriptors()?;
    let mut use_of = |client: &mut Client| {
        bad(&init, client)?;
        is_served(client)?;
        // Processes of clients that are gone end by themselves, and that clients are gone is seen
        // when their turn comes.
        let idle = || -> Result<bool, Stop> {
            Ok(init.children()?.is_empty() && init.descriptors()?.len() == open.len())
        };
        let is_idle = until("the init holds nothing", idle);
        assert!(
            is_idle.is_ok(),
            "{} and {:?}, not {open:?}",
            init.children()?,
            init.descriptors()?
        );
        assert_eq!(running(client)?, [] as [u32; 0]);
        init.resident()
    };
    let resident = use_of(&mut client)?;
    for _ in 0..3 {
        let still = use_of(&mut client)?;
        assert!(still <= resident + 8, "{resident} KiB, then {still} KiB");
    }
    Ok(())
}

fn that_die(sandbox: &Sandbox) -> Outcome {
    harmless(sandbox, |init, client| {
        for _ in 0..50 {
            drop(init.connect()?);
        }
        // What one has spawned goes on, and others see it.
        let mut passing = init.connect()?;
        let process = passing.spawned(&Spawn::new(&[GUEST, "sleep"]))?;
        drop(passing);
        assert_eq!(running(client)?, [process]);
        client.request(&Request::Signal { process, signal: 9, group: false }, &[])?;
        assert_eq!(client.said()?, Said::Done(0));
        Ok(())
    })
}

fn that_die_in_the_midst_of_a_spawn(sandbox: &Sandbox) -> Outcome {
    harmless(sandbox, |init, client| {
        for round in 0..100 {
            let mut passing = init.connect()?;
            // Some ask for more than one, and some for what fails.
            for _ in 0..=round % 3 {
                Spawn::new(&[GUEST, "exit", "0"]).send(&mut passing)?;
                Spawn::new(&["/missing"]).send(&mut passing)?;
            }
            drop(passing);
            if round % 25 == 0 {
                is_served(client)?;
            }
        }
        Ok(())
    })
}

/// What one has requested before it went is not served later, unlike that of one that stays.
fn that_give_up(sandbox: &Sandbox) -> Outcome {
    for stays in [true, false] {
        let (init, _first) = Init::start(sandbox)?;
        let pid = Pid::from_raw(init.pid()?).ok_or("no pid")?;
        stop(pid)?;
        let mut passing = init.connect()?;
        Spawn::new(&[GUEST, "sleep"]).send(&mut passing)?;
        let passing = stays.then_some(passing);
        // Accepted after it.
        let mut later = init.connect()?;
        kill_process(pid, Signal::CONT)?;
        is_served(&mut later)?;
        assert_eq!(running(&mut later)?.len(), usize::from(stays));
        drop(passing);
    }
    Ok(())
}

/// Asks for something and never reads an answer, until the connection is closed.
fn asks_and_never_reads(client: &mut Client) -> Outcome {
    ioctl_fionbio(&client.socket, true)?;
    let body = encoded(&Request::List)?;
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        let message = client.message(FrameType::Request, &body, 0)?;
        match client.send_bytes(&message, &[]) {
            Ok(()) => client.sent += 1,
            Err(Errno::AGAIN) => thread::yield_now(),
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Stop::Failed("is not let go".into()))
}

fn that_stall(sandbox: &Sandbox) -> Outcome {
    harmless(sandbox, |init, client| {
        // One gets reports of processes, one asks: neither reads, and both connections are closed.
        let mut stalled = init.connect()?;
        for _ in 0..100 {
            Spawn::new(&[GUEST, "exit", "0"]).send(&mut stalled)?;
        }
        asks_and_never_reads(&mut init.connect()?)?;
        is_served(client)?;
        asks_and_never_reads(&mut stalled)
    })
}

fn that_flood(sandbox: &Sandbox) -> Outcome {
    let stop = AtomicBool::new(false);
    let (init, mut client) = Init::start(sandbox)?;
    let mut floods = Vec::new();
    for _ in 0..4 {
        floods.push(init.connect()?);
    }
    is_served(&mut client)?;
    let (open, resident) = (init.descriptors()?.len(), init.resident()?);
    // They send requests as fast as they can, and read all the replies.
    let asked = thread::scope(|scope| {
        let flood = |mut flood: Client| -> Result<u32, Stop> {
            while !stop.load(Ordering::Relaxed) {
                flood.request(&Request::List, &[])?;
                flood.request(&Request::Signal { process: 999, signal: 9, group: false }, &[])?;
                assert!(matches!(flood.said()?, Said::Processes(_)));
                assert_eq!(flood.said()?, Said::Done(libc::ESRCH));
            }
            Ok(flood.sent)
        };
        let handles: Vec<_> =
            floods.into_iter().map(|client| scope.spawn(move || flood(client))).collect();
        let served = (0..20).try_for_each(|_| is_served(&mut client));
        let during = init.descriptors();
        stop.store(true, Ordering::Relaxed);
        let asked: Result<Vec<u32>, Stop> = handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|_| Err("a flood ended".into())))
            .collect();
        served?;
        assert!(during?.len() <= open + 2, "descriptors while it floods");
        asked
    })?;
    assert!(asked.iter().all(|&asked| asked > 20), "the flood is none: {asked:?}");
    is_served(&mut client)?;
    let still = init.resident()?;
    assert!(still <= resident + 8, "{resident} KiB, then {still} KiB");
    until("the connections close", || Ok(init.descriptors()?.len() <= open - 4))?;
    assert_eq!(init.descriptors()?.len(), open - 4);
    Ok(())
}

/// A memory file of some length, sealed or not.
fn memory(bytes: &[u8], length: u64, seals: SealFlags) -> Result<OwnedFd, Stop> {
    let file = memfd_create("request", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::io::write(&file, bytes)?;
    ftruncate(&file, length)?;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// Each ends the connection that it comes on.
fn that_lie(sandbox: &Sandbox) -> Outcome {
    let whole = SealFlags::WRITE | SealFlags::SHRINK;
    let list = encoded(&Request::List)?;
    let wrong_byte = |place: usize, byte: u8| {
        let list = list.clone();
        move |client: &Client| {
            let mut message = client.message(FrameType::Request, &list, 0)?;
            message[place] = byte;
            Ok::<_, Stop>(message)
        }
    };
    harmless(sandbox, |init, client| {
        // Header: magic, version, codec, type, descriptors, sequence, length.
        for (place, byte) in [
            (0, b'P'),
            (4, 2),
            (5, 2),
            (6, 7),
            (6, 0x81),
            (7, 1),
            (8, 1),
            (11, 0x80),
            (12, 2),
            (15, 1),
        ] {
            let liar = init.connect()?;
            liar.send_bytes(&wrong_byte(place, byte)(&liar)?, &[])?;
            lets_go(liar, &format!("byte {place} is {byte}"))?;
        }
        let bodies: [&[u8]; 5] = [&[], &[0xff; 40], &[99], &[3, 0], &[0, 7, 2, 1, 1, 27]];
        for body in bodies {
            let mut liar = init.connect()?;
            liar.send(FrameType::Request, body, &[])?;
            lets_go(liar, &format!("{body:?}"))?;
        }
        for kind in [FrameType::Part, FrameType::PartInMemfd, FrameType::Proceed, FrameType::Start]
        {
            let mut liar = init.connect()?;
            liar.send(kind, &[], &[])?;
            lets_go(liar, &format!("{kind:?}"))?;
        }
        // Nothing, half a header, and more than a message may have.
        for length in [0, 8, limits::FRAME + 1] {
            let liar = init.connect()?;
            liar.send_bytes(&vec![0; length], &[])?;
            lets_go(liar, &format!("{length} bytes"))?;
        }
        let too_long = u64::try_from(limits::PLAN)? + 1;
        for (file, what) in [
            (memory(&list, 1, SealFlags::SHRINK)?, "no seal against writing"),
            (memory(&list, 1, SealFlags::WRITE)?, "no seal against shrinking"),
            (memory(&list, too_long, whole)?, "too long"),
            (memory(&[99], 1, whole)?, "an unknown request"),
            (memory(&list, 4096, whole)?, "bytes behind it"),
            (memory(&[], 0, whole)?, "nothing"),
            (File::open("/dev/null")?.into(), "no memory file"),
        ] {
            let mut liar = init.connect()?;
            liar.send(FrameType::RequestInMemfd, &[], &[file.as_fd()])?;
            lets_go(liar, what)?;
        }
        let mut liar = init.connect()?;
        liar.send(FrameType::RequestInMemfd, &[], &[])?;
        lets_go(liar, "no file at all")?;
        // A plan that is none is the client's own affair: it stays.
        let mut wrong = init.connect()?;
        for (operations, plan) in [(0, &[][..]), (1, &[]), (1, &[0xff; 9]), (u32::MAX, &[27])] {
            wrong.request(&Request::Spawn { tag: 1, main: false, operations, plan }, &[])?;
            let said = wrong.said()?;
            assert!(matches!(said, Said::NotSpawned { .. }), "{said:?}");
        }
        is_served(&mut wrong)?;
        is_served(client)
    })
}

/// The init closes a connection, and says nothing on it.
fn lets_go(mut client: Client, why: &str) -> Outcome {
    match client.said()? {
        Said::End => Ok(()),
        other => Err(Stop::Failed(format!("{why}: {other:?}"))),
    }
}

fn that_send_descriptors(sandbox: &Sandbox) -> Outcome {
    let files: Vec<File> =
        (0..limits::DESCRIPTORS).map(|_| File::open("/dev/zero")).collect::<Result<_, _>>()?;
    let most: Vec<_> = files.iter().map(File::as_fd).collect();
    let list = encoded(&Request::List)?;
    harmless(sandbox, |init, client| {
        // More in all than a process may have open.
        for _ in 0..20 {
            let liar = init.connect()?;
            let untold = liar.message(FrameType::Request, &list, 0)?;
            liar.send_bytes(&untold, &most)?;
            lets_go(liar, "descriptors that were not told")?;
            let mut flood = init.connect()?;
            flood.send(FrameType::Request, &list, &most)?;
            flood.send(FrameType::Request, &Spawn::new(&["/missing"]).body()?, &most)?;
            flood.said()?;
            is_served(client)?;
            // Nothing of it is kept, even while the client stays.
            let descriptors = init.descriptors()?;
            assert!(!descriptors.iter().any(|it| it.contains("zero")), "{descriptors:?}");
        }
        Ok(())
    })
}

fn that_come_in_numbers(sandbox: &Sandbox) -> Outcome {
    harmless(sandbox, |init, client| {
        let mut crowd =
            (0..3 * limits::CLIENTS).map(|_| init.connect()).collect::<Result<Vec<_>, _>>()?;
        is_served(client)?;
        // Those for whom there is a place are served; the others are let go at once.
        let last = crowd.pop().ok_or("no crowd")?;
        lets_go(last, "one too many")?;
        is_served(&mut crowd[0])?;
        let open = init.descriptors()?.len();
        assert!(open < limits::CLIENTS + 8, "{open} descriptors");
        Ok(())
    })
}
