//! Operations and reports with arbitrary field values, for property tests.

use std::ffi::CStr;

use pidone_proto::{Call, Create, Op, Report, Slot, Strings, Text, Words};
use proptest::prelude::{Strategy, any, prop};

/// Field values that a message can be made of.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    numbers: [u64; 5],
    slots: [u16; 2],
    flags: [bool; 2],
    /// Each has one NUL, at its end.
    texts: [Vec<u8>; 5],
    /// Each is empty or ends in NUL.
    lists: [Vec<u8>; 3],
    words: Vec<u8>,
    bytes: Vec<u8>,
}

/// Integers of every length on the wire: uniform ones would nearly all be large.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..=64_u32).prop_map(|(bits, shift)| bits.checked_shr(shift).unwrap_or(0))
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=u8::MAX, 0..300).prop_map(|mut bytes| {
        bytes.push(0);
        bytes
    })
}

fn list() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(text(), 0..4).prop_map(|texts| texts.concat())
}

/// Arbitrary field values.
pub(crate) fn values() -> impl Strategy<Value = Values> {
    (
        prop::array::uniform5(number()),
        prop::array::uniform2(number()),
        any::<[bool; 2]>(),
        prop::array::uniform5(text()),
        prop::array::uniform3(list()),
        prop::collection::vec(any::<[u8; 4]>(), 0..80).prop_map(|words| words.concat()),
        prop::collection::vec(any::<u8>(), 0..300),
    )
        .prop_map(|(numbers, slots, flags, texts, lists, words, bytes)| Values {
            numbers,
            slots: slots.map(low16),
            flags,
            texts,
            lists,
            words,
            bytes,
        })
}

fn low32(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("masked")
}

fn low16(number: u64) -> u16 {
    u16::try_from(number & u64::from(u16::MAX)).expect("masked")
}

impl Values {
    /// Returns the operation with a number, or `None` after the last one.
    pub(crate) fn operation(&self, number: usize) -> Option<Op<'_>> {
        let [a, b, c, d, _] = self.numbers;
        let [one, two, three, four, five] = self.numbers.map(low32);
        let [first, second] = self.slots.map(Slot);
        let [yes, no] = self.flags;
        let text = |index: usize| {
            Text(CStr::from_bytes_with_nul(&self.texts[index]).expect("one NUL, at the end"))
        };
        let list = |index: usize| Strings::new(&self.lists[index]).expect("NUL at the end");
        let create = match one % 3 {
            0 => Create::Nothing,
            1 => Create::Directory,
            _ => Create::File,
        };
        Some(match number {
            0 => Op::SetNamespaces { target: first, flags: one },
            1 => Op::Fork { flags: one },
            2 => Op::Unshare { flags: one },
            3 => Op::Barrier { id: one },
            4 => Op::Loopback,
            5 => Op::Propagation { flags: one },
            6 => Op::MakeMount { into: first, fstype: text(0), options: list(0), attributes: one },
            7 => Op::OpenTree { into: first, path: text(0), recursive: yes },
            8 => {
                Op::SetAttributes { mount: first, set: a, clear: b, propagation: c, recursive: yes }
            }
            9 => Op::Root { tree: first, at: text(0) },
            10 => Op::PivotRoot,
            11 => Op::MoveRoot,
            12 => Op::Chroot { directory: first },
            13 => Op::Attach { mount: first, at: text(0), create, follow: yes },
            14 => Op::LegacyMount {
                source: text(0),
                fstype: text(1),
                flags: one,
                data: text(2),
                at: text(3),
            },
            15 => Op::MakeDirectory { path: text(0), mode: one },
            16 => Op::MakeNode {
                path: text(0),
                mode: one,
                major: two,
                minor: three,
                uid: four,
                gid: five,
            },
            17 => Op::MakeLink { target: text(0), path: text(1), replace: no },
            18 => Op::Mask { path: text(0), file: first, directory: second },
            19 => Op::ReadOnly { path: text(0) },
            20 => Op::ReadOnlyRoot,
            21 => Op::ReopenNull,
            22 => Op::HostName { name: text(4) },
            23 => Op::Sysctl { proc: first, path: text(0), value: text(1) },
            24 => Op::Label { proc: first, attribute: text(0), value: text(1) },
            25 => Op::Close { slot: first },
            26 => Op::Console { rows: first.0, columns: second.0, uid: one, bind: yes },
            27 => Op::Session,
            28 => Op::Rlimit { resource: one, soft: a, hard: b },
            29 => Op::Bounding { keep: a },
            30 => Op::Groups { ids: Words::new(&self.words).expect("four bytes each") },
            31 => Op::Ids { uid: one, gid: two },
            32 => Op::Capabilities { effective: a, permitted: b, inheritable: c, ambient: d },
            33 => Op::NoNewPrivileges,
            34 => Op::Seccomp { flags: one, filter: &self.bytes },
            35 => Op::Umask { mask: one },
            36 => Op::ChangeDirectory { path: text(0) },
            37 => Op::ParentDeath { signal: one },
            38 => Op::Exec {
                candidates: list(0),
                arguments: list(1),
                environment: list(2),
                preserved: one,
                filter_flags: two,
                filter: &self.bytes,
            },
            39 => Op::AwaitStart { listener: first },
            40 => Op::DomainName { name: text(0) },
            41 => Op::Keyring { name: text(0) },
            42 => Op::Personality { persona: one },
            43 => Op::Scheduler { attributes: &self.bytes },
            44 => Op::IoPriority { value: one },
            45 => Op::Affinity { mask: &self.bytes },
            46 => Op::MemoryPolicy { mode: one, nodes: &self.bytes },
            47 => Op::TimeOffsets { proc: first, offsets: text(0) },
            48 => Op::CopyUp { mount: first, from: text(0), contents: yes },
            49 => Op::FindProgram { candidates: list(0) },
            50 => Op::Remount { at: text(0), set: a, clear: b, recursive: yes },
            51 => Op::Supervise { listener: first },
            52 => Op::Stdio { count: one },
            53 => Op::JoinCgroup { procs: first },
            54 => Op::Descriptor { from: first, number: second.0 },
            _ => return None,
        })
    }

    /// Returns the report with a number, or `None` after the last one.
    pub(crate) fn report(&self, number: usize) -> Option<Report<'_>> {
        let [one, two, three, ..] = self.numbers.map(low32);
        let [a, b, c, d, e] = self.numbers;
        let [detail, errno] = self.slots;
        let call = Call::ALL[two as usize % Call::ALL.len()];
        Some(match number {
            0 => Report::Barrier { id: one },
            1 => Report::Forked,
            2 => Report::Console,
            3 => Report::Times { first: one, nanoseconds: &self.words },
            4 => Report::Executing,
            5 => Report::Failed { step: one, call, detail, errno },
            6 => Report::Waiting,
            7 => Report::Listener,
            8 => Report::Supervising,
            9 => Report::Spawned { tag: one, process: two, pid: three },
            10 => Report::NotSpawned { tag: one, step: two, call, detail, errno },
            11 => Report::SpawnConsole { tag: one },
            12 => Report::Exited {
                process: one,
                code: two,
                signal: three,
                core: self.flags[0],
                user: a,
                system: b,
                max_rss: c,
                minor_faults: d,
                major_faults: e,
            },
            13 => Report::Processes {
                more: self.flags[0],
                processes: Words::new(&self.words).expect("four bytes each"),
            },
            14 => Report::Done { errno },
            _ => return None,
        })
    }
}
