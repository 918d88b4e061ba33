//! Builds the payload, the program that the benches start.

use std::path::Path;

#[path = "../init/recipe.rs"]
mod recipe;

fn main() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("payload");
    for source in ["payload/src", "payload/Cargo.toml", "../init/recipe.rs", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let program = recipe::Program {
        manifest: &directory.join("Cargo.toml"),
        package: "pidone-payload",
        features: &[],
        layout: None,
        arguments: &["--locked".to_owned()],
    };
    println!("cargo::rustc-env=PIDONE_PAYLOAD_IMAGE={}", program.build()?.display());
    Ok(())
}
