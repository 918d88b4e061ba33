//! The memory of a child until its program is executed.
//!
//! A child shares the memory of the init, since copying it would take as long as everything else
//! that the child does. It runs on its own stack, concurrently with the init, which does not wait
//! for it. So it must not touch anything of the init: all that it reads and writes is in a
//! workspace, which is the child's until the kernel has released the shared memory, at exec or at
//! exit.
#![allow(unsafe_code, reason = "memory and a stack for a child")]

use core::sync::atomic::{AtomicBool, Ordering};

use pidone_proto::{Part, limits};
use rustix::fd::{FromRawFd as _, OwnedFd, RawFd};
use rustix::io::Errno;

use super::{close_others, run};
use crate::channel::Channel;
use crate::failure::Failure;
use crate::interpret::run_part;
use crate::kernel::memory::Mapping;
use crate::kernel::process::clone_sharing_memory;
use crate::kernel::signal;
use crate::slots::Slots;
use crate::state::{Init, Shared};

/// Inaccessible memory below the stack, so that an overflow is a fault: a page of any machine.
const GUARD: usize = 64 * 1024;
/// Several times what the operations need.
const STACK: usize = 128 * 1024;
/// Most messages fit into this.
const SMALL: usize = 8 * 1024;
/// The most that `execve(2)` takes, including pointers, and the ends of two lists.
const POINTERS: usize = 6 * 1024 * 1024 + 16;
/// The size of a workspace.
const SIZE: usize = GUARD + STACK + limits::FRAME + 64 + POINTERS;
/// Where the child's task is: at the upper end of the stack.
const TASK: usize = (GUARD + STACK - size_of::<Task>()) & !63;

/// Memory of one child, in this order: the guard, the stack, a message, lists of pointers.
///
/// It is unmapped when it is dropped.
pub(super) struct Workspace {
    memory: Mapping,
    /// A plan that did not fit into the message.
    plan: Option<Mapping>,
    /// The length of the message.
    length: usize,
}

/// What a child starts with, at the upper end of its stack.
struct Task {
    init: Init,
    part: Part,
    plan: &'static [u8],
}

impl Workspace {
    /// Makes a workspace. Pages that are not touched cost nothing.
    pub(super) fn new() -> Result<Self, Errno> {
        let memory = Mapping::new(SIZE)?;
        // SAFETY: the mapping is new, and nothing refers to it.
        unsafe { memory.protect(GUARD) }?;
        Ok(Self { memory, plan: None, length: 0 })
    }

    /// Returns the buffer for the next message.
    ///
    /// # Safety
    /// Nothing may refer to the last message any more, and no child may use the workspace. The
    /// buffer must not be used after the workspace is dropped.
    pub(super) unsafe fn message(&mut self) -> &'static mut [u8] {
        self.length = limits::FRAME;
        // SAFETY: no other part overlaps with this one; the rest is the caller's promise.
        unsafe { self.part(GUARD + STACK, limits::FRAME) }
    }

    /// Records the length of the message that was received.
    pub(super) fn set_length(&mut self, length: usize) {
        self.length = length;
    }

    /// Keeps a plan that came in a memfd, and returns its bytes.
    ///
    /// # Safety
    /// The bytes must not be used after the workspace is dropped or keeps another plan.
    pub(super) unsafe fn keep_plan(&mut self, plan: Mapping) -> &'static [u8] {
        // SAFETY: a sealed file does not change; the rest is the caller's promise.
        unsafe { self.plan.insert(plan).bytes() }
    }

    /// Returns whether no more of it was used than most messages need, so that its pages are worth
    /// keeping.
    pub(super) fn is_small(&self) -> bool {
        self.length <= SMALL
    }

    /// Returns a part of the memory.
    ///
    /// # Safety
    /// The part must be in the mapping, above the guard. Nothing else may refer to it, and it must
    /// not be used after the workspace is dropped.
    unsafe fn part(&self, at: usize, length: usize) -> &'static mut [u8] {
        let start = self.memory.start().wrapping_add(at);
        // SAFETY: the mapping is readable and writable there; the rest is the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(start, length) }
    }

    /// Returns whether the program of the child is executed next, as the child has set it.
    fn executing(&self) -> &AtomicBool {
        let start = self.memory.start().wrapping_add(SIZE - POINTERS - 64);
        // SAFETY: these bytes are in the mapping and only used as this type, for which any bytes
        // that were written here, or zeros, are valid.
        unsafe { &*start.cast() }
    }

    /// Clones a child that runs operations of a plan in this workspace. The child reports to the
    /// status socket. It has copies of all descriptors, at the same numbers.
    ///
    /// # Safety
    /// The workspace must not be dropped and not be used for anything else until the child has
    /// executed its program or ended. The plan must be valid for as long.
    pub(super) unsafe fn clone_child(
        &self,
        (status, slots): (RawFd, &Slots),
        (operations, plan): (u32, &'static [u8]),
    ) -> Result<(i32, OwnedFd), Errno> {
        // SAFETY: this value and the slots are used by the child only, which owns the same numbers
        // in its own table of descriptors. They are never dropped in this process.
        let status = unsafe { OwnedFd::from_raw_fd(status) };
        let mut init = Init::new(Channel::new(status));
        // SAFETY: as above.
        init.slots = unsafe { core::ptr::read(slots) };
        let executing: *const AtomicBool = self.executing();
        // SAFETY: only the child uses it, and the workspace is valid for as long.
        let executing = unsafe { &*executing };
        executing.store(false, Ordering::Relaxed);
        // SAFETY: only the child uses these bytes, which no other part contains.
        let memory = unsafe { self.part(SIZE - POINTERS, POINTERS) };
        init.shared = Some(Shared { memory, executing: Some(executing) });
        let part = Part { first: 1, operations, more: false, timed: false };
        let task = self.memory.start().wrapping_add(TASK).cast::<Task>();
        // SAFETY: the task fits there, aligned, at the end of the stack.
        unsafe { task.write(Task { init, part, plan }) };
        // SAFETY: the stack and the task are only the child's for as long as it uses them, and the
        // child uses nothing else of this process: the caller's promise.
        unsafe { clone_sharing_memory(task.cast(), become_process) }
    }

    /// Returns whether a child that has released the shared memory was about to execute its
    /// program.
    pub(super) fn was_executing(&self) -> bool {
        // What the child wrote is visible: the kernel has ordered its end before this.
        self.executing().load(Ordering::Relaxed)
    }
}

/// The child: it becomes the program, or reports why not and exits.
extern "C" fn become_process(task: *mut u8) -> ! {
    // SAFETY: the parent wrote the task for this child only, and does not touch it until the child
    // has released the memory.
    let Task { init, part, plan } = unsafe { &mut *task.cast::<Task>() };
    signal::unblock();
    // The descriptors of the init are closed here: a limit for the program may leave no place for
    // more.
    close_others(init);
    match run_part(init, *part, plan) {
        Ok(Some(next)) => run(init, next),
        Ok(None) => init.fail(Failure::NO_PROGRAM),
        Err(failure) => init.fail(failure),
    }
}
