//! Resolves the names of a process to numbers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::OnceLock;

use pidone_config::config::process::{bits, numbers};
use pidone_config::config::{
    CapabilitySets, CpuAffinity, IdMap, NamespaceType, Rlimit, Scheduler, capability,
};
use pidone_config::{Config, Error, Process, Result};
use pidone_host::user::{self, User};
use pidone_host::{lsm, privilege};

use crate::{self as plan, Capabilities, Terminal};

/// The compiled seccomp filter of a container's processes and its flags. It is filled when it is
/// first needed: compiling it is the longest part of resolving a process, and all processes of a
/// container share it.
pub type Filter = OnceLock<Option<(u32, Vec<u8>)>>;

/// Returns the filter of a container from the cache, or compiles it and fills the cache.
///
/// # Errors
/// As [`compile_filter`].
pub fn cached_filter(cache: &Filter, config: &Config) -> Result<Option<(u32, Vec<u8>)>> {
    match cache.get() {
        Some(filter) => Ok(filter.clone()),
        None => {
            let filter = compile_filter(config)?;
            Ok(cache.get_or_init(|| filter).clone())
        }
    }
}

/// A process of which everything is resolved but the user.
#[derive(Debug, Clone)]
pub struct Nameless(plan::Process);

impl Nameless {
    /// Resolves a process up to its user. What it leaves open comes from the configuration of the
    /// container, whose seccomp filter is already compiled.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] with field and value for what is unknown or invalid.
    pub fn new(config: &Config, process: &Process, filter: Option<(u32, Vec<u8>)>) -> Result<Self> {
        let rlimits = process.rlimits.as_ref().unwrap_or(&config.rlimits);
        let profile = process.apparmor_profile.as_ref().unwrap_or(&config.apparmor_profile);
        let process_label = process.label.as_ref().unwrap_or(&config.process_label);
        lsm::check_processes(profile, process_label)?;
        Ok(Self(plan::Process {
            args: process.args.clone(),
            env: process.env.clone(),
            cwd: if process.cwd.is_empty() { "/".into() } else { process.cwd.clone() },
            make_cwd: process.make_cwd,
            // No process can have these.
            uid: u32::MAX,
            gid: u32::MAX,
            groups: None,
            capabilities: capabilities(config, process)?,
            search: 0,
            rlimits: rlimits.iter().map(|limit| (limit.kind, limit.soft, limit.hard)).collect(),
            terminal: process.terminal.map(|size| Terminal {
                rows: size.rows,
                columns: size.columns,
                console: config.has_new(NamespaceType::Mount),
                keep_newlines: process.keep_newlines,
            }),
            preserved: u32::try_from(process.extra_numbers()).unwrap_or(u32::MAX),
            // As in libcontainer: the filter is then loaded right before exec, and does not have
            // to allow the system calls of the init.
            no_new_privileges: process.no_new_privileges || config.seccomp.is_some(),
            seccomp: filter,
            umask: process.ids.as_ref().and_then(|ids| ids.umask).unwrap_or(0o022),
            parent_death_signal: config.parent_death_signal.unsigned_abs(),
            scheduler: process.scheduler.as_ref().map(attributes),
            io_priority: process.io_priority,
            affinity: affinity(process.affinity.as_ref())?,
            labels: lsm::exec_labels(profile, process_label),
        }))
    }

    /// Returns the process as far as it is resolved. Its ids are invalid, and it has no `HOME` of
    /// its user.
    pub fn process(&self) -> &plan::Process {
        &self.0
    }

    /// Completes the process with its user.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] for ids that the user namespace does not have, for
    /// groups that cannot be set, and for an environment that is too large with `HOME`.
    pub fn with_user(
        self,
        config: &Config,
        process: &Process,
        user: User,
    ) -> Result<plan::Process> {
        let User { uid, gid, groups, home, .. } = user;
        check_mapped(config, process, (uid, gid))?;
        let Self(mut resolved) = self;
        set_home(&mut resolved.env, &home);
        let rlimits = process.rlimits.as_ref().unwrap_or(&config.rlimits);
        check_size(&process.args, &resolved.env, rlimits)?;
        let search = match uid {
            // Root needs nothing to be raised.
            0 => 0,
            _ => privilege::search_capability(config.namespace(NamespaceType::User).is_some()),
        };
        let groups = settable(config, process, groups)?;
        Ok(plan::Process { uid, gid, groups, search, ..resolved })
    }
}

