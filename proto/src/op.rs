//! The operations: what the host can ask of the init.
//!
//! Numbers have the kernel's values: flags, capability masks, resource numbers. Paths below the
//! root are resolved by the init inside the root, whatever symbolic links say.

use bincode::Encode;

use crate::read::{Read, Reader, message};
use crate::text::{Strings, Text, Words};

/// A place in the init's table of descriptors.
///
/// The descriptors that come with a part take the slots from 0 up, and replace what was there;
/// those from [`crate::limits::FIRST_MADE_SLOT`] up are for mounts that the init makes. An
/// operation that uses a slot leaves it open unless it says that it takes it.
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
    /// What to do when the place of a mount does not exist.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
    #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
    pub enum Create {
        /// Fail.
        Nothing,
        /// Make a directory, and those above it, with mode 0755.
        Directory,
        /// Make an empty file with mode 0644, and the directories above it.
        File,
    }
}

message! {
    /// One operation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
    #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "postcard", serde(bound(deserialize = "'de: 'a")))]
    #[non_exhaustive]
    pub enum Op<'a> {
        // Namespaces and the channel.
        /// Joins namespaces: `setns(2)`. Takes the slot.
        ///
        /// A pid namespace is entered by [`Op::Fork`] only.
        SetNamespaces {
            /// A pidfd, or a namespace's file.
            target: Slot,
            /// `CLONE_NEW*` flags: any number for a pidfd, one for a namespace's file.
            flags: u32,
        },
        /// Forks; the parent sends [`crate::Report::Forked`] and exits, the child, a sibling of its
        /// parent, waits for the host and runs the rest of the plan.
        Fork {
            /// `CLONE_NEW*` flags of namespaces that are new for the child.
            flags: u32,
        },
        /// Leaves namespaces of the given `CLONE_NEW*` flags for new ones: `unshare(2)`.
        Unshare {
            /// `CLONE_NEW*` flags.
            flags: u32,
        },
        /// Reports to the host and waits until it says to go on.
        Barrier {
            /// A number that the host chose; it comes back in the report.
            id: u32,
        },
        /// Brings the interface `lo` of the network namespace up.
        Loopback,

        // Mounts.
        /// Changes the propagation of all mounts: `mount(NULL, "/", NULL, flags, NULL)`.
        Propagation {
            /// `MS_REC` with `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`.
            flags: u32,
        },
        /// Makes a file system as a detached mount: `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`.
        MakeMount {
            /// Where its descriptor goes.
            into: Slot,
            /// The type of file system.
            fstype: Text<'a>,
            /// Keys and values in turn; an empty value stands for a flag.
            options: Strings<'a>,
            /// `MOUNT_ATTR_*` flags.
            attributes: u32,
        },
        /// Copies a mount of the host that the init still sees: `open_tree(2)` with
        /// `OPEN_TREE_CLONE`.
        ///
        /// For hosts that may not open it themselves: before the old root goes.
        OpenTree {
            /// Where its descriptor goes.
            into: Slot,
            /// The absolute path on the host.
            path: Text<'a>,
            /// Whether mounts below it come along.
            recursive: bool,
        },
        /// Changes attributes of a mount: `mount_setattr(2)`.
        SetAttributes {
            /// The mount.
            mount: Slot,
            /// `MOUNT_ATTR_*` flags to set.
            set: u64,
            /// `MOUNT_ATTR_*` flags to clear.
            clear: u64,
            /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0 to leave it.
            propagation: u64,
            /// Whether mounts below it change too.
            recursive: bool,
        },
        /// Attaches the tree that becomes the root, and resolves all later paths below it. Takes
        /// the slot.
        Root {
            /// The tree.
            tree: Slot,
            /// An existing directory that the init sees now.
            at: Text<'a>,
        },
        /// Makes the root `/` and detaches the old root: `pivot_root(".", ".")`, `umount2(2)`.
        PivotRoot,
        /// Moves the root over `/` and chroots, for a root on the initial ramfs, which
        /// `pivot_root(2)` refuses.
        MoveRoot,
        /// Makes an existing directory the root without a mount: `chroot(2)`.
        Chroot {
            /// The directory. Taken.
            directory: Slot,
        },
        /// Attaches a detached mount below the root: `move_mount(2)`. Takes the slot.
        Attach {
            /// The mount.
            mount: Slot,
            /// Its place below the root.
            at: Text<'a>,
            /// What to do when there is nothing.
            create: Create,
            /// Whether symbolic links are followed, inside the root. The places of proc and sysfs
            /// must not be links.
            follow: bool,
        },
        /// Mounts by `mount(2)` on a directory below the root, for options longer than
        /// `fsconfig(2)`'s 255 bytes.
        LegacyMount {
            /// The source.
            source: Text<'a>,
            /// The type of file system.
            fstype: Text<'a>,
            /// `MS_*` flags.
            flags: u32,
            /// The options.
            data: Text<'a>,
            /// Its place below the root.
            at: Text<'a>,
        },

        // Files below the root.
        /// Makes a directory, and those above it. One that exists is left as it is.
        MakeDirectory {
            /// Its place below the root.
            path: Text<'a>,
            /// The permission bits.
            mode: u32,
        },
        /// Makes a device node: `mknodat(2)`. One that exists must be the same device.
        MakeNode {
            /// Its place below the root; directories above it are made.
            path: Text<'a>,
            /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO` with permission bits.
            mode: u32,
            /// The major number.
            major: u32,
            /// The minor number.
            minor: u32,
            /// The owner.
            uid: u32,
            /// The group.
            gid: u32,
        },
        /// Makes a symbolic link.
        MakeLink {
            /// What it points to.
            target: Text<'a>,
            /// Its place below the root; directories above it are made.
            path: Text<'a>,
            /// Whether a file in its place is removed; else it is left.
            replace: bool,
        },
        /// Hides a path; one that does not exist is left.
        Mask {
            /// The path below the root.
            path: Text<'a>,
            /// What covers a file: a mount of a null device.
            file: Slot,
            /// What covers a directory: an empty read-only file system.
            directory: Slot,
        },
        /// Makes a path read-only, with the mounts below it; one that does not exist is left.
        ReadOnly {
            /// The path below the root.
            path: Text<'a>,
        },
        /// Makes the mount of the root read-only, and none below it.
        ReadOnlyRoot,
        /// Opens again, in the container, what of stdio is the host's null device.
        ReopenNull,

        // The identity of the container.
        /// Sets the host name.
        HostName {
            /// The name.
            name: Text<'a>,
        },
        /// Writes a sysctl.
        Sysctl {
            /// A detached mount of proc.
            proc: Slot,
            /// The path below `/proc/sys`, as in `net/ipv4/ip_forward`.
            path: Text<'a>,
            /// The value.
            value: Text<'a>,
        },
        /// Sets the label that a security module gives the process at the next `execve(2)`.
        Label {
            /// A detached mount of proc.
            proc: Slot,
            /// The file below `/proc/thread-self/attr`, as in `apparmor/exec`.
            attribute: Text<'a>,
            /// What is written.
            value: Text<'a>,
        },
        /// Closes a slot.
        Close {
            /// The slot.
            slot: Slot,
        },

        // The process.
        /// Starts a session with a new terminal of the container's own devpts, as stdio and as
        /// controlling terminal, and sends its master to the host with [`crate::Report::Console`].
        Console {
            /// The height in characters; 0 leaves the kernel's.
            rows: u16,
            /// The width in characters; 0 leaves the kernel's.
            columns: u16,
            /// The owner of the terminal.
            uid: u32,
            /// Whether the terminal is also bound to `/dev/console`.
            bind: bool,
        },
        /// Starts a session: `setsid(2)`.
        Session,
        /// Limits a resource: `setrlimit(2)`.
        Rlimit {
            /// `RLIMIT_*`.
            resource: u32,
            /// The soft limit.
            soft: u64,
            /// The hard limit.
            hard: u64,
        },
        /// Drops every capability that is not kept from the bounding set.
        Bounding {
            /// The mask of those kept.
            keep: u64,
        },
        /// Sets the supplementary groups.
        Groups {
            /// The group ids.
            ids: Words<'a>,
        },
        /// Sets all user and group ids, and keeps the permitted capabilities for now.
        Ids {
            /// The user id.
            uid: u32,
            /// The group id.
            gid: u32,
        },
        /// Sets the capability sets.
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
        /// Forbids privileges gained by exec, for ever.
        NoNewPrivileges,
        /// Installs a seccomp filter, where it must be before the capabilities go: without
        /// no_new_privs it needs `CAP_SYS_ADMIN`.
        Seccomp {
            /// `SECCOMP_FILTER_FLAG_*`.
            flags: u32,
            /// Instructions of 8 bytes each.
            filter: &'a [u8],
        },
        /// Sets the file mode creation mask.
        Umask {
            /// The mask.
            mask: u32,
        },
        /// Changes the working directory, and makes sure that it is below the root.
        ChangeDirectory {
            /// The path.
            path: Text<'a>,
        },
        /// Asks for a signal when the thread that started the init ends.
        ParentDeath {
            /// The signal.
            signal: u32,
        },
        /// Reports [`crate::Report::Executing`], closes what is not stdio or preserved, and becomes
        /// the program. The last operation of a plan.
        Exec {
            /// The paths to try, in their order: one, or one for each directory of `$PATH`.
            candidates: Strings<'a>,
            /// The arguments, the program's name first.
            arguments: Strings<'a>,
            /// The environment.
            environment: Strings<'a>,
            /// How many descriptors behind stdio the program gets.
            preserved: u32,
            /// `SECCOMP_FILTER_FLAG_*`.
            filter_flags: u32,
            /// A seccomp filter that is installed between the report and exec, so that it must allow
            /// nothing but `execve(2)`; empty for none.
            filter: &'a [u8],
        },

        // Additions, in the order of their numbers.
        /// Reports [`crate::Report::Waiting`], lets the host go, and waits until somebody connects to
        /// a socket and sends [`crate::FrameType::Start`]; reports go to that connection from then on.
        ///
        /// Everything else that the init holds is closed meanwhile, all slots and the root.
        AwaitStart {
            /// A listening socket of the host. Taken.
            listener: Slot,
        },
        /// Sets the NIS domain name.
        DomainName {
            /// The name.
            name: Text<'a>,
        },
        /// Joins a session keyring, a new one if there is none of that name, so that the host's is out of reach.
        Keyring {
            /// Its name.
            name: Text<'a>,
        },
        /// Sets the execution domain: `personality(2)`.
        Personality {
            /// `PER_*` and its flags.
            persona: u32,
        },
        /// Sets how the process is scheduled: `sched_setattr(2)`.
        Scheduler {
            /// The kernel's `struct sched_attr`.
            attributes: &'a [u8],
        },
        /// Sets the class and priority of I/O: `ioprio_set(2)`.
        IoPriority {
            /// The class, shifted by 13, and the priority.
            value: u32,
        },
        /// Sets the processors that the process may run on: `sched_setaffinity(2)`.
        Affinity {
            /// The mask, in words of 64 bits of the machine.
            mask: &'a [u8],
        },
        /// Sets the NUMA policy of memory: `set_mempolicy(2)`.
        MemoryPolicy {
            /// `MPOL_*` with its flags.
            mode: u32,
            /// The mask of nodes, in words of 64 bits of the machine.
            nodes: &'a [u8],
        },
        /// Sets the clocks of the time namespace that [`Op::Unshare`] has made, and that `execve(2)`
        /// enters.
        TimeOffsets {
            /// A detached mount of proc.
            proc: Slot,
            /// Lines for `/proc/PID/timens_offsets`.
            offsets: Text<'a>,
        },
        /// Gives a mount that is not attached yet the mode of the directory that it will cover, or a
        /// copy of it.
        CopyUp {
            /// The mount.
            mount: Slot,
            /// The directory below the root. Nothing is done if it does not exist.
            from: Text<'a>,
            /// Whether what is in the directory is copied, with its owner.
            contents: bool,
        },
        /// Fails as [`Op::Exec`] would if none of the files can be executed, long before it comes: who
        /// makes a container hears of a program that is missing, and not who starts it.
        FindProgram {
            /// The paths to try, in their order.
            candidates: Strings<'a>,
        },
        /// Changes attributes of a mount that is attached: `mount_setattr(2)`.
        Remount {
            /// Its place below the root.
            at: Text<'a>,
            /// `MOUNT_ATTR_*` flags to set.
            set: u64,
            /// `MOUNT_ATTR_*` flags to clear.
            clear: u64,
            /// Whether the mounts below it change too.
            recursive: bool,
        },
        /// Reports [`crate::Report::Supervising`] and serves [`crate::Request`]s for ever, on this
        /// connection and on others. The last operation of a plan, in the place of [`Op::Exec`].
        ///
        /// Everything else that the init holds is closed, all slots and the root; its stdio becomes the
        /// container's null device.
        Supervise {
            /// A listening socket of the host. Taken.
            listener: Slot,
        },
        /// Makes the descriptors in the first slots standard input, output, error and those behind.
        /// Taken.
        Stdio {
            /// How many.
            count: u32,
        },
        /// Moves the process into a cgroup: `cgroups(7)`.
        JoinCgroup {
            /// The cgroup's `cgroup.procs`, open for writing. Taken.
            procs: Slot,
        },
        /// Makes a descriptor another number's: `dup3(2)`. For those from 0 to 2 of which some stay
        /// as they are, where [`Op::Stdio`] makes all of them.
        Descriptor {
            /// The descriptor.
            from: Slot,
            /// The number, 0 to 2.
            number: u16,
        },
    }
}

/// Names of operations, in the words of the kernel.
macro_rules! names {
    ($($variant:ident => $name:literal),+ $(,)?) => {
        impl Op<'_> {
            /// How many operations there are; their numbers count from 0.
            pub const COUNT: usize = [$($name),+].len();

            /// The name of the operation.
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
