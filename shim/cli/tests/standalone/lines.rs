//! The command line: every option, the variables, exit statuses, how the program is found.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::{ALL, Case, TINI, case};
use pidone_tests::{Call, Subject};

pub(crate) const CASES: &[Case] = &[
    case("statuses", ALL, statuses),
    case("texts", ALL, texts),
    case("every_status_can_be_expected", TINI, every_status_can_be_expected),
    case("verbosity", TINI, verbosity),
    case("the_program_is_found_as_execvp_does", ALL, the_program_is_found_as_execvp_does),
    case("the_program_gets_everything_unchanged", ALL, the_program_gets_everything_unchanged),
];

/// There is no such option, so that it is not called.
const NONE: i32 = -1;

/// Lines, and the statuses of the image, of tini and of catatonit.
const STATUSES: &[(&[&str], [i32; 3])] = &[
    (&["true"], [0, 0, 0]),
    (&["--", "true"], [0, 0, 0]),
    (&["--", "sh", "-c", "exit 3"], [3, 3, 3]),
    (&["--", "sh", "-c", "exit 255"], [255, 255, 255]),
    (&["--", "sh", "-c", "kill -KILL $$"], [137, 137, 137]),
    (&["--", "sh", "-c", "kill -TERM $$"], [143, 143, 143]),
    (&["--", "sh", "-c", "kill -SEGV $$"], [139, 139, 139]),
    (&["-g", "--", "sh", "-c", "exit 4"], [4, 4, 4]),
    (&["-s", "--", "sh", "-c", "exit 4"], [4, 4, NONE]),
    (&["-gws", "-e3", "-e", "4", "--", "sh", "-c", "exit 3"], [0, 0, NONE]),
    (&["-gwe4", "--", "sh", "-c", "exit 3"], [3, 3, NONE]),
    (&["-e", "143", "--", "sh", "-c", "kill -TERM $$"], [0, 0, NONE]),
    (&["-e", "127", "--", "/no/such"], [0, 0, NONE]),
    (&["-p", "SIGTERM", "--", "true"], [0, 0, NONE]),
    (&["-pSIGSYS", "--", "true"], [0, 0, NONE]),
    (&["-h"], [0, 0, 0]),
    (&["-l"], [0, 0, NONE]),
    (&["-L"], [0, NONE, 0]),
    (&["-V"], [0, NONE, 0]),
    (&["--version"], [0, 0, 0]),
    // A `--` after the program is left out.
    (&["sh", "--", "-c", "exit 5"], [5, 5, 5]),
    // The program's options are its own, even without `--`: the others take them for theirs.
    (&["sh", "-c", "exit 6"], [6, 1, 1]),
    (&["--", "sh", "-c", "exit $#", "x", "--", "-g", "-x"], [3, 3, 3]),
    // tini has no numbers and no names without SIG; signals of real time have none.
    (&["-p", "9", "--", "true"], [0, 1, NONE]),
    (&["-p", "TERM", "--", "true"], [0, 1, NONE]),
    (&["-p", "64", "--", "true"], [0, 1, NONE]),
    // 125 is for what the init itself refuses: tini's 1 could be the program's.
    (&[], [125, 1, 1]),
    (&["--"], [125, 1, 1]),
    (&["-g"], [125, 1, 1]),
    (&["-x", "true"], [125, 1, 1]),
    (&["--nonsense", "true"], [125, 1, 1]),
    (&["-p"], [125, 1, NONE]),
    (&["-e"], [125, 1, NONE]),
    (&["-p", "SIGFOO", "true"], [125, 1, NONE]),
    (&["-p", "0", "true"], [125, 1, NONE]),
    (&["-p", "65", "true"], [125, 1, NONE]),
    (&["-e", "256", "true"], [125, 1, NONE]),
    (&["-e", "-1", "true"], [125, 1, NONE]),
    (&["-e", "x", "true"], [125, 1, NONE]),
    (&["-e", "99999999999999999999", "true"], [125, 1, NONE]),
    // strtol(3) takes these.
    (&["-e", "", "true"], [125, 0, NONE]),
    (&["-e", "+1", "true"], [125, 0, NONE]),
    (&["-e", " 1", "true"], [125, 0, NONE]),
    // Only the image has another status for a program that cannot be executed, whatever the reason.
    (&["--", "nosuchprogram"], [127, 127, 1]),
    (&["--", "/no/such/program"], [127, 127, 1]),
    (&["--", ""], [127, 127, 1]),
    (&["--", "/etc/passwd"], [126, 126, 1]),
    (&["--", "/etc"], [126, 126, 1]),
    (&["--", "/etc/passwd/x"], [127, 1, 1]),
];

