//! What each operation does, by subject.

pub(crate) mod copy;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod process;
pub(crate) mod rootfs;
pub(crate) mod schedule;
pub(crate) mod stdio;
pub(crate) mod system;
pub(crate) mod terminal;
pub(crate) mod wait;
