//! The others that judge: libseccomp, and the kernel itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pidone_host::seccomp::{Action, Arch, Operator, Profile, Syscall};
use serde_json::{Value, json};

/// A script that prints a line for each line that it reads.
pub(crate) struct Script {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Script {
    /// Starts a script of this directory; an error says what is missing.
    pub(crate) fn start(name: &str) -> Result<Self, String> {
        let path = format!("{}/tests/seccomp/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new("python3")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("python3: {error}"))?;
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Ok(Self { child, input, output })
    }

    pub(crate) fn ask(&mut self, request: &Value) -> Result<Value, String> {
        let mut line = String::new();
        let sent =
            writeln!(self.input, "{request}").and_then(|()| self.output.read_line(&mut line));
        match sent {
            Ok(length) if length > 0 => serde_json::from_str(&line).map_err(|e| e.to_string()),
            _ => Err("the script ended".into()),
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// libseccomp 2.
pub(crate) struct Libseccomp(Script);

impl Libseccomp {
    pub(crate) fn start() -> Result<Self, String> {
        let mut script = Script::start("libseccomp.py")?;
        let read = script.ask(&json!({"resolve": ["read"], "archs": [token(Arch::X86)]}));
        match read {
            Ok(numbers) if numbers == json!([[3]]) => Ok(Self(script)),
            _ => Err("libseccomp.so.2 cannot be loaded".into()),
        }
    }

    /// The numbers of names on every architecture.
    pub(crate) fn resolve(&mut self, names: &[&str]) -> Vec<[i64; 5]> {
        let request = json!({"resolve": names, "archs": Arch::ALL.map(token)});
        serde_json::from_value(self.0.ask(&request).unwrap()).unwrap()
    }

    /// The program that libseccomp makes of a profile, or its error.
    pub(crate) fn compile(&mut self, profile: &Profile, optimize: u32) -> Result<Vec<u8>, String> {
        let mut rules = Vec::new();
        for rule in profile.rules.iter().filter(|rule| rule.action != profile.default) {
            let conditions: Vec<Value> = rule
                .conditions
                .iter()
                .map(|c| json!([c.index, operator(c.operator), c.value, c.value_two]))
                .collect();
            for syscall in &rule.syscalls {
                let Syscall::Name(name) = syscall else { panic!("libseccomp goes by names") };
                rules.push(json!([name, rule.action.bits(), conditions]));
            }
        }
        let archs: Vec<u32> = profile.architectures.iter().copied().map(token).collect();
        let default = profile.default.bits();
        let request =
            json!({"default": default, "archs": archs, "rules": rules, "optimize": optimize});
        let answer = self.0.ask(&request)?;
        let text = answer.as_str().unwrap();
        if text.starts_with("error") { Err(text.into()) } else { Ok(from_hex(text)) }
    }
}

/// `SCMP_ARCH_*`: the audit architecture, but for x32.
fn token(arch: Arch) -> u32 {
    if arch == Arch::X32 { 0x4000_003e } else { arch.audit() }
}

/// `enum scmp_compare`.
fn operator(operator: Operator) -> u32 {
    match operator {
        Operator::NotEqual => 1,
        Operator::Less => 2,
        Operator::LessOrEqual => 3,
        Operator::Equal => 4,
        Operator::GreaterOrEqual => 5,
        Operator::Greater => 6,
        Operator::MaskedEqual => 7,
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What came of a system call under a filter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Returned { result: i64, errno: i64 },
    Killed { signal: i64 },
    Refused { errno: i64 },
}

/// The running kernel.
pub(crate) struct Kernel(Script);

impl Kernel {
    pub(crate) fn start() -> Result<Self, String> {
        let mut kernel = Self(Script::start("kernel.py")?);
        // A filter that returns allow.
        let allow = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];
        match kernel.run(&allow, &[(u32::MAX, [0; 6])])?[..] {
            [Outcome::Returned { .. }] => Ok(kernel),
            ref other => Err(format!("seccomp: {other:?}")),
        }
    }

    /// Makes each call in its own process.
    pub(crate) fn run(
        &mut self,
        program: &[u8],
        calls: &[(u32, [u64; 6])],
    ) -> Result<Vec<Outcome>, String> {
        let program: String = program.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self.0.ask(&json!({"program": program, "calls": calls}))?;
        let answer: Vec<(Value, i64)> =
            serde_json::from_value(answer).map_err(|error| error.to_string())?;
        let outcome = |(first, second): (Value, i64)| match first {
            Value::Null => Outcome::Killed { signal: second },
            Value::Number(result) => {
                Outcome::Returned { result: result.as_i64().unwrap(), errno: second }
            }
            _ => Outcome::Refused { errno: second },
        };
        Ok(answer.into_iter().map(outcome).collect())
    }
}

/// Whether an outcome is what an action leads to. The process is alone: no tracer, no listener.
pub(crate) fn fits(verdict: u32, outcome: &Outcome) -> bool {
    let enosys = Outcome::Returned { result: -1, errno: 38 };
    let trace = Action::Trace(0).bits();
    match verdict & 0xffff_0000 {
        0x8000_0000 | 0 | 0x3_0000 => *outcome == Outcome::Killed { signal: 31 },
        0x5_0000 => match i64::from(verdict & 0xffff) {
            0 => *outcome == Outcome::Returned { result: 0, errno: 0 },
            errno => *outcome == Outcome::Returned { result: -1, errno },
        },
        other if other == trace || other == Action::Notify.bits() => *outcome == enosys,
        _ => matches!(outcome, Outcome::Returned { result, .. } if *result > 0),
    }
}
