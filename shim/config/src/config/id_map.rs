//! The id maps of a user namespace: `user_namespaces(7)`.

use serde::{Deserialize, Serialize};

use super::fault::{Check, Fault, each};
use super::{Config, Mount, MountIdMap, NamespaceType};

/// The largest number of lines in a map (`UID_GID_MAP_MAX_EXTENTS`, Linux 4.15).
const LINES_MAX: usize = 340;

/// A range of ids in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMap {
    /// The first id in the container.
    pub container_id: u32,
    /// The first id on the host.
    pub host_id: u32,
    /// The number of ids.
    pub size: u32,
}

impl IdMap {
    /// Returns the host's id for an id of the container; `None` if it is not mapped.
    #[must_use]
    pub fn host_of(maps: &[Self], id: u32) -> Option<u32> {
        maps.iter().find_map(|map| {
            let offset = id.checked_sub(map.container_id)?;
            if offset < map.size { map.host_id.checked_add(offset) } else { None }
        })
    }

    fn check(&self) -> Check {
        if self.size == 0 {
            return Err(Fault::new("size", 0, "must be at least 1"));
        }
        // The last 32-bit number is not an id, so a range ends before it.
        for (field, first) in [("container_id", self.container_id), ("host_id", self.host_id)] {
            if first.checked_add(self.size).is_none() {
                let reason = format!("leads beyond the last id with a size of {}", self.size);
                return Err(Fault::new(field, first, reason));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Returns the host's id of the container's user 0.
    ///
    /// Without a user namespace it is 0. `None` if the map does not contain 0, or if the user
    /// namespace is joined and its map is not known.
    #[must_use]
    pub fn host_uid(&self) -> Option<u32> {
        self.host_root(&self.uid_mappings)
    }

    /// Returns the host's id of the container's group 0, as [`Config::host_uid`] does for users.
    #[must_use]
    pub fn host_gid(&self) -> Option<u32> {
        self.host_root(&self.gid_mappings)
    }

    /// Gives the container a new user namespace with these maps.
    ///
    /// An ordinary user may map only one id, their own: `user_namespaces(7)`. If the group of ptys
    /// has no id in the container, it is removed from the options of devpts, because the kernel
    /// would refuse the mount.
    pub fn set_id_maps(&mut self, uid_mappings: Vec<IdMap>, gid_mappings: Vec<IdMap>) {
        self.set_namespace(NamespaceType::User, "");
        for mount in self.mounts.iter_mut().filter(|mount| mount.device == "devpts") {
            let mapped = |option: &&str| match option.strip_prefix("gid=") {
                Some(gid) => {
                    gid.parse().is_ok_and(|gid| IdMap::host_of(&gid_mappings, gid).is_some())
                }
                None => true,
            };
            mount.data = mount.data.split(',').filter(mapped).collect::<Vec<_>>().join(",");
        }
        self.uid_mappings = uid_mappings;
        self.gid_mappings = gid_mappings;
    }

    fn host_root(&self, maps: &[IdMap]) -> Option<u32> {
        match self.namespace(NamespaceType::User) {
            Some(_) => IdMap::host_of(maps, 0),
            None => Some(0),
        }
    }

    /// Refuses a mount that uses the container's id map if the container has none.
    pub(super) fn check_mount_ids(&self, mount: &Mount) -> Check {
        let of_container = |map: &MountIdMap| map.uid_mappings.is_empty();
        if mount.id_map.as_ref().is_some_and(of_container)
            && self.namespace(NamespaceType::User).is_none()
        {
            let reason = "needs ids of its own, or a user namespace (NEWUSER)";
            return Err(Fault::new("id_map", "", reason));
        }
        Ok(())
    }

    pub(super) fn check_id_maps(&self) -> Check {
        for (field, maps) in
            [("uid_mappings", &self.uid_mappings), ("gid_mappings", &self.gid_mappings)]
        {
            if self.has_new(NamespaceType::User) {
                check_map(field, maps)?;
            } else if !maps.is_empty() {
                return Err(Fault::new(field, "", "needs a new user namespace (NEWUSER)"));
            }
        }
        Ok(())
    }
}

fn check_map(field: &str, maps: &[IdMap]) -> Check {
    check_ranges(field, maps)?;
    if IdMap::host_of(maps, 0).is_none() {
        return Err(Fault::new(field, "", "id 0 of the container is not mapped"));
    }
    Ok(())
}

/// Refuses a map that the kernel does not accept.
pub(super) fn check_ranges(field: &str, maps: &[IdMap]) -> Check {
    if maps.len() > LINES_MAX {
        return Err(Fault::new(field, "", "more than the 340 ranges that the kernel takes"));
    }
    each(field, maps, IdMap::check)?;
    for (inside, first) in [
        ("container_id", (|map: &IdMap| map.container_id) as fn(&IdMap) -> u32),
        ("host_id", |map: &IdMap| map.host_id),
    ] {
        let mut order: Vec<usize> = (0..maps.len()).collect();
        order.sort_by_key(|&index| first(&maps[index]));
        for pair in order.windows(2) {
            let (lower, upper) = (&maps[pair[0]], &maps[pair[1]]);
            // This cannot overflow: the ranges were checked above.
            if first(lower) + lower.size > first(upper) {
                let place = format!("{field}[{}]", pair[1]);
                let reason = format!("overlaps {field}[{}]", pair[0]);
                return Err(Fault::new(inside, first(upper), reason).under(&place));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMap {
        IdMap { container_id, host_id, size }
    }

    #[test]
    fn map_of_the_sample_is_valid() {
        let maps = [map(0, 1000, 1), map(1, 1, 999), map(1001, 1001, 2147482647)];
        check_map("uid_mappings", &maps).unwrap();
        assert_eq!(IdMap::host_of(&maps, 0), Some(1000));
        assert_eq!(IdMap::host_of(&maps, 999), Some(999));
        assert_eq!(IdMap::host_of(&maps, 1000), None);
    }

    #[test]
    fn set_id_maps_removes_an_unmapped_group_from_devpts() {
        let mut config = Config::template("/srv".into());
        config.set_id_maps(vec![map(0, 1000, 1)], vec![map(0, 100, 1)]);
        config.validate().unwrap();
        assert_eq!((config.host_uid(), config.host_gid()), (Some(1000), Some(100)));
        let devpts = config.mounts.iter().find(|mount| mount.device == "devpts").unwrap();
        assert_eq!(devpts.data, "newinstance,ptmxmode=0666,mode=0620");
        config.set_namespace(NamespaceType::User, "/proc/1/ns/user");
        assert!(config.validate().is_err());
    }

    #[test]
    fn errors_name_the_range() {
        for (maps, field) in [
            (vec![], "uid_mappings"),
            (vec![map(1, 1, 1)], "uid_mappings"),
            (vec![map(0, 0, 0)], "uid_mappings[0].size"),
            (vec![map(0, 4294967295, 1)], "uid_mappings[0].host_id"),
            (vec![map(0, 0, 4294967295), map(4294967295, 5, 1)], "uid_mappings[1].container_id"),
            (vec![map(0, 0, 10), map(9, 100, 1)], "uid_mappings[1].container_id"),
            (vec![map(100, 9, 1), map(0, 0, 10)], "uid_mappings[0].host_id"),
            (vec![map(0, 0, 1); 341], "uid_mappings"),
        ] {
            let text =
                crate::Error::from(check_map("uid_mappings", &maps).unwrap_err()).to_string();
            assert!(text.contains(&format!("`{field}")), "{field}: {text}");
        }
        check_map("uid_mappings", &[map(0, 0, 4294967295)]).unwrap();
    }

    proptest! {
        #[test]
        fn arbitrary_maps_do_not_panic(maps: Vec<(u32, u32, u32)>, id: u32) {
            let maps: Vec<_> = maps.into_iter().map(|(c, h, s)| map(c, h, s)).collect();
            let _ = check_map("uid_mappings", &maps);
            let _ = IdMap::host_of(&maps, id);
        }
    }
}
