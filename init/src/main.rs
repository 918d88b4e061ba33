//! The image of the init: a static program without libc.
//!
//! It is only itself when built with `--cfg init_image`, as the build script of the `pidone`
//! library does; a workspace build must not have two panic handlers in it.
#![cfg_attr(init_image, no_std, no_main)]

#[cfg(init_image)]
mod start;

/// What [`start`] enters.
#[cfg(init_image)]
use pidone_init::{program, strings};

#[cfg(not(init_image))]
fn main() -> std::process::ExitCode {
    eprintln!("pidone-init: built for the host; the image is built by the library's build script");
    std::process::ExitCode::from(125)
}
