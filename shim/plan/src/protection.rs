//! What is read-only or hidden in a container that is otherwise complete.

use pidone_config::config::Mount;
use pidone_config::config::mount::flags::{NODEV, NOEXEC, NOSUID, PRIVATE, RDONLY};
use pidone_config::{Config, Result};
use pidone_proto::{Op, Slot, Text};

use super::facts::Facts;
use super::provided::Destinations;
use super::{NULL, Plan, Source, clean, mount, text};

/// Appends read-only mounts and paths, masked paths, and the read-only root.
pub(super) fn push(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
    let mut destinations = Destinations::default();
    for (index, mount) in config.mounts.iter().enumerate() {
        destinations.add(mount, index);
    }
    for (index, mount) in config.mounts.iter().enumerate() {
        if mount::is_read_only_last(mount) && destinations.leads_to(mount) == Some(index) {
            mount::push_read_only_last(plan, mount)?;
        }
    }
    for path in &config.readonly_paths {
        let path = text("readonly_paths", clean(path))?;
        plan.push(Op::ReadOnly { path: Text(&path) });
    }
    if !config.mask_paths.is_empty() {
        push_masks(plan, config, facts)?;
    }
    if config.readonlyfs {
        plan.push(Op::ReadOnlyRoot);
    }
    Ok(())
}

/// Appends the creation of a file system that is empty and stays so, and returns its slot.
pub(super) fn push_empty(plan: &mut Plan, config: &Config) -> Result<Slot> {
    let empty = Mount {
        source: "tmpfs".into(),
        device: "tmpfs".into(),
        data: "size=0k,nr_inodes=2,mode=555".into(),
        flags: RDONLY | NOSUID | NODEV | NOEXEC,
        ..Mount::default()
    };
    mount::push_file_system(plan, config, &empty)
}

/// Appends the masked paths. They share one null device and one empty directory.
fn push_masks(plan: &mut Plan, config: &Config, facts: &Facts<'_>) -> Result<()> {
    plan.reserve_sources(2);
    let directory = if facts.by_path || facts.in_user_namespace || !config.mount_label.is_empty() {
        push_empty(plan, config)?
    } else {
        // It is copied for each path. The host closes it, after the start.
        plan.source(Source::Empty)
    };
    let file = if facts.by_path {
        NULL
    } else {
        plan.source(Source::Tree { path: "/dev/null".into(), recursive: false, ids: None })
    };
    mount::push_set_attributes(plan, file, 0, 0, PRIVATE, false);
    for path in &config.mask_paths {
        let path = text("mask_paths", clean(path))?;
        plan.push(Op::Mask { path: Text(&path), file, directory });
    }
    plan.push(Op::Close { slot: directory });
    plan.push(Op::Close { slot: file });
    Ok(())
}
