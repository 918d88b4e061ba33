//! Programs outside the workspace that depend on the library and on the wire by their paths.
//!
//! They are built as a stranger's would be: without the workspace's settings, with a lock file of
//! their own, and without network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program outside.
struct Outside<'a> {
    name: &'a str,
    dependencies: String,
    source: &'a str,
}

impl Outside<'_> {
    /// Builds the program in a new directory, and returns both.
    fn build(&self) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let Self { name, dependencies, source } = self;
        let manifest = format!(
            "[package]\nname = \"{name}\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}"
        );
        fs::write(path.join("Cargo.toml"), manifest).unwrap();
        fs::create_dir(path.join("src")).unwrap();
        fs::write(path.join("src/main.rs"), source).unwrap();
        // The versions that are on this machine.
        fs::copy(root().join("Cargo.lock"), path.join("Cargo.lock")).unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline"]).current_dir(path);
        cargo.env("CARGO_TARGET_DIR", &target);
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(variable);
        }
        let output = cargo.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(said, "", "warnings");
        (directory, target.join("debug").join(name))
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A line of `[dependencies]`.
fn dependency(package: &str, directory: &str, features: &str) -> String {
    let path = root().join(directory);
    format!("{package} = {{ path = {path:?}, features = [{features}] }}\n")
}

/// Runs a program and returns what it prints.
fn run(program: &Path, argument: &Path) -> String {
    let output = Command::new(program).arg(argument).current_dir("/").output().unwrap();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complained}");
    assert_eq!(complained, "");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_program_embeds_the_library() {
    let outside = Outside {
        name: "outside-embed",
        dependencies: dependency("pidone", "shim", ""),
        source: include_str!("embed.rs"),
    };
    let (directory, program) = outside.build();
    let lock = fs::read_to_string(directory.path().join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"rustix\""), "{lock}");
    let said = run(&program, &directory.path().join("states"));
    assert_eq!(said, "from outside the workspace\nended with Some(0)\n");
}

#[test]
fn only_the_programs_depend_on_a_parser_of_command_lines() {
    let parsers = |package: &str| {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"])
            .args(["--package", package])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).unwrap();
        tree.lines().filter(|line| line.starts_with("clap")).count()
    };
    assert!(parsers("pidone-cli") >= 3);
    assert_eq!(parsers("pidone"), 0);
}

#[test]
fn a_program_drives_the_image_with_the_wire_alone() {
    let outside = Outside {
        name: "outside-wire",
        dependencies: dependency("pidone-proto", "proto", "\"alloc\"")
            + "rustix = { version = \"1\", features = [\"net\"] }\n",
        source: include_str!("wire.rs"),
    };
    let (directory, program) = outside.build();
    let lock = fs::read_to_string(directory.path().join("Cargo.lock")).unwrap();
    assert!(!lock.contains("name = \"pidone\""), "{lock}");
    let image = directory.path().join("init");
    fs::write(&image, pidone::launch::image::EMBEDDED.bytes()).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o755)).unwrap();
    let said = run(&program, &image);
    assert_eq!(said, "by the wire alone\nExecuting\nended with Some(7)\n");
}

/// Runs a command in a directory and returns its standard output.
fn succeed(command: &mut Command, directory: &Path) -> String {
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(variable);
    }
    let output = command.current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Needs the registry: `cargo vendor` wants the dependencies of all platforms.
#[test]
fn a_program_with_vendored_dependencies_is_built_offline() {
    let base = tempfile::tempdir().unwrap();
    let (repository, program) = (base.path().join("repository"), base.path().join("program"));
    // The working tree as a repository that a program depends on by git.
    let git = |arguments: &[&str], directory: &Path| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=test", "-c", "user.email=test@localhost"]).args(arguments);
        succeed(&mut git, directory)
    };
    for name in git(&["ls-files", "-z"], &root()).split_terminator('\0') {
        let (from, to) = (root().join(name), repository.join(name));
        if from.is_file() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
    }
    git(&["init", "--quiet"], &repository);
    git(&["add", "--all"], &repository);
    git(&["commit", "--quiet", "--message", "as it is"], &repository);

    fs::create_dir_all(program.join("src")).unwrap();
    fs::create_dir(program.join(".cargo")).unwrap();
    let manifest = format!(
        "[package]\nname = \"vendored\"\nedition = \"2024\"\n\n[dependencies]\n\
         pidone = {{ git = \"file://{}\" }}\n",
        repository.display()
    );
    fs::write(program.join("Cargo.toml"), manifest).unwrap();
    let source = "fn main() {\n    let image = pidone::launch::image::EMBEDDED;\n    \
                  println!(\"{}\", image.bytes().len() > 20_000);\n}\n";
    fs::write(program.join("src/main.rs"), source).unwrap();
    let config = succeed(Command::new(env!("CARGO")).args(["vendor", "vendor"]), &program);
    fs::write(program.join(".cargo/config.toml"), config).unwrap();

    // Without anything that cargo has fetched before.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline"]).env("CARGO_HOME", base.path().join("home"));
    build.env("CARGO_TARGET_DIR", program.join("target"));
    succeed(&mut build, &program);
    let run = &mut Command::new(program.join("target/debug/vendored"));
    assert_eq!(succeed(run, &program), "true\n");
}
