//! An init that stays process 1, and its clients, by the protocol alone.

use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use pidone::launch::image;
use pidone_proto::{
    Bincode, Call, Codec as _, Create, FrameType, Header, Op, Part, Report, Request, Slot, Strings,
    Text, limits,
};
use pidone_tests::{DEADLINE, Outcome, Sandbox, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{FdFlags, IoSlice, IoSliceMut, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recvmsg, sendmsg, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::de::DeserializeOwned;

/// What the init says, with its texts left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Supervising,
    Spawned { tag: u32, process: u32, pid: u32 },
    NotSpawned { tag: u32, step: u32, call: Call, errno: i32 },
    Console(u32),
    Exited { process: u32, code: u32, signal: u32 },
    Processes(Vec<u32>),
    Done(i32),
    End,
}

/// A connection to the init.
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    pub(crate) sent: u32,
    received: u32,
    /// What came along with the last message.
    pub(crate) file: Option<OwnedFd>,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, sent: 0, received: 0, file: None }
    }

    pub(crate) fn send(
        &mut self,
        kind: FrameType,
        body: &[u8],
        files: &[BorrowedFd<'_>],
    ) -> Outcome {
        let message = self.message(kind, body, files.len())?;
        self.sent += 1;
        Ok(self.send_bytes(&message, files)?)
    }

    /// The next message in bytes.
    pub(crate) fn message(
        &self,
        kind: FrameType,
        body: &[u8],
        files: usize,
    ) -> Result<Vec<u8>, Stop> {
        let header = Header {
            frame_type: kind,
            codec: Bincode::ID,
            descriptors: u8::try_from(files)?,
            sequence: self.sent,
            length: u32::try_from(body.len())?,
        };
        Ok([&header.to_bytes(), body].concat())
    }

    /// Sends any bytes.
    pub(crate) fn send_bytes(
        &self,
        bytes: &[u8],
        files: &[BorrowedFd<'_>],
    ) -> Result<(), rustix::io::Errno> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(limits::DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(files));
        }
        let flags = SendFlags::NOSIGNAL;
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, flags).map(drop)
    }

    pub(crate) fn request(&mut self, request: &Request<'_>, files: &[BorrowedFd<'_>]) -> Outcome {
        self.send(FrameType::Request, &encoded(request)?, files)
    }

    /// What the init says next.
    pub(crate) fn said(&mut self) -> Result<Said, Stop> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let timeout = Timespec::try_from(DEADLINE).ok();
        if poll(&mut fds, timeout.as_ref())? == 0 {
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
                Said::Spawned { tag, process, pid }
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

    /// Spawns a process that is expected to run, and returns its number.
    pub(crate) fn spawned(&mut self, request: &Spawn<'_>) -> Result<u32, Stop> {
        request.send(self)?;
        match self.said()? {
            Said::Spawned { tag, process, .. } if tag == request.tag => Ok(process),
            other => Err(Stop::Failed(format!("{other:?}"))),
        }
    }

    /// Spawns a process, and returns the lines that it writes up to its end, which is success.
    pub(crate) fn lines<T: DeserializeOwned>(&mut self, spawn: Spawn<'_>) -> Result<Vec<T>, Stop> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let process = self.spawned(&Spawn { output: Some(write.as_fd()), ..spawn })?;
        assert_eq!(self.said()?, Said::Exited { process, code: 0, signal: 0 });
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

pub(crate) fn encoded(message: &impl pidone_proto::codec::Encode) -> Result<Vec<u8>, Stop> {
    let mut buffer = vec![0; 1 << 20];
    let length = Bincode::encode(message, &mut buffer)
        .map_err(|error| Stop::Failed(format!("{error:?}")))?;
    buffer.truncate(length);
    Ok(buffer)
}

/// A memory file that can no longer change.
fn sealed(bytes: &[u8]) -> Result<OwnedFd, Stop> {
    let file = rustix::fs::memfd_create("init", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    assert_eq!(rustix::io::write(&file, bytes)?, bytes.len());
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// The ids of a process's children.
fn children(pid: u32) -> Result<String, Stop> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(list.trim().to_owned())
}

/// What the descriptors of a process are, as the host sees them.
pub(crate) fn descriptors(pid: i32) -> Result<Vec<String>, Stop> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One may be closed at this moment.
        if let Ok(link) = std::fs::read_link(entry?.path()) {
            open.push(link.to_string_lossy().into_owned());
        }
    }
    Ok(open)
}

/// Strings for the wire.
fn strings<S: AsRef<str>>(list: &[S]) -> Vec<u8> {
    list.iter().flat_map(|text| text.as_ref().bytes().chain([0])).collect()
}

/// A process to spawn.
pub(crate) struct Spawn<'a> {
    pub(crate) tag: u32,
    pub(crate) main: bool,
    pub(crate) before: Vec<Op<'a>>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) output: Option<BorrowedFd<'a>>,
}

impl<'a> Spawn<'a> {
    pub(crate) fn new(args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { tag: 1, main: false, before: Vec::new(), args, env: Vec::new(), output: None }
    }

