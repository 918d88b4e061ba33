//! A client in another language, written from `proto/WIRE.md` alone: it can do everything.

use std::path::Path;

use pidone_tests::{Case, Outcome, Sandbox, case, python, python_container, supervising_image};

pub(crate) const CASES: &[Case] =
    &[case!(the_python_codec_knows_the_vectors).once(), case!(runs_a_container).once()];

fn the_python_codec_knows_the_vectors(_: &Sandbox) -> Outcome {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/vectors");
    python("vectors.py", &[&vectors])
}

fn runs_a_container(sandbox: &Sandbox) -> Outcome {
    python_container(sandbox, Path::new(supervising_image()), "bincode")
}