/// Returns the user of a process, if that does not depend on the user files of the container: the
/// process has numbers, and `HOME` in its environment.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a number that is no id.
pub fn given_user(process: &Process) -> Result<Option<User>> {
    match &process.ids {
        Some(ids) if home(&process.env).is_some_and(|home| !home.is_empty()) => {
            Ok(Some(User { groups: ids.groups.clone(), ..User::of_ids(ids.uid, ids.gid)? }))
        }
        _ => Ok(None),
    }
}

/// Finds the user of a process, with all its groups. They are looked up in `files`, or the files
/// below a root, if it does not have them itself.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for an unknown or invalid user or group;
/// [`pidone_config::Code::SystemError`] if a file cannot be read.
pub fn find_user<'a>(
    config: &Config,
    process: &Process,
    files: impl Into<user::Files<'a>>,
) -> Result<User> {
    if let Some(user) = given_user(process)? {
        return Ok(user);
    }
    let files = files.into();
    if let Some(ids) = &process.ids {
        let user = user::resolve(&format!("{}:{}", ids.uid, ids.gid), files)?;
        return Ok(User { groups: ids.groups.clone(), ..user });
    }
    let mut user = user::resolve(&process.user, files)?;
    user.groups.extend(user::groups(&config.additional_groups, files)?);
    Ok(user)
}

/// Resolves the names of a process to numbers, with the seccomp filter of the container, which is
/// already compiled. Users and groups are looked up in `files`, or the files below a root.
///
/// # Errors
/// Those of [`Nameless::new`], [`find_user`] and [`Nameless::with_user`].
pub fn resolve_with_filter<'a>(
    config: &Config,
    process: &Process,
    files: impl Into<user::Files<'a>>,
    filter: Option<(u32, Vec<u8>)>,
) -> Result<plan::Process> {
    let user = find_user(config, process, files)?;
    Nameless::new(config, process, filter)?.with_user(config, process, user)
}

/// Refuses ids that the user namespace of the container does not have: no process can change to
/// them.
fn check_mapped(config: &Config, process: &Process, (uid, gid): (u32, u32)) -> Result<()> {
    if !config.has_new(NamespaceType::User) {
        return Ok(());
    }
    let fields = match process.ids {
        Some(_) => ["process.user.uid", "process.user.gid"],
        None => ["user", "group"],
    };
    let maps = [&config.uid_mappings, &config.gid_mappings];
    for ((field, id), maps) in fields.into_iter().zip([uid, gid]).zip(maps) {
        if maps.is_empty() || IdMap::host_of(maps, id).is_some() {
            continue;
        }
        let range = |map: &IdMap| match map.size {
            1 => map.container_id.to_string(),
            size => format!("{size} ids from {}", map.container_id),
        };
        let ranges = maps.iter().map(range).collect::<Vec<_>>().join(", ");
        let reason = format!("not in the id map of the user namespace, which has {ranges}");
        return Err(Error::config(field, id, reason));
    }
    Ok(())
}

/// Returns the value of `HOME` in an environment. As in runc, the last one counts.
fn home(env: &[OsString]) -> Option<&[u8]> {
    env.iter().rev().find_map(|variable| variable.as_bytes().strip_prefix(b"HOME="))
}

/// Sets `HOME` unless the environment has it. As in runc, an empty one is unset.
fn set_home(env: &mut Vec<OsString>, value: &str) {
    if home(env).is_none_or(<[u8]>::is_empty) {
        env.retain(|variable| !variable.as_bytes().starts_with(b"HOME="));
        env.push(format!("HOME={value}").into());
    }
}

/// Refuses arguments and environment that `execve(2)` would refuse, "Limits on size of arguments
/// and environment": together, with a pointer for each string, they may take a quarter of the stack
/// limit, at least 128 KiB and at most 6 MiB.
fn check_size(args: &[OsString], env: &[OsString], limits: &[Rlimit]) -> Result<()> {
    let limit = limits.iter().find(|limit| limit.kind == Rlimit::STACK);
    let inherited = || rustix::process::getrlimit(rustix::process::Resource::Stack).current;
    let stack = limit.map_or_else(|| inherited().unwrap_or(u64::MAX), |limit| limit.soft);
    let most = (stack / 4).clamp(128 * 1024, 6 * 1024 * 1024);
    let sizes = args.iter().chain(env).map(|text| text.len() + 1 + size_of::<usize>());
    let size: usize = sizes.sum();
    if u64::try_from(size).is_ok_and(|size| size <= most) {
        return Ok(());
    }
    let reason = format!("with the environment more than the {most} bytes that execve takes");
    Err(Error::config("args", format_args!("{size} bytes"), reason))
}

