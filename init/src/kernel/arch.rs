//! What differs by architecture: the system call instruction, a clone on a stack, and the entry
//! point of a program without libc.
//!
//! The test programs that are built like the image include this file by its path. Such a program
//! has a module `program` with `main(arguments, environment) -> !` and `abort() -> !`, and the
//! module `strings`.
#![allow(unsafe_code, reason = "raw system calls")]

use rustix::io::Errno;

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod machine;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod machine;
#[cfg(init_image)]
#[path = "start.rs"]
mod start;

pub(crate) use machine::*;

/// Converts the result of a system call: a value, or a negated errno of at most 4095.
pub(crate) fn decode(result: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&result) {
        let number = i32::try_from(-result).unwrap_or(i32::MAX);
        Err(Errno::from_raw_os_error(number))
    } else {
        Ok(result.cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_from_minus_4095_to_minus_1_are_errors() {
        assert_eq!(decode(0), Ok(0));
        assert_eq!(decode(isize::MAX), Ok(usize::MAX / 2));
        assert_eq!(decode(-1), Err(Errno::PERM));
        assert_eq!(decode(-4095).map_err(Errno::raw_os_error), Err(4095));
        // An address in the upper half is not an error.
        assert_eq!(decode(-4096), Ok(usize::MAX - 4095));
        assert_eq!(decode(isize::MIN), Ok(1 << (usize::BITS - 1)));
    }
}
