//! The image of the init: a static program without libc.
//!
//! It is only built as such with `--cfg init_image`, as the build script of the `pidone` library
//! does: a workspace build must not contain two panic handlers.
#![cfg_attr(init_image, no_std, no_main)]

/// The library has the entry point, which is linked with it.
#[cfg(init_image)]
use pidone_init as _;

#[cfg(not(init_image))]
fn main() -> std::process::ExitCode {
    eprintln!("pidone-init: built for the host; the image is built by the library's build script");
    std::process::ExitCode::from(125)
}
