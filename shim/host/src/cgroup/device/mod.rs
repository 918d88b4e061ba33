//! The devices that a container may create, read and write.
//!
//! On cgroup v1 the rules are written as text to the `devices` controller, on cgroup v2 they are
//! compiled to a BPF program.

mod bpf;
mod list;
mod policy;
mod program;
mod systemd;

use pidone_config::{Code, Error, Result};
use rustix::io::Errno;

use super::Cgroups;
use super::directory::Directory;
use crate::privilege::is_host_root;

pub(super) use policy::Policy;
pub(super) use systemd::properties;

/// Refuses rules that the container's version of cgroups cannot express.
pub(super) fn check(cgroups: &Cgroups, policy: &Policy) -> Result<()> {
    if cgroups.paths.contains_key("devices") {
        list::exceptions(policy)?;
    }
    Ok(())
}

/// Applies the rules to the cgroup.
///
/// `EPERM` is no error for an ordinary user, who may not restrict devices, but cannot create device
/// nodes either, and gets no more access to existing ones in the container than outside.
///
/// # Errors
/// The write or system call that failed; no mounted hierarchy can restrict devices.
pub(super) fn apply(cgroups: &Cgroups, policy: &Policy) -> Result<()> {
    let applied = if let Some(path) = cgroups.paths.get("devices") {
        list::apply(&Directory::existing(path)?, policy)
    } else if let Some(path) = cgroups.v2() {
        attach(&Directory::existing(path)?, policy)
    } else if policy.is_open() || !is_host_root() {
        Ok(())
    } else {
        let reason = "no cgroup hierarchy is mounted that restricts devices";
        Err(Error::reason(Code::SystemError, "restrict devices", "", reason))
    };
    match applied {
        Err(error) if error.errno() == Some(Errno::PERM) && !is_host_root() => Ok(()),
        other => other,
    }
}

/// Attaches the program for the rules, then detaches those of earlier calls. Between the two steps
/// both apply, so that at no time more is allowed than by either.
fn attach(directory: &Directory, policy: &Policy) -> Result<()> {
    let error = |call: &'static str| move |errno: Errno| Error::path(call, directory.path(), errno);
    let earlier = bpf::attached(directory).map_err(error("bpf prog_query"))?;
    if !policy.is_open() {
        let program = bpf::load(&program::compile(policy))
            .map_err(|errno| Error::system("bpf prog_load", "", errno))?;
        bpf::attach(directory, &program).map_err(error("bpf prog_attach"))?;
    }
    for program in earlier {
        bpf::detach(directory, &program).map_err(error("bpf prog_detach"))?;
    }
    Ok(())
}
