//! The init that stays process 1: what the processes of its container can reach of it.
//!
//! It has a connection to the host, which sends it requests: a process that takes it over speaks
//! with the host. That must be nobody without `CAP_SYS_PTRACE`, and must be worth little even then.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pidone::config::capability;
use pidone_proto::{FrameType, Op, Request, Slot, Words};
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, output, process, until};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::supervise::client::{Client, Init, Said, Spawn, descriptors, encoded};

pub(crate) const CASES: &[Case] = &[
    case!(the_init_is_not_reached).once(),
    case!(the_init_is_not_killed).once(),
    case!(its_sockets_are_not_reached).once(),
    case!(what_it_spawns_holds_nothing_of_it).once(),
    case!(it_holds_nothing_of_the_host).once(),
    case!(a_start_under_way_is_not_reached).once(),
    case!(the_librarys_init_is_not_reached_either).once(),
    case!(a_process_with_cap_sys_ptrace_reaches_only_the_container).once(),
];

/// Operations that leave a process some capabilities.
fn with(capabilities: u64) -> Vec<Op<'static>> {
    vec![
        Op::Session,
        Op::Bounding { keep: capabilities },
        Op::Capabilities {
            effective: capabilities,
            permitted: capabilities,
            inheritable: 0,
            ambient: 0,
        },
    ]
}

/// Operations that make a process nobody.
fn nobody() -> Vec<Op<'static>> {
    let mut ops = with(0);
    // Dropping and changing them needs what the last operation takes away.
    let ids = [Op::Groups { ids: Words::default() }, Op::Ids { uid: 65_534, gid: 65_534 }];
    ops.splice(2..2, ids);
    ops
}

/// The payloads: root as containers have it by default, and nobody.
fn payloads(sandbox: &Sandbox) -> Result<[(&'static str, Vec<Op<'static>>); 2], Stop> {
    let default = capability::mask(&sandbox.config().capabilities)?;
    Ok([("root", with(default)), ("nobody", nobody())])
}

/// The guest with commands, after some operations.
fn guest<'a>(before: &[Op<'a>], commands: &[&str]) -> Spawn<'a> {
    let mut spawn = Spawn::new(&[&["/guest"], commands].concat());
    spawn.before = before.to_vec();
    spawn
}

/// What the guest says about attempts: the errno of each.
type Attempts = BTreeMap<String, i32>;

/// What comes of trying everything on a process, or on a child that is made for it.
fn invade(client: &mut Client, before: &[Op<'_>], process: Option<&str>) -> Result<Attempts, Stop> {
    let mut commands = vec!["invade"];
    commands.extend(process);
    let mut said = client.lines(guest(before, &commands))?;
    said.pop().ok_or_else(|| "said nothing".into())
}

/// Every attempt was refused, for lack of a privilege.
fn all_refused(who: &str, attempts: Attempts) {
    assert!(attempts.len() >= 20, "{attempts:?}");
    for (attempt, errno) in attempts {
        // The numbers of its descriptors are all that root sees.
        if (who, attempt.as_str()) != ("root", "fd") {
            assert!([libc::EPERM, libc::EACCES].contains(&errno), "{who}: {attempt}: {errno}");
        }
    }
}

fn is_served(client: &mut Client) -> Outcome {
    let process = client.spawned(&Spawn::new(&["/guest", "exit", "3"]))?;
    assert_eq!(client.said()?, Said::Exited { process, code: 3, signal: 0 });
    Ok(())
}

fn the_init_is_not_reached(sandbox: &Sandbox) -> Outcome {
    let default = capability::mask(&sandbox.config().capabilities)?;
    // Once with all the capabilities of this machine's root, and once with no more than a payload
    // has: then only that it is not dumpable protects it.
    for last in [Vec::new(), with(default)] {
        let (_init, mut client) = Init::contain(sandbox, &last)?;
        for (who, before) in payloads(sandbox)? {
            let own = invade(&mut client, &before, None)?;
            assert!(own.len() >= 20, "{own:?}");
            for (attempt, errno) in own {
                assert_eq!(errno, 0, "the bait does not work: {who}: {attempt}");
            }
            all_refused(who, invade(&mut client, &before, Some("1"))?);
        }
        is_served(&mut client)?;
    }
    Ok(())
}

/// The state of a process, as a letter.
fn state(pid: i32) -> Result<String, Stop> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").ok_or("no state")?;
    Ok(rest.chars().take(1).collect())
}

