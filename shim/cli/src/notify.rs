//! Reports to the service manager that started this process when the program in the container is
//! ready: sd_notify(3).
//!
//! The container does not get the manager's socket. It gets another one, in a directory that is
//! bind mounted into it. Messages of the container are not forwarded: only `READY=1` counts, and
//! the message to the manager is composed here.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pidone_config::config::Mount;
use pidone_config::config::mount::flags::{BIND, NODEV, NOEXEC, NOSUID, RDONLY};
use pidone_config::{Config, Error, Process, Result};
use pidone_host::unix::{address_in, connect_to, send};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, chmodat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use rustix::pipe::{PipeFlags, pipe_with};

/// The directory of the socket, in the directory of the container's state.
const DIRECTORY: &str = "notify";
/// The name of the socket.
const SOCKET: &str = "notify.sock";
/// The path of the directory in the container.
const INSIDE: &str = "/run/notify";
/// How long to wait until the manager has read all messages. As in runc.
const BARRIER: Duration = Duration::from_secs(30);

/// Readiness notifications from a container to a service manager.
#[derive(Debug)]
pub(crate) struct Notify {
    /// The directory of the container's state.
    state: PathBuf,
    /// The manager's socket: `$NOTIFY_SOCKET`.
    host: PathBuf,
}

impl Notify {
    /// Returns those of a container whose state is in `state`, an absolute path, to the socket
    /// `host`.
    pub(crate) fn new(state: &Path, host: PathBuf) -> Self {
        Self { state: state.to_owned(), host }
    }

    /// Adds a bind mount of the directory to the configuration, and `NOTIFY_SOCKET` to the
    /// environment of the program.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] if the path of the directory is not UTF-8.
    pub(crate) fn configure(&self, config: &mut Config, process: &mut Process) -> Result<()> {
        let source = self.state.join(DIRECTORY);
        let source = source.to_str().ok_or_else(|| {
            Error::config("mounts.source", source.display(), "must be UTF-8 text")
        })?;
        config.mounts.push(Mount {
            source: source.to_owned(),
            destination: INSIDE.to_owned(),
            device: "bind".to_owned(),
            flags: BIND | NOSUID | NOEXEC | NODEV | RDONLY,
            ..Mount::default()
        });
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}").into());
        Ok(())
    }

    /// Creates the directory. Must be called after the container is created and before its first
    /// process is started.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] with the path, also if it exists.
    pub(crate) fn make_directory(&self) -> Result<()> {
        let fail = |errno| Error::path("mkdir", self.state.join(DIRECTORY), errno);
        let state = open(&self.state).map_err(fail)?;
        mkdirat(&state, DIRECTORY, Mode::from_raw_mode(0o755)).map_err(fail)?;
        // Regardless of the umask: the users of the container must be able to reach the socket.
        chmodat(&state, DIRECTORY, Mode::from_raw_mode(0o755), AtFlags::empty()).map_err(fail)
    }

    /// Creates the socket. Must be called before the program in the container is executed.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] with the path of the socket.
    pub(crate) fn listen(self) -> Result<Listening> {
        let directory = self.state.join(DIRECTORY);
        let fail = |errno| Error::path("bind", directory.join(SOCKET), errno);
        let opened = open(&directory).map_err(fail)?;
        // Left by a start that failed.
        let _ = unlinkat(&opened, SOCKET, AtFlags::empty());
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                .map_err(fail)?;
        let address = address_in(opened.as_fd(), SOCKET).map_err(fail)?;
        bind(&socket, &address).map_err(fail)?;
        // Sending requires write permission.
        chmodat(&opened, SOCKET, Mode::from_raw_mode(0o777), AtFlags::empty()).map_err(fail)?;
        Ok(Listening { socket, host: self.host })
    }
}

fn open(directory: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(rustix::fs::CWD, directory, flags, Mode::empty())
}

/// The socket for the container.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: OwnedFd,
    host: PathBuf,
}

impl Listening {
    /// Waits until the container is ready, then reports this to the manager, together with `pid` as
    /// the process to watch. Reports nothing if the container exits before.
    ///
    /// Returns once the manager has read the message, so that the caller may exit: the manager
    /// cannot identify the sender of a message if the sender is gone.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if the manager's socket does not accept the message.
    pub(crate) fn forward(self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        let ready = self.is_ready(pidfd).map_err(|errno| {
            Error::system("receive the notification of", pid.to_string(), errno)
        })?;
        if !ready {
            return Ok(());
        }
        let manager = connect_to(&self.host, SocketType::DGRAM)?;
        let fail = |errno| Error::path("notify", &self.host, errno);
        // MAINPID first: the manager may ignore READY=1 of another than the main process.
        send(&manager, format!("MAINPID={pid}\nREADY=1\n").as_bytes(), None).map_err(fail)?;
        barrier(&manager).map_err(fail)
    }

