//! The operations: what the host can request of the init.
//!
//! # A new operation touches
//!
//! | place | what is added | what fails without it |
//! |---|---|---|
//! | `proto/src/op.rs` | the variant with its fields, **last** in [`Op`]: the order gives the numbers | |
//! | `proto/src/op.rs` | its name in `names!`, at the end of the file | the compiler: [`Op::name`] |
//! | `proto/WIRE.md` | a row in the section of its topic, and the largest known number | `specification.rs` |
//! | `proto/tests/wire/samples.rs` | one value or more in `additions` | `vectors.rs` |
//! | `proto/tests/wire/arbitrary.rs` | an arm in `Values::operation` | `properties.rs` |
//! | `proto/vectors/operations.txt` | the vectors of the samples | `vectors.rs`, which prints them |
//! | `proto/vectors/version-1.txt` | its record: appended, then never changed | `frozen.rs`, which prints it |
//! | `init/src/interpret/mod.rs` | an arm in `run_operation` | the compiler, in the image that supervises |
//! | `init/src/ops/` | the function that the arm calls | the compiler |
//! | `shim/plan/src/display.rs` | an arm in `fields` | `shim/plan/tests/operations.rs` |
//! | `tests/python/messages.py` | a line in `OPERATIONS` | `tests/tests/python.rs` |
//!
//! The tests without a directory are in `proto/tests/wire/`.
//!
//! These places depend on what the operation is, and no test knows:
//!
//! - The host that asks for it: `shim/plan/`. A path or a name in its fields belongs into
//!   `subject` in `lib.rs` there, which completes error messages. One that fills a slot belongs
//!   into `Slots::fill` in `display.rs`; flags get their names in `names.rs`.
//! - One that waits for the host: `waits` in `shim/src/launch/outbox.rs`, and what a `Spawn`
//!   permits in `WIRE.md`, "Requests".
//! - One that ends a plan, or closes the connection: the operations before which
//!   `run_part` of the init sends the times.
//! - One that can fail in a new system call: a [`Call`](crate::Call), which has its own places in
//!   `report.rs`, `WIRE.md`, `calls.txt`, `version-1.txt` and `messages.py`. The same tests fail.
//! - Its behaviour: a test in `tests/tests/`.
//!
//! # Conventions
//!
//! Flags, masks, modes, signals and resources have the kernel's values. Paths "below the root" are
//! resolved by the init inside the container's root, whatever symbolic links say: `openat2(2)` with
//! `RESOLVE_IN_ROOT`. `WIRE.md` specifies each operation.

use bincode::Encode;

use crate::read::{Read, Reader, message};
use crate::text::{Strings, Text, Words};

/// An index in the init's table of descriptors, below [`SLOTS`](crate::limits::SLOTS).
///
/// The descriptors that come with a part take the slots from 0 up and close what was in them. The
/// slots from [`FIRST_MADE_SLOT`](crate::limits::FIRST_MADE_SLOT) up are for mounts that the init
/// makes. An operation that uses a slot leaves it open, unless its documentation says that it takes
/// the slot: then the slot is empty afterwards, and the descriptor is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
#[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
pub struct Slot(pub u16);

impl Read<'_> for Slot {
    #[inline(always)]
    fn read(reader: &mut Reader<'_>) -> Self {
        Self(Read::read(reader))
    }
}

message! {
    /// What to do if the mount point of [`Op::Attach`] does not exist.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
    #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
    pub enum Create {
        /// Fail.
        Nothing,
        /// Create a directory, and those above it, with mode 0755.
        Directory,
        /// Create an empty file with mode 0644, and the directories above it with mode 0755.
        File,
    }
}

