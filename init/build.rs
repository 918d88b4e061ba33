//! Builds the two images of the init, which the library has as bytes, or takes prebuilt ones.
//!
//! This crate is compiled twice. Other crates depend on the outer one: the library with the bytes.
//! Compiled with `--cfg init_image` it is the init itself, built by a nested cargo with the flags
//! of a program without libc. The nested build uses this very directory and the same copy of the
//! wire as the outer build, wherever cargo has unpacked them: in a workspace, in the registry, in a
//! vendor directory or in a git checkout.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

mod recipe;

/// The name of the package that is generated around the sources, and of its binary.
const PACKAGE: &str = "pidone-init-image";

fn main() -> Result<(), String> {
    // The nested build: its flags are in the environment of build scripts too.
    if env::var_os("CARGO_CFG_INIT_IMAGE").is_some() {
        return Ok(());
    }
    image("PIDONE_INIT", &["standalone"])?;
    image("PIDONE_SUPERVISOR", &["supervise"])?;
    if env::var_os("CARGO_FEATURE_POSTCARD").is_some() {
        image("PIDONE_POSTCARD_SUPERVISOR", &["supervise", "postcard"])?;
    }
    Ok(())
}

/// Passes one image to the library: the prebuilt file that a variable names, or one that is built
/// with some features.
fn image(variable: &str, features: &[&str]) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed={variable}");
    let image = match env::var_os(variable) {
        Some(prebuilt) => {
            let prebuilt = std::path::absolute(&prebuilt)
                .map_err(|error| format!("{variable}={}: {error}", prebuilt.display()))?;
            println!("cargo::rerun-if-changed={}", prebuilt.display());
            prebuilt
        }
        None => build(features)?,
    };
    println!("cargo::rustc-env={variable}_IMAGE={}", image.display());
    // Build scripts of packages that need the file read it as `DEP_PIDONE_INIT_STANDALONE`.
    println!("cargo::metadata={}={}", features.join("_"), image.display());
    Ok(())
}

/// Builds the image with some features and returns its path.
fn build(features: &[&str]) -> Result<PathBuf, String> {
    let sources = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let wire = PathBuf::from(variable("DEP_PIDONE_PROTO_DIRECTORY")?);
    for name in ["src", "Cargo.toml", "build.rs", "recipe.rs"] {
        println!("cargo::rerun-if-changed={}", sources.join(name).display());
    }
    for name in ["src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", wire.join(name).display());
    }
    let package = PathBuf::from(variable("OUT_DIR")?).join("package");
    let manifest = write_package(&package, &sources, &wire)?;
    let layout = sources.join("image.ld");
    let mut arguments = vendor_directory(&sources);
    // All that is built here is a part of the outer build, for which cargo has fetched it.
    arguments.push("--offline".to_owned());
    let program = recipe::Program {
        manifest: &manifest,
        package: PACKAGE,
        features,
        layout: Some(&layout),
        arguments: &arguments,
    };
    // The versions of the lock file beside the sources, if cargo has them here; else those that the
    // outer build uses, which are the only ones in a vendor directory.
    let lock = package.join("Cargo.lock");
    let locks = [sources.join("Cargo.lock"), sources.join("../Cargo.lock")];
    if let Some(shipped) = locks.iter().find(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", shipped.display());
        fs::copy(shipped, &lock).map_err(|error| format!("{}: {error}", lock.display()))?;
        if let Ok(image) = program.build() {
            return Ok(image);
        }
        fs::remove_file(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    }
    program.build()
}

/// Writes the package of the nested build, whose library is this crate. Returns its manifest.
fn write_package(package: &Path, sources: &Path, wire: &Path) -> Result<PathBuf, String> {
    let manifest = package.join("Cargo.toml");
    let text = format!(
        "[package]
name = \"{PACKAGE}\"
version = \"0.0.0\"
edition = \"2024\"

[[bin]]
name = \"{PACKAGE}\"
path = {main:?}

[features]
standalone = [\"pidone-init/standalone\"]
supervise = [\"pidone-init/supervise\"]
postcard = [\"pidone-init/postcard\"]

[dependencies]
pidone-init = {{ path = {sources:?}, default-features = false }}

[patch.crates-io]
pidone-proto = {{ path = {wire:?} }}

[workspace]
",
        main = sources.join("src/main.rs"),
    );
    fs::create_dir_all(package)
        .and_then(|()| fs::write(&manifest, text))
        .map_err(|error| format!("{}: {error}", manifest.display()))?;
    Ok(manifest)
}

/// Returns the arguments by which cargo takes dependencies from a vendor directory, if the sources
/// lie in one: each package there has a file of checksums.
fn vendor_directory(sources: &Path) -> Vec<String> {
    let Some(directory) =
        sources.parent().filter(|_| sources.join(".cargo-checksum.json").exists())
    else {
        return Vec::new();
    };
    let settings = [
        "source.crates-io.replace-with = 'pidone-vendored'".to_owned(),
        format!("source.pidone-vendored.directory = {directory:?}"),
    ];
    settings.into_iter().flat_map(|setting| ["--config".to_owned(), setting]).collect()
}

/// Returns a variable that cargo sets for build scripts.
fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}
