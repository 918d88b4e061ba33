//! An init that stays process 1 and serves requests, by its protocol alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pidone_proto::frame::HEADER;
use pidone_proto::{
    Bincode, Call, Codec as _, FrameType, Header, Op, Part, Report, Request, Slot, Strings, limits,
};
use pidone_tests::{Case, GUEST, Outcome, SUPERVISING_INIT, Sandbox, Stop, case};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::{FdFlags, IoSlice, IoSliceMut, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recvmsg, sendmsg, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};

pub(crate) const CASES: &[Case] = &[
    case!(spawns_and_tells_the_end).once(),
    case!(failures_are_told_and_harm_nobody).once(),
    case!(a_terminal_changes_its_size).once(),
    case!(a_thousand_with_sixty_four_at_a_time).once(),
    case!(bad_clients_harm_nobody).once(),
    case!(ends_with_the_main_process).once(),
    case!(signals_reach_the_main_process).once(),
    case!(shuts_down).once(),
    case!(a_long_request_comes_in_a_memfd).once(),
    case!(processes_are_listed_and_signalled).once(),
];

/// How long the init may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the init says, with its texts left out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Supervising,
    Spawned { tag: u32, process: u32 },
    NotSpawned { tag: u32, step: u32, call: Call, errno: i32 },
    Console(u32),
    Exited { process: u32, code: u32, signal: u32 },
    Processes(Vec<u32>),
    Done(i32),
    End,
}

/// A connection to the init.
struct Client {
    socket: OwnedFd,
    sent: u32,
    received: u32,
    /// What came along with the last message.
    file: Option<OwnedFd>,
}

impl Client {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, sent: 0, received: 0, file: None }
    }

    fn send(&mut self, kind: FrameType, body: &[u8], files: &[BorrowedFd<'_>]) -> Outcome {
        let header = Header {
            frame_type: kind,
            codec: Bincode::ID,
            descriptors: u8::try_from(files.len())?,
            sequence: self.sent,
            length: u32::try_from(body.len())?,
        };
        self.sent += 1;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(files));
        }
        let message = [&header.to_bytes(), body].concat();
        let flags = SendFlags::NOSIGNAL;
        sendmsg(&self.socket, &[IoSlice::new(&message)], &mut ancillary, flags)?;
        Ok(())
    }

    fn request(&mut self, request: &Request<'_>, files: &[BorrowedFd<'_>]) -> Outcome {
        self.send(FrameType::Request, &encoded(request)?, files)
    }

    /// What the init says next.
    fn said(&mut self) -> Result<Said, Stop> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let patience = Timespec::try_from(PATIENCE).ok();
        if poll(&mut fds, patience.as_ref())? == 0 {
            return Err(Stop::Failed("the init says nothing".into()));
        }
        let mut buffer = vec![0; limits::FRAME];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = match recvmsg(&self.socket, &mut iov, &mut ancillary, flags) {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let mut files = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                files.extend(fds);
            }
        }
        if length == 0 {
            return Ok(Said::End);
        }
        let (header, body) =
            Header::split(&buffer[..length], files.len(), Bincode::ID, self.received)
                .map_err(|error| Stop::Failed(error.text().into()))?;
        self.received += 1;
        assert_eq!(header.frame_type, FrameType::Report);
        self.file = files.pop();
        let (report, _) = Bincode::decode::<Report<'_>>(body)
            .map_err(|error| Stop::Failed(format!("{error:?}")))?;
        Ok(match report {
            Report::Supervising => Said::Supervising,
            Report::Spawned { tag, process, pid } => {
                assert!(pid > 1 && self.file.is_some());
                Said::Spawned { tag, process }
            }
            Report::NotSpawned { tag, step, call, errno, .. } => {
                Said::NotSpawned { tag, step, call, errno: errno.into() }
            }
            Report::SpawnConsole { tag } => Said::Console(tag),
            Report::Exited { process, code, signal, minor_faults, .. } => {
                assert!(minor_faults > 0);
                Said::Exited { process, code, signal }
            }
            Report::Processes { processes, .. } => {
                let words = processes.as_bytes().as_chunks::<8>().0.iter();
                let number = |pair: &[u8; 8]| pair.first_chunk().map(|n| u32::from_le_bytes(*n));
                Said::Processes(words.filter_map(number).collect())
            }
            Report::Done { errno } => Said::Done(errno.into()),
            other => return Err(Stop::Failed(format!("{other:?}"))),
        })
    }

    /// Spawns a process that is expected to run, and answers its number.
    fn spawned(&mut self, request: &Spawn<'_>) -> Result<u32, Stop> {
        request.send(self)?;
        match self.said()? {
            Said::Spawned { tag, process } if tag == request.tag => Ok(process),
            other => Err(Stop::Failed(format!("{other:?}"))),
        }
    }
}

