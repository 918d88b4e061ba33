//! The system call instruction, for what rustix does not offer.
#![allow(unsafe_code, reason = "raw system calls")]

use rustix::io::Errno;

/// Makes a system call.
///
/// # Safety
/// What the call reads or writes through its arguments must be valid for it, and what it does to
/// the process must not break what Rust relies on.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    let answer: isize;
    // SAFETY: the kernel clobbers rcx and r11 and nothing else; the rest is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => answer,
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
    decode(answer)
}

/// Makes a system call.
///
/// # Safety
/// What the call reads or writes through its arguments must be valid for it, and what it does to
/// the process must not break what Rust relies on.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    let answer: isize;
    // SAFETY: the kernel preserves every register but x0; the rest is the caller's promise.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => answer,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack)
        );
    }
    decode(answer)
}

/// The kernel answers with a value, or with a negated errno of at most 4095.
pub(crate) fn decode(answer: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&answer) {
        let number = i32::try_from(-answer).unwrap_or(i32::MAX);
        Err(Errno::from_raw_os_error(number))
    } else {
        Ok(answer.cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_error_in_the_range_of_the_kernel() {
        assert_eq!(decode(0), Ok(0));
        assert_eq!(decode(isize::MAX), Ok(usize::MAX / 2));
        assert_eq!(decode(-1), Err(Errno::PERM));
        assert_eq!(decode(-4095).map_err(Errno::raw_os_error), Err(4095));
        // An address in the upper half is none.
        assert_eq!(decode(-4096), Ok(usize::MAX - 4095));
        assert_eq!(decode(isize::MIN), Ok(1 << (usize::BITS - 1)));
    }
}
