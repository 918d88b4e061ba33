//! The OCI runtime specification for Linux: bundles, the state of a container, and the features of
//! this runtime.
//!
//! A bundle's `config.json` is read into the types of the specification, which are then lowered to
//! a [`Config`](crate::Config) and a [`Process`](crate::Process). The rest of pidone knows only
//! these.
//!
//! Reference: <https://github.com/opencontainers/runtime-spec/tree/v1.3.0>.
//!
//! # Differences from runc and from the specification
//!
//! As the specification requires, unknown properties are ignored, and a known property with a value
//! that is not supported is an error, with the path of the property and the value. The command
//! `pidone features` prints what is supported. These are refused:
//!
//! - `vm`, and the section of another platform (`windows`, `solaris`, `zos`, `freebsd`) in a
//!   document without `linux`.
//! - `linux.personality.flags`: the specification defines none.
//! - `linux.cgroupsPath` with `..`, and the root of a hierarchy.
//! - `linux.resources.memory.kernelTCP`, except 0 and -1.
//! - `linux.resources.memory.useHierarchy`, if false.
//! - `linux.resources.memory.kernel` where the kernel has no such limit, and on cgroup v2 all
//!   limits that only cgroup v1 has: swappiness, the OOM killer switch, real-time scheduling, leaf
//!   weights, and the class and priorities of packets.
//! - `linux.resources.unified` with files other than those of a controller, such as `cgroup.procs`;
//!   `cgroup.max.depth`, `cgroup.max.descendants` and `cgroup.pressure` are accepted.
//! - `linux.sysctl` with keys that do not belong to a namespace of the container.
//! - `linux.uidMappings` and `gidMappings` that differ from the maps of a user namespace that is
//!   joined by `/proc/PID/ns/user`.
//! - `SCMP_ACT_NOTIFY` as the default action of `linux.seccomp`, and for `sendmsg`, with which the
//!   init passes the listener on.
//! - `mounts` with two types of propagation on one mount, a `remount` that changes anything but
//!   attributes of the mount, and the type `none` without `bind` or `rbind`.
//! - `mounts`, devices, masked and read-only paths, a read-only root and a propagation of the root
//!   without a new mount namespace. runc makes the mounts in the host's then.
//! - `mounts` on `/proc` and below, except a proc, the host's own `/proc`, and the files that lxcfs
//!   covers.
//!
//! The verbs `checkpoint` and `restore` are refused, too.
//!
//! These are ignored, and [`Bundle::warnings`] reports them:
//!
//! - Unknown names in `process.capabilities`, as the specification requires.
//! - `linux.uidMappings` and `gidMappings` next to a user namespace that is joined and has its own.
//!
//! Where the specification leaves a choice:
//!
//! - `linux.cgroupsPath`: a relative path starts at the calling process's cgroup, as with runc.
//! - `linux.resources`: 0 means "not set" in shares, quotas, periods, weights, and limits of
//!   memory, as with runc. In `pids.limit` it is a limit, as in version 1.3 of the specification
//!   and in runc 1.4. Device rules are followed by those of the default devices and ptys.
//! - `linux.seccomp`: absent `flags` mean `SECCOMP_FILTER_FLAG_SPEC_ALLOW`, and two conditions on
//!   one argument become two rules, as with runc and crun. Architectures that cannot occur on the
//!   machine are accepted and left out.
//! - Standard input, output and error get the user of the process as their owner, as with runc, if
//!   they are pipes, sockets or files. Devices, terminals of the caller, and files of proc, sysfs
//!   and cgroups keep theirs.
//! - `linux.namespaces`: a mount namespace with a path is joined with its root, and `root.path` is
//!   not used. If the user namespace of the container does not own its network, ipc or pid
//!   namespace, `/sys` and `/dev/mqueue` come from the host or from the namespace that is joined,
//!   and `/proc` is the host's.
//! - `mounts`: in a user namespace, a new sysfs, or the `/sys` of the host, is read-only if that of
//!   the host is, also with `rw`. runc ignores the option for a bind, and fails for a new sysfs.
//! - `linux.devices`: in a new user namespace, root makes nodes with the configured owner, mode and
//!   path, as crun does; runc binds the host's, which have no owner there. The default devices are
//!   bound, and all devices if the caller is not root of the host.
//! - `hooks`: the container has the status `creating` while they run during `create`. It can be
//!   killed, deleted and updated then, but not paused, and no process can join it. A hook without
//!   `env` inherits the environment of the command, or in the container's namespaces that of the
//!   program, as with runc. A failed hook of `start` destroys the container, as with crun.
//! - A seccomp agent gets the listener during `create`, as with runc; with an init that remains
//!   process 1, during `start`. `startContainer` hooks run without a filter that has a listener.
//! - `mounts[].destination`, `linux.maskedPaths` and `readonlyPaths` may be relative, to the
//!   container's root.
//! - `null` means the same as an absent property.
//! - With `--no-pivot`, the host's procs and sysfs are covered before the mounts are made, so
//!   `createContainer` hooks do not see them. If one cannot be covered, because another mount hides
//!   it, the container does not start.
//! - `ociVersion` is required, and a version that is not supported is an error. runc takes any.
//! - `process.args`: without `PATH` in the environment there is a default search path, and an empty
//!   entry of it is the working directory, as with execvp(3). runc finds no program there.
//! - `annotations`: `org.pidone.init` with the value `true` selects an init that stays process 1.
//!   Of crun's, these are honoured: `run.oci.keep_original_groups`, with which processes keep the
//!   supplementary groups of the caller, and `additionalGids` are ignored;
//!   `run.oci.seccomp_fail_unknown_syscall`; `run.oci.seccomp.receiver`, for a profile without
//!   `listenerPath`. These are refused, because they would change access:
//!   `run.oci.delegate-cgroup`, `run.oci.handler`, `run.oci.pidfd_autokill`,
//!   `run.oci.pidfd_receiver`, `run.oci.seccomp.plugins`, `run.oci.seccomp_bpf_data`,
//!   `run.oci.systemd.force_cgroup_v1`, `run.oci.timens_offset`, and `run.oci.mount_context_type`
//!   other than `context` with a mount label. All others are ignored: `run.oci.hooks.stdout`,
//!   `run.oci.hooks.stderr`, `run.oci.systemd.subgroup`. `org.systemd.property.NAME` is a property
//!   of the scope, if systemd makes the cgroup, as text in GLib's format of `GVariant`.
//! - `linux.cgroupsPath` of the form `slice:prefix:name` names a scope, which systemd makes, also
//!   without `--systemd-cgroup`: containerd sends such a path to every runtime. runc then makes a
//!   directory with this name, and so does `--cgroup-manager cgroupfs`.
//!
//! `cargo test --test beside` runs two hundred situations with the distribution's runc beside this
//! runtime. `shim/cli/tests/beside/deliberate.rs` lists every difference and its reason.
//!
//! # A new property touches
//!
//! | place | what is added |
//! |---|---|
//! | `oci/{spec,process,mount}.rs`, `oci/linux/`, `oci/resources/mod.rs` | the property, in the specification's own type, with its name in JSON |
//! | `config/mod.rs` (`process.rs` for a process, `config/cgroup/mod.rs` for a limit, `config/mount/mod.rs` for a mount) | the field it is lowered to: "Addition", left out of JSON by default, because states are stored as `container.json` |
//! | `Linux::apply`, `Process::process`, `Mount::mount`, `Resources::apply` or `Bundle::config` | the lowering, which refuses unsupported values |
//! | `NAMES` in `oci/linux/mod.rs` | the name of the field in `config.json`, for errors of validation |
//! | `config/validate.rs`, or `check` of the field's type | the validation |
//! | `oci/features.rs` | the feature, if `features-linux.md` lists it |
//! | `oci/tests/mod.rs` | the value in `properties_of_linux_are_lowered_to_fields`, or in `properties_are_lowered_to_fields` of the file with the lowering |
//! | `oci/tests/refusal.rs` | values that are refused, with the exact error |
//! | this page | what is refused or differs from runc |
//!
//! The paths above are in `shim/config/src/`. The rest depends on the property:
//!
//! - The plan, which has the init do it: `shim/plan/src/container.rs`, `mount.rs` and `process.rs`.
//!   The places that a new operation touches are listed in `proto/src/op.rs`. What is done under
//!   the seccomp filter of the container belongs into `shim/plan/src/allowed.rs`.
//! - Further processes, which join by `shim/plan/src/join.rs` or are spawned by an init that
//!   remains process 1. A field of [`Process`](crate::Process) also belongs into the key of
//!   `shim/src/container/exec/cache.rs`; the compiler reports it if it is missing there.
//! - A limit of the cgroup: `shim/host/src/cgroup/{v1,v2}.rs`, and `shim/cli/src/pidone/update.rs`
//!   if runc's `update` has an option for it.
//! - If an ordinary user cannot have it: `shim/plan/src/fit.rs`.
//! - Its behaviour: a test in `tests/tests/`.

mod annotation;
mod bundle;
pub mod default;
pub mod features;
pub mod linux;
mod mount;
mod process;
pub mod resources;
pub mod schedule;
mod spec;
mod state;

pub use annotation::scope_properties;
pub use bundle::Bundle;
pub use features::{Features, features};
pub use linux::Linux;
pub use mount::Mount;
pub use process::{Capabilities, ConsoleSize, Process, Rlimit, User};
pub use resources::Resources;
pub use spec::{Root, Spec, VERSION};
pub use state::{State, Status};

use crate::error::{Error, Result};
use crate::text::quoted;

/// Returns the value of a word in a table of the specification.
fn find<T: Copy>(table: &[(&str, T)], word: &str, place: &str, reason: &'static str) -> Result<T> {
    let known = table.iter().find(|(known, _)| *known == word);
    known.map(|(_, value)| *value).ok_or_else(|| Error::config(place, quoted(word), reason))
}

/// Returns the words of a table.
fn words<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(word, _)| *word).collect()
}

#[cfg(test)]
mod tests;
