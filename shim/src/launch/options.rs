//! How containers are started: which init, from which mounts, how long it may take.

use std::time::Duration;

use pidone_config::Result;

use crate::launch::image::{Codec, EMBEDDED, Image, Sealed};
use crate::trace;

/// How containers are started.
///
/// ```
/// use std::time::Duration;
///
/// use pidone::{Options, Strategy};
///
/// let options = Options::default().strategy(Strategy::Host).timeout(Duration::from_secs(10));
/// assert_eq!(options.strategy, Strategy::Host);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The init; `None` for the one that comes with the library.
    pub image: Option<Image>,
    /// Which mounts a new mount namespace is copied from.
    pub strategy: Strategy,
    /// How long a start may go on without a word from the init.
    pub timeout: Duration,
}

/// Which mounts a new mount namespace is copied from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// The template where it can be made, else the host's mounts.
    #[default]
    Auto,
    /// An almost empty namespace that a few threads of the library live in: cheap for each
    /// container, however many mounts the host has; a few hundred microseconds once. A start fails
    /// where it cannot be made. A container whose mounts need the host's in sight, for commands or
    /// for want of privileges, sees those.
    Template,
    /// The host's mounts: for a process that starts one container.
    Host,
}

impl Default for Options {
    fn default() -> Self {
        Self { image: None, strategy: Strategy::default(), timeout: Duration::from_secs(60) }
    }
}

impl Options {
    /// Sets [`Options::strategy`].
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets [`Options::image`].
    #[must_use]
    pub fn image(mut self, image: Image) -> Self {
        self.image = Some(image);
        self
    }

    /// Sets [`Options::timeout`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// The image to execute and how it is spoken to; `takes_more` tells whether it gets a program when
/// it has begun, to start or to become, which only the image of the supervisor can.
pub(crate) fn image<'a>(
    own: Option<&'a Sealed>,
    options: &Options,
    takes_more: bool,
) -> Result<(&'a Sealed, Codec)> {
    match (own, &options.image) {
        (Some(sealed), Some(image)) => Ok((sealed, image.codec())),
        _ => {
            let sealed = trace::span("seal the init", || Sealed::embedded(takes_more))?;
            Ok((sealed, EMBEDDED.codec()))
        }
    }
}
