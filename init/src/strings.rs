//! Lists of strings as the kernel hands them over and takes them.
#![allow(unsafe_code, reason = "pointers to strings")]

use core::ffi::{CStr, c_char};

/// A list of strings as `execve(2)` takes it: pointers, and a null pointer behind the last.
///
/// It is an iterator over itself: what it stands for are the strings that are left.
#[derive(Debug, Clone, Copy)]
pub struct Strings {
    next: *mut *const c_char,
}

impl Strings {
    /// Takes a list from the kernel, or one like it.
    ///
    /// # Safety
    /// The pointers are to strings that end in NUL, the last of them is null, and the list and its
    /// strings stay for ever and are changed through this type alone.
    #[must_use]
    pub const unsafe fn new(first: *mut *const c_char) -> Self {
        Self { next: first }
    }

    /// The list, for `execve(2)`.
    #[must_use]
    pub const fn as_ptr(self) -> *const *const c_char {
        self.next
    }

    /// The first string, which stays.
    #[must_use]
    pub fn first(mut self) -> Option<&'static CStr> {
        self.next()
    }

    /// Puts another string in the place of the first, if there is one.
    pub fn replace(self, string: &'static CStr) {
        if self.first().is_some() {
            // SAFETY: the place is one of the list, before its null pointer.
            unsafe { *self.next = string.as_ptr() };
        }
    }
}

impl Iterator for Strings {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: never moved behind the null pointer, which is in the list.
        let string = unsafe { *self.next };
        if string.is_null() {
            return None;
        }
        // SAFETY: something follows what is not null.
        self.next = unsafe { self.next.add(1) };
        // SAFETY: not null, and so a string that stays.
        Some(unsafe { CStr::from_ptr(string) })
    }
}
