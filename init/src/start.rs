//! What a program without libc must bring along: its entry, and what the compiler calls.
//!
//! Shared by all programs that are built so. Each has a module `program` with
//! `main(arguments, environment) -> !` and `abort() -> !`, and the type [`Strings`].
#![allow(unsafe_code, reason = "entry point and memory functions")]

use core::panic::PanicInfo;

use crate::strings::Strings;

/// The entry point: the stack pointer is at the number of arguments, their pointers above it.
///
/// The ABIs ask for a stack aligned to 16 bytes, and x86-64 for a direction flag that is clear;
/// the kernel gives both.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!("xor ebp, ebp", "mov rdi, rsp", "call {begin}", "ud2", begin = sym begin)
}

/// The entry point: the stack pointer is at the number of arguments, their pointers above it.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!(
        "mov x29, xzr",
        "mov x30, xzr",
        "mov x0, sp",
        "bl {begin}",
        "brk 0",
        begin = sym begin
    )
}

/// # Safety
/// `stack` is as the kernel left it: a count, as many pointers to strings and a null pointer, and
/// again pointers up to a null pointer.
unsafe extern "C" fn begin(stack: *mut usize) -> ! {
    // SAFETY: the kernel puts argc there.
    let count = unsafe { *stack };
    let list = |index| {
        // SAFETY: argv follows argc, and the environment follows its null pointer.
        let first = unsafe { stack.add(index) };
        // SAFETY: the kernel ends each list in a null pointer and each string in NUL; they stay on
        // the stack for ever, and are this program's alone.
        unsafe { Strings::new(first.cast()) }
    };
    crate::program::main(list(1), list(count.wrapping_add(2)))
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    crate::program::abort()
}

/// The functions that the compiler calls by itself. They must not be written in a way that it
/// would recognise and turn into a call of themselves.
#[cfg(target_arch = "x86_64")]
mod memory {
    use core::arch::asm;

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        // SAFETY: the caller's buffers are valid for `length` bytes; the direction flag is clear.
        unsafe {
            asm!(
                "rep movsb",
                inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags)
            );
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        if (to as usize).wrapping_sub(from as usize) >= length {
            // SAFETY: a copy upwards does not overwrite what it has still to read.
            return unsafe { memcpy(to, from, length) };
        }
        // SAFETY: the buffers overlap with `to` above `from`: downwards, from the last byte on;
        // the direction flag is clear again behind it.
        unsafe {
            asm!(
                "std", "rep movsb", "cld",
                inout("rcx") length => _,
                inout("rdi") to.wrapping_add(length).wrapping_sub(1) => _,
                inout("rsi") from.wrapping_add(length).wrapping_sub(1) => _,
                options(nostack)
            );
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
        // SAFETY: the caller's buffer is valid for `length` bytes; the direction flag is clear.
        unsafe {
            asm!(
                "rep stosb",
                inout("rcx") length => _, inout("rdi") to => _, in("eax") byte,
                options(nostack, preserves_flags)
            );
        }
        to
    }
}

/// The functions that the compiler calls by itself, with accesses that it keeps as they are.
#[cfg(target_arch = "aarch64")]
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
            // SAFETY: a copy upwards does not overwrite what it has still to read.
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

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: the caller's buffer is valid for `length` bytes.
        let a = unsafe { one.add(index).read_volatile() };
        // SAFETY: as above.
        let b = unsafe { other.add(index).read_volatile() };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    // SAFETY: the contract is the same.
    unsafe { memcmp(one, other, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller's string ends in NUL, so that no byte behind it is read.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
