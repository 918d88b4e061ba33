//! The kernel's names for flags and numbers, as plans print them.

use pidone_config::config::mount::flags::{self, attribute};
use pidone_config::config::{NamespaceType, Rlimit};
use pidone_config::seccomp::flag;

/// The names of the standard signals, from 1 up, on x86-64 and aarch64: signal(7).
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// Returns the names of the bits, with the bits without a name as a number; `-` for no bits.
fn bits<'a>(value: u64, names: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut left = value;
    let mut found = Vec::new();
    for (name, bit) in names {
        if bit != 0 && left & bit == bit {
            left &= !bit;
            found.push(name.to_owned());
        }
    }
    if left != 0 {
        found.push(format!("{left:#x}"));
    }
    if found.is_empty() { "-".to_owned() } else { found.join(",") }
}

/// Returns `MOUNT_ATTR_*` flags as options of mount(8).
pub(super) fn attributes(value: u64) -> String {
    let names = [
        ("ro", attribute::RDONLY),
        ("nosuid", attribute::NOSUID),
        ("nodev", attribute::NODEV),
        ("noexec", attribute::NOEXEC),
        // The whole field, as it is cleared.
        ("atime", attribute::ATIME),
        ("noatime", attribute::NOATIME),
        ("strictatime", attribute::STRICTATIME),
        ("nodiratime", attribute::NODIRATIME),
        ("nosymfollow", attribute::NOSYMFOLLOW),
    ];
    bits(value, names.into_iter())
}

/// Returns `MS_*` flags as options of mount(8). A recursive propagation begins with `r`.
pub(super) fn mount_flags(value: u64) -> String {
    let table = flags::TABLE.iter().filter(|(.., sets)| *sets);
    // Options that set several bits come first.
    let mut names: Vec<_> = table.map(|&(name, bits, _)| (name, bits)).collect();
    names.sort_by_key(|(_, bits)| std::cmp::Reverse(bits.count_ones()));
    bits(value, names.into_iter())
}

/// Returns `CLONE_NEW*` flags as names of files in `/proc/PID/ns`.
pub(super) fn namespaces(value: u32) -> String {
    let names = NamespaceType::ALL.iter().map(|kind| (kind.file(), u64::from(kind.clone_flag())));
    bits(value.into(), names)
}

/// Returns the names of capabilities, without `CAP_`.
pub(super) fn capabilities(mask: u64) -> String {
    let mut known: Vec<_> = caps::all().into_iter().collect();
    known.sort_unstable_by_key(|capability| capability.bitmask());
    let all = known.iter().fold(0, |all, capability| all | capability.bitmask());
    if mask & all == all {
        return "all".to_owned();
    }
    let names: Vec<_> = known.iter().map(|each| (each.to_string(), each.bitmask())).collect();
    bits(mask, names.iter().map(|(name, bit)| (name.trim_start_matches("CAP_"), *bit)))
}

/// Returns the names of `SECCOMP_FILTER_FLAG_*` flags, without that prefix.
pub(super) fn filter_flags(value: u32) -> String {
    let names = [
        ("TSYNC", flag::TSYNC),
        ("LOG", flag::LOG),
        ("SPEC_ALLOW", flag::SPEC_ALLOW),
        ("NEW_LISTENER", flag::NEW_LISTENER),
        ("TSYNC_ESRCH", flag::TSYNC_ESRCH),
        ("WAIT_KILLABLE_RECV", flag::WAIT_KILLABLE_RECV),
    ];
    bits(value.into(), names.into_iter().map(|(name, bit)| (name, u64::from(bit))))
}

/// Returns the name of a `RLIMIT_*` resource with its limits.
pub(super) fn rlimit(kind: u32, soft: u64, hard: u64) -> String {
    let name = Rlimit { kind, soft, hard }.name().unwrap_or_else(|| kind.to_string());
    let value = |limit: u64| match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => limit.to_string(),
    };
    format!("{name} soft {} hard {}", value(soft), value(hard))
}

/// Returns the name of a signal, or its number if it has none.
pub(super) fn signal(number: u32) -> String {
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let name = index.and_then(|index| SIGNALS.get(index));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_kernels_numbers() {
        for (name, number) in [
            ("SIGHUP", libc::SIGHUP),
            ("SIGABRT", libc::SIGABRT),
            ("SIGBUS", libc::SIGBUS),
            ("SIGUSR1", libc::SIGUSR1),
            ("SIGUSR2", libc::SIGUSR2),
            ("SIGTERM", libc::SIGTERM),
            ("SIGSTKFLT", libc::SIGSTKFLT),
            ("SIGCHLD", libc::SIGCHLD),
            ("SIGURG", libc::SIGURG),
            ("SIGIO", libc::SIGIO),
            ("SIGSYS", libc::SIGSYS),
        ] {
            assert_eq!(signal(number.cast_unsigned()), name);
        }
        assert_eq!(signal(0), "0");
    }

    #[test]
    fn flags_without_a_name_are_numbers() {
        assert_eq!(attributes(0), "-");
        assert_eq!(attributes(0xf), "ro,nosuid,nodev,noexec");
        assert_eq!(attributes(0x10 | 0x8000), "noatime,0x8000");
        assert_eq!(attributes(0x70), "atime");
        assert_eq!(mount_flags(flags::SLAVE | flags::REC), "rslave");
        assert_eq!(mount_flags(flags::SHARED | flags::RDONLY), "ro,shared");
        assert_eq!(namespaces(0x2000_0080), "pid,time");
        assert_eq!(capabilities(0), "-");
        assert_eq!(capabilities(u64::MAX), "all");
        assert_eq!(
            capabilities(1 | 1 << 10 | 1 << 60),
            "CHOWN,NET_BIND_SERVICE,0x1000000000000000"
        );
        assert_eq!(filter_flags(0b1010), "LOG,NEW_LISTENER");
        assert_eq!(rlimit(7, 1024, u64::MAX), "RLIMIT_NOFILE soft 1024 hard unlimited");
        assert_eq!((signal(9), signal(40)), ("SIGKILL".into(), "40".into()));
    }
}
