//! Writes JSON to standard output, without an allocator.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::descriptor::standard;

/// A writer with a small buffer. The comma before a value is its own business.
pub(crate) struct Json {
    output: BorrowedFd<'static>,
    buffer: [u8; 4096],
    used: usize,
    /// Whether a value comes before the next one.
    follows: bool,
}

impl Json {
    /// A writer to standard output.
    pub(crate) fn new() -> Self {
        Self { output: standard(1), buffer: [0; 4096], used: 0, follows: false }
    }

    /// Ends the line and writes what is left.
    pub(crate) fn finish(mut self) {
        self.put(b"\n");
        self.flush();
    }

    /// An object.
    pub(crate) fn object(&mut self, fill: impl FnOnce(&mut Self)) {
        self.nest(b"{", fill, b"}");
    }

    /// An array.
    pub(crate) fn array(&mut self, fill: impl FnOnce(&mut Self)) {
        self.nest(b"[", fill, b"]");
    }

    fn nest(&mut self, open: &[u8], fill: impl FnOnce(&mut Self), close: &[u8]) {
        self.separate();
        self.put(open);
        self.follows = false;
        fill(self);
        self.put(close);
        self.follows = true;
    }

    /// The name of the next value.
    pub(crate) fn key(&mut self, name: &str) -> &mut Self {
        self.string(name.as_bytes());
        self.put(b":");
        self.follows = false;
        self
    }

    /// A text. What is not UTF-8 is replaced.
    pub(crate) fn string(&mut self, text: &[u8]) {
        self.separate();
        self.put(b"\"");
        for chunk in text.utf8_chunks() {
            for &byte in chunk.valid().as_bytes() {
                match byte {
                    b'"' | b'\\' => self.put(&[b'\\', byte]),
                    0..0x20 => {
                        let digit = |nibble| b"0123456789abcdef"[usize::from(nibble & 15)];
                        self.put(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
                    }
                    _ => self.put(&[byte]),
                }
            }
            if !chunk.invalid().is_empty() {
                self.put("\u{fffd}".as_bytes());
            }
        }
        self.put(b"\"");
        self.follows = true;
    }

    /// A number.
    pub(crate) fn number(&mut self, number: impl Into<i128>) {
        self.separate();
        let number: i128 = number.into();
        let mut digits = [0; 40];
        let mut left = number.unsigned_abs();
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if number < 0 {
            self.put(b"-");
        }
        self.put(&digits[at..]);
        self.follows = true;
    }

    /// Nothing.
    pub(crate) fn null(&mut self) {
        self.separate();
        self.put(b"null");
        self.follows = true;
    }

    fn separate(&mut self) {
        if self.follows {
            self.put(b",");
        }
    }

    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.used == self.buffer.len() {
                self.flush();
            }
            let space = &mut self.buffer[self.used..];
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.used += count;
            bytes = &bytes[count..];
        }
    }

    fn flush(&mut self) {
        let mut rest = &self.buffer[..self.used];
        while !rest.is_empty() {
            match rustix::io::write(self.output, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Nobody reads it, or there is no output at all.
                Err(_) => break,
            }
        }
        self.used = 0;
    }
}

/// Prints one line.
pub(crate) fn line(fill: impl FnOnce(&mut Json)) {
    let mut json = Json::new();
    fill(&mut json);
    json.finish();
}
