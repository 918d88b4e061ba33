//! Configurations that are refused, with the exact errors.

use serde_json::{Value, json};

/// Returns the JSON pointers of properties, their values, and the text that the error ends with.
pub(super) fn all() -> Vec<(&'static str, Value, &'static str)> {
    let twice = json!([{"type": "pid"}, {"type": "pid"}]);
    let user = json!([{"type": "mount"}, {"type": "user"}]);
    vec![
        ("/ociVersion", json!(""), "`ociVersion`: missing"),
        (
            "/ociVersion",
            json!("2.0.0"),
            "`ociVersion = \"2.0.0\"`: only versions 1.* of the specification are supported",
        ),
        ("/vm", json!({}), "`vm`: virtual machines are not supported"),
        ("/root", Value::Null, "`root`: missing"),
        ("/root/path", json!(""), "`root.path`: missing"),
        ("/process", Value::Null, "`process`: missing"),
        ("/process/args", json!([]), "`process.args`: names no program"),
        ("/process/cwd", json!("tmp"), "`process.cwd = \"tmp\"`: must be an absolute path"),
        ("/process/cwd", Value::Null, "`process.cwd = \"\"`: must be an absolute path"),
        ("/process/env/1", json!("TERM"), "`process.env[1] = \"TERM\"`: must be NAME=value"),
        ("/process/env/0", json!("=x"), "`process.env[0] = \"=x\"`: must be NAME=value"),
        (
            "/process/user",
            json!({"uid": u32::MAX}),
            "`process.user.uid = 4294967295`: is no id: the kernel reads it as no change",
        ),
        (
            "/process/consoleSize",
            json!({"height": 1, "width": 65536}),
            "`process.consoleSize.width = 65536`: must be from 0 to 65535",
        ),
        (
            "/process/rlimits/0/type",
            json!("RLIMIT_FILES"),
            "`process.rlimits[0].type = \"RLIMIT_FILES\"`: unknown resource limit",
        ),
        (
            "/process/rlimits/0/type",
            json!("NOFILE"),
            "`process.rlimits[0].type = \"NOFILE\"`: unknown resource limit",
        ),
        (
            "/process/rlimits/0/soft",
            json!(1025),
            "`process.rlimits[0].type = \"RLIMIT_NOFILE\"`: \
             the soft limit 1025 is above the hard limit 1024",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_AS", "hard": 1, "soft": 1},
                   {"type": "RLIMIT_AS", "hard": 1, "soft": 1}]),
            "`process.rlimits[1].type = \"RLIMIT_AS\"`: stands more than once",
        ),
        (
            "/process/oomScoreAdj",
            json!(-1001),
            "`process.oomScoreAdj = -1001`: must be from -1000 to 1000",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FAIR"}),
            "`process.scheduler.policy = \"SCHED_FAIR\"`: unknown policy",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "flags": ["SCHED_FLAG_X"]}),
            "`process.scheduler.flags[0] = \"SCHED_FLAG_X\"`: unknown flag",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "`process.scheduler.nice = 20`: must be from -20 to 19",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "priority": 1}),
            "`process.scheduler.priority = 1`: is for SCHED_FIFO and SCHED_RR, from 1 up",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO", "period": 1}),
            "`process.scheduler.period = 1`: is for SCHED_DEADLINE",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_NONE"}),
            "`process.ioPriority.class = \"IOPRIO_CLASS_NONE\"`: unknown class",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "`process.ioPriority.priority = 8`: must be from 0 to 7",
        ),
        (
            "/process/execCPUAffinity",
            json!({"initial": "0-"}),
            "`process.execCPUAffinity.initial = 0-`: is not a list of numbers like 0-2,7",
        ),
        (
            "/process/execCPUAffinity",
            json!({"final": ","}),
            "`process.execCPUAffinity.final = \",\"`: names no processor",
        ),
        ("/hostname", json!("a\nb"), "`hostname = \"a\\nb\"`: has a control character"),
        (
            "/mounts/0/type",
            json!("none"),
            "`mounts[0].type = \"none\"`: is no file system; a bind has the option bind or rbind",
        ),
        ("/mounts/0/type", Value::Null, "`mounts[0].type = \"\"`: missing"),
        ("/mounts/0/type", json!("a/b"), "`mounts[0].type = \"a/b\"`: is no name of a file system"),
        ("/mounts/0", json!({"destination": "/x", "type": "bind"}), "`mounts[0].source`: missing"),
        (
            "/mounts/0/destination",
            json!("/proc/self"),
            "`mounts[0].destination = \"/proc/self\"`: must not be inside /proc",
        ),
        (
            "/mounts/1/options",
            json!(["nosuid", "private", "rshared"]),
            "`mounts[1].options[2] = \"rshared\"`: more than one kind of propagation",
        ),
        (
            "/mounts/1/options",
            json!(["remount", "size=1m"]),
            "`mounts[1].options = \"size=1m\"`: a remount changes nothing but attributes of the mount",
        ),
        (
            "/mounts/0/options",
            json!(["tmpcopyup"]),
            "`mounts[0].options = true`: only a tmpfs can begin with a copy",
        ),
        (
            "/mounts/1/options",
            json!(["idmap"]),
            "`mounts[1]`: needs ids of its own, or a user namespace (NEWUSER)",
        ),
        (
            "/mounts/1/uidMappings",
            json!([{"containerID": 0, "hostID": 5, "size": 1}]),
            "`mounts[1]`: only a bind can have ids of its own",
        ),
        (
            "/linux/namespaces/1/type",
            json!("net"),
            "`linux.namespaces[1].type = \"net\"`: unknown namespace",
        ),
        ("/linux/namespaces", twice, "`linux.namespaces[1].type = \"pid\"`: stands more than once"),
        (
            "/linux/namespaces/1/path",
            json!("ns/net"),
            "`linux.namespaces[1].path = \"ns/net\"`: must be an absolute path",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "network"}, {"type": "uts"}]),
            "`mounts`: needs a new mount namespace (NEWNS)",
        ),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "`linux.uidMappings`: needs a new user namespace (NEWUSER)",
        ),
        ("/linux/namespaces", user, "`linux.uidMappings`: id 0 of the container is not mapped"),
        (
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 1}}),
            "`linux.timeOffsets`: needs a new time namespace (NEWTIME)",
        ),
        (
            "/linux/devices",
            json!([{"type": "x", "path": "/dev/x"}]),
            "`linux.devices[0].type = \"x\"`: must be c, b, u or p",
        ),
        (
            "/linux/devices",
            json!([{"type": "c", "path": "dev/x", "major": 1, "minor": 1}]),
            "`linux.devices[0].path = \"dev/x\"`: must be an absolute path",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "a/b"}}),
            "`linux.netDevices.eth0 = \"a/b\"`: \
             has a slash, a colon, a percent sign or a space",
        ),
        (
            "/linux/cgroupsPath",
            json!("a.slice:b:"),
            "`linux.cgroupsPath = a.slice:b:`: \
             expected cgroupsPath to be of format \"slice:prefix:name\"",
        ),
        (
            "/linux/resources/cpu",
            json!({"shares": 1}),
            "`linux.resources.cpu.shares = 1`: the minimum allowed cpu-shares is 2",
        ),
        (
            "/linux/rootfsPropagation",
            json!("rbind"),
            "`linux.rootfsPropagation = \"rbind\"`: unknown propagation",
        ),
        ("/linux/maskedPaths/0", json!(""), "`linux.maskedPaths[0] = \"\"`: missing"),
        (
            "/linux/sysctl",
            json!({"kernel.core_pattern": "|/x"}),
            "`linux.sysctl.kernel.core_pattern = \"|/x\"`: \
             is not in a namespace, it would change the host",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_FOO"}),
            "`linux.seccomp.defaultAction = \"SCMP_ACT_FOO\"`: unknown action",
        ),
        (
            "/linux/intelRdt",
            json!({"closID": "a/b"}),
            "`linux.intelRdt.closID = \"a/b\"`: cannot be the name of a group",
        ),
        (
            "/linux/intelRdt",
            json!({"schemata": ["L3"]}),
            "`linux.intelRdt.schemata[0] = \"L3\"`: is not a line like L3:0=7f0;1=1f",
        ),
        (
            "/linux/personality",
            json!({"domain": "SVR4"}),
            "`linux.personality.domain = \"SVR4\"`: unknown domain",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["X"]}),
            "`linux.personality.flags[0] = \"X\"`: unknown flag",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_FOO"}),
            "`linux.memoryPolicy.mode = \"MPOL_FOO\"`: unknown policy",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND"}),
            "`linux.memoryPolicy.mode = \"MPOL_BIND\"`: needs nodes",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]}),
            "`linux.memoryPolicy.flags[0] = \"MPOL_F_X\"`: unknown flag",
        ),
        (
            "/hooks",
            json!({"poststop": [{"path": "x"}]}),
            "`hooks.poststop[0].path = \"x\"`: must be an absolute path",
        ),
    ]
}
