//! The interpreter: it receives a plan, runs its operations in order, and reports.
//!
//! It contains no policy. Where the kernel requires an order, it is the order of the plan; the
//! reasons are documented with the operations.

#[cfg(test)]
mod tests;

use pidone_proto::{Call, FrameType, Op, Part, Text, limits};
use rustix::fd::AsRawFd as _;
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::channel::decode;
use crate::failure::{Context as _, Failure, Result};
use crate::kernel::descriptor::close_on_exec_from;
use crate::kernel::memory::{Mapping, allocate};
use crate::kernel::signal;
#[cfg(feature = "supervise")]
use crate::ops::stdio;
use crate::ops::{
    copy, exec, file, mount, namespace, process, rootfs, schedule, system, terminal, wait,
};
use crate::state::Init;
use crate::times::Times;

/// What the init becomes after a plan that executes no program.
pub(crate) enum Next {
    /// A supervisor, with the listener in this slot.
    #[cfg(feature = "supervise")]
    Supervisor { listener: pidone_proto::Slot },
}

/// Receives and runs a plan, part after part. Does not return if it executes a program.
///
/// `begun` is when this program began, as [`now`](crate::kernel::now) returns it, or 0.
pub(crate) fn run_plan(init: &mut Init, begun: u64) -> Result<Next> {
    prepare(init)?;
    let buffer = allocate(limits::FRAME).during(Call::Memory)?;
    loop {
        let (header, body) = init.channel.receive(buffer, &mut init.slots)?;
        // Processes in the container must not inspect this one, which still has the host's
        // privileges. Not earlier: until the plan comes, an ordinary user writes the id maps of
        // the new user namespace, and the files of a process that is not dumpable belong to root.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Call::Receive)?;
        let body = match header.frame_type {
            FrameType::Part => body,
            FrameType::PartInMemfd if body.is_empty() => {
                Mapping::sealed(&init.slots.take_first()?, limits::PLAN)?.leak()
            }
            _ => return Err(Failure::unexpected(Call::Receive)),
        };
        let (part, length) = decode::<Part>(body)?;
        if part.first != init.step + 1 {
            return Err(Failure::unexpected(Call::Decode));
        }
        if part.timed && init.times.is_none() {
            init.times = Some(Times::new(begun).during(Call::Memory)?);
        }
        if let Some(next) = run_part(init, part, body.get(length..).unwrap_or_default())? {
            return Ok(next);
        }
        if !part.more {
            return Err(Failure::NO_PROGRAM);
        }
    }
}

/// Sets up what every plan relies on.
fn prepare(init: &mut Init) -> Result {
    // The host takes end-of-file for exec: the socket closes whatever the plan says to preserve.
    // Descriptors above it are unknown. All that the init opens from now on is close-on-exec.
    let socket = init.channel.as_fd().as_raw_fd().cast_unsigned();
    close_on_exec_from(socket).during(Call::CloseRange)?;
    init.fixed = socket;
    // Files get the exact modes of the plan.
    rustix::process::umask(Mode::empty());
    signal::reset();
    Ok(())
}

/// Runs the operations of one part. Returns what the init becomes if the plan ends with it.
pub(crate) fn run_part(init: &mut Init, part: Part, mut bytes: &[u8]) -> Result<Option<Next>> {
    for left in (0..part.operations).rev() {
        init.step += 1;
        let (op, length) = decode::<Op<'_>>(bytes)?;
        bytes = bytes.get(length..).unwrap_or_default();
        // Checked before the last operation runs: after exec it would be too late.
        if left == 0 && !bytes.is_empty() {
            break;
        }
        // These come last, so the times must be reported before them.
        if matches!(op, Op::Exec { .. } | Op::AwaitStart { .. } | Op::Supervise { .. })
            && let Some(times) = init.times.take()
        {
            times.report(&mut init.channel)?;
        }
        #[cfg(feature = "supervise")]
        if let Op::Supervise { listener } = op {
            return Ok(Some(Next::Supervisor { listener }));
        }
        run_operation(init, op)?;
        if let Some(times) = &mut init.times {
            times.stamp();
        }
    }
    if bytes.is_empty() { Ok(None) } else { Err(Failure::unexpected(Call::Decode)) }
}

