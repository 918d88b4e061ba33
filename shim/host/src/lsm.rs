//! AppArmor profiles and SELinux labels of processes and mounts.

use std::path::Path;

use pidone_config::{Config, Error, Result};
use rustix::fs::{XattrFlags, lsetxattr};

/// Returns the files below `/proc/thread-self/attr` and the text that a process writes to each
/// before exec, to run under an AppArmor profile and an SELinux label. An empty name sets none.
pub fn exec_labels(profile: &str, label: &str) -> Vec<(&'static str, String)> {
    let mut labels = Vec::new();
    if !profile.is_empty() {
        labels.push(("apparmor/exec", format!("exec {profile}")));
    }
    if !label.is_empty() {
        labels.push(("exec", label.to_owned()));
    }
    labels
}

/// Checks that the host has the security modules of a process, which must not run unconfined
/// instead.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] with the field if a module is not enabled.
pub fn check_processes(profile: &str, label: &str) -> Result<()> {
    if !profile.is_empty() && !has_apparmor() {
        let reason = "AppArmor is not enabled on this host";
        return Err(Error::config("apparmor_profile", profile, reason));
    }
    check_selinux("process_label", label)
}

fn check_selinux(field: &str, label: &str) -> Result<()> {
    if !label.is_empty() && !has_selinux() {
        return Err(Error::config(field, label, "SELinux is not enabled on this host"));
    }
    Ok(())
}

/// Checks that the host has the security modules of a configuration, for processes and mounts.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] with the field if a module is not enabled.
pub fn check_host(config: &Config) -> Result<()> {
    check_processes(&config.apparmor_profile, &config.process_label)?;
    check_selinux("mount_label", &config.mount_label)?;
    let relabels = config.mounts.iter().any(|mount| !mount.relabel.is_empty());
    check_selinux("mounts.relabel", if relabels { "z" } else { "" })
}

/// Whether AppArmor is enabled.
fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|enabled| enabled.starts_with('Y'))
}

/// Whether SELinux is enabled, which means that its file system is mounted.
fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Sets `mount_label` on the sources of mounts with `relabel`, and on everything below them.
///
/// `Z` sets the label as it is, `z` without its categories, so that several containers can use
/// the files.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the first file that cannot be labelled.
pub fn relabel(config: &Config) -> Result<()> {
    for mount in config.mounts.iter().filter(|mount| !mount.relabel.is_empty()) {
        let shared = mount.relabel.contains('z');
        let label =
            if shared { without_categories(&config.mount_label) } else { &config.mount_label };
        relabel_below(Path::new(&mount.source), label)?;
    }
    Ok(())
}

/// Returns the `user:role:type:level` of a `user:role:type:level:categories`.
fn without_categories(label: &str) -> &str {
    label.match_indices(':').nth(3).map_or(label, |(at, _)| label.get(..at).unwrap_or(label))
}

/// Labels a file, and everything below it if it is a directory. Symbolic links are labelled, not
/// followed.
fn relabel_below(path: &Path, label: &str) -> Result<()> {
    // The kernel's tools write the terminating NUL too.
    let value = [label.as_bytes(), &[0]].concat();
    lsetxattr(path, "security.selinux", &value, XattrFlags::empty())
        .map_err(|errno| Error::path("relabel", path, errno))?;
    let fail = |error| Error::path("read", path, error);
    if !std::fs::symlink_metadata(path).map_err(fail)?.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(fail)? {
        relabel_below(&entry.map_err(fail)?.path(), label)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_label_has_no_categories() {
        let label = "system_u:object_r:svirt_sandbox_file_t:s0:c1,c2";
        assert_eq!(without_categories(label), "system_u:object_r:svirt_sandbox_file_t:s0");
        assert_eq!(without_categories("system_u:object_r:a_t:s0"), "system_u:object_r:a_t:s0");
    }
}
