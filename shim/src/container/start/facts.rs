//! From a configuration to the plan of a first process, with what the host says about it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use pidone_config::config::NamespaceType;
use pidone_config::{Config, Error, Process, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::{net, privilege};
use pidone_plan::container::{CLONE_NEWCGROUP, CLONE_NEWNET, CLONE_NEWTIME, has_commands};
use pidone_plan::dropped::DroppedPrivileges;
use pidone_plan::facts::Facts;
use pidone_plan::parked::{self, Model};
use pidone_plan::resolve::resolve;
use pidone_plan::{self as plan, Plan};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::launch::options::Strategy;
use crate::launch::{Place, TEMPLATE_ROOT, has_other_processor, template_error};
use crate::trace;

/// What a plan is compiled from.
pub(crate) struct Compilation<'a> {
    pub(crate) config: &'a Config,
    pub(crate) process: &'a Process,
    pub(crate) strategy: Strategy,
    pub(crate) cgroups: Option<&'a Cgroups>,
    pub(crate) network: &'a net::Plan,
    /// Whether the new network namespace is made beside the clone: [`can_make_netns_in_parallel`].
    pub(crate) parallel_netns: bool,
    /// The name of a new session keyring.
    pub(crate) keyring: Option<String>,
    /// Whether the program waits for the start.
    pub(crate) waits: bool,
    pub(crate) stage: Stage<'a>,
}

/// How much of a plan is compiled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage<'a> {
    /// All of it.
    Whole,
    /// What can be done before the program is known, for processes like the model.
    Model(&'a Model),
    /// What can be done before the root is known.
    Entrance,
    /// What follows [`Stage::Entrance`].
    Rest,
}

/// A plan and the clone that it needs.
pub(crate) struct Compiled {
    pub(crate) plan: Plan,
    /// Where the clone happens.
    pub(crate) place: Place,
    /// `CLONE_NEW*` flags of the clone.
    pub(crate) namespaces: u32,
    /// Whether the process is a child that the init forks.
    pub(crate) forks: bool,
    /// The process by numbers, which the plan has unless the init stays; none where it is told later.
    pub(crate) process: Option<plan::Process>,
    /// What the init gives up when it begins to serve, if it stays.
    pub(crate) dropped: DroppedPrivileges,
}

/// Compiles the plan of a container's first process: nothing is made, changed or started.
///
/// It is the plan of [`Container::start`](crate::Container::start) with [`Strategy::Host`], except
/// that on a machine with a second processor the init enters a network namespace that is made
/// beside it. The plan depends on the caller: the init opens paths of the host where the caller may
/// not copy mounts. The host is read for that, for the kind of bind sources, for users and groups in
/// the root, and for the paths of cgroups. The plan prints as text by its
/// [`Display`](std::fmt::Display).
///
/// # Errors
/// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) with field and value, and
/// [`Code::SystemError`](pidone_config::Code::SystemError) if a file of the host cannot be read.
pub fn first_plan(config: &Config, process: &Process) -> Result<Plan> {
    config.validate()?;
    let cgroups = config.cgroups.as_ref().map(Cgroups::locate).transpose()?;
    // The name that interfaces of the host would get decides nothing here.
    let network = net::Plan::new(&config.networks, &config.net_devices, &config.routes, "plan")?;
    let compilation = Compilation {
        config,
        process,
        strategy: Strategy::Host,
        cgroups: cgroups.as_ref(),
        network: &network,
        parallel_netns: false,
        keyring: config.new_keyring.then(|| "_ses".to_owned()),
        waits: false,
        stage: Stage::Whole,
    };
    Ok(compilation.compile()?.plan)
}

