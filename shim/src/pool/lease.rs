//! A program that was started by a pool, and its container.

use std::sync::Arc;

use pidone_config::{Error, Result};
use pidone_host::exit::Exit;

use super::manager::PoolManager;
use crate::container::Container;
use crate::container::running::Running;

/// A container that runs a program of a pool's.
///
/// It is the caller's alone. Dropped, whatever still runs in it is killed, and what it has on the
/// host removed, in the background while the pool lives.
#[derive(Debug)]
pub struct Lease {
    parts: Option<Ended>,
    warm: bool,
    refill_error: Option<Error>,
    keeper: Arc<PoolManager>,
}

/// A container and its first process, which has ended or is to end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) container: Container,
    pub(super) running: Running,
    pub(super) reaped: bool,
}

impl Ended {
    /// Ends what runs, and removes the container.
    pub(super) fn remove(mut self) -> Result<()> {
        if !self.reaped {
            self.container.kill()?;
            self.running.wait()?;
        }
        self.container.destroy()
    }
}

impl Lease {
    pub(super) fn new(
        container: Container,
        running: Running,
        warm: bool,
        refill_error: Option<Error>,
        keeper: &Arc<PoolManager>,
    ) -> Self {
        let parts = Some(Ended { container, running, reaped: false });
        Self { parts, warm, refill_error, keeper: Arc::clone(keeper) }
    }

    /// Whether the container had waited for its program.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Why the pool could not be refilled when this program was started, for one that is not warm.
    #[must_use]
    pub fn refill_error(&self) -> Option<&Error> {
        self.refill_error.as_ref()
    }

    /// The container: for its id, statistics, signals, further processes.
    #[must_use]
    pub fn container(&mut self) -> &mut Container {
        &mut self.parts().container
    }

    /// The program, with the caller's ends of its pipes.
    #[must_use]
    pub fn running(&mut self) -> &mut Running {
        &mut self.parts().running
    }

    fn parts(&mut self) -> &mut Ended {
        self.parts.as_mut().expect("taken by the drop alone")
    }

    /// Waits for the end of the program. Removing the container is left to the background.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn wait(&mut self) -> Result<Exit> {
        let parts = self.parts();
        let exit = parts.running.wait()?;
        parts.reaped = true;
        Ok(exit)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(ended) = self.parts.take() {
            self.keeper.reap(ended);
        }
    }
}
