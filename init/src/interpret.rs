//! The interpreter: it receives a plan, runs its operations in their order, and reports.
//!
//! It holds no policy. Whatever order matters to the kernel is the order of the plan; the reasons
//! stand with the operations.

use core::ffi::CStr;

use pidone_proto::{Call, Codec, FrameType, Header, Op, Part, Report, Text, limits};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, SealFlags, fcntl_get_seals, fstat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::channel::{Channel, Wire};
use crate::failure::{Context, Failure, Result};
use crate::ops::{
    copy, exec, file, mount, namespace, process, rootfs, schedule, start, system, terminal,
};
use crate::root::Root;
use crate::slots::Slots;
#[cfg(feature = "supervise")]
use crate::supervise;
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
    /// Where the node or link was made that came last.
    place: Option<Place>,
    times: Option<Times>,
    /// The operation that runs, counted from 1; 0 before the first.
    step: u32,
    /// What a child has of its parent, whose memory it shares.
    #[cfg(feature = "supervise")]
    pub(crate) shared: Option<Shared>,
}

/// What a process may touch that shares its memory with its parent.
#[cfg(feature = "supervise")]
pub(crate) struct Shared {
    /// Memory for its own use: what it mapped would be left in the parent.
    pub(crate) memory: &'static mut [u8],
    /// Set when its program comes next, as long as it is the parent that is told.
    pub(crate) executing: Option<&'static core::sync::atomic::AtomicBool>,
}

/// Runs the plan that comes through a socket. Becomes the program, or exits.
///
/// `begun` is when this program began ([`sys::now`]), 0 if nobody wants to know.
pub(crate) fn run(control: OwnedFd, begun: u64) -> ! {
    let mut init = Init::new(Channel::new(control));
    let outcome = init.plan(begun);
    init.fail(outcome)
}

