//! The format of the files in `vectors/`: a title, and below it indented lines of a key and a
//! value.

use std::fmt::Write as _;
use std::path::Path;

/// One vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vector {
    /// What the vector is, in one line.
    pub(crate) title: String,
    /// Keys and values in the order of the file.
    pub(crate) lines: Vec<(String, String)>,
}

impl Vector {
    /// Creates a vector without lines.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    /// Appends a line.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.lines.push((key.to_owned(), value.into()));
        self
    }

    /// Returns the value of a key.
    ///
    /// # Panics
    /// If the vector has no such key.
    pub(crate) fn get(&self, key: &str) -> &str {
        let found = self.lines.iter().find(|(name, _)| name == key);
        let (_, value) = found.unwrap_or_else(|| panic!("{}: no {key}", self.title));
        value
    }

    /// Returns the decimal number of a key.
    ///
    /// # Panics
    /// If the key is missing, or its value is not a number.
    pub(crate) fn number(&self, key: &str) -> usize {
        self.get(key).parse().unwrap_or_else(|_| panic!("{}: {key} is not a number", self.title))
    }

    /// Returns the hexadecimal bytes of a key.
    ///
    /// # Panics
    /// If the key is missing, or its value is not hexadecimal.
    pub(crate) fn bytes(&self, key: &str) -> Vec<u8> {
        from_hex(self.get(key)).unwrap_or_else(|| panic!("{}: {key} is not hex", self.title))
    }

    /// Returns the vector as it is written in a file.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (key, value) in &self.lines {
            text += format!("  {key} {value}").trim_end();
            text.push('\n');
        }
        text
    }
}

/// Reads a file of `vectors/`. Lines that begin with `#` are comments.
///
/// # Panics
/// If the file cannot be read.
pub(crate) fn read(name: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut vectors: Vec<Vector> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => vectors.push(Vector::new(line)),
            Some(line) => {
                let (key, value) = line.split_once(' ').unwrap_or((line, ""));
                let vector = vectors.last_mut().expect("a title comes first");
                vector.lines.push((key.to_owned(), value.to_owned()));
            }
        }
    }
    vectors
}

/// Compares the vectors of a file with those that the code produces.
///
/// # Panics
/// At the first difference, with the expected text.
pub(crate) fn compare(name: &str, expected: &[Vector]) {
    let written = read(name);
    for (written, expected) in written.iter().zip(expected) {
        let differ = format!("{name} has\n{}but needs\n{}", written.text(), expected.text());
        assert!(written == expected, "{differ}");
    }
    let missing: String = expected.iter().skip(written.len()).map(Vector::text).collect();
    assert!(missing.is_empty(), "{name} lacks\n{missing}");
    assert_eq!(written.len(), expected.len(), "{name} has more vectors than there are samples");
}

/// Returns bytes as pairs of hexadecimal digits, separated by spaces.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x} ");
    }
    text.trim_end().to_owned()
}

/// Parses the output of [`hex`].
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    text.split_ascii_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
