//! Mounts, namespaces and cgroups.

use rustix::fs::{AtFlags, CWD, statat};

use crate::file::{self, Path};
use crate::json::Json;

/// The files in `/proc/self/ns`.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Appends the fields.
pub(crate) fn report(json: &mut Json) {
    json.key("mounts");
    file::lines(json, c"/proc/self/mountinfo");
    json.key("cgroups");
    file::lines(json, c"/proc/self/cgroup");
    json.key("interfaces");
    file::lines(json, c"/proc/self/net/dev");
    json.key("namespaces").object(|json| {
        for name in NAMESPACES {
            let mut path = Path::new();
            path.append(b"/proc/self/ns/");
            path.append(name.as_bytes());
            if let Ok(stat) = statat(CWD, path.as_c_str(), AtFlags::empty()) {
                json.key(name).number(stat.st_ino);
            }
        }
    });
}
