//! What the benches start: a static program without libc that writes the time of its first
//! instruction to standard output and exits. With an argument it waits until it is killed.
//!
//! The time is that of `CLOCK_MONOTONIC` in nanoseconds, as a native number of 64 bits. Any
//! program with a libc would take longer to begin than a container takes to be made.
//!
//! It is only itself when built with `--cfg init_image`, as the build script of the benches does.
#![cfg_attr(init_image, no_std, no_main)]

#[cfg(init_image)]
mod start;

#[cfg(not(init_image))]
fn main() -> std::process::ExitCode {
    eprintln!("pidone-payload: built for the host; its image is built by the benches");
    std::process::ExitCode::from(125)
}
