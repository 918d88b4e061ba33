//! Filters of system calls in the OCI runtime specification's terms, and their agent.

use std::fs;
use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use pidone::oci::linux::seccomp::{Arg, Seccomp, Syscall};
use pidone::{Config, Process, Status};
use pidone_tests::{Case, Live, Outcome, Sandbox, Stop, case, output, process};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = &[
    case!(dockers_profile).and_init(),
    case!(each_rule_has_its_errno).and_init(),
    case!(calls_newer_than_the_profile_do_not_exist).and_init(),
    case!(the_program_of_a_user_is_filtered).and_init(),
    case!(the_agent_answers),
    case!(a_listener_that_closes_makes_the_call_vanish).and_init(),
    case!(without_an_agent_nothing_starts).and_init(),
];

/// Any number that no kernel knows yet.
const FUTURE: i64 = 4000;

fn rule(names: &[&str], action: &str, errno: Option<i32>) -> Syscall {
    Syscall {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        action: action.into(),
        errno_ret: errno.and_then(|errno| errno.try_into().ok()),
        args: None,
    }
}

fn allowing(syscalls: Vec<Syscall>) -> Seccomp {
    Seccomp { default_action: "SCMP_ACT_ALLOW".into(), syscalls, ..Seccomp::default() }
}

fn with(sandbox: &Sandbox, profile: Seccomp) -> Config {
    let mut config = sandbox.config();
    config.seccomp_profile = Some(profile);
    config
}

/// The errnos of calls with arguments of 0, or those given after the number.
fn errnos(
    sandbox: &Sandbox,
    config: &Config,
    calls: &[&[i64]],
    change: impl Fn(&mut Process),
) -> Result<Vec<i32>, Stop> {
    let mut words = vec!["/guest".to_owned()];
    for call in calls {
        words.push("syscall".into());
        words.extend(call.iter().map(i64::to_string));
        words.push(",".into());
    }
    words.pop();
    let mut process = process(&words);
    change(&mut process);
    let output = sandbox.run(config, process)?;
    assert_eq!(output.exit.code, Some(0), "{output:?}");
    output.lines()
}

fn dockers_profile(sandbox: &Sandbox) -> Outcome {
    let text = include_str!("../../shim/host/tests/seccomp/docker-default.json");
    let profile: Seccomp = serde_json::from_str(text)?;
    let calls: [&[i64]; 9] = [
        &[libc::SYS_getpid],
        &[libc::SYS_mount],
        &[libc::SYS_keyctl],
        &[libc::SYS_unshare, i64::from(libc::CLONE_NEWUSER)],
        // Not even asked for a namespace, without CAP_SYS_ADMIN.
        &[libc::SYS_setns, -1],
        &[libc::SYS_clone3],
        // An execution domain that is listed, and one that is not: PER_LINUX and PER_SVR4.
        &[libc::SYS_personality, 0],
        &[libc::SYS_personality, 1],
        &[FUTURE],
    ];
    let (eperm, enosys) = (libc::EPERM, libc::ENOSYS);
    for no_new_privileges in [false, true] {
        let seen = errnos(sandbox, &with(sandbox, profile.clone()), &calls, |process| {
            process.no_new_privileges = no_new_privileges;
        })?;
        assert_eq!(seen, [0, eperm, eperm, eperm, eperm, enosys, 0, eperm, enosys]);
    }
    // What the filter refuses the kernel would have answered otherwise.
    let seen = errnos(sandbox, &sandbox.config(), &calls, |_| {})?;
    assert_eq!(seen[3..8], [0, libc::EBADF, libc::EINVAL, 0, 0]);
    // A shell lives under it.
    sandbox.add_busybox()?;
    let shell = process(&["/bin/sh", "-c", "ls / | cat; echo $((6*7)) >/tmp/x; cat /tmp/x"]);
    let output = sandbox.run(&with(sandbox, profile), shell)?;
    assert!(output.stdout.ends_with("42\n"), "{output:?}");
    Ok(())
}

