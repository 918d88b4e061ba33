//! The second half of a plan, kept for who asks for the same program again.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use pidone_config::{Config, Process, Result};
use pidone_host::user;
use pidone_plan::Plan;
use pidone_plan::parked::Model;
use pidone_plan::resolve::{compile_filter, resolve_with_filter};

use crate::container::exec::cache::ExecCache;
use crate::container::start::facts::user_root;

/// Compiles second halves.
#[derive(Debug)]
pub(super) struct Programs {
    config: Config,
    model: Model,
    oom_score_adj: Option<i32>,
    filter: Option<(u32, Vec<u8>)>,
    /// Where users are looked up.
    root: OwnedFd,
    /// Their halves of a plan, if there are any.
    known: ExecCache<Option<Arc<Plan>>>,
}

impl Programs {
    /// Takes a process as the model of those to come.
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
            known: ExecCache::default(),
        })
    }

    /// What first halves are made for.
    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// The second half for a process; `None` if it cannot be what a parked init becomes.
    pub(super) fn plan(&self, process: &Process) -> Result<Option<Arc<Plan>>> {
        let users = user::versions(self.root.as_fd());
        self.known.get(process, Some(users), || {
            let filter = self.filter.clone();
            let resolved = resolve_with_filter(&self.config, process, self.root.as_fd(), filter)?;
            if process.oom_score_adj != self.oom_score_adj {
                return Ok(None);
            }
            Ok(self.model.finish(&self.config, &resolved)?.map(Arc::new))
        })
    }
}