    /// The request in bytes.
    pub(crate) fn body(&self) -> Result<Vec<u8>, Stop> {
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

    pub(crate) fn send(&self, client: &mut Client) -> Outcome {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let files = match self.output {
            Some(output) => vec![null.as_fd(), output, null.as_fd()],
            None => Vec::new(),
        };
        client.send(FrameType::Request, &self.body()?, &files)
    }
}

/// An init that is process 1 of a pid namespace.
pub(crate) struct Init {
    child: Child,
    pub(crate) listener: PathBuf,
}

impl Init {
    /// Starts one that sees the host's files; the client made it.
    pub(crate) fn start(sandbox: &Sandbox) -> Result<(Self, Client), Stop> {
        Self::launch(sandbox, &["--pid"], &[])
    }

    /// Starts one in the sandbox's root, with its own proc, null device and terminals. The
    /// network is the host's, as the worst case of what can be reached. `last` are operations
    /// before it supervises.
    pub(crate) fn contain(sandbox: &Sandbox, last: &[Op<'_>]) -> Result<(Self, Client), Stop> {
        const NOSUID_NODEV_NOEXEC: u32 = 2 | 4 | 8;
        const DEVICE: u32 = 0o020_666;
        let path = CString::new(sandbox.rootfs().as_os_str().as_bytes())?;
        let root = Text(&path);
        let [tree, proc, dev, pts] = [0, 1, 2, 3].map(|n| Slot(limits::FIRST_MADE_SLOT + n));
        let mount = |into, fstype, options, attributes| Op::MakeMount {
            into,
            fstype: Text(fstype),
            options: Strings::new(options).unwrap_or_default(),
            attributes,
        };
        let mode = strings(&["mode", "755"]);
        let instance = strings(&["newinstance", "", "ptmxmode", "0666"]);
        let attach = |mount, at| {
            let at = Text(at);
            Op::Attach { mount, at, create: Create::Directory, follow: false }
        };
        let ops = [
            Op::OpenTree { into: tree, path: root, recursive: false },
            mount(proc, c"proc", b"", NOSUID_NODEV_NOEXEC),
            Op::Root { tree, at: root },
            Op::PivotRoot,
            attach(proc, c"/proc"),
            mount(dev, c"tmpfs", &mode, 0),
            attach(dev, c"/dev"),
            Op::MakeNode {
                path: Text(c"/dev/null"),
                mode: DEVICE,
                major: 1,
                minor: 3,
                uid: 0,
                gid: 0,
            },
            mount(pts, c"devpts", &instance, 0),
            attach(pts, c"/dev/pts"),
        ];
        Self::launch(sandbox, &["--pid", "--mount", "--ipc", "--uts"], &[&ops, last].concat())
    }

    fn launch(
        sandbox: &Sandbox,
        namespaces: &[&str],
        ops: &[Op<'_>],
    ) -> Result<(Self, Client), Stop> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, 10)?;
        let image = sealed(image::SUPERVISOR.bytes())?;
        for inherited in [&theirs, &image] {
            fcntl_setfd(inherited, FdFlags::empty())?;
        }
        let child = Command::new("unshare")
            .args(namespaces)
            .args(["--fork", "--kill-child"])
            .arg(format!("/proc/self/fd/{}", image.as_raw_fd()))
            .arg(format!("--control={}", theirs.as_raw_fd()))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        drop((theirs, image));
        let path = sandbox.path().join("supervise");
        // Whatever happens now, it ends with this.
        let init = Self { child, listener: path };
        let path = &init.listener;
        let _ = std::fs::remove_file(path);
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &SocketAddrUnix::new(path)?)?;
        listen(&listener, 64)?;
        let mut client = Client::new(ours);
        let operations = u32::try_from(ops.len())? + 1;
        let mut body = encoded(&Part { first: 1, operations, more: false, timed: false })?;
        for op in ops.iter().chain([&Op::Supervise { listener: Slot(0) }]) {
            body.extend(encoded(op)?);
        }
        client.send(FrameType::Part, &body, &[listener.as_fd()])?;
        assert_eq!(client.said()?, Said::Supervising);
        Ok((init, client))
    }

    /// Another client.
    pub(crate) fn connect(&self) -> Result<Client, Stop> {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(&self.listener)?)?;
        Ok(Client::new(socket))
    }

    /// The id of the init itself, below that of `unshare`.
    pub(crate) fn pid(&self) -> Result<i32, Stop> {
        Ok(children(self.child.id())?.parse()?)
    }

    /// The ids of its children.
    pub(crate) fn children(&self) -> Result<String, Stop> {
        children(self.pid()?.unsigned_abs())
    }

    /// Its resident memory in KiB. Not from `status`, whose counts may be late.
    pub(crate) fn resident(&self) -> Result<u64, Stop> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()?))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("no Rss")?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    }

    /// What its descriptors are, as the host sees them.
    pub(crate) fn descriptors(&self) -> Result<Vec<String>, Stop> {
        descriptors(self.pid()?)
    }

    pub(crate) fn wait(mut self) -> Result<ExitStatus, Stop> {
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
