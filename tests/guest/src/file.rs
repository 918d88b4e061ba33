//! Files of proc, whole.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::Errno;

use crate::json::Json;

/// The longest line that is kept, in bytes.
const LINE: usize = 8192;

/// The first line of a file, or null.
pub(crate) fn first_line(json: &mut Json, path: &CStr) {
    let mut line = [0; LINE];
    let Ok(file) = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return json.null();
    };
    match rustix::io::read(&file, &mut line) {
        Ok(length) => {
            let text = line.get(..length).unwrap_or_default();
            json.string(text.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default());
        }
        Err(_) => json.null(),
    }
}

/// All lines of a file as an array, or null.
pub(crate) fn lines(json: &mut Json, path: &CStr) {
    let Ok(file) = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return json.null();
    };
    json.array(|json| {
        let mut buffer = [0; LINE];
        let mut used = 0;
        loop {
            let space = buffer.get_mut(used..).unwrap_or_default();
            match rustix::io::read(&file, space) {
                Ok(0) => break,
                Ok(length) => used += length,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            }
            while let Some(end) = buffer[..used].iter().position(|&byte| byte == b'\n') {
                json.string(&buffer[..end]);
                buffer.copy_within(end + 1..used, 0);
                used -= end + 1;
            }
        }
        if used > 0 {
            json.string(&buffer[..used]);
        }
    });
}

/// Where a link leads, or null.
pub(crate) fn link(json: &mut Json, path: &CStr) {
    let mut buffer = [0; LINE];
    match readlinkat_raw(CWD, path, &mut buffer[..]) {
        Ok(length) => json.string(buffer.get(..length).unwrap_or_default()),
        Err(_) => json.null(),
    }
}

/// A path made of pieces.
pub(crate) struct Path {
    bytes: [u8; 4096],
    length: usize,
}

impl Path {
    /// An empty path.
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 4096], length: 0 }
    }

    /// Appends bytes. Returns whether they fit.
    pub(crate) fn append(&mut self, piece: &[u8]) -> bool {
        let end = self.length + piece.len();
        match self.bytes.get_mut(self.length..end) {
            Some(place) if end < 4096 => {
                place.copy_from_slice(piece);
                self.length = end;
                true
            }
            _ => false,
        }
    }

    /// Appends a number in decimal.
    pub(crate) fn append_number(&mut self, number: u32) {
        if number >= 10 {
            self.append_number(number / 10);
        }
        self.append(&[b'0' + u8::try_from(number % 10).unwrap_or(0)]);
    }

    /// Calls `each` for every entry of this directory, with its path and its name. What cannot be
    /// opened has none.
    pub(crate) fn each(&mut self, mut each: impl FnMut(&mut Self, &[u8])) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(open) = openat(CWD, self.as_c_str(), flags, Mode::empty()) else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(open, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let length = self.len();
            if self.append(b"/") && self.append(name) {
                each(self, name);
            }
            self.truncate(length);
        }
    }

    /// How long it is.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Makes it as short as it was.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes[length..self.length].fill(0);
        self.length = length;
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The path for a system call.
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}
