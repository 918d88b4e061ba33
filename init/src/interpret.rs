//! The interpreter: it receives a plan, runs its operations in their order, and reports.
//!
//! It holds no policy. Whatever order matters to the kernel is the order of the plan; the reasons
//! stand with the operations.

use pidone_proto::{Call, Codec, FrameType, Op, Part, Report, limits};
use rustix::fd::AsFd;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::channel::{Channel, Wire};
use crate::failure::{Context, Failure, Result};
use crate::ops::{exec, file, mount, namespace, process, rootfs, system, terminal};
use crate::root::Root;
use crate::slots::Slots;
use crate::sys;
use crate::times::Times;

/// The status of an init that failed by itself, as in docker, podman and env(1).
pub(crate) const FAILED: u8 = 125;

/// The state of the interpreter.
pub(crate) struct Init {
    /// The socket to the host.
    pub(crate) channel: Channel,
    /// Descriptors by slot.
    pub(crate) slots: Slots,
    root: Option<Root>,
    times: Option<Times>,
    /// The operation that runs, counted from 1; 0 before the first.
    step: u32,
}

/// Runs the plan that comes through a socket. Becomes the program, or exits.
pub(crate) fn run(control: rustix::fd::OwnedFd) -> ! {
    let mut init = Init::new(Channel::new(control));
    let failure = match init.plan() {
        Ok(()) => Failure::new(Call::Decode, Errno::NODATA),
        Err(failure) => failure,
    };
    let errno = u16::try_from(failure.errno.raw_os_error()).unwrap_or(0);
    let Failure { call, detail, .. } = failure;
    let report = Report::Failed { step: init.step, call, detail, errno };
    // If the host is gone, nobody is left to tell.
    let _ = init.channel.send(&report, None);
    sys::exit(FAILED)
}