/// The host's id of what was spawned last: its pidfd came along.
fn pid(client: &Client) -> Result<i32, Stop> {
    let pidfd = client.file.as_ref().ok_or("no pidfd")?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:")).ok_or("no pidfd")?;
    Ok(line.trim().parse()?)
}

fn the_init_is_not_killed(sandbox: &Sandbox) -> Outcome {
    let (init, mut client) = Init::contain(sandbox, &[])?;
    for (who, before) in payloads(sandbox)? {
        // Themselves they may kill and stop.
        let process = client.spawned(&guest(&before, &["kill", "9"]))?;
        assert_eq!(client.said()?, Said::Exited { process, code: 0, signal: 9 }, "{who}");
        let process = client.spawned(&guest(&before, &["kill", "19"]))?;
        let stopped = pid(&client)?;
        until("the bait works", || Ok(state(stopped)? == "T"))?;
        client.request(&Request::Signal { process, signal: 9, group: false }, &[])?;
        assert_eq!(client.said()?, Said::Done(0));
        assert_eq!(client.said()?, Said::Exited { process, code: 0, signal: 9 });
        // The init gets every signal that there is.
        for signal in 1..=64 {
            let signal = signal.to_string();
            let said: Vec<i32> = client.lines(guest(&before, &["kill", &signal, "1"]))?;
            let expected = if who == "root" { 0 } else { libc::EPERM };
            assert_eq!(said, [expected], "{who}: {signal}");
        }
        is_served(&mut client)?;
        assert_ne!(state(init.pid()?)?, "T");
    }
    Ok(())
}

fn its_sockets_are_not_reached(sandbox: &Sandbox) -> Outcome {
    let (init, mut client) = Init::contain(sandbox, &[])?;
    let path = init.listener.to_string_lossy().into_owned();
    // Baits: one in the abstract, which every process of the network sees, one in the root.
    let listening = |address: &SocketAddrUnix| -> Result<_, Stop> {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&socket, address)?;
        listen(&socket, 16)?;
        Ok(socket)
    };
    let bait = format!("{}-bait", sandbox.name());
    let _abstract = listening(&SocketAddrUnix::new_abstract_name(bait.as_bytes())?)?;
    let inside = sandbox.rootfs().join("bait");
    let _named = listening(&SocketAddrUnix::new(&inside)?)?;
    fs::set_permissions(&inside, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    for (who, before) in payloads(sandbox)? {
        let mut reach = |name: &str| -> Result<i32, Stop> {
            let said: Vec<i32> = client.lines(guest(&before, &["reach", name]))?;
            said.first().copied().ok_or_else(|| "said nothing".into())
        };
        for bait in [format!("@{bait}").as_str(), "/bait"] {
            assert_eq!(reach(bait)?, 0, "the bait does not work: {who}: {bait}");
        }
        for name in [path.as_str(), "/supervise", "supervise", "/proc/1/root/supervise"] {
            let up = format!("/../../../../../../..{path}");
            for name in [name.to_owned(), format!("@{name}"), up, format!("/proc/1/cwd/{name}")] {
                assert_ne!(reach(&name)?, 0, "{who}: {name}");
            }
        }
    }
    // What has a name is listed, with `@` for the abstract.
    let mut listed = |before: &[Op<'_>]| -> Result<String, Stop> {
        let mut read: Vec<pidone_tests::Read> =
            client.lines(guest(before, &["read", "/proc/net/unix"]))?;
        Ok(read.pop().ok_or("said nothing")?.text)
    };
    let sockets = listed(&[])?;
    assert!(sockets.contains(&format!("@{bait}")), "the bait does not work: {sockets}");
    for line in sockets.lines().filter(|line| line.contains('@') && !line.contains(&bait)) {
        assert!(!line.contains("pidone") && !line.contains("supervise"), "{line}");
    }
    Ok(())
}