/// Returns the groups to set; `None` to keep those of the caller, and where an ordinary user cannot
/// set any and none are configured.
///
/// An ordinary user who maps only its own group must disable `setgroups(2)` first:
/// `user_namespaces(7)`, "The /proc/pid/setgroups file".
fn settable(config: &Config, process: &Process, groups: Vec<u32>) -> Result<Option<Vec<u32>>> {
    if config.keep_groups {
        return Ok(None);
    }
    let fixed = match config.namespace(NamespaceType::User) {
        Some(namespace) => {
            let joined = !namespace.path.is_empty();
            let single = matches!(config.gid_mappings.as_slice(), [map] if map.size == 1);
            !privilege::may_set_groups() && (joined || single)
        }
        None => !privilege::keeps_groups_settable(),
    };
    if !fixed {
        return Ok(Some(groups));
    }
    let asked = match &process.ids {
        Some(ids) => ids.groups.iter().map(u32::to_string).collect(),
        None => config.additional_groups.clone(),
    };
    if asked.is_empty() {
        return Ok(None);
    }
    let reason = "an ordinary user cannot set groups in a user namespace";
    Err(Error::config("additional_groups", asked.join(", "), reason))
}

/// Returns the capability sets as masks.
fn capabilities(config: &Config, process: &Process) -> Result<Capabilities> {
    if let Some(sets) = &process.capability_sets {
        let CapabilitySets { bounding, effective, permitted, inheritable, ambient } = sets;
        let [bounding, effective, permitted, inheritable, ambient] =
            [bounding, effective, permitted, inheritable, ambient].map(|set| capability::mask(set));
        let (permitted, inheritable) = (permitted?, inheritable?);
        return Ok(Capabilities {
            bounding: bounding?,
            effective: effective?,
            permitted,
            inheritable,
            // The kernel raises no others, and clients configure them nevertheless.
            ambient: ambient? & permitted & inheritable,
        });
    }
    let mask = capability::mask(process.capabilities.as_ref().unwrap_or(&config.capabilities))?;
    Ok(Capabilities {
        bounding: mask,
        effective: mask,
        permitted: mask,
        // With inheritable ones, files of the image could regain capabilities (CVE-2022-24769).
        inheritable: 0,
        ambient: 0,
    })
}

/// Compiles the seccomp filter of the container's processes. Returns its flags and its program;
/// `None` if the configuration has none.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for an invalid profile.
pub fn compile_filter(config: &Config) -> Result<Option<(u32, Vec<u8>)>> {
    let filter = match (&config.seccomp_profile, &config.seccomp) {
        (Some(profile), _) => {
            let filter = crate::filter::compile_oci(profile)?;
            let unknown = filter.as_ref().and_then(|filter| filter.unknown().first());
            if let Some(name) = unknown.filter(|_| config.refuse_unknown_syscalls) {
                return Err(Error::config("linux.seccomp.syscalls", name, "is no system call"));
            }
            filter
        }
        (None, Some(list)) => Some(crate::filter::compile_libcontainer(list)?),
        (None, None) => None,
    };
    Ok(filter.map(|filter| (filter.flags(), filter.bytes())))
}

/// Returns the kernel's `struct sched_attr`, in its first version.
fn attributes(scheduler: &Scheduler) -> Vec<u8> {
    const SIZE: u32 = 48;
    let Scheduler { policy, flags, nice, priority, runtime, deadline, period } = *scheduler;
    let mut bytes = Vec::new();
    bytes.extend(SIZE.to_ne_bytes());
    bytes.extend(policy.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(nice.to_ne_bytes());
    bytes.extend(priority.to_ne_bytes());
    for time in [runtime, deadline, period] {
        bytes.extend(time.to_ne_bytes());
    }
    bytes
}

/// Returns the processors before and after the process is in its cgroup, as masks.
fn affinity(affinity: Option<&CpuAffinity>) -> Result<[Option<Vec<u8>>; 2]> {
    let Some(CpuAffinity { initial, last }) = affinity else { return Ok([None, None]) };
    let mask = |field, list: &str| -> Result<Option<Vec<u8>>> {
        let words = bits(&numbers(field, list)?);
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok((!words.is_empty()).then_some(bytes))
    };
    Ok([mask("execCPUAffinity.initial", initial)?, mask("execCPUAffinity.final", last)?])
}
