//! Labels of security modules: AppArmor and SELinux.

use std::path::Path;

use pidone_config::{Config, Error, Result};
use rustix::fs::{XattrFlags, lsetxattr};

/// The labels of a container's processes: the file below `/proc/thread-self/attr`, and what is
/// written to it before exec.
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

/// Makes sure that the host has the security modules that a process needs: one that should be
/// confined must not run without.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] with the field.
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

/// Makes sure that the host has the security modules that the configuration names: a container
/// that should be confined must not run without.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] with the field.
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

/// Whether SELinux is enabled: its file system is mounted.
fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Gives the sources of mounts that ask for it the label of the container's mounts, with all
/// that is below them: `Z` as it is, `z` without categories, for several containers.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] for the first file that cannot be labelled.
pub fn relabel(config: &Config) -> Result<()> {
    for mount in config.mounts.iter().filter(|mount| !mount.relabel.is_empty()) {
        let shared = mount.relabel.contains('z');
        let label =
            if shared { without_categories(&config.mount_label) } else { &config.mount_label };
        relabel_below(Path::new(&mount.source), label)?;
    }
    Ok(())
}

/// `user:role:type:level` of `user:role:type:level:categories`.
fn without_categories(label: &str) -> &str {
    label.match_indices(':').nth(3).map_or(label, |(at, _)| label.get(..at).unwrap_or(label))
}

/// Labels a file and, of a directory, everything below. Links are labelled, not followed.
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
        let own = "system_u:object_r:svirt_sandbox_file_t:s0:c1,c2";
        assert_eq!(without_categories(own), "system_u:object_r:svirt_sandbox_file_t:s0");
        assert_eq!(without_categories("system_u:object_r:a_t:s0"), "system_u:object_r:a_t:s0");
    }
}