impl Init {
    /// Before the first operation.
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            slots: Slots::new(),
            root: None,
            place: None,
            times: None,
            step: 0,
            #[cfg(feature = "supervise")]
            shared: None,
        }
    }

    /// The root that names are resolved in: the plan's, or the process's own.
    pub(crate) fn root(&mut self) -> core::result::Result<&Root, Errno> {
        let root = match self.root.take() {
            Some(root) => root,
            None => Root::current()?,
        };
        Ok(self.root.insert(root))
    }

    /// Opens what is at a path below the root: [`Root::open`].
    #[inline(never)]
    pub(crate) fn open(
        &mut self,
        path: &CStr,
        flags: OFlags,
        follow: bool,
    ) -> core::result::Result<OwnedFd, Errno> {
        self.root()?.open(path, flags, follow)
    }

    /// Opens, below the root, the directory of a path's last component: [`Root::parent`].
    pub(crate) fn parent<'p>(
        &mut self,
        path: &'p CStr,
        follow: bool,
    ) -> Result<(OwnedFd, &'p CStr)> {
        self.root().during(Call::Open)?.parent(path, follow)
    }

    /// As [`Init::parent`], without links on the way, for one of a run of operations: a directory is
    /// opened once for all that are made in it one behind the other.
    #[inline(never)]
    pub(crate) fn parent_in_run<'p>(
        &mut self,
        path: &'p CStr,
    ) -> Result<(BorrowedFd<'_>, &'p CStr)> {
        let (above, name) = Root::split(path)?;
        let place = match self.place.take() {
            Some(place) if place.is(above) => place,
            _ => Place::new(above, self.parent(path, false)?.0),
        };
        let place: &Place = self.place.insert(place);
        Ok((place.directory.as_fd(), name))
    }

    /// Closes all slots and the root. Names are resolved in the process's own root from then on.
    pub(crate) fn forget(&mut self) {
        self.slots = Slots::new();
        self.forget_root();
    }

    /// Closes the root. Names are resolved in the process's own from then on.
    pub(crate) fn forget_root(&mut self) {
        self.root = None;
    }

    /// Changes the root that names are resolved in.
    pub(crate) fn set_root(&mut self, root: Root) {
        self.root = Some(root);
    }

    /// Memory until the program comes.
    pub(crate) fn memory(
        &mut self,
        length: usize,
    ) -> core::result::Result<&'static mut [u8], Errno> {
        #[cfg(feature = "supervise")]
        if let Some(Shared { memory, .. }) = &mut self.shared {
            return memory.split_off_mut(..length).ok_or(Errno::NOMEM);
        }
        sys::memory(length)
    }

    /// Tells that the program comes next.
    pub(crate) fn executing(&mut self) -> Result {
        #[cfg(feature = "supervise")]
        if let Some(Shared { executing: Some(executing), .. }) = &self.shared {
            executing.store(true, core::sync::atomic::Ordering::Relaxed);
            return Ok(());
        }
        self.channel.send(&Report::Executing, None)
    }

    /// Tells why the program did not come, and ends.
    pub(crate) fn fail(&mut self, outcome: Result) -> ! {
        let failure = match outcome {
            Ok(()) => Failure::new(Call::Decode, Errno::NODATA),
            Err(failure) => failure,
        };
        // The operation that failed took its time too.
        if let Some(mut times) = self.times.take() {
            times.stamp();
            let _ = times.report(&mut self.channel);
        }
        let errno = u16::try_from(failure.errno.raw_os_error()).unwrap_or(0);
        let Failure { call, detail, .. } = failure;
        let report = Report::Failed { step: self.step, call, detail, errno };
        // If the host is gone, nobody is left to tell.
        let _ = self.channel.send(&report, None);
        sys::exit(FAILED)
    }

    /// Receives and runs part after part.
    fn plan(&mut self, begun: u64) -> Result {
        prepare(&self.channel)?;
        let buffer = sys::memory(limits::FRAME).during(Call::Memory)?;
        loop {
            let (header, body) = self.channel.receive(buffer, &mut self.slots)?;
            // Nobody in the container may look at this process, which still has the host's
            // privileges. Not before the plan is there: an ordinary user writes the maps of a new
            // user namespace until then, and the files of a process that cannot be dumped are
            // root's.
            set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Call::Receive)?;
            let body = match header.frame_type {
                FrameType::Part => body,
                FrameType::PartInMemfd if body.is_empty() => self.map_part()?,
                _ => return Err(unexpected(Call::Receive)),
            };
            let (part, length) = decode::<Part>(body)?;
            if part.first != self.step + 1 {
                return Err(unexpected(Call::Decode));
            }
            if part.timed && self.times.is_none() {
                self.times = Some(Times::new(begun).during(Call::Memory)?);
            }
            self.operations(part, body.get(length..).unwrap_or_default())?;
            if !part.more {
                return Ok(());
            }
        }
    }

    /// Maps a part that came in a memfd, which must no longer be able to change.
    fn map_part(&mut self) -> Result<&'static [u8]> {
        map_sealed(&self.slots.take_first()?)
    }

    /// Runs the operations of one part.
    pub(crate) fn operations(&mut self, part: Part, mut bytes: &[u8]) -> Result {
        for left in (0..part.operations).rev() {
            self.step += 1;
            let (op, length) = decode::<Op<'_>>(bytes)?;
            bytes = bytes.get(length..).unwrap_or_default();
            // Looked at before the last one: behind exec nobody is left to do it.
            if left == 0 && !bytes.is_empty() {
                break;
            }
            // What is told at the end must be told before the last operation.
            if matches!(op, Op::Exec { .. } | Op::AwaitStart { .. } | Op::Supervise { .. })
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
    #[inline(never)]
    fn operation(&mut self, op: Op<'_>) -> Result {
        if !matches!(op, Op::MakeNode { .. } | Op::MakeLink { .. }) {
            self.place = None;
        }
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
            Op::Seccomp { flags, filter } => process::seccomp(self, flags, filter),
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
            Op::AwaitStart { listener } => start::wait(self, listener),
            Op::DomainName { name } => system::domain_name(name),
            Op::Keyring { name } => {
                sys::join_session_keyring(name.as_c_str()).during(Call::Keyring)
            }
            Op::Personality { persona } => sys::personality(persona).during(Call::Personality),
            Op::Scheduler { attributes } => schedule::scheduler(attributes),
            Op::IoPriority { value } => schedule::io_priority(value),
            Op::Affinity { mask } => schedule::affinity(mask),
            Op::MemoryPolicy { mode, nodes } => schedule::memory_policy(mode, nodes),
            Op::TimeOffsets { proc, offsets } => {
                system::write_proc(self, proc, c"self", Text(c"timens_offsets"), offsets)
            }
            Op::CopyUp { mount, from, contents } => copy::up(self, mount, from, contents),
            #[cfg(feature = "supervise")]
            Op::Supervise { listener } => supervise::run(self, listener),
            #[cfg(feature = "supervise")]
            Op::Stdio { count } => supervise::stdio::take(self, count),
            #[cfg(feature = "supervise")]
            Op::Descriptor { from, number } => supervise::stdio::put(self, from, number),
            Op::JoinCgroup { procs } => process::join_cgroup(self, procs),
            Op::Remount { at, set, clear, recursive } => {
                mount::remount(self, at, set, clear, recursive)
            }
            Op::FindProgram { candidates } => exec::find(self, candidates),
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
            Ok((Header { frame_type: FrameType::Proceed, descriptors: 0, .. }, b"")) => Ok(()),
            Ok(_) => Err(unexpected(Call::Receive)),
            Err(failure) => Err(failure),
        }
    }
}

/// A directory with its path, if that is short enough to be kept.
struct Place {
    path: [u8; 16],
    length: usize,
    directory: OwnedFd,
}

impl Place {
    fn new(path: &[u8], directory: OwnedFd) -> Self {
        let mut place = Self { path: [0; 16], length: 0, directory };
        if let Some(kept) = place.path.get_mut(..path.len()) {
            kept.copy_from_slice(path);
            place.length = path.len();
        }
        place
    }

    fn is(&self, path: &[u8]) -> bool {
        // One that was not kept has no length, as no path has.
        !path.is_empty() && self.path.get(..self.length) == Some(path)
    }
}