impl Init {
    /// Before the first operation.
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, slots: Slots::new(), root: None, times: None, step: 0 }
    }

    /// The root that names are resolved in: the plan's, or the process's own.
    pub(crate) fn root(&mut self) -> Result<&Root> {
        let root = match self.root.take() {
            Some(root) => root,
            None => Root::current()?,
        };
        Ok(self.root.insert(root))
    }

    /// Changes the root that names are resolved in.
    pub(crate) fn set_root(&mut self, root: Root) {
        self.root = Some(root);
    }

    /// Receives and runs part after part.
    fn plan(&mut self) -> Result {
        prepare()?;
        let buffer: &'static mut [u8] = sys::memory(limits::FRAME).during(Call::Memory)?;
        let mut buffer = Some(buffer);
        loop {
            let space = match buffer.take() {
                Some(space) => space,
                None => sys::memory(limits::FRAME).during(Call::Memory)?,
            };
            let (frame_type, body) = self.channel.receive(space, &mut self.slots)?;
            // Nobody in the container may look at this process, which still has the host's
            // privileges. Not before the plan is there: an ordinary user writes the maps of a new
            // user namespace until then, and the files of a process that cannot be dumped are
            // root's.
            set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Call::Receive)?;
            let body: &'static [u8] = match frame_type {
                FrameType::Part => body,
                FrameType::PartInMemfd => self.map_part()?,
                _ => return Err(unexpected(Call::Receive)),
            };
            let (part, length) = decode::<Part>(body)?;
            if part.first != self.step + 1 {
                return Err(unexpected(Call::Decode));
            }
            if part.timed && self.times.is_none() {
                self.times = Some(Times::new().during(Call::Memory)?);
            }
            self.operations(part, body.get(length..).unwrap_or_default())?;
            if !part.more {
                return Ok(());
            }
        }
    }

    /// Maps a part that came in a memfd, which must no longer be able to change.
    fn map_part(&mut self) -> Result<&'static [u8]> {
        let file = self.slots.take_first()?;
        let seals = fcntl_get_seals(&file).during(Call::Receive)?;
        let length = fstat(&file).during(Call::Stat)?.st_size;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK) || length > limits::PLAN {
            return Err(unexpected(Call::Receive));
        }
        sys::map(file.as_fd(), length).during(Call::Memory)
    }

    /// Runs the operations of one part.
    fn operations(&mut self, part: Part, mut bytes: &'static [u8]) -> Result {
        for _ in 0..part.operations {
            self.step += 1;
            let (op, length) = decode::<Op<'static>>(bytes)?;
            bytes = bytes.get(length..).unwrap_or_default();
            // What is told at the end must be told before the last operation.
            if matches!(op, Op::Exec { .. })
                && let Some(times) = self.times.take()
            {
                times.report(&mut self.channel)?;
            }
            self.operation(op)?;
            if let Some(times) = &mut self.times {
                times.stamp();
            }
        }
        if bytes.is_empty() { Ok(()) } else { Err(unexpected(Call::Decode)) }
    }

    /// Runs one operation.
    fn operation<'a>(&mut self, op: Op<'a>) -> Result {
        match op {
            Op::SetNamespaces { target, flags } => namespace::join(self, target, flags),
            Op::Fork { flags } => namespace::fork(self, flags),
            Op::Unshare { flags } => sys::unshare(flags).during(Call::Unshare),
            Op::Barrier { id } => self.barrier(id),
            Op::Loopback => system::loopback(),
            Op::Propagation { flags } => mount::propagation(flags),
            Op::MakeMount { into, fstype, options, attributes } => {
                mount::make(self, into, fstype, options, attributes)
            }
            Op::OpenTree { into, path, recursive } => mount::open_host(self, into, path, recursive),
            Op::SetAttributes { mount, set, clear, propagation, recursive } => {
                mount::set_attributes(self, mount, set, clear, propagation, recursive)
            }
            Op::Root { tree, at } => rootfs::root(self, tree, at),
            Op::PivotRoot => rootfs::pivot(self),
            Op::MoveRoot => rootfs::move_over(self),
            Op::Chroot { directory } => rootfs::change(self, directory),
            Op::Attach { mount, at, create, follow } => {
                mount::attach(self, mount, at, create, follow)
            }
            Op::LegacyMount { source, fstype, flags, data, at } => {
                mount::legacy(self, source, fstype, flags, data, at)
            }
            Op::MakeDirectory { path, mode } => file::make_directory(self, path, mode),
            Op::MakeNode { path, mode, major, minor, uid, gid } => {
                file::make_node(self, path, file::Node { mode, major, minor, uid, gid })
            }
            Op::MakeLink { target, path, replace } => file::make_link(self, target, path, replace),
            Op::Mask { path, file, directory } => rootfs::mask(self, path, file, directory),
            Op::ReadOnly { path } => rootfs::read_only(self, path),
            Op::ReadOnlyRoot => rootfs::read_only_root(self),
            Op::ReopenNull => terminal::reopen_null(self),
            Op::HostName { name } => system::host_name(name),
            Op::Sysctl { proc, path, value } => system::write_proc(self, proc, c"sys", path, value),
            Op::Label { proc, attribute, value } => {
                system::write_proc(self, proc, c"thread-self/attr", attribute, value)
            }
            Op::Close { slot } => self.slots.take(slot).map(drop),
            Op::Console { rows, columns, uid, bind } => {
                terminal::console(self, rows, columns, uid, bind)
            }
            Op::Session => terminal::session(),
            Op::Rlimit { resource, soft, hard } => process::rlimit(resource, soft, hard),
            Op::Bounding { keep } => process::bounding(keep),
            Op::Groups { ids } => process::groups(ids),
            Op::Ids { uid, gid } => process::ids(uid, gid),
            Op::Capabilities { effective, permitted, inheritable, ambient } => {
                process::capabilities(effective, permitted, inheritable, ambient)
            }
            Op::NoNewPrivileges => process::no_new_privileges(),
            Op::Seccomp { flags, filter } => process::seccomp(flags, filter),
            Op::Umask { mask } => {
                process::umask(mask);
                Ok(())
            }
            Op::ChangeDirectory { path } => process::change_directory(self, path),
            Op::ParentDeath { signal } => process::parent_death(self, signal),
            Op::Exec { candidates, arguments, environment, preserved, filter_flags, filter } => {
                let program = exec::Program { candidates, arguments, environment };
                exec::exec(self, program, preserved, (filter_flags, filter))
            }
            _ => Err(unexpected(Call::Decode)),
        }
    }

    /// Tells the host and waits for it.
    fn barrier(&mut self, id: u32) -> Result {
        self.channel.send(&Report::Barrier { id }, None)?;
        self.wait()
    }

    /// Waits until the host says to go on.
    pub(crate) fn wait(&mut self) -> Result {
        let mut buffer = [0; pidone_proto::frame::HEADER];
        match self.channel.receive(&mut buffer, &mut self.slots) {
            Ok((FrameType::Proceed, b"")) => Ok(()),
            Ok(_) => Err(unexpected(Call::Receive)),
            Err(failure) => Err(failure),
        }
    }
}

/// What must hold before anything of the plan runs.
fn prepare() -> Result {
    // Files get the exact modes of the plan.
    rustix::process::umask(rustix::fs::Mode::empty());
    sys::reset_signals();
    Ok(())
}

/// Reads a message from the front of a body.
fn decode<T: pidone_proto::codec::Incoming<'static>>(bytes: &'static [u8]) -> Result<(T, usize)> {
    Wire::decode(bytes).map_err(|_| unexpected(Call::Decode))
}

/// A message that has no place here.
fn unexpected(call: Call) -> Failure {
    Failure::new(call, Errno::PROTO)
}
