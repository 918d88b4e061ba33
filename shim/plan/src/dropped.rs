//! The privileges that a supervising init drops before it serves requests.

use pidone_config::config::capability;
use pidone_config::seccomp::flag;
use pidone_config::{Config, Result};
use pidone_proto::Op;
use serde::{Deserialize, Serialize};

use super::allowed::{allows_the_init, allows_to_serve, is_bare};
use super::{Plan, Process};

/// The privileges that a supervising init has dropped before it serves requests. The processes that
/// it starts inherit this, so they do not have to drop them one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DroppedPrivileges {
    /// The remaining bounding set of capabilities, as a mask; `None` if nothing was dropped from
    /// it.
    pub bounding: Option<u64>,
    /// The seccomp filter that it has loaded.
    pub filter: Filtered,
}

/// The seccomp filter that an init has loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filtered {
    /// None.
    #[default]
    No,
    /// The filter of the configuration.
    AsConfigured,
    /// The filter of an earlier configuration: the configuration was changed since.
    Otherwise,
}

impl DroppedPrivileges {
    /// Returns what an init can drop for all processes of a configuration. `first` is the first of
    /// them.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) for an unknown capability.
    pub fn from_config(config: &Config, first: &Process) -> Result<Self> {
        // A `startContainer` hook runs the operations of the first process's plan, which are then
        // needed there.
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

    /// Whether an init that has dropped this can start a process.
    pub fn fits(&self, config: &Config, process: &Process) -> bool {
        let bounding = self.bounding.unwrap_or(u64::MAX);
        process.capabilities.bounding & !bounding == 0
            && match self.filter {
                Filtered::No => true,
                Filtered::AsConfigured => is_bare(process, config),
                Filtered::Otherwise => false,
            }
    }

    /// Appends the operations that drop the privileges.
    pub(super) fn compile(&self, plan: &mut Plan, process: &Process) {
        if let Some(keep) = self.bounding {
            plan.push(Op::Bounding { keep });
        }
        if let Some((flags, filter)) = &process.seccomp
            && self.filter == Filtered::AsConfigured
        {
            // The init is root in its user namespace, so it may load a filter without
            // `no_new_privs`.
            plan.push(Op::Seccomp { flags: *flags, filter });
        }
    }
}
