//! An init that stays process 1 and serves requests, by its protocol alone.

mod bad_client;
pub(crate) mod client;

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use pidone_proto::frame::HEADER_LENGTH;
use pidone_proto::{Call, FrameType, Op, Request, Slot, limits};
use pidone_tests::{Case, GUEST, Outcome, Sandbox, Stop, case};
use rustix::fs::MemfdFlags;

use client::{Client, Init, Said, Spawn};

pub(crate) const CASES: &[Case] = &[
    case!(a_spawn_is_answered_and_its_end_reported).once(),
    case!(failed_spawns_are_reported_and_change_nothing).once(),
    case!(a_terminal_changes_its_size).once(),
    case!(a_thousand_with_sixty_four_at_a_time).once(),
    case!(ends_with_the_main_process).once(),
    case!(signals_reach_the_main_process).once(),
    case!(shuts_down).once(),
    case!(a_long_request_comes_in_a_memfd).once(),
    case!(processes_are_listed_and_signalled).once(),
];

pub(crate) use bad_client::CASES as BAD_CLIENTS;

fn a_spawn_is_answered_and_its_end_reported(sandbox: &Sandbox) -> Outcome {
    let (_init, mut client) = Init::start(sandbox)?;
    let mut spawn = Spawn::new(&[GUEST, "report"]);
    spawn.env = vec!["NAME=value".into()];
    spawn.before = vec![Op::Session, Op::Umask { mask: 0o27 }];
    let mut reports: Vec<pidone_tests::Report> = client.lines(spawn)?;
    let report = reports.pop().ok_or("no report")?;
    assert_eq!((report.ppid, report.env.as_slice()), (1, &["NAME=value".to_owned()][..]));
    assert_eq!((report.umask, report.descriptors.len()), (0o27, 3), "{report:?}");
    assert_eq!((report.blocked, report.sid), (0, report.pid));
    let process = client.spawned(&Spawn::new(&[GUEST, "exit", "7"]))?;
    assert_eq!(client.said()?, Said::Exited { process, code: 7, signal: 0 });
    Ok(())
}

fn failed_spawns_are_reported_and_change_nothing(sandbox: &Sandbox) -> Outcome {
    let (_init, mut client) = Init::start(sandbox)?;
    let failed = |client: &mut Client, spawn: &Spawn<'_>| {
        spawn.send(client)?;
        client.said()
    };
    let no = |step, call, errno| Said::NotSpawned { tag: 1, step, call, errno };
    let missing = Spawn::new(&["/no/such/program"]);
    assert_eq!(failed(&mut client, &missing)?, no(1, Call::Exec, libc::ENOENT));
    let mut limit = Spawn::new(&[GUEST]);
    limit.before = vec![Op::Session, Op::Rlimit { resource: 99, soft: 1, hard: 1 }];
    assert_eq!(failed(&mut client, &limit)?, no(2, Call::Rlimit, libc::EINVAL));
    for op in [Op::Barrier { id: 1 }, Op::AwaitStart { listener: Slot(0) }] {
        let mut waits = Spawn::new(&[GUEST]);
        (waits.before, waits.output) = (vec![op], None);
        let said = failed(&mut client, &waits)?;
        assert!(matches!(said, Said::NotSpawned { .. }), "{said:?}");
    }
    let mut main = Spawn::new(&[GUEST, "sleep"]);
    main.main = true;
    client.spawned(&main)?;
    assert_eq!(failed(&mut client, &main)?, no(0, Call::Supervise, libc::EBUSY));
    client.request(&Request::Signal { process: 999, signal: 9, group: false }, &[])?;
    assert_eq!(client.said()?, Said::Done(libc::ESRCH));
    client.request(&Request::Resize { process: 999, rows: 1, columns: 1 }, &[])?;
    assert_eq!(client.said()?, Said::Done(libc::ESRCH));
    let process = client.spawned(&Spawn::new(&[GUEST, "exit", "0"]))?;
    assert_eq!(client.said()?, Said::Exited { process, code: 0, signal: 0 });
    Ok(())
}

fn a_terminal_changes_its_size(sandbox: &Sandbox) -> Outcome {
    let (_init, mut client) = Init::start(sandbox)?;
    let mut spawn = Spawn::new(&[GUEST, "sleep"]);
    spawn.before = vec![Op::Console { rows: 24, columns: 80, uid: 0, bind: false }];
    spawn.send(&mut client)?;
    assert_eq!(client.said()?, Said::Console(1));
    let master = client.file.take().ok_or("no master")?;
    let Said::Spawned { process, .. } = client.said()? else { return Err("not spawned".into()) };
    let size = || rustix::termios::tcgetwinsize(&master).map(|size| (size.ws_row, size.ws_col));
    assert_eq!(size()?, (24, 80));
    client.request(&Request::Resize { process, rows: 50, columns: 132 }, &[])?;
    assert_eq!(client.said()?, Said::Done(0));
    assert_eq!(size()?, (50, 132));
    // The process loses its terminal when the master is closed.
    drop(master);
    assert_eq!(client.said()?, Said::Exited { process, code: 0, signal: 1 });
    Ok(())
}

