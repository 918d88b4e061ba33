//! The privileges that an init drops before it serves requests.

use pidone_config::config::capability;
use pidone_config::seccomp::flag;
use pidone_config::{Config, Result};
use pidone_proto::Op;
use serde::{Deserialize, Serialize};

use super::allowed::{allows_the_init, allows_to_serve, is_bare};
use super::{Plan, Process};

/// What an init that stays has given up when it begins to serve, and with it all that it starts:
/// they need not do it one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DroppedPrivileges {
    /// What is left of its bounding set of capabilities, as a mask; nothing if all is.
    pub bounding: Option<u64>,
    /// Whether it is under the seccomp filter.
    pub filter: Filtered,
}

/// Under which filter an init is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filtered {
    /// Under none.
    #[default]
    No,
    /// Under that of the configuration.
    AsConfigured,
    /// Under that of a configuration which was changed since.
    Otherwise,
}

impl DroppedPrivileges {
    /// What an init can give up for the processes of a configuration, of which this is the first.
    pub fn from_config(config: &Config, first: &Process) -> Result<Self> {
        // A hook in the container becomes what its first process is about to become, by its plan.
        if !config.supervise || !config.hooks.start_container.is_empty() {
            return Ok(Self::default());
        }
        let others = capability::mask(&config.capabilities)?;
        let filter = first.seccomp.as_ref().is_some_and(|(flags, filter)| {
            flags & flag::NEW_LISTENER == 0
                && is_bare(first, config)
                && allows_the_init(filter)
                && allows_to_serve(filter)
        });
        Ok(Self {
            bounding: Some(first.capabilities.bounding | others),
            filter: if filter { Filtered::AsConfigured } else { Filtered::No },
        })
    }

    /// Whether an init that has given this up can start a process.
    pub fn fits(&self, config: &Config, process: &Process) -> bool {
        let bounding = self.bounding.unwrap_or(u64::MAX);
        process.capabilities.bounding & !bounding == 0
            && match self.filter {
                Filtered::No => true,
                Filtered::AsConfigured => is_bare(process, config),
                Filtered::Otherwise => false,
            }
    }

    /// Appends how it is given up.
    pub(super) fn compile(&self, plan: &mut Plan, process: &Process) {
        if let Some(keep) = self.bounding {
            plan.push(Op::Bounding { keep });
        }
        if let Some((flags, filter)) = &process.seccomp
            && self.filter == Filtered::AsConfigured
        {
            // It is root in its user namespace, and may do so without giving up new privileges.
            plan.push(Op::Seccomp { flags: *flags, filter });
        }
    }
}