/// What speaks against the template.
enum TemplateObstacle {
    Rule(&'static str),
    Failure(&'static Error),
}

impl Compilation<'_> {
    /// Compiles the plan.
    pub(crate) fn compile(&self) -> Result<Compiled> {
        let config = self.config;
        let (new, joined) = namespaces(config);
        let new_mounts = config.has_new(NamespaceType::Mount);
        let by_path = new_mounts && !privilege::can_copy_mounts();
        let commands = config.mounts.iter().any(has_commands);
        let hooks = config.hooks.need_host_mounts();
        let place = self.place(if !new_mounts {
            Some("no new mount namespace")
        } else if by_path {
            Some("the caller may not copy mounts")
        } else if commands || hooks {
            Some("commands around mounts, or hooks, need the host's in sight")
        } else {
            None
        });
        let mut facts = Facts {
            new,
            parallel_netns: self.parallel_netns,
            in_user_namespace: config.namespace(NamespaceType::User).is_some()
                || privilege::in_user_namespace(),
            by_path,
            sees_host: place != Place::Template,
            at: self.root_mount_point(place)?,
            cgroups: self.cgroups.map(|cgroups| cgroups.paths().clone()).unwrap_or_default(),
            // Parked, it has waited for the host.
            barrier: !self.network.is_empty() && !matches!(self.stage, Stage::Rest),
            waits: self.waits,
            keyring: self.keyring.clone(),
            dropped: DroppedPrivileges::default(),
            is_directory: &is_directory,
            joined,
        };
        let resolve = || resolve(config, self.process, user_root(config)?.as_fd());
        let (plan, process) = match self.stage {
            Stage::Whole => {
                let own = resolve()?;
                facts.dropped = DroppedPrivileges::from_config(config, &own)?;
                (plan::container::compile(config, &own, &facts)?, Some(own))
            }
            Stage::Model(model) => (model.begin(config, &facts)?, None),
            Stage::Entrance => (parked::enter_only(config, &facts), None),
            Stage::Rest => {
                let own = resolve()?;
                let plan = parked::configure_later(config, &own, &facts)?.ok_or_else(|| {
                    let reason = "more than come with a program that is told later";
                    Error::config("extra_files", own.preserved, reason)
                })?;
                (plan, Some(own))
            }
        };
        let forks = !facts.joined.is_empty();
        let later = CLONE_NEWCGROUP | CLONE_NEWTIME;
        let later = if self.parallel_netns { later | CLONE_NEWNET } else { later };
        let namespaces = if forks { 0 } else { new & !later };
        let dropped = facts.dropped;
        Ok(Compiled { plan, place, namespaces, forks, process, dropped })
    }

    /// Where the clone happens, with what speaks against the template.
    fn place(&self, obstacle: Option<&'static str>) -> Place {
        let against = match (self.strategy, obstacle) {
            (Strategy::Host, _) => Some(TemplateObstacle::Rule("asked for")),
            (_, Some(obstacle)) => Some(TemplateObstacle::Rule(obstacle)),
            (Strategy::Auto, None) => template_error().map(TemplateObstacle::Failure),
            // Without one the clone fails with the reason.
            (Strategy::Template, None) => None,
        };
        trace::record_mounts(|| trace::Mounts {
            template: against.is_none(),
            reason: against.as_ref().map(|against| match against {
                TemplateObstacle::Rule(rule) => (*rule).into(),
                TemplateObstacle::Failure(error) => error.to_string().into(),
            }),
        });
        if against.is_none() {
            Place::Template
        } else if self.config.parent_death_signal != 0 {
            Place::Thread
        } else {
            Place::Caller
        }
    }

    /// An existing directory, as the init sees it, where the root is attached.
    fn root_mount_point(&self, place: Place) -> Result<PathBuf> {
        if place == Place::Template {
            return Ok(TEMPLATE_ROOT.into());
        }
        if !self.config.tmpfs_root {
            return Ok(self.config.rootfs.clone());
        }
        // Not /proc or /sys, which a user namespace must see, nor /dev, whose nodes are copied.
        ["/tmp", "/mnt", "/var", "/home"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.is_dir() && !self.binds_below(path))
            .ok_or_else(|| Error::path("open", "/tmp", Errno::NOENT))
    }

    /// Whether something below a directory is bound: it must stay in sight until then, where the
    /// init opens it by its path.
    fn binds_below(&self, directory: &Path) -> bool {
        let mut mounts = self.config.mounts.iter();
        mounts.any(|mount| mount.is_bind() && Path::new(&mount.source).starts_with(directory))
    }
}

/// Whether the new network namespace of a container is made beside the clone: there is a processor
/// for it, nothing of the host looks at it or sets it up during the start, and it belongs to this
/// process's user namespace.
pub(crate) fn can_make_netns_in_parallel(config: &Config, network: &net::Plan) -> bool {
    has_other_processor()
        && config.has_new(NamespaceType::Network)
        && config.namespaces.iter().all(|namespace| namespace.path.is_empty())
        && !config.has_new(NamespaceType::User)
        && network.is_empty()
        && !config.mounts.iter().any(has_commands)
        && !config.hooks.need_host_mounts()
        && privilege::can_copy_mounts()
}

/// Where users and groups are looked up: the root, or the host where the root is made of it.
pub(crate) fn user_root(config: &Config) -> Result<OwnedFd> {
    let path = if config.tmpfs_root { Path::new("/") } else { &config.rootfs };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|errno| Error::path("open", path, errno))
}

/// The flags of new namespaces, and the files of those that are joined, the user namespace
/// first: it gives the rights over the others.
fn namespaces(config: &Config) -> (u32, Vec<(u32, PathBuf)>) {
    let mut new = 0;
    let mut joined = Vec::new();
    for namespace in &config.namespaces {
        if namespace.path.is_empty() {
            new |= namespace.kind.clone_flag();
        } else {
            joined.push((namespace.kind.clone_flag(), PathBuf::from(&namespace.path)));
        }
    }
    joined.sort_by_key(|(flag, _)| *flag != NamespaceType::User.clone_flag());
    (new, joined)
}

/// Whether a file of the host is a directory.
fn is_directory(path: &Path) -> Result<bool> {
    std::fs::metadata(path)
        .map(|metadata| metadata.is_dir())
        .map_err(|error| Error::path("stat", path, error))
}