fn each_rule_has_its_errno(sandbox: &Sandbox) -> Outcome {
    let condition = Arg { index: 0, value: 7, value_two: 0, op: "SCMP_CMP_EQ".into() };
    let conditional = Syscall {
        args: Some(vec![condition]),
        ..rule(&["getpgid"], "SCMP_ACT_ERRNO", Some(libc::EXDEV))
    };
    let profile = allowing(vec![
        rule(&["getsid", "getppid"], "SCMP_ACT_ERRNO", Some(libc::ELOOP)),
        rule(&["sync"], "SCMP_ACT_ERRNO", None),
        conditional,
        rule(&["no_such_call_at_all"], "SCMP_ACT_ERRNO", None),
    ]);
    let calls: [&[i64]; 6] = [
        &[libc::SYS_getsid],
        &[libc::SYS_getppid],
        &[libc::SYS_sync],
        &[libc::SYS_getpgid, 7],
        &[libc::SYS_getpgid, 0],
        &[libc::SYS_getpid],
    ];
    let seen = errnos(sandbox, &with(sandbox, profile), &calls, |_| {})?;
    assert_eq!(seen, [libc::ELOOP, libc::ELOOP, libc::EPERM, libc::EXDEV, 0, 0]);
    Ok(())
}

/// A program must be able to see that a call does not exist, and make another one.
fn calls_newer_than_the_profile_do_not_exist(sandbox: &Sandbox) -> Outcome {
    let text = include_str!("../../shim/host/tests/seccomp/docker-default.json");
    let mut profile: Seccomp = serde_json::from_str(text)?;
    profile.default_errno_ret = Some(libc::EXDEV.try_into()?);
    let calls: [&[i64]; 2] = [&[FUTURE], &[libc::SYS_acct]];
    let seen = errnos(sandbox, &with(sandbox, profile), &calls, |_| {})?;
    assert_eq!(seen, [libc::ENOSYS, libc::EXDEV]);
    Ok(())
}

/// With and without new privileges: where the user has none, the filter comes before he is one.
fn the_program_of_a_user_is_filtered(sandbox: &Sandbox) -> Outcome {
    let config = with(sandbox, allowing(vec![rule(&["sync"], "SCMP_ACT_ERRNO", Some(5))]));
    for no_new_privileges in [false, true] {
        let change = |process: &mut Process| {
            process.user = "1000".into();
            process.no_new_privileges = no_new_privileges;
        };
        assert_eq!(errnos(sandbox, &config, &[&[libc::SYS_sync]], change)?, [5]);
        let mut reports = process(&["/guest"]);
        change(&mut reports);
        let report = sandbox.report_of(&config, reports)?;
        assert_eq!(report.seccomp, Some(2));
        assert_eq!(report.no_new_privs, Some(u64::from(no_new_privileges)));
    }
    Ok(())
}

/// An agent that has got its message.
struct Agent {
    path: PathBuf,
    listener: UnixListener,
}

impl Agent {
    fn new(sandbox: &Sandbox) -> Result<Self, Stop> {
        let path = sandbox.path().join("agent");
        let _ = fs::remove_file(&path);
        Ok(Self { listener: UnixListener::bind(&path)?, path })
    }

    fn config(&self, sandbox: &Sandbox) -> Config {
        let mut config = with(
            sandbox,
            Seccomp {
                listener_path: self.path.display().to_string(),
                listener_metadata: "opaque".into(),
                ..allowing(vec![rule(&["getpgid"], "SCMP_ACT_NOTIFY", None)])
            },
        );
        config.bundle = sandbox.path();
        config.annotations.insert("org.example".into(), "x".into());
        config
    }

    /// The next message and its descriptors, which has arrived already.
    fn message(&self) -> Result<(Value, Vec<OwnedFd>), Stop> {
        self.listener.set_nonblocking(true)?;
        let (mut stream, _) = self.listener.accept()?;
        stream.set_nonblocking(false)?;
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = recvmsg(&stream, &mut parts, &mut ancillary, flags)?.bytes;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        let mut text = buffer.get(..length).unwrap_or_default().to_vec();
        stream.read_to_end(&mut text)?;
        Ok((serde_json::from_slice(&text)?, descriptors))
    }

