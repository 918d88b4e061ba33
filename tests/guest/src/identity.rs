//! Who the process is: ids, names, labels.

use crate::file;
use crate::json::Json;
use crate::sys;

/// Appends the fields.
pub(crate) fn report(json: &mut Json) {
    let ids = |json: &mut Json, ids: [u32; 3]| ids.into_iter().for_each(|id| json.number(id));
    json.key("uid").array(|json| ids(json, sys::user_ids()));
    json.key("gid").array(|json| ids(json, sys::group_ids()));
    json.key("groups").array(|json| {
        let mut buffer = [0; 1024];
        if let Ok(groups) = sys::groups(&mut buffer) {
            groups.iter().for_each(|&id| json.number(id));
        }
    });
    let uname = rustix::system::uname();
    json.key("hostname").string(uname.nodename().to_bytes());
    json.key("domainname").string(uname.domainname().to_bytes());
    json.key("label");
    file::first_line(json, c"/proc/self/attr/current");
    json.key("uid_map");
    file::lines(json, c"/proc/self/uid_map");
    json.key("gid_map");
    file::lines(json, c"/proc/self/gid_map");
}
