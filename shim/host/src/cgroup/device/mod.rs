//! Which devices the container may make, read and write.
//!
//! On cgroup v1 the controller `devices` takes the rules as text, on cgroup v2 they become a
//! program.

mod bpf;
mod list;
mod policy;
mod program;

use pidone_config::{Code, Error, Result};
use rustix::io::Errno;

use super::Cgroups;
use super::directory::Directory;
use crate::privilege::is_host_root;

pub(super) use policy::Policy;

/// Refuses rules that the container's kind of cgroup cannot express.
pub(super) fn check(cgroups: &Cgroups, policy: &Policy) -> Result<()> {
    if cgroups.paths.contains_key("devices") {
        list::exceptions(policy)?;
    }
    Ok(())
}

/// Puts the rules in force.
///
/// # Errors
/// The write or system call that failed; no hierarchy that could restrict devices. The kernel
/// does not let an ordinary user restrict devices (`EPERM`): that is no error, because such a user
/// cannot make device nodes either and opens them with no more rights than before.
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

/// Attaches the program for the rules, then detaches those of earlier calls. In between both
/// hold, so that at no time more is allowed than either allows.
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
