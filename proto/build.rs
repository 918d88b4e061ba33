//! Reports where the sources of this crate are: `DEP_PIDONE_PROTO_DIRECTORY` in the build script of
//! a package that depends on it.
//!
//! Such a build script compiles the init as a freestanding program with a nested cargo. Both sides
//! of the socket must use the same wire, so the nested build must depend on exactly this copy of
//! the crate, and only cargo knows where it unpacked it: the registry, a vendor directory, a git
//! checkout or the workspace.
//!
//! Cargo passes `cargo::metadata` only from packages with a `links` key. Nothing is linked.

fn main() -> Result<(), std::env::VarError> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::metadata=directory={}", std::env::var("CARGO_MANIFEST_DIR")?);
    Ok(())
}