    /// Waits for `READY=1`. Returns false if the container exits before it sends that.
    fn is_ready(&self, pidfd: BorrowedFd<'_>) -> std::result::Result<bool, Errno> {
        loop {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            }
            let [message, _] = fds.map(|fd| !fd.revents().is_empty());
            if !message {
                return Ok(false);
            }
            let mut buffer = [0; 4096];
            // recv(2) discards descriptors, and closing that of a barrier completes the barrier.
            match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let message = buffer.get(..length).unwrap_or_default();
                    if message.split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
                        return Ok(true);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Waits until the manager has read all messages: sd_notify_barrier(3). Gives up after [`BARRIER`],
/// since the manager may not support barriers.
fn barrier(manager: &OwnedFd) -> std::result::Result<(), Errno> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    send(manager, b"BARRIER=1", Some(writer.as_fd()))?;
    drop(writer);
    let deadline = Instant::now() + BARRIER;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&reader, PollFlags::IN)], left.as_ref()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    use pidone_host::unix::{receive, space_for};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tempfile::TempDir;

    use super::*;

    /// The state directory of a container, with a long name, and the socket of a manager.
    struct Fixture {
        _directory: TempDir,
        state: PathBuf,
        host: PathBuf,
        manager: UnixDatagram,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = TempDir::new().unwrap();
            let state = directory.path().join("s".repeat(150));
            std::fs::create_dir(&state).unwrap();
            let host = directory.path().join("manager");
            let manager = UnixDatagram::bind(&host).unwrap();
            manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Self { _directory: directory, state, host, manager }
        }

        fn listen(&self) -> Listening {
            let notify = Notify::new(&self.state, self.host.clone());
            notify.make_directory().unwrap();
            notify.listen().unwrap()
        }

        /// Connects to the socket of the container, whose path is too long for an address.
        fn container(&self) -> OwnedFd {
            let path = self.state.join(DIRECTORY).join(SOCKET);
            connect_to(&path, SocketType::DGRAM).unwrap()
        }

        /// Receives the next message to the manager, and closes its descriptors.
        fn message(&self) -> String {
            let mut buffer = [0; 100];
            let mut space = [std::mem::MaybeUninit::uninit(); space_for(1)];
            let length = receive(&self.manager, &mut buffer, &mut space).unwrap().length;
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        }

        fn received_nothing(&self) -> bool {
            self.manager.set_nonblocking(true).unwrap();
            self.manager.recv(&mut [0; 10]).is_err()
        }
    }

    /// Starts a process in place of that of a container.
    fn process() -> (Child, OwnedFd) {
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        (child, pidfd)
    }

    #[test]
    fn ready_of_the_container_is_reported_to_the_manager() {
        let fixture = Fixture::new();
        let listening = fixture.listen();
        let (mut child, pidfd) = process();
        let container = fixture.container();
        let forwarding = thread::spawn(move || listening.forward(4711, pidfd.as_fd()));
        for message in ["STATUS=READY=1 soon", "READY=10\nMAINPID=1", "STOPPING=1\n"] {
            send(&container, message.as_bytes(), None).unwrap();
        }
        // With a descriptor, as in sd_notify_barrier(3).
        send(&container, b"BARRIER=1", Some(container.as_fd())).unwrap();
        send(&container, b"MAINPID=1\nREADY=1\nSTATUS=up", None).unwrap();
        assert_eq!(fixture.message(), "MAINPID=4711\nREADY=1\n");
        assert!(!forwarding.is_finished());
        assert_eq!(fixture.message(), "BARRIER=1");
        forwarding.join().unwrap().unwrap();
        assert!(fixture.received_nothing());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn nothing_is_reported_if_the_container_exits_before_it_is_ready() {
        let fixture = Fixture::new();
        let listening = fixture.listen();
        let (mut child, pidfd) = process();
        send(&fixture.container(), b"STATUS=failing", None).unwrap();
        drop(child.stdin.take());
        listening.forward(4711, pidfd.as_fd()).unwrap();
        assert!(fixture.received_nothing());
        child.wait().unwrap();
    }

    #[test]
    fn ready_counts_if_the_container_has_exited_since() {
        let fixture = Fixture::new();
        let listening = fixture.listen();
        let (mut child, pidfd) = process();
        send(&fixture.container(), b"READY=1", None).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let forwarding = thread::spawn(move || listening.forward(1, pidfd.as_fd()));
        assert_eq!(fixture.message(), "MAINPID=1\nREADY=1\n");
        fixture.message();
        forwarding.join().unwrap().unwrap();
    }

    #[test]
    fn a_missing_socket_of_the_manager_is_named_in_the_error() {
        let fixture = Fixture::new();
        let listening = fixture.listen();
        let (mut child, pidfd) = process();
        send(&fixture.container(), b"READY=1", None).unwrap();
        std::fs::remove_file(&fixture.host).unwrap();
        let error = listening.forward(1, pidfd.as_fd()).unwrap_err().to_string();
        let expected = format!("connect `{}`: No such file or directory", fixture.host.display());
        assert_eq!(error, expected);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_manager_may_listen_on_an_abstract_socket() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("pidone-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = connect_to(Path::new(&format!("@{name}")), SocketType::DGRAM).unwrap();
        send(&socket, b"READY=1", None).unwrap();
        let mut buffer = [0; 20];
        assert_eq!(manager.recv(&mut buffer).unwrap(), 7);
    }

    #[test]
    fn the_socket_is_accessible_to_every_user_of_the_container() {
        use std::os::unix::fs::PermissionsExt as _;
        let fixture = Fixture::new();
        drop(fixture.listen());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let directory = fixture.state.join(DIRECTORY);
        assert_eq!((mode(&directory), mode(&directory.join(SOCKET))), (0o755, 0o777));
        // The socket of a start that failed is replaced.
        Notify::new(&fixture.state, fixture.host.clone()).listen().unwrap();
    }

    #[test]
    fn the_configuration_gets_the_mount_and_the_variable() {
        let mut config = Config::template("/srv/root".into());
        let mut process = Process::default();
        let notify = Notify::new(Path::new("/run/pidone/c"), "/run/systemd/notify".into());
        notify.configure(&mut config, &mut process).unwrap();
        config.validate().unwrap();
        assert_eq!(process.env, ["NOTIFY_SOCKET=/run/notify/notify.sock"]);
        let mount = config.mounts.last().unwrap();
        assert_eq!(mount.source, "/run/pidone/c/notify");
        assert_eq!(mount.destination, "/run/notify");
        assert_eq!(mount.flags, BIND | NOSUID | NOEXEC | NODEV | RDONLY);
    }
}