fn encoded(message: &impl pidone_proto::codec::Outgoing) -> Result<Vec<u8>, Stop> {
    let mut buffer = vec![0; 1 << 20];
    let length = Bincode::encode(message, &mut buffer)
        .map_err(|error| Stop::Failed(format!("{error:?}")))?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Strings for the wire.
fn strings<S: AsRef<str>>(list: &[S]) -> Vec<u8> {
    list.iter().flat_map(|text| text.as_ref().bytes().chain([0])).collect()
}

/// A process to spawn.
struct Spawn<'a> {
    tag: u32,
    main: bool,
    before: Vec<Op<'a>>,
    args: Vec<String>,
    env: Vec<String>,
    output: Option<BorrowedFd<'a>>,
}

impl<'a> Spawn<'a> {
    fn new(args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { tag: 1, main: false, before: Vec::new(), args, env: Vec::new(), output: None }
    }

    /// The request in bytes.
    fn body(&self) -> Result<Vec<u8>, Stop> {
        let (args, env) = (strings(&self.args), strings(&self.env));
        let program = strings(&self.args[..1]);
        let list = |bytes| Strings::new(bytes).unwrap_or_default();
        let mut ops = self.before.clone();
        if self.output.is_some() {
            ops.push(Op::Stdio { count: 3 });
        }
        ops.push(Op::Exec {
            candidates: list(&program),
            arguments: list(&args),
            environment: list(&env),
            preserved: 0,
            filter_flags: 0,
            filter: &[],
        });
        let mut plan = Vec::new();
        for op in &ops {
            plan.extend(encoded(op)?);
        }
        let operations = u32::try_from(ops.len())?;
        encoded(&Request::Spawn { tag: self.tag, main: self.main, operations, plan: &plan })
    }

    fn send(&self, client: &mut Client) -> Outcome {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let files = match self.output {
            Some(output) => vec![null.as_fd(), output, null.as_fd()],
            None => Vec::new(),
        };
        client.send(FrameType::Request, &self.body()?, &files)
    }
}

/// An init that is process 1 of a pid namespace.
struct Init {
    child: Child,
    listener: PathBuf,
}

