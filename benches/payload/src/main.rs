//! The program that the benches start: static and without libc. It writes the time of its first
//! instruction to standard output and exits. With an argument, it waits until it is killed.
//!
//! The time is that of `CLOCK_MONOTONIC` in nanoseconds, a native 64-bit integer. A program with a
//! libc may take as long to begin as a container takes to start.
//!
//! The build script of the benches builds it with `--cfg init_image`. Without that, it is a stub.
#![cfg_attr(init_image, no_std, no_main)]

#[cfg(init_image)]
mod start;

#[cfg(not(init_image))]
fn main() -> std::process::ExitCode {
    eprintln!("pidone-payload: built for the host; its image is built by the benches");
    std::process::ExitCode::from(125)
}
