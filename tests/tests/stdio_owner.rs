//! Standard input, output and error belong to the user of a process, who can then open them again:
//! as an ordinary user, in a user namespace that is joined, in the pool.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use pidone::config::{IdMap, NamespaceType};
use pidone::pool::{Pool, Sizes};
use pidone::{Config, Process, Stdio, TerminalSize};
use pidone_tests::leftover::MARK;
use pidone_tests::{Case, DEADLINE, DELEGATED, Outcome, Sandbox, Stop, case, output, process};
use rustix::fs::fstat;

pub(crate) const CASES: &[Case] = &[
    case!(an_ordinary_user_gives_his_away).delegated().and_init(),
    case!(an_ordinary_user_gives_his_away_in_one_that_he_joins).delegated(),
    case!(in_a_joined_user_namespace).and_init(),
    case!(a_terminal_and_a_socket).and_init(),
    case!(in_the_pool).once(),
];

/// The first id of the host in the user namespaces here.
const FIRST: u32 = 100_000;

/// Opens both again, which the permissions of the files decide.
const OPENS: &str = "busybox echo out >/dev/stdout; busybox echo err >/dev/stderr";

/// A process of user 1000 that runs a shell script.
fn script(text: &str) -> Process {
    let args = ["/bin/busybox", "sh", "-c", text];
    Process { user: "1000:1000".into(), ..process(&args) }
}

fn owner(file: Option<&File>) -> Result<u32, Stop> {
    Ok(fstat(file.ok_or("no pipe")?)?.st_uid)
}

/// Runs [`OPENS`] as user 1000 in a new container, and as a further process of it. The host sees
/// `user` as the owner.
fn opens(sandbox: &Sandbox, config: &Config, user: u32) -> Outcome {
    let mut live = sandbox.start(config, script(&format!("{OPENS}; busybox sleep 1000")))?;
    assert_eq!(live.line()?, "out");
    assert_eq!(owner(live.running.stderr.as_ref())?, user);
    let mut further = sandbox.join(&mut live.container, script(OPENS))?;
    assert_eq!(owner(further.stdout.as_ref())?, user);
    let output = output(&mut further)?;
    assert_eq!((&*output.stdout, &*output.stderr), ("out\n", "err\n"));
    live.kill()?;
    Ok(())
}

/// The user of the cases for ordinary users.
const NOBODY: u32 = 65534;

/// The configuration for an ordinary user with a range of ids.
fn delegated(sandbox: &Sandbox) -> Config {
    let mut config = sandbox.config();
    config.cgroups = None;
    config.devices.retain(|device| std::path::Path::new(&device.path).exists());
    let maps = vec![
        IdMap { container_id: 0, host_id: NOBODY, size: 1 },
        IdMap { container_id: 1, host_id: DELEGATED, size: 65535 },
    ];
    config.set_id_maps(maps.clone(), maps);
    config
}

/// He may not give files away on the host, but may in the user namespace that he has made.
fn an_ordinary_user_gives_his_away(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let config = delegated(sandbox);
    opens(sandbox, &config, DELEGATED + 999)?;
    // Control: root of the container is the user himself.
    let mut root = script(OPENS);
    root.user = String::new();
    let mut live = sandbox.start(&config, root)?;
    assert_eq!(owner(live.running.stderr.as_ref())?, NOBODY);
    assert_eq!(live.line()?, "out");
    live.finish()?;
    Ok(())
}

/// An init that joins was executed outside of the user namespace.
fn an_ordinary_user_gives_his_away_in_one_that_he_joins(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let first = sandbox.start(&delegated(sandbox), process(&["/guest", "sleep"]))?;
    let mut config = delegated(sandbox);
    config.set_id_maps(Vec::new(), Vec::new());
    config.set_namespace(NamespaceType::User, format!("/proc/{}/ns/user", first.running.pid()));
    opens(sandbox, &config, DELEGATED + 999)?;
    first.kill()?;
    Ok(())
}

fn with_user_namespace(sandbox: &Sandbox) -> Config {
    let mut config = sandbox.config();
    config.devices.retain(|device| std::path::Path::new(&device.path).exists());
    let maps = vec![IdMap { container_id: 0, host_id: FIRST, size: 65536 }];
    config.set_id_maps(maps.clone(), maps);
    config
}

/// Its map is that of the container which made it.
fn in_a_joined_user_namespace(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let first = sandbox.start(&with_user_namespace(sandbox), process(&["/guest", "sleep"]))?;
    let mut config = sandbox.config();
    config.devices.retain(|device| std::path::Path::new(&device.path).exists());
    config.cgroups = None;
    let path = format!("/proc/{}/ns/user", first.running.pid());
    config.set_namespace(NamespaceType::User, path);
    opens(sandbox, &config, FIRST + 1000)?;
    first.kill()?;
    Ok(())
}

/// A new terminal is the user's by another way, and a socket can only be given away.
fn a_terminal_and_a_socket(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    for (config, user) in [(sandbox.config(), 1000), (with_user_namespace(sandbox), FIRST + 1000)] {
        let mut terminal = script(&format!("{OPENS}; busybox stat -c %u,%a /dev/pts/0"));
        terminal.terminal = Some(TerminalSize::default());
        let mut container = sandbox.create(&config)?;
        let mut running = sandbox.join(&mut container, terminal)?;
        let master = File::from(running.console.take().ok_or("no master")?);
        assert_eq!(running.wait()?.code, Some(0));
        assert_eq!(read(&master)?, "out\r\nerr\r\n1000,620\r\n");
        container.destroy()?;

        let (ours, theirs) = UnixStream::pair()?;
        let mut socket = script("busybox echo out; busybox sleep 1000");
        socket.stdout = Stdio::Fd(OwnedFd::from(theirs.try_clone()?));
        let live = sandbox.start(&config, socket)?;
        assert_eq!(fstat(&theirs)?.st_uid, user);
        // The other end is the caller's.
        assert_eq!(fstat(ours.as_fd())?.st_uid, 0);
        live.kill()?;
    }
    Ok(())
}

/// What is left in a terminal whose process has ended.
fn read(master: &File) -> Result<String, Stop> {
    let mut text = Vec::new();
    let mut buffer = [0; 256];
    loop {
        match rustix::io::read(master, &mut buffer) {
            // The other end is closed.
            Ok(0) | Err(rustix::io::Errno::IO) => break,
            Ok(length) => text.extend(buffer.get(..length).unwrap_or_default()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn in_the_pool(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let marked = |mut process: Process| {
        process.env.push(format!("{MARK}={}", sandbox.name()).into());
        process
    };
    for (mut config, user) in
        [(sandbox.config(), 1000), (with_user_namespace(sandbox), FIRST + 1000)]
    {
        if let Some(cgroup) = &mut config.cgroups {
            cgroup.parent = sandbox.name().to_owned();
            cgroup.name = "one".to_owned();
        }
        // The program's user is that of the model, or another one.
        for model in [script(OPENS), process(&["/guest"])] {
            let model = marked(model);
            let pool = Pool::new(sandbox.factory(), &config, model, Sizes::new(1))?;
            pool.wait_until_full(DEADLINE)?;
            let mut lease = pool.start(&marked(script(OPENS)))?;
            assert!(lease.is_warm());
            assert_eq!(owner(lease.running().stdout.as_ref())?, user);
            let output = output(lease.running())?;
            assert_eq!((&*output.stdout, &*output.stderr), ("out\n", "err\n"));
            drop(lease);
            pool.drain()?;
        }
    }
    Ok(())
}