fn statuses(&subject: &Subject) {
    for (arguments, [image, tini, catatonit]) in STATUSES {
        let expected = subject.pick(*image, *tini, *catatonit);
        if expected != NONE {
            let outcome = subject.run(arguments);
            assert_eq!(outcome.code(), expected, "{arguments:?}: {outcome:?}");
        }
    }
}

fn texts(&subject: &Subject) {
    let version = subject.run(&["--version"]).ok();
    // What dockerd looks for.
    let text = format!("tini version {}_pidone-init", env!("CARGO_PKG_VERSION"));
    let text = subject.pick(text.as_str(), "tini version 0.", "tini version 0.");
    assert!(version.starts_with(text) && version.lines().count() == 1, "{version}");

    let help = subject.run(&["-h"]);
    // catatonit prints help as if it were an error.
    let help = subject.pick(&help.stdout, &help.stdout, &help.stderr);
    for option in subject.pick(
        &["-e", "-g", "-p", "-P", "-s", "-v", "-w", "-h", "-l", "-V", "TINI_SUBREAPER"][..],
        &["-e", "-g", "-p", "-s", "-v", "-w", "-h", "-l", "TINI_SUBREAPER"],
        &["-g", "-h", "-L", "-P", "-V"],
    ) {
        assert!(help.contains(option), "{option}: {help}");
    }
    assert!(help.to_lowercase().contains("usage: "), "{help}");

    let tini = subject == Subject::Tini;
    for (arguments, said) in [
        (&["-x", "true"][..], "invalid option: -x"),
        (&["-gx", "true"], "invalid option: -x"),
        (&["--nonsense"], "invalid option: --nonsense"),
        (&["-p"], "option requires an argument: -p"),
        (&["-ge"], "option requires an argument: -e"),
        (&["-p", "SIGFOO", "true"], "Not a valid option for -p: SIGFOO"),
        (&["-e", "256", "true"], "Not a valid option for -e: 256"),
        (&[], "missing program name"),
        (&["nosuchprogram"], "No such file or directory: nosuchprogram"),
        (&["/etc/passwd"], "Permission denied: /etc/passwd"),
    ] {
        let outcome = subject.run(arguments);
        assert_eq!(outcome.stdout, "", "{outcome:?}");
        assert_ne!(outcome.stderr, "", "{outcome:?}");
        if subject == Subject::Image {
            let line = outcome.stderr.lines().next().unwrap();
            assert!(line.starts_with("[FATAL pidone-init ("), "{outcome:?}");
            assert!(line.ends_with(&format!(")] {said}")), "{outcome:?}");
            let usage = "Usage: pidone-init [OPTIONS] [--] PROGRAM [ARGS]";
            let told = outcome.stderr.lines().nth(1);
            assert_eq!(told, (outcome.code() == 125).then_some(usage), "{outcome:?}");
        } else if tini && said.starts_with("Not a valid") {
            assert!(outcome.stderr.contains(said), "{outcome:?}");
        }
    }
    // A name of any length is one line.
    let long = subject.run(&["--", &"x".repeat(5000)]);
    assert_eq!(long.code(), subject.pick(127, 1, 1), "{long:?}");
    if subject == Subject::Image {
        assert!(long.stderr.lines().all(|line| line.len() < 512), "{long:?}");
    }
}

fn every_status_can_be_expected(&subject: &Subject) {
    for status in 0..=255 {
        let script = format!("exit {status}");
        let program = ["--", "sh", "-c", &script];
        let other = ((status + 32) % 256).to_string();
        let expecting =
            |expected: &str| subject.run(&[&["-e", expected][..], &program].concat()).code();
        assert_eq!(expecting(&status.to_string()), 0);
        assert_eq!(expecting(&other), status);
    }
}

fn verbosity(&subject: &Subject) {
    let told = |options: &[&str], variable: Option<&str>| {
        // Until the init has no child but this one.
        let script = "(true &); until set -- $(cat /proc/$PPID/task/$PPID/children); [ $# = 1 ]; \
                      do sleep 0.01; done; exit 3";
        let arguments = [options, &["-s", "--", "sh", "-c", script]].concat();
        let mut command = subject.command(&arguments);
        if let Some(value) = variable {
            command.env("TINI_VERBOSITY", value);
        }
        let outcome = Call::start(&mut command).finish();
        assert_eq!(outcome.code(), 3, "{outcome:?}");
        // tini prints to standard output what is neither an error nor a warning.
        let (text, other) = match subject {
            Subject::Image => (outcome.stderr, outcome.stdout),
            _ => (outcome.stdout, outcome.stderr),
        };
        assert_eq!(other, "");
        let level = |line: &str| line.get(1..6).unwrap_or_default().to_owned();
        let mut levels: Vec<String> = text.lines().map(level).collect();
        levels.sort();
        levels.dedup();
        levels.concat()
    };
    assert_eq!(told(&[], None), "");
    assert_eq!(told(&["-v"], None), "INFO ");
    assert_eq!(told(&["-vv"], None), subject.pick("DEBUGINFO ", "DEBUGINFO ", ""));
    // The image has no further level.
    assert_eq!(told(&["-v", "-vv"], None), subject.pick("DEBUGINFO ", "DEBUGINFO TRACE", ""));
    // The variable is stronger.
    assert_eq!(told(&[], Some("2")), "INFO ");
    assert_eq!(told(&["-vvv"], Some("1")), "");
    assert_eq!(told(&["-v"], Some("nonsense")), "");
    assert_eq!(told(&["-v"], Some("")), "");
}

