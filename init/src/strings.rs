//! Lists of strings as the kernel passes and takes them.
#![allow(unsafe_code, reason = "pointers to strings")]

use core::ffi::{CStr, c_char};

/// A list of strings as `execve(2)` takes it: pointers, and a null pointer after the last.
///
/// It is an iterator over itself: it contains the strings that are left.
#[derive(Debug, Clone, Copy)]
pub struct Strings {
    next: *mut *const c_char,
}

impl Strings {
    /// Wraps a list from the kernel, or one like it.
    ///
    /// # Safety
    /// The pointers must be to strings that end with NUL, and the last one null. The list and its
    /// strings must stay for ever and be changed only through this type.
    #[must_use]
    pub const unsafe fn new(first: *mut *const c_char) -> Self {
        Self { next: first }
    }

    /// Returns the list, for `execve(2)`.
    #[must_use]
    pub const fn as_ptr(self) -> *const *const c_char {
        self.next
    }

    /// Returns the first string without advancing.
    #[must_use]
    pub fn first(mut self) -> Option<&'static CStr> {
        self.next()
    }

    /// Replaces the first string, if there is one.
    pub fn replace(self, string: &'static CStr) {
        if self.first().is_some() {
            // SAFETY: the place is in the list, before its null pointer.
            unsafe { *self.next = string.as_ptr() };
        }
    }
}

impl Iterator for Strings {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: this never moves beyond the null pointer, which is in the list.
        let string = unsafe { *self.next };
        if string.is_null() {
            return None;
        }
        // SAFETY: a pointer that is not null is followed by another.
        self.next = unsafe { self.next.add(1) };
        // SAFETY: it is not null, and so a string that stays.
        Some(unsafe { CStr::from_ptr(string) })
    }
}
