//! The numbers of system calls by name.

use pidone_config::seccomp::{Arch, X32_SYSCALL_BIT};
use pidone_config::seccomp::{Condition, Operator};

use super::syscall_table::{IPC, NO, SOCKETCALL, TABLE};

/// Returns the names of all system calls that the compiler knows, in alphabetical order: those of
/// the five architectures of [`Arch`] up to Linux 6.18, and a few that other architectures have.
pub fn syscall_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _, _)| *name)
}

/// Returns the number of a system call on an architecture, `None` if it does not exist there. Those
/// of x32 have bit 30 set, as the kernel sees them.
pub fn syscall_number(name: &str, arch: Arch) -> Option<u32> {
    Entry::find(name)?.number(arch)
}

/// A system call known by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    numbers: &'static [u32; 5],
    call: u8,
}

impl Entry {
    /// Looks up a name. Returns `None` if the table does not have it.
    pub(super) fn find(name: &str) -> Option<Self> {
        let mut slot = slot(name.as_bytes());
        while INDEX[slot] != EMPTY {
            let (known, numbers, call) = &TABLE[usize::from(INDEX[slot])];
            if *known == name {
                return Some(Self { numbers, call: *call });
            }
            slot = (slot + 1) % SLOTS;
        }
        None
    }

    /// Returns the number on an architecture, `None` if the call does not exist there.
    pub(super) fn number(self, arch: Arch) -> Option<u32> {
        let [x86_64, x86, x32, aarch64, arm] = *self.numbers;
        let number = match arch {
            Arch::X86_64 => x86_64,
            Arch::X86 => x86,
            Arch::X32 if x32 != NO => x32 | X32_SYSCALL_BIT,
            Arch::X32 => NO,
            Arch::Aarch64 => aarch64,
            Arch::Arm => arm,
        };
        (number != NO).then_some(number)
    }

    /// Returns how the same call is made through a multiplexer on 32-bit x86: the number of
    /// `socketcall(2)` or `ipc(2)`, and the condition on its first argument.
    pub(super) fn multiplexed(self, arch: Arch) -> Option<(u32, &'static [Condition; 1])> {
        let condition = &FIRST[usize::from(self.call & !(SOCKETCALL | IPC))];
        match self.call & (SOCKETCALL | IPC) {
            _ if arch != Arch::X86 => None,
            SOCKETCALL => Some((102, condition)),
            IPC => Some((117, condition)),
            _ => None,
        }
    }
}

/// The conditions on the first argument of a multiplexer, by the number of the call.
static FIRST: [[Condition; 1]; 25] = {
    let first = Condition { index: 0, operator: Operator::Equal, value: 0, value_two: 0 };
    let mut all = [[first]; 25];
    let mut call = 0;
    while call < all.len() {
        all[call][0].value = call as u64;
        call += 1;
    }
    all
};

/// A hash table of the rows, since a profile has hundreds of names and is compiled at the start of
/// a container.
static INDEX: [u16; SLOTS] = {
    let mut index = [EMPTY; SLOTS];
    let mut row = 0;
    while row < TABLE.len() {
        let mut slot = slot(TABLE[row].0.as_bytes());
        while index[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        #[allow(clippy::cast_possible_truncation, reason = "fewer rows than slots, or no end")]
        let place = row as u16;
        index[slot] = place;
        row += 1;
    }
    index
};

const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;

/// Returns the FNV-1a hash of a name, reduced to the number of slots.
const fn slot(name: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 16)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(name: &str) -> [Option<u32>; 5] {
        Arch::ALL.map(|arch| Entry::find(name).unwrap().number(arch))
    }

    #[test]
    fn every_row_is_found_by_its_name() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (name, numbers, _) in &TABLE {
            assert_eq!(Entry::find(name).unwrap().numbers, numbers, "{name}");
        }
    }

    #[test]
    fn every_architecture_has_its_own_numbers() {
        assert_eq!(numbers("execve"), [Some(59), Some(11), Some(0x4000_0208), Some(221), Some(11)]);
        assert_eq!(numbers("open"), [Some(2), Some(5), Some(0x4000_0002), None, Some(5)]);
        assert_eq!(numbers("set_tls"), [None, None, None, None, Some(0xf_0005)]);
        assert_eq!(numbers("riscv_hwprobe"), [None; 5]);
        let newest = 469;
        assert_eq!(
            numbers("file_setattr"),
            [newest, newest, X32_SYSCALL_BIT | newest, newest, newest].map(Some)
        );
        assert!(Entry::find("no_such_call").is_none());
    }

    #[test]
    fn native_numbers_are_equal_to_libcs() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("seccomp", libc::SYS_seccomp),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ] {
            let ours = Entry::find(name).unwrap().number(Arch::NATIVE).unwrap();
            assert_eq!(libc::c_long::from(ours), number, "{name}");
        }
    }

    #[test]
    fn socket_and_ipc_calls_are_multiplexed_on_32_bit_x86() {
        let (number, [condition]) = Entry::find("connect").unwrap().multiplexed(Arch::X86).unwrap();
        assert_eq!((number, condition.value), (102, 3));
        let (number, [condition]) = Entry::find("shmat").unwrap().multiplexed(Arch::X86).unwrap();
        assert_eq!((number, condition.value), (117, 21));
        assert!(Entry::find("connect").unwrap().multiplexed(Arch::X86_64).is_none());
        assert!(Entry::find("read").unwrap().multiplexed(Arch::X86).is_none());
    }
}
