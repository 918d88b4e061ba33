//! Builds the program that the tests run inside containers.

use std::path::Path;

#[path = "../init/recipe.rs"]
mod recipe;

fn main() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in ["tests/guest", "init/src/start.rs", "init/src/syscall.rs", "init/recipe.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());
    let directory = root.join("tests/guest");
    let guest = recipe::Program { directory: &directory, package: "pidone-guest", features: &[] }
        .build()?;
    println!("cargo::rustc-env=PIDONE_GUEST={}", guest.display());
    Ok(())
}
