//! Builds the images of the init and hands their paths to the library, which embeds them.

use std::env;
use std::path::{Path, PathBuf};

#[path = "../init/recipe.rs"]
mod recipe;

fn main() -> Result<(), String> {
    image("PIDONE_INIT", "standalone")?;
    image("PIDONE_SUPERVISOR", "supervise")?;
    Ok(())
}

/// An image, with what it is beside the interpreter of plans: a prebuilt one that the variable
/// names, or one that is built.
fn image(variable: &str, feature: &str) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed={variable}");
    let image = match env::var_os(variable) {
        Some(prebuilt) => {
            let prebuilt = PathBuf::from(prebuilt);
            println!("cargo::rerun-if-changed={}", prebuilt.display());
            prebuilt
        }
        None => build(feature)?,
    };
    println!("cargo::rustc-env={variable}_IMAGE={}", image.display());
    Ok(())
}

/// Builds an image from the sources beside this package.
fn build(feature: &str) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in ["init/src", "init/Cargo.toml", "init/recipe.rs", "proto/src", "proto/Cargo.toml"]
    {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());
    let directory = root.join("init");
    recipe::Program { directory: &directory, package: "pidone-init", features: &[feature] }.build()
}
