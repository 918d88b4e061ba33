//! Memory of a child until its program comes.
//!
//! A child shares the memory of the init, since a copy takes as long as all that it does until its
//! program comes. It runs beside the init on a stack of its own, and the init does not wait for it.
//! So nothing of the init's may be in its hands: what it reads and writes is in a room, which is
//! the child's until the kernel has let go of the shared memory, at exec or at its end.
#![allow(unsafe_code, reason = "a stack for a child")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use pidone_proto::{Part, limits};
use rustix::fd::{OwnedFd, RawFd};
use rustix::io::Errno;

use super::close_others;
use crate::channel::Channel;
use crate::interpret::{Init, Shared};
use crate::slots::Slots;
use crate::{child, signal, sys};

/// What nobody may touch, so that a stack that is too small is a fault: a page of any machine.
const GUARD: usize = 64 * 1024;
/// Several times what the operations need.
const STACK: usize = 128 * 1024;
/// What most messages fit into.
const SMALL: usize = 8 * 1024;
/// What `execve(2)` takes at most, pointers among it, and the ends of two lists.
const POINTERS: usize = 6 * 1024 * 1024 + 16;
/// All of it.
const SIZE: usize = GUARD + STACK + limits::FRAME + 64 + POINTERS;
/// Where the child's task is: at the upper end of the stack.
const TASK: usize = (GUARD + STACK - size_of::<Task>()) & !63;

/// A room: behind each other the guard, the stack, a message, and lists of pointers.
pub(super) struct Room {
    start: NonNull<u8>,
    /// A plan that did not fit into the message.
    plan: &'static [u8],
    /// How long the message is.
    length: usize,
}

/// What a child begins with, at the upper end of its stack.
struct Task {
    init: Init,
    part: Part,
    plan: &'static [u8],
}

impl Room {
    /// Makes a room. Pages that are not touched cost nothing.
    pub(super) fn new() -> Result<Self, Errno> {
        let start = NonNull::from(sys::memory(SIZE)?).cast::<u8>();
        sys::forbid(start.as_ptr(), GUARD)?;
        Ok(Self { start, plan: &[], length: 0 })
    }

    /// Where a message is received. What the last one was is over.
    pub(super) fn message(&mut self) -> &'static mut [u8] {
        self.length = limits::FRAME;
        self.part(GUARD + STACK, limits::FRAME)
    }

    /// Learns how long the message is, or its plan if that came in another way.
    pub(super) fn received(&mut self, length: usize, plan: &'static [u8]) {
        if plan.is_empty() {
            self.length = length;
        }
        self.plan = plan;
    }

    /// Whether no more of it was used than most messages need: its pages are worth keeping.
    pub(super) fn is_small(&self) -> bool {
        self.length <= SMALL
    }

    /// Gives all of it back.
    pub(super) fn raze(&self) {
        // Nothing is mapped where there is no plan, and an empty range is refused.
        sys::unmap(self.plan.as_ptr(), self.plan.len());
        sys::unmap(self.start.as_ptr(), SIZE);
    }

    fn part(&self, at: usize, length: usize) -> &'static mut [u8] {
        // SAFETY: it is in the mapping, which nothing else in this program refers to but what came
        // of the last request in it, and who has the room is done with that.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr().wrapping_add(at), length) }
    }

    /// Whether the program of the child in the room comes next; that one sets it.
    fn executing(&self) -> &'static AtomicBool {
        // SAFETY: these bytes are nothing else, and whatever is in them was written as one.
        unsafe { &*self.start.as_ptr().wrapping_add(SIZE - POINTERS - 64).cast() }
    }

    /// Clones a child that runs operations of a plan in this room, or tells on the status socket why
    /// it cannot. It gets copies of descriptors: its own, at the same numbers.
    pub(super) fn clone_child(
        &self,
        (status, slots): (RawFd, &Slots),
        (operations, plan): (u32, &'static [u8]),
    ) -> Result<(i32, OwnedFd), Errno> {
        let mut init = Init::new(Channel::new(sys::adopt(status)));
        // SAFETY: what it owns is at the same numbers in the child's own table of descriptors, and
        // this copy of it is dropped there alone, as that of the socket.
        init.slots = unsafe { core::ptr::read(slots) };
        let executing = self.executing();
        executing.store(false, Ordering::Relaxed);
        let memory = self.part(SIZE - POINTERS, POINTERS);
        init.shared = Some(Shared { memory, executing: Some(executing) });
        let part = Part { first: 1, operations, more: false, timed: false };
        let task = self.start.as_ptr().wrapping_add(TASK).cast::<Task>();
        // SAFETY: there is room for it, aligned, at the end of the stack.
        unsafe { task.write(Task { init, part, plan }) };
        // SAFETY: the stack and the task are the child's: who has the room leaves both alone until the
        // child has let go of the memory. The plan is in the same room, or mapped until then.
        unsafe { child::clone_beside(task.cast(), become_process) }
    }

    /// Whether a child that has let go of the shared memory was about to execute its program.
    pub(super) fn was_executing(&self) -> bool {
        // The kernel has made visible what the child did before.
        self.executing().load(Ordering::Relaxed)
    }
}

/// The child: it becomes the program, or tells why not and ends.
extern "C" fn become_process(task: *mut u8) -> ! {
    // SAFETY: the parent has written it for this child alone, and leaves it alone until the child has
    // let go of the memory.
    let Task { init, part, plan } = unsafe { &mut *task.cast::<Task>() };
    signal::unblock();
    // Those of the init: a limit of the program's may leave no room for them.
    close_others(init);
    let outcome = init.operations(*part, plan);
    init.fail(outcome)
}