fn a_thousand_with_sixty_four_at_a_time(sandbox: &Sandbox) -> Outcome {
    let (init, mut client) = Init::start(sandbox)?;
    let (mut asked, mut ended, mut begun) = (0_u32, 0, BTreeMap::new());
    let mut early = 0;
    while ended < 1000 {
        while asked < 1000 && asked - ended < 64 {
            let code = (asked % 200).to_string();
            let mut spawn = Spawn::new(&[GUEST, "exit", &code]);
            spawn.tag = asked;
            spawn.send(&mut client)?;
            asked += 1;
        }
        match client.said()? {
            Said::Spawned { tag, process, .. } => {
                assert!(begun.insert(process, tag).is_none(), "{process} twice");
            }
            Said::Exited { process, code, signal: 0 } => {
                assert_eq!(begun.remove(&process).map(|tag| tag % 200), Some(code));
                ended += 1;
            }
            other => return Err(Stop::Failed(format!("{other:?}"))),
        }
        if ended == 200 {
            early = init.resident()?;
        }
    }
    let late = init.resident()?;
    assert!(late <= early + 8, "{early} KiB, then {late} KiB");
    let open = init.descriptors()?;
    assert!(open.len() <= 8, "{open:?}");
    Ok(())
}

fn ends_with_the_main_process(sandbox: &Sandbox) -> Outcome {
    for (args, code, signal, status) in
        [(&["exit", "42"][..], 42, 0, 42), (&["sleep"], 0, 9, 128 + 9)]
    {
        let (init, mut client) = Init::start(sandbox)?;
        client.spawned(&Spawn::new(&[GUEST, "sleep"]))?;
        let mut main = Spawn::new(&[&[GUEST], args].concat());
        main.main = true;
        let process = client.spawned(&main)?;
        if signal != 0 {
            client.request(&Request::Signal { process, signal, group: false }, &[])?;
            assert_eq!(client.said()?, Said::Done(0));
        }
        assert_eq!(client.said()?, Said::Exited { process, code, signal });
        assert_eq!(client.said()?, Said::End);
        assert_eq!(init.wait()?.code(), Some(status));
    }
    Ok(())
}

fn signals_reach_the_main_process(sandbox: &Sandbox) -> Outcome {
    let (init, mut client) = Init::start(sandbox)?;
    let mut main = Spawn::new(&[GUEST, "sleep"]);
    main.main = true;
    let process = client.spawned(&main)?;
    let pid = nix::unistd::Pid::from_raw(init.pid()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1)?;
    assert_eq!(client.said()?, Said::Exited { process, code: 0, signal: 10 });
    assert_eq!(init.wait()?.code(), Some(128 + 10));
    Ok(())
}

fn shuts_down(sandbox: &Sandbox) -> Outcome {
    let (init, mut client) = Init::start(sandbox)?;
    let process = client.spawned(&Spawn::new(&[GUEST, "sleep"]))?;
    client.request(&Request::Shutdown { signal: 15, patience: 10_000 }, &[])?;
    let said = [client.said()?, client.said()?];
    assert!(said.contains(&Said::Done(0)), "{said:?}");
    assert!(said.contains(&Said::Exited { process, code: 0, signal: 15 }), "{said:?}");
    let status = init.wait()?;
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    Ok(())
}

fn a_long_request_comes_in_a_memfd(sandbox: &Sandbox) -> Outcome {
    let (_init, mut client) = Init::start(sandbox)?;
    let mut spawn = Spawn::new(&[GUEST, "exit", "9"]);
    spawn.env = (0..10_000).map(|number| format!("VARIABLE_{number}=value")).collect();
    let body = spawn.body()?;
    assert!(HEADER_LENGTH + body.len() > limits::FRAME);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("request", flags)?;
    rustix::io::write(&memory, &body)?;
    // Without seals it could change under the init's eyes.
    let mut careless = _init.connect()?;
    careless.send(FrameType::RequestInMemfd, &[], &[memory.as_fd()])?;
    assert_eq!(careless.said()?, Said::End);
    use rustix::fs::SealFlags;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    client.send(FrameType::RequestInMemfd, &[], &[memory.as_fd()])?;
    let Said::Spawned { process, .. } = client.said()? else { return Err("not spawned".into()) };
    assert_eq!(client.said()?, Said::Exited { process, code: 9, signal: 0 });
    Ok(())
}

fn processes_are_listed_and_signalled(sandbox: &Sandbox) -> Outcome {
    let (_init, mut client) = Init::start(sandbox)?;
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(client.spawned(&Spawn::new(&[GUEST, "sleep"]))?);
    }
    client.request(&Request::List, &[])?;
    let (Said::Processes(mut listed), Said::Processes(rest)) = (client.said()?, client.said()?)
    else {
        return Err("no list".into());
    };
    listed.extend(rest);
    assert_eq!(listed, all);
    for &process in &all {
        client.request(&Request::Signal { process, signal: 12, group: false }, &[])?;
    }
    let mut ended = 0;
    while ended < 100 {
        match client.said()? {
            Said::Done(0) => {}
            Said::Exited { signal: 12, .. } => ended += 1,
            other => return Err(Stop::Failed(format!("{other:?}"))),
        }
    }
    client.request(&Request::List, &[])?;
    assert!(Path::new(GUEST).exists());
    let said = client.said()?;
    assert!(matches!(said, Said::Processes(_) | Said::Done(0)), "{said:?}");
    Ok(())
}
