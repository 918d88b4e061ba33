//! Compiles the second stages of plans, and caches them by process.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use pidone_config::{Config, Process, Result};
use pidone_host::user;
use pidone_plan::Plan;
use pidone_plan::parked::Model;
use pidone_plan::resolve::{compile_filter, resolve_with_filter};

use crate::container::exec::cache::ExecCache;
use crate::container::start::facts::user_root;

/// Compiles and caches the second stages for the processes of a pool.
#[derive(Debug)]
pub(super) struct Programs {
    config: Config,
    model: Model,
    oom_score_adj: Option<i32>,
    filter: Option<(u32, Vec<u8>)>,
    /// The directory in which users and groups are looked up.
    root: OwnedFd,
    /// The second stages; `None` for a process that a parked init cannot become.
    cache: ExecCache<Option<Arc<Plan>>>,
}

impl Programs {
    /// Takes a process as the model of later ones.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] for an invalid field of the model or of the seccomp
    /// profile.
    pub(super) fn new(config: &Config, model: &Process) -> Result<Self> {
        let filter = compile_filter(config)?;
        let root = user_root(config)?;
        let resolved = resolve_with_filter(config, model, root.as_fd(), filter.clone())?;
        Ok(Self {
            config: config.clone(),
            model: Model::new(config, resolved),
            oom_score_adj: model.oom_score_adj,
            filter,
            root,
            cache: ExecCache::default(),
        })
    }

    /// Returns the model that first stages are compiled for.
    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the second stage for a process; `None` if a parked init cannot become it.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] for an invalid field of the process.
    pub(super) fn plan(&self, process: &Process) -> Result<Option<Arc<Plan>>> {
        let users = user::versions(self.root.as_fd());
        self.cache.get(process, Some(users), || {
            let filter = self.filter.clone();
            let resolved = resolve_with_filter(&self.config, process, self.root.as_fd(), filter)?;
            if process.oom_score_adj != self.oom_score_adj {
                return Ok(None);
            }
            Ok(self.model.finish(&self.config, &resolved)?.map(Arc::new))
        })
    }
}
