//! Compiles the second stages of plans, and caches them by process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pidone_config::{Config, Process, Result};
use pidone_host::user::{self, User};
use pidone_plan::Plan;
use pidone_plan::parked::Model;
use pidone_plan::resolve::{Nameless, compile_filter, find_user, given_user};

use crate::container::exec::cache::ExecCache;
use crate::container::start::users;

/// Compiles and caches the second stages for the processes of a pool.
#[derive(Debug)]
pub(super) struct Programs {
    config: Config,
    model: Model,
    oom_score_adj: Option<i32>,
    filter: Option<(u32, Vec<u8>)>,
    /// The directory in which users and groups are looked up; `None` if that is the root of each
    /// container.
    root: Option<OwnedFd>,
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
        let nameless = Nameless::new(config, model, filter.clone())?;
        let mut root = users::root_on_host(config)?;
        let user = match &root {
            Some(root) => users::find_on_host(config, model, root.as_fd())?,
            None => given_user(model)?,
        };
        let resolved = match user {
            Some(user) => nameless.with_user(config, model, user)?,
            None => {
                root = None;
                nameless.process().clone()
            }
        };
        Ok(Self {
            config: config.clone(),
            model: Model::new(config, resolved)?,
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

    /// Returns the directory in which users and groups are looked up; `None` if that is the root of
    /// each container.
    pub(super) fn root(&self) -> Option<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd)
    }

    /// Returns the second stage for a process; `None` if a parked init cannot become it. Its user
    /// is looked up below `root`.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] for an invalid field of the process.
    pub(super) fn plan(
        &self,
        process: &Process,
        root: BorrowedFd<'_>,
    ) -> Result<Option<Arc<Plan>>> {
        let users = user::versions(root);
        self.cache.get(process, Some(users), || {
            let Some(user) = self.find_user(process, root)? else { return Ok(None) };
            let nameless = Nameless::new(&self.config, process, self.filter.clone())?;
            let resolved = nameless.with_user(&self.config, process, user)?;
            if process.oom_score_adj != self.oom_score_adj {
                return Ok(None);
            }
            Ok(self.model.finish(&self.config, &resolved)?.map(Arc::new))
        })
    }

    /// Finds the user of a process; `None` if that takes a container of its own.
    fn find_user(&self, process: &Process, root: BorrowedFd<'_>) -> Result<Option<User>> {
        if self.root.is_some() {
            return users::find_on_host(&self.config, process, root);
        }
        find_user(&self.config, process, root).map(Some)
    }
}