/// Runs one operation.
#[inline(never)]
fn run_operation(init: &mut Init, op: Op<'_>) -> Result {
    if !matches!(op, Op::MakeNode { .. } | Op::MakeLink { .. }) {
        init.end_series();
    }
    match op {
        Op::SetNamespaces { target, flags } => namespace::join(init, target, flags),
        Op::Fork { flags } => namespace::fork(init, flags),
        Op::Unshare { flags } => namespace::unshare(flags),
        Op::Barrier { id } => wait::wait_at_barrier(init, id),
        Op::Loopback => system::enable_loopback(),
        Op::Propagation { flags } => mount::set_propagation(flags),
        Op::MakeMount { into, fstype, options, attributes } => {
            mount::make_mount(init, into, fstype, options, attributes)
        }
        Op::OpenTree { into, path, recursive } => mount::open_tree(init, into, path, recursive),
        Op::SetAttributes { mount, set, clear, propagation, recursive } => {
            mount::set_attributes(init, mount, set, clear, propagation, recursive)
        }
        Op::Root { tree, at } => rootfs::attach_root(init, tree, at),
        Op::PivotRoot => rootfs::pivot_root(init),
        Op::MoveRoot => rootfs::move_root(init),
        Op::Chroot { directory } => rootfs::change_root(init, directory),
        Op::Attach { mount, at, create, follow } => mount::attach(init, mount, at, create, follow),
        Op::LegacyMount { source, fstype, flags, data, at } => {
            mount::legacy_mount(init, source, fstype, flags, data, at)
        }
        Op::MakeDirectory { path, mode } => file::make_directory(init, path, mode),
        Op::MakeNode { path, mode, major, minor, uid, gid } => {
            file::make_node(init, path, file::Node { mode, major, minor, uid, gid })
        }
        Op::MakeLink { target, path, replace } => file::make_link(init, target, path, replace),
        Op::Mask { path, file, directory } => rootfs::mask(init, path, file, directory),
        Op::ReadOnly { path } => rootfs::make_read_only(init, path),
        Op::ReadOnlyRoot => rootfs::make_root_read_only(init),
        Op::ReopenNull => terminal::reopen_null(init),
        Op::HostName { name } => system::set_host_name(name),
        Op::Sysctl { proc, path, value } => system::write_proc(init, proc, c"sys", path, value),
        Op::Label { proc, attribute, value } => {
            system::write_proc(init, proc, c"thread-self/attr", attribute, value)
        }
        Op::Close { slot } => init.slots.take(slot).map(drop),
        Op::Console { rows, columns, uid, bind } => {
            terminal::make_console(init, rows, columns, uid, bind)
        }
        Op::Session => terminal::start_session(),
        Op::Rlimit { resource, soft, hard } => process::set_limit(resource, soft, hard),
        Op::Bounding { keep } => process::limit_bounding_set(keep),
        Op::Groups { ids } => process::set_groups(ids),
        Op::Ids { uid, gid } => process::set_ids(uid, gid),
        Op::Capabilities { effective, permitted, inheritable, ambient } => {
            process::set_capabilities(effective, permitted, inheritable, ambient)
        }
        Op::NoNewPrivileges => process::set_no_new_privileges(),
        Op::Seccomp { flags, filter } => process::install_filter(init, flags, filter),
        Op::Umask { mask } => {
            process::set_umask(mask);
            Ok(())
        }
        Op::ChangeDirectory { path } => process::change_directory(init, path),
        Op::ParentDeath { signal } => process::set_parent_death(init, signal),
        Op::Exec { candidates, arguments, environment, preserved, filter_flags, filter } => {
            let program = exec::Program { candidates, arguments, environment };
            exec::execute(init, program, preserved, (filter_flags, filter))
        }
        Op::AwaitStart { listener } => wait::await_start(init, listener),
        Op::DomainName { name } => system::set_domain_name(name),
        Op::Keyring { name } => process::join_keyring(name),
        Op::Personality { persona } => process::set_personality(persona),
        Op::Scheduler { attributes } => schedule::set_scheduler(attributes),
        Op::IoPriority { value } => schedule::set_io_priority(value),
        Op::Affinity { mask } => schedule::set_affinity(mask),
        Op::MemoryPolicy { mode, nodes } => schedule::set_memory_policy(mode, nodes),
        Op::TimeOffsets { proc, offsets } => {
            system::write_proc(init, proc, c"self", Text(c"timens_offsets"), offsets)
        }
        Op::CopyUp { mount, from, contents } => copy::copy_up(init, mount, from, contents),
        #[cfg(feature = "supervise")]
        Op::Stdio { count } => stdio::install(init, count),
        #[cfg(feature = "supervise")]
        Op::Descriptor { from, number } => stdio::replace(init, from, number),
        Op::JoinCgroup { procs } => process::join_cgroup(init, procs),
        Op::Remount { at, set, clear, recursive } => {
            mount::remount(init, at, set, clear, recursive)
        }
        Op::FindProgram { candidates } => exec::find_program(init, candidates),
        // `run_part` has taken it as the end of the plan.
        #[cfg(feature = "supervise")]
        Op::Supervise { .. } => Err(Failure::unexpected(Call::Decode)),
        // In the image that supervises, which has all operations, `Op` is exhaustive: the match
        // does not compile without an arm for each.
        #[cfg(not(all(init_image, feature = "supervise")))]
        _ => Err(Failure::unexpected(Call::Decode)),
    }
}
