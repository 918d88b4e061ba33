//! Builds the program that the tests run inside containers, and the init with the other codec.

use std::path::Path;

#[path = "../init/recipe.rs"]
mod recipe;

fn main() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in ["init/src", "init/recipe.rs", "proto/src", "tests/guest"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());
    let programs: [(&str, &str, &str, &[&str]); 3] = [
        ("PIDONE_GUEST", "tests/guest", "pidone-guest", &[]),
        ("PIDONE_POSTCARD_INIT", "init", "pidone-init", &["postcard", "supervise"]),
        ("PIDONE_SUPERVISING_INIT", "init", "pidone-init", &["supervise"]),
    ];
    for (variable, directory, package, features) in programs {
        let program =
            recipe::Program { directory: &root.join(directory), package, features }.build()?;
        println!("cargo::rustc-env={variable}={}", program.display());
    }
    Ok(())
}
