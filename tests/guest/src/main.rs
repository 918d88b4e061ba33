//! The program that tests run inside containers: it reports what it sees, and misbehaves on
//! request.
//!
//! It needs nothing of the container: no libc, no loader, no `/proc` where a system call does.
//! Its arguments are commands with a `,` between, run in order; each prints one line
//! of JSON. `guest report , sleep` reports everything and stays. Without arguments it reports.
//!
//! Built for the host it is the same program with the standard library's entry.
#![cfg_attr(init_image, no_std, no_main)]

#[path = "../../../init/src/kernel/arch.rs"]
#[allow(dead_code, reason = "the init makes children on a stack, too")]
mod arch;
mod attempt;
mod capability;
mod command;
mod descriptor;
mod device;
mod file;
mod foreign;
mod identity;
mod invade;
mod json;
mod load;
mod mount;
mod process;
mod program;
mod report;
mod signal;
mod sys;
mod terminal;
mod trace;
mod writable;

#[cfg(init_image)]
#[path = "../../../init/src/strings.rs"]
#[allow(dead_code, reason = "the image of the init executes what it is given, too")]
mod strings;

#[cfg(not(init_image))]
fn main() {
    use std::ffi::{CString, OsString};
    use std::os::unix::ffi::OsStringExt as _;

    let text = |string: OsString| CString::new(string.into_vec()).unwrap_or_default();
    let arguments: Vec<CString> = std::env::args_os().map(text).collect();
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            text(name)
        })
        .collect();
    program::main(
        arguments.iter().map(CString::as_c_str),
        environment.iter().map(CString::as_c_str),
    )
}
