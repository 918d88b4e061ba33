//! `pidone man --all` and `pidone completions`, as a packager uses them.

use std::fs;

use pidone_tests::Bench;

use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case("all_manual_pages_are_written_to_a_directory", &[], all_pages_are_written),
    case("a_missing_directory_for_manual_pages_is_refused", &[], missing_directory_is_refused),
    case("bash_zsh_and_fish_have_completions", &[], shells_have_completions),
];

fn all_pages_are_written(bench: &Bench) {
    let directory = bench.text("man1");
    fs::create_dir(&directory).unwrap();
    assert_eq!(bench.run(&["man", "--all", &directory]).ok(), "");
    let page = |name: &str| fs::read_to_string(bench.path("man1").join(name)).unwrap();
    // Each file is what `pidone man` prints.
    assert_eq!(page("pidone.1"), bench.run(&["man"]).ok());
    for verb in ["create", "run", "exec", "kill", "pool", "update", "init-image", "man"] {
        assert_eq!(page(&format!("pidone-{verb}.1")), bench.run(&["man", verb]).ok(), "{verb}");
    }
    assert!(page("pidone-pool.1").contains("SCM_RIGHTS"));
    assert!(page("pidone-pool-serve.1").contains("\\-\\-size"));
    assert!(page("pidone-run.1").contains("\n.SH TRACE\n"));
    for hidden in ["checkpoint", "restore", "init"] {
        assert!(!bench.path("man1").join(format!("pidone-{hidden}.1")).exists(), "{hidden}");
    }
    // A second call replaces the pages.
    assert_eq!(bench.run(&["man", "--all", &directory]).ok(), "");
}

fn missing_directory_is_refused(bench: &Bench) {
    let missing = bench.text("missing");
    let error = bench.run(&["man", "--all", &missing]).error(1);
    assert_eq!(error, format!("open `{missing}`: No such file or directory"));
    assert!(!bench.path("missing").exists());
    let file = bench.text("file");
    fs::write(&file, "").unwrap();
    let error = bench.run(&["man", "--all", &file]).error(1);
    assert_eq!(error, format!("open `{file}`: Not a directory"));
    let error = bench.run(&["man", "run", "--all", &file]).error(1);
    assert!(error.contains("cannot be used with"), "{error}");
}

fn shells_have_completions(bench: &Bench) {
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef pidone"), ("fish", "complete -c")]
    {
        let script = bench.run(&["completions", shell]).ok();
        assert!(script.contains(word) && script.contains("preserve-fds"), "{shell}");
    }
}
