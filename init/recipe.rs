//! How a program without libc is built: the image of the init, and the test programs like it.
//!
//! Included by build scripts. A nested cargo builds one binary of one package with flags of its
//! own, in a target directory of its own, so that neither features nor flags of the build around
//! it reach the program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A freestanding program to build.
pub(crate) struct Program<'a> {
    /// The directory of its package.
    pub(crate) directory: &'a Path,
    /// The name of the package and of its binary.
    pub(crate) package: &'a str,
    /// Cargo features.
    pub(crate) features: &'a [&'a str],
}

impl Program<'_> {
    /// Builds the program and tells where it is.
    ///
    /// # Errors
    /// What cargo printed.
    pub(crate) fn build(&self) -> Result<PathBuf, String> {
        let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
        let target = variable("TARGET")?;
        let output = PathBuf::from(variable("OUT_DIR")?).join("freestanding");
        let manifest = self.directory.join("Cargo.toml");

        let mut cargo = Command::new(variable("CARGO")?);
        cargo.args([
            "build",
            "--locked",
            "--quiet",
            "--profile",
            "init",
            "--package",
            self.package,
        ]);
        cargo.args(["--bin", self.package, "--target", &target]);
        cargo.arg("--manifest-path").arg(&manifest).arg("--target-dir").arg(&output);
        if !self.features.is_empty() {
            cargo.args(["--features", &self.features.join(",")]);
        }
        // Flags and wrappers of the build around must not reach this one.
        for name in [
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "LLVM_PROFILE_FILE",
        ] {
            cargo.env_remove(name);
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(&target).join("\u{1f}"));

        let result = cargo.output().map_err(|error| format!("cargo: {error}"))?;
        if !result.status.success() {
            let said = String::from_utf8_lossy(&result.stderr);
            return Err(format!("building {} failed:\n{said}", self.package));
        }
        Ok(output.join(target).join("init").join(self.package))
    }
}

/// The flags of the compiler: static, at a fixed address, nothing that a loader would need.
fn flags(target: &str) -> Vec<String> {
    let mut flags = vec![
        "--cfg=init_image".to_owned(),
        "-Crelocation-model=static".to_owned(),
        "-Cforce-unwind-tables=no".to_owned(),
    ];
    let mut link = |argument: &str| flags.push(format!("-Clink-arg={argument}"));
    link("-nostartfiles");
    link("-nostdlib");
    link("-static");
    link("-Wl,--build-id=none,-z,noseparate-code,-z,norelro,--no-eh-frame-hdr");
    // GNU ld makes two segments where others make three: two mappings less at each exec.
    if gnu_ld(target) {
        link("-fuse-ld=bfd");
    }
    flags
}

/// Whether the C compiler that links for the target can be told to use GNU ld.
fn gnu_ld(target: &str) -> bool {
    let native = env::var("HOST").is_ok_and(|host| host == target);
    let linker = if native { "cc".to_owned() } else { format!("{}-gcc", short(target)) };
    Command::new(linker)
        .args(["-fuse-ld=bfd", "-Wl,--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The prefix of cross tools: `aarch64-linux-gnu` for `aarch64-unknown-linux-gnu`.
fn short(target: &str) -> String {
    target.replace("-unknown-", "-")
}
