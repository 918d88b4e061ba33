//! The reports of the init.
//!
//! A host must treat every report as hostile input: the container may control the init.

use bincode::Encode;

use crate::read::{Read, Reader, message};
use crate::text::Words;

message! {
    /// A message from the init.
    ///
    /// The numbers on the wire count from 0 in the order of the variants.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
    #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "postcard", serde(bound(deserialize = "'de: 'a")))]
    pub enum Report<'a> {
        /// The init is at [`Op::Barrier`](crate::Op::Barrier) and waits for
        /// [`FrameType::Proceed`](crate::FrameType::Proceed).
        Barrier {
            /// The number in the operation.
            id: u32,
        },
        /// [`Op::Fork`](crate::Op::Fork) created a child. Its pidfd is the one descriptor of the
        /// message. The child waits for [`FrameType::Proceed`](crate::FrameType::Proceed).
        Forked,
        /// [`Op::Console`](crate::Op::Console) created a terminal. Its master is the one descriptor
        /// of the message.
        Console,
        /// When operations were done.
        Times {
            /// The number of the first time stamp in this report. Stamp 0 is the beginning of the
            /// init, stamp 1 the arrival of the plan, and stamp n + 1 the end of operation n.
            first: u32,
            /// Nanoseconds of the init's `CLOCK_MONOTONIC`, as 64-bit integers, little-endian. At
            /// most [`TIMES_PER_REPORT`](crate::limits::TIMES_PER_REPORT).
            nanoseconds: &'a [u8],
        },
        /// All other operations are done, and `execve(2)` is next.
        Executing,
        /// An operation failed. The init exits with status 125.
        ///
        /// The report does not repeat the fields of the operation, which the host wrote.
        Failed {
            /// The number of the operation in the plan, counted from 1; 0 if the first part could
            /// not be received.
            step: u32,
            /// The system call that failed, or the rule that was broken.
            call: Call,
            /// Which of several things in the operation, counted from 1: an option of a mount, or a
            /// candidate of exec. For a refused message
            /// [`FrameError::code`](crate::FrameError::code). Otherwise 0.
            detail: u16,
            /// The kernel's error number, 1 to 4095: `errno(3)`.
            errno: u16,
        },
        /// The init is at [`Op::AwaitStart`](crate::Op::AwaitStart) and closes this connection.
        Waiting,
        /// A seccomp filter with `SECCOMP_FILTER_FLAG_NEW_LISTENER` was installed. Its listener is
        /// the one descriptor of the message: `seccomp_unotify(2)`.
        Listener,
        /// The init is at [`Op::Supervise`](crate::Op::Supervise).
        Supervising,
        /// A process was started: the reply to [`Request::Spawn`](crate::Request::Spawn). Its pidfd
        /// is the one descriptor of the message.
        Spawned {
            /// The tag in the request.
            tag: u32,
            /// The number of the process in later requests and reports. It is never reused.
            process: u32,
            /// The process id in the pid namespace of the container.
            pid: u32,
        },
        /// A process was not started: the reply to [`Request::Spawn`](crate::Request::Spawn).
        NotSpawned {
            /// The tag in the request.
            tag: u32,
            /// The number of the operation that failed, counted from 1; 0 for the request as a
            /// whole.
            step: u32,
            /// The system call that failed, or the rule that was broken.
            call: Call,
            /// As in [`Report::Failed`].
            detail: u16,
            /// As in [`Report::Failed`].
            errno: u16,
        },
        /// A process that is being started has a terminal. Its master is the one descriptor of the
        /// message.
        SpawnConsole {
            /// The tag in the request.
            tag: u32,
        },
        /// A process has ended. The times and counts are those of `getrusage(2)`.
        Exited {
            /// The number of the process.
            process: u32,
            /// The exit code; 0 if a signal killed the process.
            code: u32,
            /// The signal that killed the process; 0 if it exited.
            signal: u32,
            /// Whether a core was dumped.
            core: bool,
            /// CPU time in user mode, in microseconds.
            user: u64,
            /// CPU time in the kernel, in microseconds.
            system: u64,
            /// The maximum resident set size, in KiB.
            max_rss: u64,
            /// Page faults without I/O.
            minor_faults: u64,
            /// Page faults with I/O.
            major_faults: u64,
        },
        /// The processes that were spawned and have not ended: the reply to
        /// [`Request::List`](crate::Request::List).
        Processes {
            /// Whether another such report follows.
            more: bool,
            /// The number and the process id of each in turn.
            processes: Words<'a>,
        },
        /// The reply to any other request.
        Done {
            /// 0 for success, otherwise the kernel's error number: `errno(3)`.
            errno: u16,
        },
    }
}

/// Declares [`Call`].
macro_rules! calls {
    ($($variant:ident => $name:literal),+ $(,)?) => {
        /// The system call that failed, or the rule that was broken: an operation makes several.
        ///
        /// The numbers on the wire count from 0 in the order of the variants. Each variant has its
        /// [`name`](Call::name) as documentation; `WIRE.md` has the man pages.
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
            /// All calls in the order of their numbers, from 0 up.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns what failed, for error messages: the name of a system call, or a verb
            /// phrase.
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