fn what_it_spawns_holds_nothing_of_it(sandbox: &Sandbox) -> Outcome {
    let (init, mut client) = Init::contain(sandbox, &[])?;
    // Other clients, and a process whose terminal the init holds.
    let _others = [init.connect()?, init.connect()?];
    let console = Op::Console { rows: 24, columns: 80, uid: 0, bind: false };
    guest(&[console], &["sleep"]).send(&mut client)?;
    assert_eq!(client.said()?, Said::Console(1));
    let _master = client.file.take();
    assert!(matches!(client.said()?, Said::Spawned { .. }));
    let terminal = descriptors(pid(&client)?)?;
    assert!(terminal.iter().all(|it| it.starts_with("/dev/pts/")), "{terminal:?}");
    assert_eq!(terminal.len(), 3);
    client.spawned(&guest(&[], &["sleep"]))?;
    let plain = descriptors(pid(&client)?)?;
    assert_eq!(plain, ["/dev/null"; 3], "the init's own stdio");
    let file = File::open(sandbox.rootfs().join("guest"))?;
    let mut given = guest(&[], &["sleep"]);
    given.output = Some(file.as_fd());
    client.spawned(&given)?;
    let given = descriptors(pid(&client)?)?;
    assert_eq!(given.len(), 3, "{given:?}");
    assert!(given[1].ends_with("/rootfs/guest"), "{given:?}");
    // The control: the init itself has more, and of other kinds.
    let own = init.descriptors()?;
    assert!(own.iter().any(|it| it.starts_with("socket:")), "{own:?}");
    assert!(own.iter().any(|it| it.contains("signalfd")), "{own:?}");
    Ok(())
}

/// Between the fork and its program a process is a copy of the init, with what a client has sent.
fn a_start_under_way_is_not_reached(sandbox: &Sandbox) -> Outcome {
    let default = capability::mask(&sandbox.config().capabilities)?;
    let (_init, mut client) = Init::contain(sandbox, &with(default))?;
    let start = sandbox.path().join("start");
    let listener =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    bind(&listener, &SocketAddrUnix::new(&start)?)?;
    listen(&listener, 1)?;
    let mut waiting = guest(&[Op::AwaitStart { listener: Slot(0) }], &["sleep"]);
    // Its stdio is the init's: the only descriptor that comes along is the listening socket.
    waiting.output = None;
    client.send(FrameType::Request, &waiting.body()?, &[listener.as_fd()])?;
    let Said::Spawned { pid, .. } = client.said()? else { return Err("not spawned".into()) };
    let pid = pid.to_string();
    for (who, before) in payloads(sandbox)? {
        all_refused(who, invade(&mut client, &before, Some(&pid))?);
    }
    Ok(())
}

/// The inode of a path, with its file system.
fn inode(path: impl AsRef<Path>) -> Result<(u64, u64), Stop> {
    let path = path.as_ref();
    let stat = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((stat.dev(), stat.ino()))
}

/// Looks at all that an init has open, at its directories and its memory. `image` is the name of
/// that memory.
fn holds_nothing_of_the_host(init: i32, rootfs: &Path, image: &str) -> Outcome {
    let of_init = PathBuf::from(format!("/proc/{init}"));
    for entry in fs::read_dir(of_init.join("fd"))? {
        let path = entry?.path();
        let link = fs::read_link(&path)?.to_string_lossy().into_owned();
        let stat = fs::metadata(&path)?;
        let harmless = match link.as_str() {
            "anon_inode:[eventpoll]" | "anon_inode:[signalfd]" => true,
            // The container's, not the host's.
            "/dev/null" => inode(&path)? == inode(of_init.join("root/dev/null"))?,
            link if link.starts_with("/dev/pts/") => {
                stat.dev() == inode(of_init.join("root/dev/pts"))?.0
            }
            link => link.starts_with("socket:["),
        };
        assert!(harmless, "{}: {link}", path.display());
    }
    let root = inode(rootfs)?;
    assert_eq!((inode(of_init.join("root"))?, inode(of_init.join("cwd"))?), (root, root));
    // Its program is memory that nobody writes, and nothing else of a file is mapped.
    let image = format!("/memfd:{image} (deleted)");
    assert_eq!(fs::read_link(of_init.join("exe"))?, Path::new(&image));
    let maps = fs::read_to_string(of_init.join("maps"))?;
    let mapped = maps.lines().filter_map(|line| line.find('/').map(|place| &line[place..]));
    for file in mapped {
        assert_eq!(file, image, "{maps}");
    }
    Ok(())
}

