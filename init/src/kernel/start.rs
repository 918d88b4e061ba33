//! What libc would provide: the code after the entry point, the panic handler, and the functions
//! that the compiler calls and that are the same on all architectures.

use core::panic::PanicInfo;

use crate::strings::Strings;

/// Runs the program.
///
/// # Safety
/// `stack` must be as the kernel sets it up: a count, that many pointers to strings and a null
/// pointer, then more pointers up to a null pointer.
pub(super) unsafe extern "C" fn begin(stack: *mut usize) -> ! {
    // SAFETY: the kernel puts argc there.
    let count = unsafe { *stack };
    let list = |index| {
        // SAFETY: argv follows argc, and the environment follows the null pointer of argv.
        let first = unsafe { stack.add(index) };
        // SAFETY: the kernel ends each list with a null pointer and each string with NUL. They
        // stay on the stack for ever, and only this program uses them.
        unsafe { Strings::new(first.cast()) }
    };
    crate::program::main(list(1), list(count.wrapping_add(2)))
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    crate::program::abort()
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
    // SAFETY: the caller's string ends with NUL, so no byte after it is read.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
