//! The init as a program: all of it is in the library, which has the entry point.
//!
//! Only the build script compiles this file, with `--cfg init_image`.
#![no_std]
#![no_main]

use pidone_init as _;
