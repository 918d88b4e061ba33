//! A client in another language, written from `proto/WIRE.md` alone: it can do all that there is.

use std::path::{Path, PathBuf};
use std::process::Command;

use pidone_tests::{
    Case, GUEST, Outcome, POSTCARD_INIT, SUPERVISING_INIT, Sandbox, Stop, case, need,
};

pub(crate) const CASES: &[Case] = &[
    case!(knows_the_vectors).once(),
    case!(runs_a_container).once(),
    case!(runs_a_container_with_the_other_codec).once(),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// Runs one of the scripts. What it said is told if it fails.
fn python(script: &str, arguments: &[&Path]) -> Outcome {
    let output = Command::new(need::program("python3")?)
        // No caches beside the sources.
        .arg("-B")
        .arg(directory().join(script))
        .args(arguments)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Stop::Failed(format!("{}\n{}", output.status, String::from_utf8_lossy(&said))))
}

fn knows_the_vectors(_: &Sandbox) -> Outcome {
    python("vectors.py", &[&directory().join("../../proto/vectors")])
}

fn container(sandbox: &Sandbox, image: &Path, codec: &str) -> Outcome {
    need::program("unshare")?;
    let place = sandbox.path().join("python");
    std::fs::create_dir(&place)?;
    python("container.py", &[image, Path::new(codec), Path::new(GUEST), &place])
}

fn runs_a_container(sandbox: &Sandbox) -> Outcome {
    container(sandbox, Path::new(SUPERVISING_INIT), "bincode")
}

fn runs_a_container_with_the_other_codec(sandbox: &Sandbox) -> Outcome {
    let (written, image) = (sandbox.path().join("image"), sandbox.path().join("init"));
    std::fs::write(&written, POSTCARD_INIT)?;
    pidone_tests::install(&written, &image)?;
    Command::new("chmod").arg("755").arg(&image).status()?;
    container(sandbox, &image, "postcard")
}
