//! What the init tells the host.
//!
//! All of it is hostile input to the host: the init may have been taken over by the container.

use bincode::Encode;

use crate::read::{Read, Reader, message};
use crate::text::Words;

message! {
    /// A message from the init.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
    #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "postcard", serde(bound(deserialize = "'de: 'a")))]
    pub enum Report<'a> {
        /// The init stands at [`crate::Op::Barrier`] and waits for [`crate::FrameType::Proceed`].
        Barrier {
            /// The number in the operation.
            id: u32,
        },
        /// [`crate::Op::Fork`] made the child whose pidfd comes along as the one descriptor; it waits
        /// for [`crate::FrameType::Proceed`].
        Forked,
        /// The master of the new terminal comes along as the one descriptor.
        Console,
        /// When operations were done.
        Times {
            /// The number of the first stamp: 0 is that of the init's beginning, 1 that of the plan's
            /// arrival, and the next are those of the operations.
            first: u32,
            /// Nanoseconds of the init's `CLOCK_MONOTONIC`, as little-endian numbers of 64 bits.
            nanoseconds: &'a [u8],
        },
        /// All operations are done; `execve(2)` is next.
        Executing,
        /// An operation failed. The init exits behind it with status 125.
        ///
        /// What the operation was about is in the plan, which the host wrote.
        Failed {
            /// The number of the operation in the plan, counted from 1; 0 when the plan itself could
            /// not be read.
            step: u32,
            /// The system call.
            call: Call,
            /// Which one of several things in the operation, counted from 1: an option of a mount, or
            /// a candidate of exec; for a message that was refused, the code of
            /// [`crate::FrameError`]; else 0.
            detail: u16,
            /// The kernel's answer.
            errno: u16,
        },
        /// The init stands at [`crate::Op::AwaitStart`], and closes this connection.
        Waiting,
        /// The descriptor that comes along answers for the system calls of the seccomp filter that was
        /// installed: `seccomp_unotify(2)`.
        Listener,
        /// The init stands at [`crate::Op::Supervise`].
        Supervising,
        /// A process was started; its pidfd comes along as the one descriptor.
        Spawned {
            /// The client's number in the request.
            tag: u32,
            /// The number of the process: never used again.
            process: u32,
            /// Its id in the container's pid namespace.
            pid: u32,
        },
        /// A process was not started.
        NotSpawned {
            /// The client's number in the request.
            tag: u32,
            /// The number of the operation, counted from 1; 0 for the request as a whole.
            step: u32,
            /// The system call.
            call: Call,
            /// As in [`Report::Failed`].
            detail: u16,
            /// The kernel's answer.
            errno: u16,
        },
        /// The master of the terminal of a process that is being started comes along as the one
        /// descriptor.
        SpawnConsole {
            /// The client's number in the request.
            tag: u32,
        },
        /// A process has ended.
        Exited {
            /// Its number.
            process: u32,
            /// What it exited with; 0 if a signal killed it.
            code: u32,
            /// The signal that killed it; 0 if it exited.
            signal: u32,
            /// Whether it left a core dump.
            core: bool,
            /// Microseconds of processor time outside the kernel.
            user: u64,
            /// Microseconds of processor time in the kernel.
            system: u64,
            /// The largest resident memory in KiB.
            max_rss: u64,
            /// Page faults without I/O.
            minor_faults: u64,
            /// Page faults with I/O.
            major_faults: u64,
        },
        /// Processes that were spawned and have not ended.
        Processes {
            /// Whether another such report follows.
            more: bool,
            /// Number and id of each in turn.
            processes: Words<'a>,
        },
        /// A request was done, or was not.
        Done {
            /// The kernel's answer; 0 if it was done.
            errno: u16,
        },
    }
}

/// The system call that failed, so that an error says more than the operation's name.
macro_rules! calls {
    ($($variant:ident => $name:literal),+ $(,)?) => {
        /// The system call that failed, or the rule that was broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
        #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
        #[non_exhaustive]
        pub enum Call {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl Read<'_> for Call {
            fn read(reader: &mut Reader<'_>) -> Self {
                let number = u32::read(reader);
                usize::try_from(number).ok().and_then(|number| Self::ALL.get(number).copied())
                    .unwrap_or_else(|| {
                        reader.refuse();
                        Self::Receive
                    })
            }
        }

        impl Call {
            /// All calls, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name of the call.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

calls! {
    Receive => "receive the plan",
    Decode => "decode the plan",
    Send => "send a report",
    Slot => "use a slot",
    Open => "open",
    Stat => "stat",
    MakeDirectory => "mkdir",
    MakeNode => "mknod",
    MakeLink => "symlink",
    MakeFile => "create",
    ChangeOwner => "chown",
    Remove => "unlink",
    NodeDiffers => "find another kind of file",
    FsOpen => "fsopen",
    FsConfig => "set an option of",
    FsCreate => "create the file system",
    FsMount => "fsmount",
    Mount => "mount",
    OpenTree => "open_tree",
    MountSetAttr => "mount_setattr",
    MoveMount => "move_mount",
    PivotRoot => "pivot_root",
    Unmount => "umount",
    Chroot => "chroot",
    ChangeDirectory => "chdir",
    SetNamespaces => "setns",
    Clone => "clone3",
    Unshare => "unshare",
    Socket => "socket",
    Ioctl => "ioctl",
    HostName => "sethostname",
    Write => "write",
    Terminal => "terminal",
    Session => "setsid",
    Duplicate => "dup",
    Rlimit => "setrlimit",
    BoundingSet => "drop a bounding capability",
    Groups => "setgroups",
    SetGid => "setgid",
    SetUid => "setuid",
    CapSet => "capset",
    Ambient => "raise an ambient capability",
    NoNewPrivileges => "no_new_privs",
    Seccomp => "seccomp",
    ParentDeath => "set the parent-death signal",
    ParentGone => "find the parent gone",
    Memory => "mmap",
    CloseRange => "close_range",
    Exec => "exec",
    Interpreter => "find the interpreter of",
    Accept => "accept",
    DomainName => "setdomainname",
    Keyring => "keyctl",
    Personality => "personality",
    Scheduler => "sched_setattr",
    IoPriority => "ioprio_set",
    Affinity => "sched_setaffinity",
    MemoryPolicy => "set_mempolicy",
    Read => "read",
    Attributes => "copy attributes",
    Supervise => "serve requests",
    Limit => "find room for another process",
}
