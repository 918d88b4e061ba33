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
    let is_vendored = sources.join(".cargo-checksum.json").exists();
    let library = if is_vendored { without_paths(&package, &sources)? } else { sources.clone() };
    let manifest = write_package(&package, &library, &wire)?;
    let layout = sources.join("image.ld");
    let lock = package.join("Cargo.lock");
    let shipped = [sources.join("Cargo.lock"), sources.join("../Cargo.lock")];
    let shipped = shipped.iter().find(|path| path.exists());
    let attempt = |shipped: Option<&PathBuf>, sources: Vec<String>| {
        match shipped {
            Some(shipped) => fs::copy(shipped, &lock).map(drop),
            None if lock.exists() => fs::remove_file(&lock),
            None => Ok(()),
        }
        .map_err(|error| format!("{}: {error}", lock.display()))?;
        // Everything that is built here is also a part of the outer build, so cargo has it.
        let arguments = [vec!["--offline".to_owned()], sources].concat();
        let (manifest, layout) = (&manifest, Some(&*layout));
        let arguments = &arguments;
        recipe::Program { manifest, package: PACKAGE, features, layout, arguments }.build()
    };
    // The versions of the lock file beside the sources, if cargo has them; else those that the
    // outer build uses; else those in the vendor directory of the sources, if cargo's
    // configuration, which it looks for around the output directory, does not name that.
    let mut errors = Vec::new();
    if let Some(shipped) = shipped {
        println!("cargo::rerun-if-changed={}", shipped.display());
        match attempt(Some(shipped), Vec::new()) {
            Ok(image) => return Ok(image),
            Err(error) => errors.push(error),
        }
    }
    match attempt(None, Vec::new()) {
        Ok(image) => return Ok(image),
        Err(error) => errors.push(error),
    }
    if let Some(directory) = sources.parent().filter(|_| is_vendored) {
        match attempt(None, vendor_directory(directory)) {
            Ok(image) => return Ok(image),
            Err(error) => errors.push(error),
        }
    }
    Err(errors.join("\n"))
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

/// Returns the arguments by which cargo takes dependencies from a vendor directory.
fn vendor_directory(directory: &Path) -> Vec<String> {
    let settings = [
        "source.crates-io.replace-with = 'pidone-vendored'".to_owned(),
        format!("source.pidone-vendored.directory = {directory:?}"),
    ];
    settings.into_iter().flat_map(|setting| ["--config".to_owned(), setting]).collect()
}

/// Writes this crate's manifest without the paths of its dependencies beside links to its sources.
/// Returns the directory.
///
/// A package that was vendored from git names the wire, and what its tests need, by the paths that
/// they had in the repository. Cargo ignores these paths, but not where the package is itself a
/// dependency by path, as it is in the nested build. The manifest has the form that cargo writes:
/// each dependency is a section.
fn without_paths(package: &Path, sources: &Path) -> Result<PathBuf, String> {
    let directory = package.join("init");
    let fail = |error: std::io::Error| format!("{}: {error}", directory.display());
    let text = fs::read_to_string(sources.join("Cargo.toml")).map_err(fail)?;
    let mut section = "";
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let is_path = section.starts_with("[dependencies.") && line.starts_with("path = ");
        if !is_path && !section.starts_with("[dev-dependencies") {
            kept.extend([line, "\n"]);
        }
    }
    fs::create_dir_all(&directory).map_err(fail)?;
    fs::write(directory.join("Cargo.toml"), kept).map_err(fail)?;
    for name in ["src", "build.rs", "recipe.rs"] {
        let link = directory.join(name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
            _ => std::os::unix::fs::symlink(sources.join(name), link).map_err(fail)?,
        }
    }
    Ok(directory)
}

/// Returns a variable that cargo sets for build scripts.
fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}