/// What must hold before anything of the plan runs.
fn prepare(channel: &Channel) -> Result {
    // End-of-file means exec to the host: the socket closes whatever the plan says to preserve.
    fcntl_setfd(channel.as_fd(), FdFlags::CLOEXEC).during(Call::Receive)?;
    // Files get the exact modes of the plan.
    rustix::process::umask(rustix::fs::Mode::empty());
    sys::reset_signals();
    Ok(())
}

/// Maps a memfd that can no longer change.
pub(crate) fn map_sealed(file: &OwnedFd) -> Result<&'static [u8]> {
    let seals = fcntl_get_seals(file).during(Call::Receive)?;
    let length = fstat(file).during(Call::Stat)?.st_size;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK) || length > limits::PLAN {
        return Err(unexpected(Call::Receive));
    }
    sys::map(file.as_fd(), length).during(Call::Memory)
}

/// Reads a message from the front of a body.
fn decode<'b, T: pidone_proto::codec::Incoming<'b>>(bytes: &'b [u8]) -> Result<(T, usize)> {
    Wire::decode(bytes).map_err(|_| unexpected(Call::Decode))
}

/// A message that has no place here.
fn unexpected(call: Call) -> Failure {
    Failure::new(call, Errno::PROTO)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;
    use std::vec::Vec;
    use std::{fs, vec};

    use rustix::fs::Mode;

    use pidone_proto::Slot;

    use super::*;
    use crate::peer::{Peer, is_closed, pipe};

    /// Operations as they stand in a part.
    fn encoded(ops: &[Op<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for op in ops {
            let mut buffer = vec![0; 1024];
            let length = Wire::encode(op, &mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..length]);
        }
        bytes
    }

    /// Runs the operations of one part, told to be `count`; answers the outcome and the step.
    fn run(init: &mut Init, count: u32, bytes: Vec<u8>) -> (Result, u32) {
        let part = Part { first: init.step + 1, operations: count, more: true, timed: false };
        let outcome = init.operations(part, bytes.leak());
        (outcome, init.step)
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
        // The third works, the fourth does not: its slot is empty by then.
        let failure = Failure::new(Call::Slot, Errno::BADF);
        assert_eq!(run(&mut init, 3, encoded(&[close(2), close(2), close(2)])), (Err(failure), 4));
    }

    #[test]
    fn operations_run_before_the_next_is_decoded() {
        let (_peer, channel) = Peer::pair();
        let mut init = Init::new(channel);
        let (ours, theirs) = pipe();
        init.slots.put(Slot(0), theirs).unwrap();
        let mut bytes = encoded(&[close(0)]);
        bytes.push(250);
        assert_eq!(run(&mut init, 2, bytes), (Err(unexpected(Call::Decode)), 2));
        assert!(is_closed(&ours));
    }

    #[test]
    fn a_run_of_links_opens_its_directory_once() {
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
        // Behind any other operation, a mount say, the name is looked up again.
        fs::rename(base.path().join("d"), base.path().join("older")).unwrap();
        make(&[Op::Umask { mask: 0 }, link(c"/d/five")]);
        for path in ["old/one", "old/two", "e/three", "older/four", "d/five"] {
            assert!(base.path().join(path).is_symlink(), "{path}");
        }
    }

    #[test]
    fn a_part_has_as_many_operations_as_it_says() {
        let (_peer, channel) = Peer::pair();
        let mut init = Init::new(channel);
        for slot in 0..4 {
            init.slots.put(Slot(slot), pipe().1).unwrap();
        }
        let decode = Err(unexpected(Call::Decode));
        // The last one does not run.
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
    fn nothing_but_proceed_ends_a_wait() {
        let failed = |send: &dyn Fn(&mut Peer)| {
            let (mut peer, channel) = Peer::pair();
            let mut init = Init::new(channel);
            send(&mut peer);
            let (outcome, _) = run(&mut init, 1, encoded(&[Op::Barrier { id: 9 }]));
            outcome.unwrap_err()
        };
        let part = failed(&|peer| peer.send(FrameType::Part, b"", &[]));
        assert_eq!(part, unexpected(Call::Receive));
        let part = failed(&|peer| peer.send(FrameType::Part, b"\x02\x01\x00\x00\x04", &[]));
        assert_eq!(part, Failure::new(Call::Receive, Errno::MSGSIZE));
        let report = failed(&|peer| peer.send(FrameType::Report, b"", &[]));
        assert_eq!(report, unexpected(Call::Receive));
        let longer = failed(&|peer| peer.send(FrameType::Proceed, b"x", &[]));
        assert_eq!(longer, Failure::new(Call::Receive, Errno::MSGSIZE));
        let (_ours, theirs) = pipe();
        let descriptor = failed(&|peer| peer.send(FrameType::Proceed, b"", &[theirs.as_fd()]));
        assert_eq!(descriptor, unexpected(Call::Receive));
        let short = failed(&|peer| {
            peer.send_bytes(b"pid1", &[]).unwrap();
        });
        assert_eq!(short, Failure { detail: 1, ..unexpected(Call::Receive) });
    }

    #[test]
    fn a_host_that_ends_ends_a_wait() {
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
}
