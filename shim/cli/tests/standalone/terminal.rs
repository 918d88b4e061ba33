//! Job control: which process group has the terminal.

use std::process::{Command, Stdio};

use crate::{ALL, Case, case};
use pidone_tests::{Call, Subject};

pub(crate) const CASES: &[Case] = &[
    case("the_program_gets_the_terminal", ALL, the_program_gets_the_terminal),
    case("a_job_in_the_background_stays_there", ALL, a_job_in_the_background_stays_there),
    case("a_closed_standard_input_is_no_error", ALL, a_closed_standard_input_is_no_error),
];

/// Runs its arguments on a new terminal and types Ctrl-C when it says `ready`. Prints all that was
/// printed there, and the status. In the background if the first argument says so.
const DRIVER: &str = "
import os, pty, signal, sys
where, command = sys.argv[1], sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    if where == 'foreground':
        os.execvp(command[0], command)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.execvp(command[0], command)
    signal.signal(signal.SIGINT, lambda *_: os.write(1, b'leader '))
    status = os.waitpid(job, 0)[1]
    os._exit(os.waitstatus_to_exitcode(status))
signal.alarm(20)
output, typed = b'', False
while True:
    try:
        got = os.read(terminal, 999)
    except OSError:
        break
    if not got:
        break
    output += got
    if b'ready' in output and not typed:
        typed = True
        os.write(terminal, bytes([3]))
print(output.decode().replace(chr(13), ''), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// Says whether it is in the foreground and leads a group, and waits for SIGINT.
const PROGRAM: &str = "
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: os._exit(6))
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
def interrupted(*_):
    os.write(1, b'interrupted')
    os._exit(5)
signal.signal(signal.SIGINT, interrupted)
front = os.tcgetpgrp(0) == os.getpgrp()
own = os.getpgrp() == os.getpid()
session = os.getsid(0) == os.getsid(os.getppid())
# Even a terminal that stops writers in the background does not stop the init.
print('front' if front else 'back', 'own' if own else 'shared', 'same' if session else 'new', 'ready', flush=True)
while True:
    signal.pause()
";

fn call(subject: Subject, place: &str, timeout: &str) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", DRIVER, place, subject.path(), "--", "python3", "-c", PROGRAM, timeout]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let outcome = Call::start(&mut command).finish();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    outcome.stdout.replace("^C", "")
}

fn the_program_gets_the_terminal(&subject: &Subject) {
    let said = call(subject, "foreground", "10");
    assert_in_front(&said);
}

/// It had the terminal, and Ctrl-C ended it. Its last words may be lost with the terminal.
fn assert_in_front(said: &str) {
    assert!(said.contains("front own same ready") && said.ends_with(" 5\n"), "{said}");
}

fn a_job_in_the_background_stays_there(&subject: &Subject) {
    let said = call(subject, "background", "1");
    if subject == Subject::Image {
        // Ctrl-C is for the group in the foreground: the leader of the session.
        assert!(said.contains("back own same ready"), "{said}");
        assert!(said.contains("leader"), "{said}");
        assert!(said.ends_with(" 6\n"), "{said}");
    } else {
        // The others take the terminal from whoever has it.
        assert_in_front(&said);
    }
}

fn a_closed_standard_input_is_no_error(&subject: &Subject) {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" <&-", "-", subject.path(), "--", "sh", "-c", "exit 3"]);
    // tini wants one.
    assert_eq!(Call::start(&mut command).finish().code(), subject.pick(3, 1, 3));
}
