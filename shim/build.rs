//! Builds the image of the init and hands its path to the library, which embeds it.

use std::env;
use std::path::{Path, PathBuf};

#[path = "../init/recipe.rs"]
mod recipe;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=PIDONE_INIT");
    let image = match env::var_os("PIDONE_INIT") {
        Some(prebuilt) => {
            let prebuilt = PathBuf::from(prebuilt);
            println!("cargo::rerun-if-changed={}", prebuilt.display());
            prebuilt
        }
        None => build()?,
    };
    println!("cargo::rustc-env=PIDONE_INIT_IMAGE={}", image.display());
    // What `pidone --version` names; who packages the program knows it.
    println!("cargo::rerun-if-env-changed=PIDONE_COMMIT");
    let commit = env::var("PIDONE_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=PIDONE_COMMIT={commit}");
    Ok(())
}

/// Builds the image from the sources beside this package.
fn build() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in ["init/src", "init/Cargo.toml", "init/recipe.rs", "proto/src", "proto/Cargo.toml"]
    {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());
    let directory = root.join("init");
    recipe::Program { directory: &directory, package: "pidone-init", features: &[] }.build()
}