message! {
    /// An operation of a plan, or of a process that a supervising init starts.
    ///
    /// The numbers on the wire count from 0 in the order of the variants. A new operation goes to
    /// the end.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
    #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "postcard", serde(bound(deserialize = "'de: 'a")))]
    // The init has to know every operation: in its image, a match without one does not compile.
    #[cfg_attr(not(init_image), non_exhaustive)]
    pub enum Op<'a> {
        // Namespaces and the channel.
        /// Joins namespaces: `setns(2)`. Takes the slot.
        ///
        /// The init itself stays in its pid namespace; the child of a later [`Op::Fork`] is in the
        /// joined one.
        SetNamespaces {
            /// A pidfd, or the file of a namespace.
            target: Slot,
            /// `CLONE_NEW*` flags: any number of them for a pidfd, one for the file of a namespace.
            flags: u32,
        },
        /// Forks. The child is a sibling of the init (`CLONE_PARENT`).
        ///
        /// The init sends [`Report::Forked`](crate::Report::Forked) and exits. The child waits for
        /// [`FrameType::Proceed`](crate::FrameType::Proceed) and runs the rest of the plan.
        Fork {
            /// `CLONE_NEW*` flags of new namespaces for the child, or 0.
            flags: u32,
        },
        /// Moves the process into new namespaces: `unshare(2)`.
        Unshare {
            /// `CLONE_NEW*` flags.
            flags: u32,
        },
        /// Sends [`Report::Barrier`](crate::Report::Barrier) and waits for
        /// [`FrameType::Proceed`](crate::FrameType::Proceed).
        Barrier {
            /// A number that the host chose. The report repeats it.
            id: u32,
        },
        /// Sets the interface `lo` of the network namespace up: `netdevice(7)`.
        Loopback,

        // Mounts.
        /// Changes the propagation of all mounts: `mount(NULL, "/", NULL, flags, NULL)`.
        Propagation {
            /// `MS_REC` with one of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` and `MS_UNBINDABLE`:
            /// `mount(2)`.
            flags: u32,
        },
        /// Creates a file system as a detached mount: `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`.
        MakeMount {
            /// The slot that the mount is put into.
            into: Slot,
            /// The type of file system.
            fstype: Text<'a>,
            /// Keys and values in turn. A key with an empty value is set as a flag.
            options: Strings<'a>,
            /// `MOUNT_ATTR_*` flags of `fsmount(2)`.
            attributes: u32,
        },
        /// Copies a mount of the host that the init still sees: `open_tree(2)` with
        /// `OPEN_TREE_CLONE`.
        ///
        /// For a host without the privilege to do so itself. Before [`Op::PivotRoot`], which
        /// detaches the host's root.
        OpenTree {
            /// The slot that the mount is put into.
            into: Slot,
            /// The absolute path on the host.
            path: Text<'a>,
            /// Whether the mounts below it are copied too (`AT_RECURSIVE`).
            recursive: bool,
        },
        /// Changes the attributes of a mount: `mount_setattr(2)`.
        SetAttributes {
            /// The mount.
            mount: Slot,
            /// `MOUNT_ATTR_*` flags to set.
            set: u64,
            /// `MOUNT_ATTR_*` flags to clear.
            clear: u64,
            /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`, or 0 for no change.
            propagation: u64,
            /// Whether the mounts below it are changed too (`AT_RECURSIVE`).
            recursive: bool,
        },
        /// Attaches a detached mount and makes it the root in which later paths are resolved. Takes
        /// the slot.
        Root {
            /// The mount.
            tree: Slot,
            /// An existing directory, as the init sees it now.
            at: Text<'a>,
        },
        /// Makes the root `/` and detaches the old root: `pivot_root(".", ".")`, `umount2(2)`.
        PivotRoot,
        /// Moves the mount of the root over `/` and changes root to it: `mount(2)` with `MS_MOVE`,
        /// `chroot(2)`.
        ///
        /// For a host whose `/` is the initial ramfs, on which `pivot_root(2)` fails.
        MoveRoot,
        /// Makes an existing directory the root, without a mount: `chroot(2)`. Takes the slot.
        Chroot {
            /// The directory.
            directory: Slot,
        },
        /// Attaches a detached mount below the root: `move_mount(2)`. Takes the slot.
        Attach {
            /// The mount.
            mount: Slot,
            /// The mount point below the root.
            at: Text<'a>,
            /// What to do if the mount point does not exist.
            create: Create,
            /// Whether symbolic links are followed, inside the root. The mount points of proc and
            /// sysfs must not be links.
            follow: bool,
        },
        /// Mounts by `mount(2)` on a directory below the root.
        ///
        /// For options that are longer than the 255 bytes that `fsconfig(2)` takes.
        LegacyMount {
            /// The source.
            source: Text<'a>,
            /// The type of file system.
            fstype: Text<'a>,
            /// `MS_*` flags.
            flags: u32,
            /// The options, separated by commas.
            data: Text<'a>,
            /// The mount point below the root. It is created if missing.
            at: Text<'a>,
        },

        // Files below the root.
        /// Creates a directory, and those above it: `mkdirat(2)`. An existing one is left as it is.
        MakeDirectory {
            /// The path below the root.
            path: Text<'a>,
            /// The permission bits.
            mode: u32,
        },
        /// Creates a device node, a FIFO or an empty file: `mknodat(2)`. An existing file is left
        /// as it is.
        MakeNode {
            /// The path below the root. Missing directories above it are created.
            path: Text<'a>,
            /// `S_IFCHR`, `S_IFBLK`, `S_IFIFO` or `S_IFREG` with permission bits: `inode(7)`.
            mode: u32,
            /// The major device number.
            major: u32,
            /// The minor device number.
            minor: u32,
            /// The user id of the owner.
            uid: u32,
            /// The group id of the owner.
            gid: u32,
        },
        /// Creates a symbolic link: `symlinkat(2)`.
        MakeLink {
            /// The content of the link.
            target: Text<'a>,
            /// The path below the root. Missing directories above it are created.
            path: Text<'a>,
            /// Whether an existing file is replaced. Otherwise it is left unchanged.
            replace: bool,
        },
        /// Covers a path with a mount, to hide it. A missing path is left missing.
        Mask {
            /// The path below the root.
            path: Text<'a>,
            /// What covers a file: a mount of a null device. A copy of it is attached.
            file: Slot,
            /// What covers a directory: an empty read-only file system. A copy of it is attached.
            directory: Slot,
        },
        /// Makes a path and the mounts below it read-only. A missing path is left missing.
        ReadOnly {
            /// The path below the root.
            path: Text<'a>,
        },
        /// Makes the mount of the root read-only, without those below it.
        ReadOnlyRoot,
        /// Replaces each of stdio that is the host's null device by the container's `/dev/null`.
        ReopenNull,

        // The identity of the container.
        /// Sets the host name: `sethostname(2)`.
        HostName {
            /// The name.
            name: Text<'a>,
        },
        /// Writes a sysctl: `proc_sys(5)`.
        Sysctl {
            /// A detached mount of proc.
            proc: Slot,
            /// The path below `/proc/sys`: `net/ipv4/ip_forward`.
            path: Text<'a>,
            /// The value.
            value: Text<'a>,
        },
        /// Sets the label that a security module gives the process at the next `execve(2)`:
        /// `proc_pid_attr(5)`.
        Label {
            /// A detached mount of proc.
            proc: Slot,
            /// The path below `/proc/thread-self/attr`: `apparmor/exec`.
            attribute: Text<'a>,
            /// The text to write.
            value: Text<'a>,
        },
        /// Closes a slot.
        Close {
            /// The slot.
            slot: Slot,
        },

        // The process.
        /// Starts a session with a new terminal of the container's devpts as stdio and as the
        /// controlling terminal, and sends its master to the host with
        /// [`Report::Console`](crate::Report::Console): `pts(4)`.
        Console {
            /// The height in characters; 0 leaves the kernel's default.
            rows: u16,
            /// The width in characters; 0 leaves the kernel's default.
            columns: u16,
            /// The user id of the owner of the terminal.
            uid: u32,
            /// Whether the terminal is also mounted on `/dev/console`.
            bind: bool,
        },
        /// Starts a session: `setsid(2)`.
        Session,
        /// Sets a resource limit: `setrlimit(2)`.
        Rlimit {
            /// `RLIMIT_*`.
            resource: u32,
            /// The soft limit, in the unit of the resource; 2^64 - 1 for none (`RLIM_INFINITY`).
            soft: u64,
            /// The hard limit, in the same way.
            hard: u64,
        },
        /// Drops capabilities from the bounding set: `PR_CAPBSET_DROP`.
        Bounding {
            /// The capabilities to keep. Bit n is capability n of `capabilities(7)`.
            keep: u64,
        },
        /// Sets the supplementary groups: `setgroups(2)`.
        Groups {
            /// The group ids.
            ids: Words<'a>,
        },
        /// Sets the real, effective and saved user and group ids: `setresuid(2)`.
        ///
        /// The permitted capabilities are kept until [`Op::Capabilities`].
        Ids {
            /// The user id.
            uid: u32,
            /// The group id.
            gid: u32,
        },
        /// Sets the capability sets: `capset(2)` and `PR_CAP_AMBIENT`. In each mask, bit n is
        /// capability n of `capabilities(7)`.
        Capabilities {
            /// The effective set.
            effective: u64,
            /// The permitted set.
            permitted: u64,
            /// The inheritable set.
            inheritable: u64,
            /// The ambient set.
            ambient: u64,
        },
        /// Forbids exec to grant privileges, for the process and its descendants:
        /// `PR_SET_NO_NEW_PRIVS`.
        NoNewPrivileges,
        /// Installs a seccomp filter: `seccomp(2)`.
        ///
        /// Without no_new_privs this needs `CAP_SYS_ADMIN`, so it comes before
        /// [`Op::Capabilities`]. [`Op::Exec`] installs its own filter later.
        Seccomp {
            /// `SECCOMP_FILTER_FLAG_*`.
            flags: u32,
            /// `struct sock_filter`s, 8 bytes each, in the machine's byte order.
            filter: &'a [u8],
        },
        /// Sets the file mode creation mask: `umask(2)`.
        Umask {
            /// The mask.
            mask: u32,
        },
        /// Changes the working directory, and checks that it is below the root: `fchdir(2)`.
        ChangeDirectory {
            /// The path below the root.
            path: Text<'a>,
        },
        /// Requests a signal for when the thread that started the init ends: `PR_SET_PDEATHSIG`.
        ParentDeath {
            /// The signal.
            signal: u32,
        },
        /// Sends [`Report::Executing`](crate::Report::Executing), closes all descriptors but stdio
        /// and the preserved ones, and becomes the program: `execve(2)`. The last operation of a
        /// plan.
        Exec {
            /// The paths to try, in order: one, or one for each directory of `$PATH`.
            candidates: Strings<'a>,
            /// The arguments, the program's name first.
            arguments: Strings<'a>,
            /// The environment: `NAME=value`.
            environment: Strings<'a>,
            /// The number of descriptors from 3 up that the program inherits.
            preserved: u32,
            /// `SECCOMP_FILTER_FLAG_*` of the filter.
            filter_flags: u32,
            /// A seccomp filter as in [`Op::Seccomp`], or nothing. It is installed between the
            /// report and exec, so that it needs to allow only `execve(2)`.
            filter: &'a [u8],
        },

        // Additions, in the order of their numbers.
        /// Sends [`Report::Waiting`](crate::Report::Waiting), closes the connection, and waits
        /// until a process connects to a socket and sends
        /// [`FrameType::Start`](crate::FrameType::Start). Later reports go to that connection.
        /// Takes the slot.
        ///
        /// The init also closes all other slots and the root.
        AwaitStart {
            /// A listening socket of the host.
            listener: Slot,
        },
        /// Sets the NIS domain name: `setdomainname(2)`.
        DomainName {
            /// The name.
            name: Text<'a>,
        },
        /// Joins a session keyring, so that the host's is out of reach: `session-keyring(7)`.
        Keyring {
            /// The name of the keyring. A new one is created unless one has this name.
            name: Text<'a>,
        },
        /// Sets the execution domain: `personality(2)`.
        Personality {
            /// `PER_*` with flags.
            persona: u32,
        },
        /// Sets the scheduling policy: `sched_setattr(2)`.
        Scheduler {
            /// The kernel's `struct sched_attr`, in the machine's byte order.
            attributes: &'a [u8],
        },
        /// Sets the I/O scheduling class and priority: `ioprio_set(2)`.
        IoPriority {
            /// `IOPRIO_PRIO_VALUE(class, priority)`: the class, shifted left by 13, and the
            /// priority in the lower bits.
            value: u32,
        },
        /// Sets the CPUs that the process may run on: `sched_setaffinity(2)`.
        Affinity {
            /// A mask of CPUs, in 64-bit words of the machine's byte order.
            mask: &'a [u8],
        },
        /// Sets the NUMA memory policy: `set_mempolicy(2)`.
        MemoryPolicy {
            /// `MPOL_*` with flags.
            mode: u32,
            /// A mask of nodes, in 64-bit words of the machine's byte order.
            nodes: &'a [u8],
        },
        /// Sets the clocks of the time namespace that [`Op::Unshare`] has created, and that
        /// `execve(2)` enters: `time_namespaces(7)`.
        TimeOffsets {
            /// A detached mount of proc.
            proc: Slot,
            /// Lines for `/proc/self/timens_offsets`.
            offsets: Text<'a>,
        },
        /// Gives a detached mount the mode of the directory that it will cover, or a copy of the
        /// directory.
        CopyUp {
            /// The mount.
            mount: Slot,
            /// The directory below the root. If it does not exist, nothing is done.
            from: Text<'a>,
            /// Whether the content of the directory is copied, and its owner.
            contents: bool,
        },
        /// Fails as [`Op::Exec`] would if none of the files can be executed.
        ///
        /// It comes early in a plan with [`Op::AwaitStart`], so that a missing program is an error
        /// of `create` rather than of `start`, and before a seccomp filter. [`Op::Exec`] then
        /// begins with the first candidate that was found, so that an agent sees no others.
        FindProgram {
            /// The paths to try, in order.
            candidates: Strings<'a>,
        },
        /// Changes the attributes of an attached mount: `mount_setattr(2)`.
        Remount {
            /// The mount point below the root.
            at: Text<'a>,
            /// `MOUNT_ATTR_*` flags to set.
            set: u64,
            /// `MOUNT_ATTR_*` flags to clear.
            clear: u64,
            /// Whether the mounts below it are changed too (`AT_RECURSIVE`).
            recursive: bool,
        },
        /// Sends [`Report::Supervising`](crate::Report::Supervising) and serves
        /// [`Request`](crate::Request)s until the container ends, on this connection and on others.
        /// The last operation of a plan, in place of [`Op::Exec`]. Takes the slot.
        ///
        /// The init closes all other slots and the root. Its stdio becomes the container's
        /// `/dev/null`.
        Supervise {
            /// A listening socket of the host.
            listener: Slot,
        },
        /// Makes the descriptors in the first slots those from 0 up: stdio, and more for the
        /// program. Takes the slots.
        Stdio {
            /// The number of slots, from slot 0.
            count: u32,
        },
        /// Moves the process into a cgroup: `cgroups(7)`. Takes the slot.
        JoinCgroup {
            /// The `cgroup.procs` of the cgroup, open for writing.
            procs: Slot,
        },
        /// Duplicates a descriptor to one of stdio: `dup3(2)`.
        ///
        /// For a process of which some of stdio stays as it is. [`Op::Stdio`] replaces all of it.
        Descriptor {
            /// The descriptor.
            from: Slot,
            /// The number, 0 to 2.
            number: u16,
        },
    }
}

/// Declares [`Op::name`]. An operation without a name does not compile.
macro_rules! names {
    ($($variant:ident => $name:literal),+ $(,)?) => {
        impl Op<'_> {
            /// Returns what the operation is called in errors, printed plans and traces: the name
            /// of its system call, or a word or two. Several operations can have the same name.
            ///
            /// For the name in `WIRE.md`, see [`Op::VARIANTS`].
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)+
                }
            }
        }
    };
}

names! {
    SetNamespaces => "setns",
    Fork => "fork",
    Unshare => "unshare",
    Barrier => "barrier",
    Loopback => "loopback",
    Propagation => "propagation",
    MakeMount => "mount",
    OpenTree => "bind",
    SetAttributes => "mount attributes",
    Root => "root",
    PivotRoot => "pivot_root",
    MoveRoot => "move root",
    Chroot => "chroot",
    Attach => "attach",
    LegacyMount => "mount",
    MakeDirectory => "mkdir",
    MakeNode => "mknod",
    MakeLink => "symlink",
    Mask => "mask",
    ReadOnly => "read-only path",
    ReadOnlyRoot => "read-only root",
    ReopenNull => "stdio",
    HostName => "sethostname",
    Sysctl => "sysctl",
    Label => "label",
    Close => "close",
    Console => "console",
    Session => "setsid",
    Rlimit => "setrlimit",
    Bounding => "bounding set",
    Groups => "setgroups",
    Ids => "set ids",
    Capabilities => "capabilities",
    NoNewPrivileges => "no_new_privs",
    Seccomp => "seccomp",
    Umask => "umask",
    ChangeDirectory => "chdir",
    ParentDeath => "parent-death signal",
    Exec => "exec",
    AwaitStart => "wait for the start",
    DomainName => "setdomainname",
    Keyring => "session keyring",
    Personality => "personality",
    Scheduler => "scheduler",
    IoPriority => "I/O priority",
    Affinity => "processors",
    MemoryPolicy => "memory policy",
    TimeOffsets => "time offsets",
    CopyUp => "copy up",
    FindProgram => "exec",
    Remount => "remount",
    Supervise => "supervise",
    Stdio => "stdio",
    JoinCgroup => "join the cgroup",
    Descriptor => "stdio",
}
