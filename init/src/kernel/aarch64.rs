//! 64-bit Arm.

use core::arch::asm;

use rustix::io::Errno;

use super::decode;

/// Makes a system call.
///
/// # Safety
/// What the call reads or writes through its arguments must be valid for it, and what it does to
/// the process must not break what Rust relies on.
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the kernel preserves every register but x0; the rest is the caller's promise.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack)
        );
    }
    decode(result)
}

/// Calls `clone(2)` with flags and a place for the pidfd. The child runs `body` with `argument`;
/// its stack is the memory below `argument`.
///
/// # Safety
/// As [`syscall`]. `argument` must be aligned to 16, and the stack and all that `body` writes to
/// must be the child's alone.
pub(crate) unsafe fn clone_on_stack(
    number: usize,
    [flags, pidfd]: [usize; 2],
    argument: *mut u8,
    body: extern "C" fn(*mut u8) -> !,
) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the parent continues after the jump as after any call. The child has the registers
    // of the parent except the stack pointer, and calls a function that does not return.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, sp",
            "blr x9",
            "2:",
            in("x8") number,
            inlateout("x0") flags => result,
            in("x1") argument,
            in("x2") pidfd,
            in("x3") 0,
            in("x4") 0,
            in("x9") body,
        );
    }
    decode(result)
}

/// The entry point: the stack pointer points to the argument count, and the pointers to the
/// arguments follow it.
///
/// The ABI requires a stack aligned to 16 bytes; the kernel provides it.
#[cfg(init_image)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!(
        "mov x29, xzr",
        "mov x30, xzr",
        "mov x0, sp",
        "bl {begin}",
        "brk 0",
        begin = sym super::start::begin
    )
}

/// The memory functions that the compiler calls. Their accesses are volatile, so that the compiler
/// does not replace a loop with a call of the same function.
#[cfg(init_image)]
mod memory {
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: the caller's buffer is valid for `length` bytes.
            let byte = unsafe { from.add(index).read_volatile() };
            // SAFETY: as above.
            unsafe { to.add(index).write_volatile(byte) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        if (to as usize).wrapping_sub(from as usize) >= length {
            // SAFETY: a forward copy does not overwrite bytes that it has not read yet.
            return unsafe { memcpy(to, from, length) };
        }
        for index in (0..length).rev() {
            // SAFETY: the caller's buffer is valid for `length` bytes.
            let byte = unsafe { from.add(index).read_volatile() };
            // SAFETY: as above.
            unsafe { to.add(index).write_volatile(byte) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
        let [byte, ..] = byte.to_le_bytes();
        for index in 0..length {
            // SAFETY: the caller's buffer is valid for `length` bytes.
            unsafe { to.add(index).write_volatile(byte) };
        }
        to
    }
}
