//! Builds the program that the tests run inside containers.

use std::path::Path;

#[path = "../init/recipe.rs"]
mod recipe;

fn main() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in ["init/src/kernel", "init/recipe.rs", "tests/guest", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let guest = recipe::Program {
        manifest: &root.join("tests/guest/Cargo.toml"),
        package: "pidone-guest",
        features: &[],
        layout: None,
        arguments: &["--locked".to_owned()],
    };
    println!("cargo::rustc-env=PIDONE_GUEST={}", guest.build()?.display());
    Ok(())
}
