//! Builds programs without libc: the image of the init, and test programs like it.
//!
//! Build scripts include this file. A nested cargo builds one binary of one package with its own
//! flags in its own target directory, so that neither features nor flags of the outer build reach
//! the program.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A freestanding program to build.
pub(crate) struct Program<'a> {
    /// The manifest of its package.
    pub(crate) manifest: &'a Path,
    /// The name of the package and of its binary.
    pub(crate) package: &'a str,
    /// All its Cargo features: the default ones are off.
    pub(crate) features: &'a [&'a str],
    /// A linker script that defines the layout of the program.
    pub(crate) layout: Option<&'a Path>,
    /// Further arguments of cargo, such as where dependencies come from.
    pub(crate) arguments: &'a [String],
}

/// The profile of freestanding programs: small code, in which overflowing arithmetic on hostile
/// input panics. It is given on the command line so that it holds in any workspace.
const PROFILE: [&str; 9] = [
    "inherits = 'release'",
    "opt-level = 'z'",
    "lto = 'fat'",
    "codegen-units = 1",
    "panic = 'abort'",
    "strip = true",
    "debug = false",
    "debug-assertions = false",
    "overflow-checks = true",
];

impl Program<'_> {
    /// Builds the program and returns its path: a file named after the package and the features.
    ///
    /// # Errors
    /// Returns what cargo printed.
    pub(crate) fn build(&self) -> Result<PathBuf, String> {
        let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
        let target = variable("TARGET")?;
        let directory = PathBuf::from(variable("OUT_DIR")?);
        let output = directory.join("freestanding");

        let mut cargo = Command::new(variable("CARGO")?);
        // Cargo reads its configuration from the working directory and its parents. The output
        // directory lies in the project that is built; the sources of this package may not.
        cargo.current_dir(&directory);
        cargo.args(["build", "--quiet", "--profile", "init", "--package", self.package]);
        cargo.args(["--bin", self.package, "--target", &target]);
        cargo.arg("--manifest-path").arg(self.manifest).arg("--target-dir").arg(&output);
        cargo.args(["--no-default-features", "--features", &self.features.join(",")]);
        for setting in PROFILE {
            cargo.arg("--config").arg(format!("profile.init.{setting}"));
        }
        cargo.args(self.arguments);
        // Flags and wrappers of the outer build must not reach this one.
        for name in [
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "LLVM_PROFILE_FILE",
        ] {
            cargo.env_remove(name);
        }
        let mut flags = flags();
        if target.ends_with("musl") {
            // The compiler would link its own C library and start files.
            flags.push("-Clink-self-contained=no".to_owned());
        }
        if gnu_ld(&target) {
            // GNU ld makes two segments where others make three: a mapping less at each exec.
            flags.push("-Clink-arg=-fuse-ld=bfd".to_owned());
            if let Some(script) = self.layout {
                flags.push(format!("-Clink-arg=-T{}", copy_layout(script, &output)?.display()));
            }
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));

        let result = cargo.output().map_err(|error| format!("cargo: {error}"))?;
        if !result.status.success() {
            let printed = String::from_utf8_lossy(&result.stderr);
            return Err(format!("building {} failed:\n{printed}", self.package));
        }
        let program = output.join(target).join("init").join(self.package);
        // The same package with other features is built in the same place.
        let name = [&[self.package], self.features].concat().join("-");
        let own = output.join(name);
        fs::copy(&program, &own).map_err(|error| format!("{}: {error}", own.display()))?;
        Ok(own)
    }
}

/// Copies a linker script to a file whose name contains a hash of the text.
///
/// Cargo links again when a flag changes, but not when a file that a flag names changes.
fn copy_layout(script: &Path, output: &Path) -> Result<PathBuf, String> {
    let fail = |error| format!("{}: {error}", script.display());
    println!("cargo::rerun-if-changed={}", script.display());
    let text = fs::read_to_string(script).map_err(fail)?;
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    let copy = output.join(format!("image-{:x}.ld", hash.finish()));
    fs::create_dir_all(output).and_then(|()| fs::write(&copy, text)).map_err(fail)?;
    Ok(copy)
}

/// Returns the flags of the compiler: static, at a fixed address, without a loader.
fn flags() -> Vec<String> {
    let mut flags = vec![
        "--cfg=init_image".to_owned(),
        "-Crelocation-model=static".to_owned(),
        "-Cforce-unwind-tables=no".to_owned(),
        // Inlining makes the interpreter of operations smaller up to this value, and larger above.
        "-Cllvm-args=-inline-threshold=35".to_owned(),
        // A jump table takes eight bytes for each value; comparing is smaller for few values.
        "-Cllvm-args=-min-jump-table-entries=50".to_owned(),
        // Code that occurs several times becomes a function: 3 % less.
        "-Cllvm-args=-enable-machine-outliner".to_owned(),
    ];
    let mut link = |argument: &str| flags.push(format!("-Clink-arg={argument}"));
    link("-nostartfiles");
    link("-nostdlib");
    link("-static");
    link("-Wl,--build-id=none,-z,noseparate-code,-z,norelro,--no-eh-frame-hdr");
    flags
}

/// Returns whether the C compiler that links for the target can use GNU ld.
fn gnu_ld(target: &str) -> bool {
    // Nothing of the C library is linked, so any C compiler for this machine will do.
    let native = env::var("HOST").is_ok_and(|host| machine(&host) == machine(target));
    let linker = if native { "cc".to_owned() } else { format!("{}-gcc", short(target)) };
    Command::new(linker)
        .args(["-fuse-ld=bfd", "-Wl,--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Returns the processor of a target.
fn machine(target: &str) -> Option<&str> {
    target.split('-').next()
}

/// Returns the prefix of cross tools: `aarch64-linux-gnu` for `aarch64-unknown-linux-gnu`.
fn short(target: &str) -> String {
    target.replace("-unknown-", "-")
}
