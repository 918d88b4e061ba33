//! Compiling the plan of a first process from its configuration and facts about the host.

use std::path::{Path, PathBuf};

use pidone_config::config::NamespaceType;
use pidone_config::{Config, Error, Process, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::{mounts, namespace, net, privilege};
use pidone_plan::container::{
    CLONE_NEWCGROUP, CLONE_NEWNET, CLONE_NEWTIME, has_commands, names_host_paths, needs_host_view,
};
use pidone_plan::dropped::DroppedPrivileges;
use pidone_plan::facts::{End, Facts};
use pidone_plan::parked::{self, Model};
use pidone_plan::resolve::{Nameless, compile_filter};
use pidone_plan::{self as plan, Plan};
use rustix::io::Errno;

use crate::container::start::users;
use crate::launch::options::Strategy;
use crate::launch::{Place, TEMPLATE_BARE, TEMPLATE_ROOT, has_other_processor, template_error};
use crate::trace;

/// The input of a compilation.
pub(crate) struct Compilation<'a> {
    pub(crate) config: &'a Config,
    pub(crate) process: &'a Process,
    pub(crate) strategy: Strategy,
    pub(crate) cgroups: Option<&'a Cgroups>,
    pub(crate) network: &'a net::Plan,
    /// Whether the process enters its cgroup while it is set up.
    pub(crate) awaits_cgroup: bool,
    /// Whether another thread makes the network namespace: [`can_make_netns_in_parallel`].
    pub(crate) parallel_netns: bool,
    /// The name of a new session keyring.
    pub(crate) keyring: Option<String>,
    /// Whether the program waits until the container is started.
    pub(crate) waits: bool,
    /// Which part of the plan to compile.
    pub(crate) stage: Stage<'a>,
}

/// The parts into which a plan can be divided.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage<'a> {
    /// The whole plan.
    Whole,
    /// What can run before the program is known, for processes like the model.
    Model(&'a Model),
    /// What can run before the root is known.
    Entrance,
    /// What follows after [`Stage::Entrance`].
    Rest,
}

/// A resolved process, as far as its user is known.
pub(crate) enum Program {
    /// The process is complete. Unless the init supervises, it is part of the plan.
    Complete(plan::Process),
    /// The user is found when the container is set up. The plan ends there, with a wait for the
    /// rest.
    Nameless(Nameless),
}

/// A plan and the clone that it needs.
pub(crate) struct Compiled {
    pub(crate) plan: Plan,
    /// Which thread clones, and from which mounts.
    pub(crate) place: Place,
    /// `CLONE_NEW*` flags of the clone.
    pub(crate) namespaces: u32,
    /// Whether the init forks the process.
    pub(crate) forks: bool,
    /// The process; `None` if it is not known yet.
    pub(crate) program: Option<Program>,
    /// The privileges that a supervising init drops before it serves requests.
    pub(crate) dropped: DroppedPrivileges,
}

/// Compiles the plan of a container's first process, without making, changing or starting anything.
///
/// This is the plan of [`Container::start`](crate::Container::start) with [`Strategy::Host`], with
/// one exception: on a machine with a second processor, `start` may have another thread make the
/// network namespace, which the init then enters. [`Display`](std::fmt::Display) prints the plan,
/// one operation on a line.
///
/// The plan depends on the host and on the caller. Where the caller may not copy mounts, the init
/// opens bind sources by their paths. The function reads the types of bind sources, the users and
/// groups in the root, and the paths of cgroups. Where a mount covers `/etc/passwd` or
/// `/etc/group`, the plan waits for the host, which then reads them in the container. What follows
/// the wait is compiled here from the files in the root.
///
/// # Errors
/// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) with the field and its value;
/// [`Code::SystemError`](pidone_config::Code::SystemError) if a file of the host cannot be read.
pub fn first_plan(config: &Config, process: &Process) -> Result<Plan> {
    config.validate()?;
    let cgroups = config.cgroups.as_ref().map(Cgroups::locate).transpose()?;
    // The plan does not depend on the owner of interfaces on the host.
    let network = net::Plan::new(&config.networks, &config.net_devices, &config.routes, "plan")?;
    let compilation = Compilation {
        config,
        process,
        strategy: Strategy::Host,
        cgroups: cgroups.as_ref(),
        network: &network,
        awaits_cgroup: cgroups.as_ref().is_some_and(|cgroups| cgroups.scope().is_some()),
        parallel_netns: false,
        keyring: config.new_keyring.then(|| "_ses".to_owned()),
        waits: false,
        stage: Stage::Whole,
    };
    let Compiled { mut plan, program, dropped, .. } = compilation.compile()?;
    if let Some(Program::Nameless(nameless)) = program {
        let process = users::complete_before_mounts(&nameless, config, process)?;
        plan::late_user::compile_rest(&mut plan, config, &process, End { waits: false, dropped })?;
    }
    Ok(plan)
}

