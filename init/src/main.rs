//! The init as a program: all of it is in the library, which has the entry point.
//!
//! The build script compiles this file with `--cfg init_image`; the package has no binary otherwise.
#![no_std]
#![no_main]

use pidone_init as _;
