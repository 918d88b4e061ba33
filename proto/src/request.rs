//! The requests of a client to a supervising init.
//!
//! An init at [`Op::Supervise`](crate::Op::Supervise) stays process 1 and serves requests on every
//! connection to its socket. It replies to each with a report, in order for each connection. What
//! happens to a process is reported to the client that started it.

use bincode::Encode;

use crate::read::message;

message! {
    /// A request of a client.
    ///
    /// The numbers on the wire count from 0 in the order of the variants.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
    #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "postcard", serde(bound(deserialize = "'de: 'a")))]
    #[non_exhaustive]
    pub enum Request<'a> {
        /// Starts a process: a child of the init runs operations, the last of which is
        /// [`Op::Exec`](crate::Op::Exec). The descriptors sent with the request take its slots from
        /// 0 up.
        ///
        /// The reply is [`Report::Spawned`](crate::Report::Spawned) or
        /// [`Report::NotSpawned`](crate::Report::NotSpawned).
        Spawn {
            /// A number that the client chose. The reports about this request repeat it.
            tag: u32,
            /// Whether the container ends with the process. At most one process has this.
            main: bool,
            /// The number of operations.
            operations: u32,
            /// The encoded operations, concatenated.
            plan: &'a [u8],
        },
        /// Sends a signal to a process: `kill(2)`. The reply is
        /// [`Report::Done`](crate::Report::Done).
        Signal {
            /// The number of the process in [`Report::Spawned`](crate::Report::Spawned).
            process: u32,
            /// The signal.
            signal: u32,
            /// Whether the signal goes to the process group that the process leads.
            group: bool,
        },
        /// Sets the size of a process's terminal: `TIOCSWINSZ(2const)`. The reply is
        /// [`Report::Done`](crate::Report::Done).
        Resize {
            /// The number of the process.
            process: u32,
            /// The height in characters.
            rows: u16,
            /// The width in characters.
            columns: u16,
        },
        /// Lists the processes that were spawned and have not ended. The reply is one or more
        /// [`Report::Processes`](crate::Report::Processes).
        List,
        /// Ends the container: sends a signal to every process, and `SIGKILL` after a timeout. The
        /// reply is [`Report::Done`](crate::Report::Done). The init exits when no process is left.
        Shutdown {
            /// The signal.
            signal: u32,
            /// The timeout in milliseconds.
            patience: u32,
        },
    }
}
