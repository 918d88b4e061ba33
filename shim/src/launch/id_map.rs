//! The ids of a new user namespace: `user_namespaces(7)`.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use pidone_config::config::IdMap;
use pidone_config::{Error, Result};
use pidone_host::privilege;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// The maps of a new user namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maps<'a> {
    /// The user ids.
    pub(crate) users: &'a [IdMap],
    /// The group ids.
    pub(crate) groups: &'a [IdMap],
}

impl Maps<'_> {
    /// Writes the maps of a process that stands at its beginning.
    ///
    /// Without the capability over the ids outside, only the caller's own id can be mapped, and a
    /// group only when the groups are fixed first; more is asked of `newuidmap(1)` and
    /// `newgidmap(1)`. Root in a user namespace, as below podman, has the capability over the ids
    /// of that namespace, which are those outside here.
    pub(crate) fn write(&self, pid: i32) -> Result<()> {
        if privilege::may_map_users() || is_only(self.users, geteuid().as_raw()) {
            write(pid, "uid_map", self.users)?;
        } else {
            helper("newuidmap", pid, self.users)?;
        }
        if privilege::may_map_groups() {
            write(pid, "gid_map", self.groups)
        } else if is_only(self.groups, getegid().as_raw()) {
            // Dropping a group could otherwise open what the group is kept out of
            // (CVE-2014-8989).
            let path = format!("/proc/{pid}/setgroups");
            fs::write(&path, "deny").map_err(|error| Error::path("write", path, error))?;
            write(pid, "gid_map", self.groups)
        } else {
            helper("newgidmap", pid, self.groups)
        }
    }
}

/// Whether an id is all that is mapped.
fn is_only(maps: &[IdMap], id: u32) -> bool {
    matches!(maps, [IdMap { host_id, size: 1, .. }] if *host_id == id)
}

/// Writes a map in one go, as the kernel wants it.
fn write(pid: i32, file: &str, maps: &[IdMap]) -> Result<()> {
    let mut lines = String::new();
    for IdMap { container_id, host_id, size } in maps {
        let _ = writeln!(lines, "{container_id} {host_id} {size}");
    }
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, &lines).map_err(|error| Error::path("write", &path, error))
}

/// Has one of the shadow package's programs write a map from the ranges of `/etc/subuid`.
fn helper(program: &'static str, pid: i32, maps: &[IdMap]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    for IdMap { container_id, host_id, size } in maps {
        command.args([container_id.to_string(), host_id.to_string(), size.to_string()]);
    }
    let output = command.output().map_err(|error| {
        Error::system("exec", program, error)
            .with_hint("ranges of ids need the programs newuidmap and newgidmap")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said: String = said.chars().take(200).collect();
    Err(Error::system(program, pid.to_string(), Errno::PERM).with_hint(said))
}
