//! The process among others, and its limits.

use crate::file;
use crate::json::Json;
use crate::sys;

/// How many resources have limits: `RLIM_NLIMITS`.
const RESOURCES: usize = 16;

/// Appends the fields.
pub(crate) fn report(json: &mut Json) {
    const PR_GET_DUMPABLE: usize = 3;
    let id = |pid: rustix::process::Pid| pid.as_raw_nonzero().get();
    json.key("pid").number(id(rustix::process::getpid()));
    // A parent in another pid namespace has no id.
    json.key("ppid").number(rustix::process::getppid().map_or(0, id));
    json.key("pgid").number(rustix::process::getpgid(None).map_or(-1, id));
    json.key("sid").number(rustix::process::getsid(None).map_or(-1, id));
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    json.key("umask").number(umask.as_raw_mode());
    json.key("dumpable").number(sys::control(PR_GET_DUMPABLE).unwrap_or(0) as u64);
    json.key("parent_death_signal").number(sys::parent_death_signal());
    json.key("oom_score_adj");
    file::first_line(json, c"/proc/self/oom_score_adj");
    json.key("rlimits").array(|json| {
        for resource in 0..RESOURCES {
            match sys::limit(resource) {
                Some(limit) => {
                    json.array(|json| limit.into_iter().for_each(|value| json.number(value)));
                }
                None => json.null(),
            }
        }
    });
    json.key("cwd");
    let mut buffer = [0; 4096];
    match sys::working_directory(&mut buffer) {
        Ok(path) => json.string(path),
        Err(_) => json.null(),
    }
    json.key("exe");
    file::link(json, c"/proc/self/exe");
}