fn the_program_is_found_as_execvp_does(&subject: &Subject) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (place, mode) in [("plain", 0o644), ("right", 0o755)] {
        fs::create_dir(path(place)).unwrap();
        // A script that names no interpreter is one of the shell.
        fs::write(path(place).join("program"), "echo \"$0 $*\"\n").unwrap();
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(path(place).join("program"), mode).unwrap();
    }
    let base = directory.path().to_str().unwrap().to_owned();
    let call = |current: &str, variable: Option<String>, name: &str| {
        let mut command = subject.command(&["--", name, "a", "-b"]);
        match variable {
            Some(value) => command.env("PATH", value),
            None => command.env_remove("PATH"),
        };
        Call::start(command.current_dir(path(current))).finish()
    };
    let warned = subject.pick(0, 1, 0);
    let found = |outcome: pidone_tests::Finished, expected: &str| {
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, expected), "{outcome:?}");
        // tini warns that it is no subreaper.
        assert_eq!(outcome.stderr.matches("[WARN").count(), warned, "{outcome:?}");
    };
    let ran = format!("{base}/right/program a -b\n");
    found(call("", Some(format!("{base}/none:{base}/plain:{base}/right")), "program"), &ran);
    found(
        call("", Some(format!("/etc/passwd:{}:{base}/right", "/x".repeat(2500))), "program"),
        &ran,
    );
    found(call("", Some("/none".to_owned()), &format!("{base}/right/program")), &ran);
    // An empty directory is the current one. catatonit 0.1.7 and tini use the path of glibc.
    found(call("right", Some("/none:".to_owned()), "program"), "program a -b\n");
    found(call("", None, "echo"), "a -b\n");
    let refused = call("", Some(format!("{base}/plain:{base}")), "program");
    assert_eq!(refused.code(), subject.pick(126, 126, 1), "{refused:?}");
    let missing = call("", Some(base.clone()), "program");
    assert_eq!(missing.code(), subject.pick(127, 127, 1), "{missing:?}");
    let nowhere = call("", Some(String::new()), "no_such_program");
    assert_eq!(nowhere.code(), subject.pick(127, 127, 1), "{nowhere:?}");
}

/// Executes its arguments with signals that are ignored and blocked, a umask and a file.
const IGNORING: &str = "
import os, signal, sys
for ignored in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTTOU):
    signal.signal(ignored, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGCHLD])
os.umask(0o27)
os.dup2(os.open('/etc/passwd', os.O_RDONLY), 7)
os.execv(sys.argv[1], sys.argv[1:])
";

fn the_program_gets_everything_unchanged(&subject: &Subject) {
    const SCRIPT: &str =
        "tr '\\0' '\\n' </proc/self/environ; tr '\\0' '\\n' </proc/$$/cmdline | tail -n 4
        pwd; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; umask; readlink /proc/self/fd/7";
    let call = |init: &[&str]| {
        let directly = ["/bin/sh", "-c", SCRIPT, "name", "", "two words", "--control=3"];
        let line = [init, &directly].concat();
        let mut outer = std::process::Command::new("/usr/bin/python3");
        outer.args(["-c", IGNORING]).args(line).current_dir("/usr");
        outer.env_clear().env("PATH", "/usr/bin:/bin");
        for (name, value) in [("A", "1"), ("EMPTY", ""), ("TINI_VERBOSITY", "0"), ("Z", "a=b c")] {
            outer.env(name, value);
        }
        outer.output().unwrap()
    };
    let directly = call(&[]);
    assert!(String::from_utf8_lossy(&directly.stdout).contains("/etc/passwd"), "{directly:?}");
    if subject == Subject::Image {
        let below = call(&[subject.path(), "--"]);
        assert_eq!(below, directly);
    } else {
        // While SIGCHLD is ignored, the others never learn that the program has ended.
        let line = ["-c", IGNORING, subject.path(), "--", "sleep", "0.3"];
        let mut other = std::process::Command::new("/usr/bin/python3");
        let mut other = other.args(line).stderr(Stdio::null()).spawn().unwrap();
        // Much longer than the program runs.
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