fn it_holds_nothing_of_the_host(sandbox: &Sandbox) -> Outcome {
    let (init, mut client) = Init::contain(sandbox, &[])?;
    // All that makes it hold something for a while, or for as long as a process lives.
    let host = File::open("/proc")?;
    let console = Op::Console { rows: 24, columns: 80, uid: 0, bind: false };
    guest(&[console], &["sleep"]).send(&mut client)?;
    assert_eq!(client.said()?, Said::Console(1));
    let _master = client.file.take();
    assert!(matches!(client.said()?, Said::Spawned { .. }));
    let mut given = guest(&[], &["sleep"]);
    given.output = Some(host.as_fd());
    client.spawned(&given)?;
    client.send(FrameType::Request, &encoded(&Request::List)?, &[host.as_fd(), host.as_fd()])?;
    assert!(matches!(client.said()?, Said::Processes(_)));
    let mut other = init.connect()?;
    is_served(&mut other)?;

    holds_nothing_of_the_host(init.pid()?, &sandbox.rootfs(), "init")?;
    // The control: one that was not given a root has the host's, and is seen to have it.
    let (plain, _client) = Init::start(sandbox)?;
    assert_eq!(inode(format!("/proc/{}/root", plain.pid()?))?, inode("/")?);
    Ok(())
}

/// The library's own containers, whose first program tries, and one that comes later.
fn the_librarys_init_is_not_reached_either(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.supervise = true;
    let mut live = sandbox.start(&config, process(&["/guest", "invade", "1", ",", "sleep"]))?;
    let mut further = |user: &str| -> Result<Vec<Attempts>, Stop> {
        let mut further = process(&["/guest", "invade", "1"]);
        further.user = user.to_owned();
        output(&mut sandbox.join(&mut live.container, further)?)?.lines()
    };
    let (joined, nobody) = (further("")?, further("65534:65534")?);
    for (who, said) in [("root", vec![live.say()?]), ("root", joined), ("nobody", nobody)] {
        let [attempts]: [Attempts; 1] = said.try_into().map_err(|_| "no line")?;
        all_refused(who, attempts);
    }
    holds_nothing_of_the_host(live.running.pid(), &sandbox.rootfs(), "pidone-init")?;
    live.kill()?;
    Ok(())
}

/// With `CAP_SYS_PTRACE` a process can become the init. What that is worth is what the init holds.
fn a_process_with_cap_sys_ptrace_reaches_only_the_container(sandbox: &Sandbox) -> Outcome {
    const SYS_PTRACE: u64 = 1 << 19;
    let (init, mut client) = Init::contain(sandbox, &[])?;
    let default = capability::mask(&sandbox.config().capabilities)?;
    let before = with(default | SYS_PTRACE);
    let reached = invade(&mut client, &before, Some("1"))?;
    for attempt in ["attach", "seize", "mem, read", "maps", "pidfd_getfd", "root"] {
        assert_eq!(reached.get(attempt), Some(&0), "the bait does not work: {attempt}");
    }
    // The image is shared by all containers of a host, and sealed.
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_WRONLY | libc::O_TRUNC] {
        let commands = ["open", "/proc/1/exe", &flags.to_string()];
        let said: Vec<i32> = client.lines(guest(&before, &commands))?;
        let refused = [libc::EPERM, libc::ETXTBSY, libc::EACCES].contains(&said[0]);
        assert!(refused, "{flags:#o}: {said:?}");
    }
    // It can be read, as any program that one runs: the control.
    let said: Vec<i32> = client.lines(guest(&before, &["open", "/proc/1/exe", "0"]))?;
    assert_eq!(said, [0]);
    // The root and the working directory are the container's.
    let links = ["read", "/proc/1/root/../../etc/passwd", ",", "read", "/proc/1/cwd/../etc/passwd"];
    let texts: Vec<pidone_tests::Read> = client.lines(guest(&before, &links))?;
    let own = fs::read_to_string(sandbox.rootfs().join("etc/passwd"))?;
    for read in texts {
        assert_eq!(read.text, own);
    }
    is_served(&mut client)?;
    assert_ne!(state(init.pid()?)?, "T");
    Ok(())
}