/// Why the template mount namespace is not used.
enum TemplateObstacle {
    /// The options or the configuration rule it out.
    Rule(&'static str),
    /// It could not be made.
    Failure(&'static Error),
}

impl Program {
    /// Returns the process, as far as it is resolved.
    fn process(&self) -> &plan::Process {
        match self {
            Self::Complete(process) => process,
            Self::Nameless(nameless) => nameless.process(),
        }
    }
}

impl Compilation<'_> {
    /// Compiles the plan.
    pub(crate) fn compile(&self) -> Result<Compiled> {
        let config = self.config;
        let (new, joined) = namespaces(config);
        let new_mounts = config.has_new(NamespaceType::Mount);
        let by_path = new_mounts && !privilege::can_copy_mounts();
        let hooks = config.hooks.need_host_mounts();
        let place = self.place(if !new_mounts {
            Some("no new mount namespace")
        } else if by_path {
            Some("the caller may not copy mounts")
        } else if needs_host_view(config) || hooks {
            Some("commands around mounts, hooks, or paths of the host need its mounts in sight")
        } else {
            None
        });
        let in_user_namespace =
            config.namespace(NamespaceType::User).is_some() || privilege::in_user_namespace();
        let mut facts = Facts {
            new,
            foreign: if in_user_namespace { foreign(config, &joined)? } else { 0 },
            parallel_netns: self.parallel_netns,
            in_user_namespace,
            makes_nodes: config.has_new(NamespaceType::User) && privilege::may_make_nodes(),
            by_path,
            sees_host: place != Place::Template,
            at: self.root_mount_point(place)?,
            cgroups: self.cgroups.map(|cgroups| cgroups.paths().clone()).unwrap_or_default(),
            awaits_cgroup: self.awaits_cgroup,
            // A parked init has waited for the host in the first part.
            barrier: !self.network.is_empty() && !matches!(self.stage, Stage::Rest),
            waits: self.waits,
            keyring: self.keyring.clone(),
            dropped: DroppedPrivileges::default(),
            bare: match place {
                _ if !config.no_pivot_root || !new_mounts => Vec::new(),
                Place::Template => TEMPLATE_BARE.map(PathBuf::from).into(),
                _ => mounts::bare()?,
            },
            is_directory: &is_directory,
            attributes: &mounts::attributes,
            joined,
        };
        let (plan, program) = match self.stage {
            Stage::Whole => {
                let program = self.resolve()?;
                facts.dropped = DroppedPrivileges::from_config(config, program.process())?;
                let plan = match &program {
                    Program::Complete(process) => {
                        plan::container::compile(config, process, &facts)?
                    }
                    Program::Nameless(nameless) => {
                        plan::late_user::compile(config, nameless.process(), &facts)?
                    }
                };
                (plan, Some(program))
            }
            Stage::Model(model) => {
                facts.dropped = model.dropped();
                (model.begin(config, &facts)?, None)
            }
            Stage::Entrance => (parked::enter_only(config, &facts), None),
            Stage::Rest => {
                let program = self.resolve()?;
                let plan = match &program {
                    Program::Complete(process) => parked::configure_later(config, process, &facts)?,
                    Program::Nameless(nameless) => {
                        parked::configure_before_user(config, nameless.process(), &facts)?
                    }
                };
                (plan, Some(program))
            }
        };
        let forks = !facts.joined.is_empty();
        let later = CLONE_NEWCGROUP | CLONE_NEWTIME;
        let later = if self.parallel_netns { later | CLONE_NEWNET } else { later };
        let namespaces = if forks { 0 } else { new & !later };
        let dropped = facts.dropped;
        Ok(Compiled { plan, place, namespaces, forks, program, dropped })
    }

    /// Resolves the process, with its user if that is known before the container is set up.
    fn resolve(&self) -> Result<Program> {
        let Self { config, process, .. } = *self;
        let user = users::find_before(config, process)?;
        let nameless = Nameless::new(config, process, compile_filter(config)?)?;
        Ok(match user {
            Some(user) => Program::Complete(nameless.with_user(config, process, user)?),
            None => Program::Nameless(nameless),
        })
    }

    /// Returns where the clone happens. `obstacle` is what rules out the template, if anything.
    fn place(&self, obstacle: Option<&'static str>) -> Place {
        let obstacle = match (self.strategy, obstacle) {
            (Strategy::Host, _) => Some(TemplateObstacle::Rule("asked for")),
            (_, Some(obstacle)) => Some(TemplateObstacle::Rule(obstacle)),
            (Strategy::Auto, None) => template_error().map(TemplateObstacle::Failure),
            // If it cannot be made, the clone fails with the reason.
            (Strategy::Template, None) => None,
        };
        trace::record_mounts(|| trace::Mounts {
            template: obstacle.is_none(),
            reason: obstacle.as_ref().map(|obstacle| match obstacle {
                TemplateObstacle::Rule(rule) => (*rule).into(),
                TemplateObstacle::Failure(error) => error.to_string().into(),
            }),
        });
        if obstacle.is_none() {
            Place::Template
        } else if self.config.parent_death_signal != 0 {
            Place::Thread
        } else {
            Place::Caller
        }
    }

    /// Returns an existing directory, in the init's view, on which the root is mounted.
    fn root_mount_point(&self, place: Place) -> Result<PathBuf> {
        if place == Place::Template {
            return Ok(TEMPLATE_ROOT.into());
        }
        if !self.config.tmpfs_root {
            return Ok(self.config.rootfs.clone());
        }
        // Not /proc or /sys, which must stay visible for mounts in a user namespace, and not /dev,
        // whose device nodes are bound.
        ["/tmp", "/mnt", "/var", "/home"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.is_dir() && !self.binds_below(path))
            .ok_or_else(|| Error::path("open", "/tmp", Errno::NOENT))
    }

    /// Whether the source of a bind mount is below a directory. The root must not hide it, since
    /// the init may open it by its path.
    fn binds_below(&self, directory: &Path) -> bool {
        let mut mounts = self.config.mounts.iter();
        mounts.any(|mount| {
            names_host_paths(mount)
                || mount.is_bind() && Path::new(&mount.source).starts_with(directory)
        })
    }
}

/// Whether another thread can make a container's network namespace while the rest is set up.
///
/// That needs a second processor, a namespace that belongs to the caller's user namespace, and
/// nothing on the host that uses the namespace during the start.
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

/// Returns the flags of the new namespaces, and the flags and files of the joined ones, in the
/// order in which they are joined.
///
/// For a caller with privileges the user namespace comes last, as in runc: in it there is no
/// privilege over namespaces that do not belong to it, such as those of another container of a pod.
/// For any other caller it comes first, since joining it gives the privileges to join the others.
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
    let last = joined.len() > 1 && privilege::may_administer();
    joined.sort_by_key(|(flag, _)| (*flag == NamespaceType::User.clone_flag()) == last);
    (new, joined)
}

/// Returns the flags of the joined namespaces that do not belong to the user namespace of the
/// container: a joined one, a new one, or the caller's.
fn foreign(config: &Config, joined: &[(u32, PathBuf)]) -> Result<u32> {
    const DEPENDENT: [NamespaceType; 3] =
        [NamespaceType::Network, NamespaceType::Ipc, NamespaceType::Pid];
    let users = joined.iter().find(|(flag, _)| *flag == NamespaceType::User.clone_flag());
    let users = users.map_or(Path::new("/proc/self/ns/user"), |(_, path)| path);
    let mut foreign = 0;
    for (flag, path) in joined {
        let dependent = DEPENDENT.iter().any(|kind| kind.clone_flag() == *flag);
        let is_new = config.has_new(NamespaceType::User);
        if dependent && (is_new || !namespace::is_owned_by(path, users)?) {
            foreign |= flag;
        }
    }
    Ok(foreign)
}

/// Whether a path on the host leads to a directory.
fn is_directory(path: &Path) -> Result<bool> {
    std::fs::metadata(path)
        .map(|metadata| metadata.is_dir())
        .map_err(|error| Error::path("stat", path, error))
}
