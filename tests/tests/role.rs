//! What the test program does when a test starts it as another process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use pidone::{Config, Factory, Options, Strategy};
use pidone_tests::{Outcome, Sandbox, Stop, process};

/// The variable that names the role.
const ROLE: &str = "PIDONE_TEST_ROLE";

/// Starts a container with the configuration at standard input, prints its pid, and stays until
/// standard input ends. Then the process ends, and the container lives or dies.
const STARTER: &str = "starter";

/// Plays the role that this process was started for.
pub(crate) fn play() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let outcome = match role.as_str() {
        STARTER => start(),
        _ => Err(Stop::Failed(format!("no role {role}"))),
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("{stop:?}");
            ExitCode::FAILURE
        }
    })
}

fn start() -> Outcome {
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    input.read_line(&mut line)?;
    let (root, id, strategy, config): (String, String, String, Config) =
        serde_json::from_str(&line)?;
    let strategy = if strategy == "template" { Strategy::Template } else { Strategy::Host };
    let factory = Factory::new(root, Options::default().strategy(strategy))?;
    let container = factory.create(&id, &config)?;
    let mut sleeper = process(&["/guest", "sleep"]);
    sleeper.env.push(std::env::var_os("MARK").unwrap_or_default());
    let running = container.start(&sleeper)?;
    let mut output = std::io::stdout();
    writeln!(output, "{}", running.pid())?;
    output.flush()?;
    input.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Starts a process that starts a container; it waits for standard input to end.
pub(crate) fn starter(
    sandbox: &Sandbox,
    id: &str,
    strategy: Strategy,
    config: &Config,
) -> Result<Child, Stop> {
    starter_of(None, sandbox.factory().root(), sandbox, id, strategy, config)
}

/// The same as another user, and with the states in a directory of that one's.
pub(crate) fn starter_of(
    user: Option<u32>,
    states: &Path,
    sandbox: &Sandbox,
    id: &str,
    strategy: Strategy,
    config: &Config,
) -> Result<Child, Stop> {
    let strategy = if strategy == Strategy::Template { "template" } else { "host" };
    let line = serde_json::to_string(&(states, id, strategy, config))?;
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    let mut child = command
        .env(ROLE, STARTER)
        .env("MARK", format!("{}={}", pidone_tests::leftover::MARK, sandbox.name()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let input = child.stdin.as_mut().ok_or("no input")?;
    input.write_all(line.as_bytes())?;
    input.write_all(b"\n")?;
    Ok(child)
}

/// The pid that a starter prints.
pub(crate) fn pid(starter: &mut Child) -> Result<i32, Stop> {
    let output = starter.stdout.as_mut().ok_or("no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(line.trim().parse()?)
}
