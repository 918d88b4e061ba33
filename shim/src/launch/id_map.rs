//! Writes the id maps of a new user namespace: `user_namespaces(7)`.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use pidone_config::config::IdMap;
use pidone_config::{Error, Result};
use pidone_host::privilege;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// The id maps of a new user namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maps<'a> {
    /// The map of user ids.
    pub(crate) users: &'a [IdMap],
    /// The map of group ids.
    pub(crate) groups: &'a [IdMap],
}

impl Maps<'_> {
    /// Writes the maps of the user namespace that a process was just created in.
    ///
    /// Without `CAP_SETUID` and `CAP_SETGID` in the parent user namespace, a process can only map
    /// its own ids, and its group only after `setgroups(2)` is disabled. Larger maps are left to
    /// `newuidmap(1)` and `newgidmap(1)`. Root in a user namespace, as under podman, has the
    /// capabilities there, which is the parent namespace then.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if a map cannot be written.
    pub(crate) fn write(&self, pid: i32) -> Result<()> {
        if privilege::may_map_users() || is_only(self.users, geteuid().as_raw()) {
            write_map(pid, "uid_map", self.users)?;
        } else {
            run_helper("newuidmap", pid, self.users)?;
        }
        if privilege::may_map_groups() {
            write_map(pid, "gid_map", self.groups)
        } else if is_only(self.groups, getegid().as_raw()) {
            // Dropping a group could otherwise give access to files that exclude the group
            // (CVE-2014-8989).
            let path = format!("/proc/{pid}/setgroups");
            fs::write(&path, "deny").map_err(|error| Error::path("write", path, error))?;
            write_map(pid, "gid_map", self.groups)
        } else {
            run_helper("newgidmap", pid, self.groups)
        }
    }
}

/// Whether the only mapped id is this one.
fn is_only(maps: &[IdMap], id: u32) -> bool {
    matches!(maps, [IdMap { host_id, size: 1, .. }] if *host_id == id)
}

/// Writes a map in one write, as the kernel requires.
fn write_map(pid: i32, file: &str, maps: &[IdMap]) -> Result<()> {
    let mut lines = String::new();
    for IdMap { container_id, host_id, size } in maps {
        let _ = writeln!(lines, "{container_id} {host_id} {size}");
    }
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, &lines).map_err(|error| Error::path("write", &path, error))
}

/// Runs a program of the shadow package, which checks the map against the ranges of `/etc/subuid`
/// or `/etc/subgid` and writes it.
fn run_helper(program: &'static str, pid: i32, maps: &[IdMap]) -> Result<()> {
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
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let stderr: String = stderr.chars().take(200).collect();
    Err(Error::system(program, pid.to_string(), Errno::PERM).with_hint(stderr))
}
