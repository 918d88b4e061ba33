//! What a process keeps of the caller of the command: descriptors at their numbers.

use std::path::Path;

use crate::{Case, case};
use pidone_tests::Bench;

pub(crate) const CASES: &[Case] =
    &[case("descriptors_keep_their_numbers", &[], descriptors_keep_their_numbers)];

/// Without an init that stays, and with one.
const INITS: [&[&str]; 2] = [&[], &["--init"]];

/// podman passes single descriptors of its caller, and others below are closed.
fn descriptors_keep_their_numbers(bench: &Bench) {
    let (five, seven) = (bench.write("five", "5"), bench.write("seven", "7"));
    let script = "cat <&5; cat <&7; for n in 3 4 5 6 7 8 9; do
        [ -e /proc/$$/fd/$n ] && echo -n \" $n\"; done; echo";
    // Only 5, 7 and 8 are open in the command.
    let command = |arguments: &[&str]| {
        let program = bench.program().to_str().unwrap();
        let states = bench.text("state");
        let open = format!(
            "exec 3<&- 4<&- 5<{five} 6<&- 7<{seven} 8</dev/null; exec {program} --root {states} \"$@\""
        );
        let line = ["-c", &open, "sh"];
        bench.command_of(Path::new("/bin/sh"), &[&line[..], arguments].concat())
    };
    let run = |arguments: &[&str]| bench.finish(&mut command(arguments));
    let bundle = bench.bundle(&bench.config(&["sh", "-c", script]));
    assert_eq!(run(&["run", "--preserve-fds", "5", "-b", &bundle, "c"]).ok(), "57 5 7\n");
    // The last one is missing, or is a descriptor of the program itself.
    for (count, number) in [("4", "6"), ("7", "9"), ("100", "102")] {
        let error = run(&["run", "--preserve-fds", count, "-b", &bundle, "c"]).error(1);
        assert_eq!(error, format!("preserve descriptor `{number}`: Bad file descriptor"));
    }
    // An init that stays takes them without gaps.
    let error = run(&["run", "--init", "--preserve-fds", "5", "-b", &bundle, "c"]).error(1);
    assert!(error.contains("`descriptor = 3`: cannot stay closed below others"), "{error}");
    for init in INITS {
        let bundle = bench.bundle(&bench.staying());
        bench.detached(&[&["run", "-d", "-b", &bundle, "c"], init].concat());
        let exec = ["exec", "--preserve-fds", "5", "c", "sh", "-c", script];
        assert_eq!(run(&exec).ok(), "57 5 7\n", "{init:?}");
        bench.delete("c");
    }
}
