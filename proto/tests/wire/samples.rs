//! Samples: at least one value of every message, with integers and strings of every length on
//! the wire.

use std::fmt::Debug;

use pidone_proto::{Call, Create, Op, Part, Report, Request, Slot, Strings, Text, Words};

/// Returns the name of a message: its variant, as `Debug` prints it.
pub(crate) fn name(message: &impl Debug) -> String {
    let text = format!("{message:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// Returns the number of a message: the index of its name in the `VARIANTS` of its type.
///
/// # Panics
/// If the name is not among them.
pub(crate) fn number(variants: &[&str], message: &impl Debug) -> u32 {
    let name = name(message);
    let index = variants.iter().position(|variant| *variant == name);
    let index = index.unwrap_or_else(|| panic!("{name} is not in {variants:?}"));
    index.try_into().expect("fits")
}

/// Returns the names with their numbers, as a table of `WIRE.md` lists them.
pub(crate) fn numbered<'a>(variants: &[&'a str]) -> Vec<(u32, &'a str)> {
    (0..).zip(variants.iter().copied()).collect()
}

/// Returns a list of strings.
///
/// # Panics
/// If a string does not end in NUL.
#[must_use]
pub(crate) fn strings(bytes: &[u8]) -> Strings<'_> {
    Strings::new(bytes).expect("each string ends in NUL")
}

/// Returns a list of 32-bit integers, little-endian.
///
/// # Panics
/// If the length is not a multiple of four.
#[must_use]
pub(crate) fn words(bytes: &[u8]) -> Words<'_> {
    Words::new(bytes).expect("four bytes each")
}

/// Returns operations: each at least once, with the integers at which an encoding gets longer.
#[must_use]
pub(crate) fn operations() -> Vec<Op<'static>> {
    let mut samples = namespaces();
    samples.extend(mounts());
    samples.extend(files());
    samples.extend(process());
    samples.extend(additions());
    samples
}

fn namespaces() -> Vec<Op<'static>> {
    vec![
        Op::SetNamespaces { target: Slot(0), flags: 0x7c02_0000 },
        Op::Fork { flags: 0 },
        Op::Fork { flags: 0x2000_0000 },
        Op::Unshare { flags: 0x0200_0000 },
        Op::Barrier { id: 250 },
        Op::Barrier { id: 251 },
        Op::Barrier { id: 127 },
        Op::Barrier { id: 128 },
        Op::Barrier { id: 65_535 },
        Op::Barrier { id: 65_536 },
        Op::Barrier { id: u32::MAX },
        Op::Loopback,
    ]
}

fn mounts() -> Vec<Op<'static>> {
    let at = Text(c"/proc");
    vec![
        Op::Propagation { flags: 0x0004_4000 },
        Op::MakeMount {
            into: Slot(256),
            fstype: Text(c"tmpfs"),
            options: strings(b"mode\x00755\0ro\0\0"),
            attributes: 14,
        },
        Op::MakeMount {
            into: Slot(511),
            fstype: Text(c"proc"),
            options: Strings::default(),
            attributes: 0,
        },
        Op::OpenTree { into: Slot(257), path: Text(c"/srv/data"), recursive: true },
        Op::SetAttributes {
            mount: Slot(3),
            set: 1,
            clear: 0x0020_0000,
            propagation: 0x0004_0000,
            recursive: true,
        },
        Op::SetAttributes {
            mount: Slot(252),
            set: u64::MAX,
            clear: 0x1_0000_0000,
            propagation: 0,
            recursive: false,
        },
        Op::Root { tree: Slot(0), at: Text(c"/run/root") },
        Op::PivotRoot,
        Op::MoveRoot,
        Op::Chroot { directory: Slot(1) },
        Op::Attach { mount: Slot(256), at, create: Create::Nothing, follow: false },
        Op::Attach { mount: Slot(2), at, create: Create::Directory, follow: true },
        Op::Attach { mount: Slot(2), at: Text(c"/etc/hosts"), create: Create::File, follow: true },
        Op::LegacyMount {
            source: Text(c"overlay"),
            fstype: Text(c"overlay"),
            flags: 0,
            data: Text(c"lowerdir=/a:/b"),
            at: Text(c"/mnt"),
        },
    ]
}

fn files() -> Vec<Op<'static>> {
    vec![
        Op::MakeDirectory { path: Text(c"/var/lib"), mode: 0o755 },
        Op::MakeNode {
            path: Text(c"/dev/null"),
            mode: 0o20666,
            major: 1,
            minor: 3,
            uid: 0,
            gid: 5,
        },
        Op::MakeLink { target: Text(c"/proc/self/fd"), path: Text(c"/dev/fd"), replace: true },
        Op::Mask { path: Text(c"/proc/kcore"), file: Slot(509), directory: Slot(300) },
        Op::ReadOnly { path: Text(c"/proc/sys") },
        Op::ReadOnlyRoot,
        Op::ReopenNull,
        // Any bytes but NUL, also invalid UTF-8; and an empty text.
        Op::HostName { name: Text(c"h\xff\xc3\xa4") },
        Op::HostName { name: Text(c"") },
        Op::Sysctl { proc: Slot(510), path: Text(c"net/ipv4/ip_forward"), value: Text(c"1") },
        Op::Label {
            proc: Slot(510),
            attribute: Text(c"apparmor/exec"),
            value: Text(c"exec docker-default"),
        },
        Op::Close { slot: Slot(510) },
    ]
}