impl Init {
    /// Starts one; the client is who made it.
    fn start(sandbox: &Sandbox) -> Result<(Self, Client), Stop> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, 10)?;
        fcntl_setfd(&theirs, FdFlags::empty())?;
        let child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", SUPERVISING_INIT])
            .arg(format!("--control={}", theirs.as_raw_fd()))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        drop(theirs);
        let path = sandbox.path().join("supervise");
        let _ = std::fs::remove_file(&path);
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        listen(&listener, 64)?;
        let mut client = Client::new(ours);
        let mut body = encoded(&Part { first: 1, operations: 1, more: false, timed: false })?;
        body.extend(encoded(&Op::Supervise { listener: Slot(0) })?);
        client.send(FrameType::Part, &body, &[listener.as_fd()])?;
        assert_eq!(client.said()?, Said::Supervising);
        Ok((Self { child, listener: path }, client))
    }

    /// Another client.
    fn connect(&self) -> Result<Client, Stop> {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(&self.listener)?)?;
        Ok(Client::new(socket))
    }

    /// The id of the init itself, below that of `unshare`.
    fn pid(&self) -> Result<i32, Stop> {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        Ok(std::fs::read_to_string(children)?.trim().parse()?)
    }

    fn wait(mut self) -> Result<ExitStatus, Stop> {
        Ok(self.child.wait()?)
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Its own child goes with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawns_and_tells_the_end(sandbox: &Sandbox) -> Outcome {
    let (_init, mut client) = Init::start(sandbox)?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut spawn = Spawn::new(&[GUEST, "report"]);
    (spawn.output, spawn.env) = (Some(write.as_fd()), vec!["NAME=value".into()]);
    spawn.before = vec![Op::Session, Op::Umask { mask: 0o27 }];
    let process = client.spawned(&spawn)?;
    assert_eq!(client.said()?, Said::Exited { process, code: 0, signal: 0 });
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text)?;
    let report: pidone_tests::Report = serde_json::from_str(text.lines().next().unwrap_or(""))?;
    assert_eq!((report.ppid, report.env.as_slice()), (1, &["NAME=value".to_owned()][..]));
    assert_eq!((report.umask, report.descriptors.len()), (0o27, 3), "{report:?}");
    assert_eq!((report.blocked, report.sid), (0, report.pid));
    let process = client.spawned(&Spawn::new(&[GUEST, "exit", "7"]))?;
    assert_eq!(client.said()?, Said::Exited { process, code: 7, signal: 0 });
    Ok(())
}

fn failures_are_told_and_harm_nobody(sandbox: &Sandbox) -> Outcome {
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
    // Who has the terminal loses it with its master.
    drop(master);
    assert_eq!(client.said()?, Said::Exited { process, code: 0, signal: 1 });
    Ok(())
}

/// The resident memory of a process in KiB.
fn resident(pid: i32) -> Result<u64, Stop> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
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
            Said::Spawned { tag, process } => {
                assert!(begun.insert(process, tag).is_none(), "{process} twice");
            }
            Said::Exited { process, code, signal: 0 } => {
                assert_eq!(begun.remove(&process).map(|tag| tag % 200), Some(code));
                ended += 1;
            }
            other => return Err(Stop::Failed(format!("{other:?}"))),
        }
        if ended == 200 {
            early = resident(init.pid()?)?;
        }
    }
    let late = resident(init.pid()?)?;
    assert!(late <= early + 8, "{early} KiB, then {late} KiB");
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", init.pid()?))?
        .flatten()
        .map(|entry| std::fs::read_link(entry.path()))
        .collect();
    assert!(open.len() <= 8, "{open:?}");
    Ok(())
}

fn bad_clients_harm_nobody(sandbox: &Sandbox) -> Outcome {
    let (init, mut client) = Init::start(sandbox)?;
    // Garbage ends the connection that it came on.
    let mut liar = init.connect()?;
    liar.send(FrameType::Request, &[0xff; 40], &[])?;
    assert_eq!(liar.said()?, Said::End);
    let mut liar = init.connect()?;
    liar.send(FrameType::Proceed, &[], &[])?;
    assert_eq!(liar.said()?, Said::End);
    // One that asks and never reads is let go, at the latest when there is no room for answers.
    let mut flood = init.connect()?;
    rustix::io::ioctl_fionbio(&flood.socket, true)?;
    for _ in 0..20_000 {
        if flood.request(&Request::List, &[]).is_err() {
            break;
        }
    }
    // Those that come in numbers are refused at some point, and no memory goes with them.
    let crowd: Vec<_> = (0..60).map(|_| init.connect()).collect::<Result<_, _>>()?;
    let process = client.spawned(&Spawn::new(&[GUEST, "exit", "3"]))?;
    assert_eq!(client.said()?, Said::Exited { process, code: 3, signal: 0 });
    drop((crowd, flood));
    // A client that dies leaves its process, which others see.
    let mut passing = init.connect()?;
    let process = passing.spawned(&Spawn::new(&[GUEST, "sleep"]))?;
    drop(passing);
    client.request(&Request::List, &[])?;
    assert_eq!(client.said()?, Said::Processes(vec![process]));
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
    assert!(HEADER + body.len() > limits::FRAME);
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