    /// Whether there is no message.
    fn is_silent(&self) -> Result<bool, Stop> {
        self.listener.set_nonblocking(true)?;
        Ok(self.listener.accept().is_err())
    }
}

fn call() -> [String; 3] {
    ["syscall".into(), libc::SYS_getpgid.to_string(), "0".into()]
}

/// The message that an agent gets.
fn expected(sandbox: &Sandbox, id: &str, status: &str, pid: i32, first: i32) -> Value {
    json!({
        "ociVersion": pidone::oci::VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": "opaque",
        "state": {
            "ociVersion": pidone::oci::VERSION,
            "id": id,
            "status": status,
            "pid": first,
            "bundle": sandbox.path(),
            "annotations": {"org.example": "x"},
        },
    })
}

fn the_agent_answers(sandbox: &Sandbox) -> Outcome {
    for no_new_privileges in [false, true] {
        for prepared in [false, true] {
            let agent = Agent::new(sandbox)?;
            let config = agent.config(sandbox);
            let [command, number, argument] = call();
            let mut calls = process(&["/guest", &command, &number, &argument, ",", "sleep"]);
            calls.no_new_privileges = no_new_privileges;
            let mut live = if prepared {
                sandbox.prepare(&config, calls)?
            } else {
                sandbox.start(&config, calls)?
            };
            let pid = live.running.pid();
            // Before the start, as with runc.
            let (message, mut listeners) = agent.message()?;
            if prepared {
                assert_eq!(live.container.status()?, Status::Created);
                live = live.release()?;
            }
            let status = "creating";
            let id = live.container.id().to_owned();
            assert_eq!(message, expected(sandbox, &id, status, pid, pid));
            assert!(agent.is_silent()?, "one message");
            assert_eq!(listeners.len(), 1);
            let name = fs::read_link(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&listeners[0])
            ))?;
            assert_eq!(name.to_string_lossy(), "anon_inode:seccomp notify");
            // The call waits for its answer: this is long enough for one that does not.
            assert!(live.is_silent(Duration::from_millis(200))?);
            listeners.clear();
            assert_eq!(live.say::<i32>()?, libc::ENOSYS);
            live.kill()?;
        }
    }
    Ok(())
}

/// Also of a further process, which has its own listener.
fn a_listener_that_closes_makes_the_call_vanish(sandbox: &Sandbox) -> Outcome {
    let agent = Agent::new(sandbox)?;
    let mut live = sandbox.start(&agent.config(sandbox), process(&["/guest", "sleep"]))?;
    let (_, of_first) = agent.message()?;
    let [command, number, argument] = call();
    let further = process(&["/guest", &command, &number, &argument]);
    let mut running = sandbox.join(&mut live.container, further)?;
    let (message, of_further) = agent.message()?;
    let id = live.container.id().to_owned();
    let first = live.running.pid();
    assert_eq!(message["pid"], running.pid());
    assert_eq!(message, expected(sandbox, &id, "running", running.pid(), first));
    drop(of_further);
    assert_eq!(output(&mut running)?.stdout.trim(), libc::ENOSYS.to_string());
    drop(of_first);
    live.kill()?;
    Ok(())
}

fn without_an_agent_nothing_starts(sandbox: &Sandbox) -> Outcome {
    let agent = Agent::new(sandbox)?;
    let config = agent.config(sandbox);
    fs::remove_file(&agent.path)?;
    let error = sandbox.start(&config, process(&["/guest", "sleep"])).err().ok_or("started")?;
    let text = format!("connect `{}`: No such file or directory", agent.path.display());
    assert!(error.to_string().contains(&text), "{error}");
    assert_eq!(pidone_tests::leftover::processes(sandbox.name()), [] as [String; 0]);
    // Nor is a prepared one left.
    let prepared = sandbox.prepare(&config, process(&["/guest", "sleep"]));
    let error = prepared.and_then(Live::release).err().ok_or("started")?;
    assert!(error.to_string().contains(&text), "{error}");
    assert_eq!(pidone_tests::leftover::processes(sandbox.name()), [] as [String; 0]);
    Ok(())
}
