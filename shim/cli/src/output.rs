//! Printing to standard output. If the reader has closed it, the program ends without an error.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal as _, Write};

use pidone_config::Error;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::failure::Failure;

/// Prints text and flushes it.
pub(super) fn print(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_fmt(text).and_then(|()| output.flush()).map_err(failure)
}

/// Prints help text, with colours on a terminal.
pub(super) fn styled(text: &clap::builder::StyledStr) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        print(format_args!("{}", text.ansi()))
    } else {
        print(format_args!("{text}"))
    }
}

/// Prints bytes and flushes them.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_err(failure)
}

/// Returns a value as JSON, indented with tabs like libcontainer's files.
pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    indented(value, b"\t")
}

/// Returns a value as JSON with an indentation.
pub(super) fn indented(value: &impl Serialize, indent: &[u8]) -> Result<Vec<u8>, Failure> {
    encode(value, PrettyFormatter::with_indent(indent))
}

/// Returns a value as one line of JSON.
pub(super) fn line(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    encode(value, CompactFormatter)
}

fn encode(value: &impl Serialize, formatter: impl Formatter) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut text, formatter))
        .map_err(|_| Error::system("encode", "json", rustix::io::Errno::INVAL))?;
    text.push(b'\n');
    Ok(text)
}

fn failure(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Error::system("write", "stdout", error).into(),
    }
}
