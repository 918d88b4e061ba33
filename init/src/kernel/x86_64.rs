//! x86-64.

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
    // SAFETY: the kernel clobbers rcx and r11 and nothing else; the rest is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
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
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "call r12",
            "2:",
            inlateout("rax") number => result,
            in("rdi") flags,
            in("rsi") argument,
            in("rdx") pidfd,
            in("r10") 0,
            in("r8") 0,
            in("r12") body,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    decode(result)
}

/// The entry point: the stack pointer points to the argument count, and the pointers to the
/// arguments follow it.
///
/// The ABI requires a stack aligned to 16 bytes and a clear direction flag; the kernel provides
/// both.
#[cfg(init_image)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "call {begin}",
        "ud2",
        begin = sym super::start::begin
    )
}

/// The memory functions that the compiler calls. They must not be written in a way that the
/// compiler recognises, since it would replace it with a call of the same function.
#[cfg(init_image)]
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
            // SAFETY: a forward copy does not overwrite bytes that it has not read yet.
            return unsafe { memcpy(to, from, length) };
        }
        // SAFETY: the buffers overlap with `to` above `from`, so the copy goes backward from the
        // last byte. The direction flag is clear again afterwards.
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