fn process() -> Vec<Op<'static>> {
    vec![
        Op::Console { rows: 24, columns: 300, uid: 1000, bind: true },
        Op::Session,
        Op::Rlimit { resource: 7, soft: 1024, hard: u64::MAX },
        Op::Bounding { keep: 0xa80_425fb },
        Op::Groups { ids: words(&[5, 0, 0, 0, 0xe8, 3, 0, 0]) },
        Op::Groups { ids: Words::default() },
        Op::Ids { uid: 1000, gid: 100 },
        Op::Capabilities { effective: 0x400, permitted: 0xa80_425fb, inheritable: 0, ambient: 250 },
        Op::NoNewPrivileges,
        Op::Seccomp { flags: 2, filter: &[6, 0, 0, 0, 0, 0, 0xff, 0x7f] },
        Op::Umask { mask: 0o22 },
        Op::ChangeDirectory { path: Text(c"/") },
        Op::ParentDeath { signal: 9 },
        Op::Exec {
            candidates: strings(b"/usr/bin/ls\0/bin/ls\0"),
            arguments: strings(b"ls\0-l\0"),
            environment: strings(b"PATH=/bin\0"),
            preserved: 2,
            filter_flags: 2,
            filter: &[6, 0, 0, 0, 0, 0, 0xff, 0x7f],
        },
        Op::Exec {
            candidates: strings(b"/true\0"),
            arguments: strings(b"true\0"),
            environment: Strings::default(),
            preserved: 0,
            filter_flags: 0,
            filter: &[],
        },
    ]
}

fn additions() -> Vec<Op<'static>> {
    vec![
        Op::AwaitStart { listener: Slot(0) },
        Op::DomainName { name: Text(c"example") },
        Op::Keyring { name: Text(c"_ses.box") },
        Op::Personality { persona: 8 },
        Op::Scheduler { attributes: &[48, 0, 0, 0, 3, 0, 0, 0] },
        Op::IoPriority { value: 0x4004 },
        Op::Affinity { mask: &[3, 0, 0, 0, 0, 0, 0, 0] },
        Op::MemoryPolicy { mode: 0x4002, nodes: &[1, 0, 0, 0, 0, 0, 0, 0] },
        Op::TimeOffsets { proc: Slot(510), offsets: Text(c"monotonic 86400 0\n") },
        Op::CopyUp { mount: Slot(258), from: Text(c"/run"), contents: true },
        Op::FindProgram { candidates: strings(b"/bin/ls\0") },
        Op::Remount { at: Text(c"/mnt"), set: 1, clear: 8, recursive: false },
        Op::Supervise { listener: Slot(0) },
        Op::Stdio { count: 3 },
        Op::JoinCgroup { procs: Slot(3) },
        Op::Descriptor { from: Slot(0), number: 1 },
    ]
}

/// Returns reports: each at least once.
#[must_use]
pub(crate) fn reports() -> Vec<Report<'static>> {
    vec![
        Report::Barrier { id: 7 },
        Report::Forked,
        Report::Console,
        Report::Times { first: 257, nanoseconds: &[0xa0, 0x86, 1, 0, 0xff, 0xff, 0xff, 0xff] },
        Report::Executing,
        Report::Failed { step: 12, call: Call::FsCreate, detail: 0, errno: 1 },
        Report::Failed { step: 0, call: Call::Receive, detail: 3, errno: 71 },
        Report::Failed { step: 300, call: Call::Exec, detail: 2, errno: 13 },
        Report::Waiting,
        Report::Listener,
        Report::Supervising,
        Report::Spawned { tag: 7, process: 300, pid: 12 },
        Report::NotSpawned { tag: 7, step: 9, call: Call::Exec, detail: 1, errno: 13 },
        Report::SpawnConsole { tag: 7 },
        Report::Exited {
            process: 300,
            code: 0,
            signal: 9,
            core: true,
            user: 251,
            system: 65_536,
            max_rss: 1024,
            minor_faults: 90,
            major_faults: 0,
        },
        Report::Processes { more: false, processes: words(&[44, 1, 0, 0, 12, 0, 0, 0]) },
        Report::Done { errno: 3 },
    ]
}

/// Returns requests: each at least once.
#[must_use]
pub(crate) fn requests() -> Vec<Request<'static>> {
    vec![
        Request::Spawn { tag: 7, main: true, operations: 1, plan: &[27] },
        Request::Signal { process: 300, signal: 15, group: false },
        Request::Resize { process: 300, rows: 24, columns: 300 },
        Request::List,
        Request::Shutdown { signal: 15, patience: 10_000 },
    ]
}

/// Returns heads of parts.
#[must_use]
pub(crate) fn parts() -> Vec<Part> {
    vec![
        Part { first: 1, operations: 48, more: false, timed: false },
        Part { first: 253, operations: 100_000, more: true, timed: true },
    ]
}
