//! Options of a start: the image of the init, the mounts, the timeout.

use std::time::Duration;

use pidone_config::Result;

use crate::launch::image::{Codec, EMBEDDED, Image, Sealed};
use crate::trace;

/// Options for the start of containers.
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
    /// The image of the init; `None` for the one that comes with the library.
    pub image: Option<Image>,
    /// The mounts that a new mount namespace is copied from.
    pub strategy: Strategy,
    /// How long a start waits for the next report of the init. The default is 60 s.
    pub timeout: Duration,
}

/// The mounts that a new mount namespace is copied from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// The template if it can be created, else the host's mounts.
    #[default]
    Auto,
    /// The template: an almost empty mount namespace that a few threads of the library are in.
    /// Copying it is cheap, however many mounts the host has; creating it takes a few hundred
    /// microseconds once. If it cannot be created, the start fails. A container whose mounts need
    /// the host's, for commands or for lack of privileges, still gets a copy of those.
    Template,
    /// The host's mounts. For a process that starts a single container.
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

/// Returns the image to execute, and the codec of its messages: `custom` if the options have an
/// image, else an embedded one.
///
/// `takes_more` is whether the init receives a program after it was started, to start or to become.
/// Only the supervisor's image can do this.
pub(crate) fn image<'a>(
    custom: Option<&'a Sealed>,
    options: &Options,
    takes_more: bool,
) -> Result<(&'a Sealed, Codec)> {
    match (custom, &options.image) {
        (Some(sealed), Some(image)) => Ok((sealed, image.codec())),
        _ => {
            let sealed = trace::span("seal the init", || Sealed::embedded(takes_more))?;
            Ok((sealed, EMBEDDED.codec()))
        }
    }
}
