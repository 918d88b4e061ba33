//! The whole program.
#![allow(unsafe_code, reason = "entry point and raw system calls")]

use core::arch::asm;
use core::panic::PanicInfo;

/// The entry point. The kernel aligns the stack to 16 bytes, as the call requires. At its top is
/// the number of arguments.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "mov rdi, [rsp]",
        "call {begin}",
        "ud2",
        begin = sym begin
    )
}

/// The entry point. The kernel aligns the stack to 16 bytes. At its top is the number of arguments.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!(
        "mov x29, xzr",
        "mov x30, xzr",
        "ldr x0, [sp]",
        "bl {begin}",
        "brk 0",
        begin = sym begin
    )
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const WRITE: usize = 1;
    pub(super) const NANOSLEEP: usize = 35;
    pub(super) const CLOCK_GETTIME: usize = 228;
    pub(super) const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const WRITE: usize = 64;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const NANOSLEEP: usize = 101;
    pub(super) const CLOCK_GETTIME: usize = 113;
}

extern "C" fn begin(arguments: usize) -> ! {
    if arguments > 1 {
        wait();
    }
    const MONOTONIC: usize = 1;
    const STDOUT: usize = 1;
    let mut time = [0_u64; 2];
    // SAFETY: the kernel writes seconds and nanoseconds, two 64-bit integers.
    unsafe { syscall(number::CLOCK_GETTIME, MONOTONIC, (&raw mut time) as usize, 0) };
    // Wrapping, since an overflow check would link in the text of a panic.
    let nanoseconds = time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1]);
    // SAFETY: the kernel reads the eight bytes of the integer.
    let written = unsafe {
        syscall(number::WRITE, STDOUT, (&raw const nanoseconds) as usize, size_of::<u64>())
    };
    exit(usize::from(written != size_of::<u64>()))
}

/// Sleeps until killed.
fn wait() -> ! {
    // struct timespec; the kernel clamps it to its maximum.
    let forever = [i64::MAX, 0];
    loop {
        // SAFETY: the kernel reads the two integers. The null pointer makes it not write the rest.
        unsafe { syscall(number::NANOSLEEP, (&raw const forever) as usize, 0, 0) };
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(125)
}

fn exit(status: usize) -> ! {
    loop {
        // SAFETY: the call ends the program and does not access memory.
        unsafe { syscall(number::EXIT_GROUP, status, 0, 0) };
    }
}

/// Makes a system call and returns the kernel's result, a negative error number on failure.
///
/// # Safety
/// Memory that the call reads or writes through its arguments must be valid.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize) -> usize {
    let answer;
    // SAFETY: the kernel clobbers only rcx and r11. The caller vouches for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

/// Makes a system call and returns the kernel's result, a negative error number on failure.
///
/// # Safety
/// Memory that the call reads or writes through its arguments must be valid.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize) -> usize {
    let answer;
    // SAFETY: the kernel preserves every register but x0. The caller vouches for the arguments.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b,
            in("x2") c,
            options(nostack)
        );
    }
    answer
}
