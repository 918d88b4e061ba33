//! What a client asks of an init that supervises.
//!
//! An init at [`crate::Op::Supervise`] stays process 1 and serves requests on every connection to
//! its socket. It answers each with a report, those of one connection in their order; what happens
//! to a process is reported to who started it.

use bincode::Encode;

use crate::read::message;

message! {
    /// A request.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
    #[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "postcard", serde(bound(deserialize = "'de: 'a")))]
    #[non_exhaustive]
    pub enum Request<'a> {
        /// Starts a process: a child of the init runs operations, the last of which is
        /// [`crate::Op::Exec`]. The descriptors that come along take the slots from 0 up.
        ///
        /// Answered by [`crate::Report::Spawned`] or [`crate::Report::NotSpawned`].
        Spawn {
            /// A number of the client's; it comes back in the reports about this request.
            tag: u32,
            /// Whether the container ends with the process. There is one such process.
            main: bool,
            /// How many operations there are.
            operations: u32,
            /// The operations, encoded one behind the other.
            plan: &'a [u8],
        },
        /// Sends a signal to a process. Answered by [`crate::Report::Done`].
        Signal {
            /// The process, by its number in [`crate::Report::Spawned`].
            process: u32,
            /// The signal.
            signal: u32,
            /// Whether its process group gets it.
            group: bool,
        },
        /// Changes the size of a process's terminal. Answered by [`crate::Report::Done`].
        Resize {
            /// The process.
            process: u32,
            /// The height in characters.
            rows: u16,
            /// The width in characters.
            columns: u16,
        },
        /// Lists the processes that were spawned and have not ended. Answered by
        /// [`crate::Report::Processes`].
        List,
        /// Ends the container: every process gets a signal, and `SIGKILL` when the time is over.
        /// Answered by [`crate::Report::Done`]; the init ends when no process is left.
        Shutdown {
            /// The signal.
            signal: u32,
            /// Milliseconds until `SIGKILL`.
            patience: u32,
        },
    }
}

impl Request<'_> {
    /// How many requests there are; their numbers count from 0.
    pub const COUNT: usize = 5;
}
