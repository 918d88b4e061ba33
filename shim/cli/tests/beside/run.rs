//! Running a situation with one runtime.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use pidone_tests::leftover::CGROUPS;
use pidone_tests::need::BUSYBOX;
use pidone_tests::{Call, Outcome, Stop, eventually, install, set};
use serde_json::Value;

use crate::situation::Situation;

/// A runtime with runc's command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runtime {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

/// What came of a situation.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Standard output and exit statuses, on one line.
    pub(crate) seen: String,
    /// Standard error, on one line.
    pub(crate) errors: String,
}

/// What the shell of the host runs first: a `/dev` for it alone, as a runtime may change the owner
/// of what it has as standard input; and shorthands.
const PRELUDE: &str = r#"
set -u
mount -t tmpfs -o mode=755 tmpfs /mnt
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
    IFS=: read -r file major minor <<<"$node"
    mknod -m 666 "/mnt/$file" c "$major" "$minor"
done
mkdir /mnt/pts /mnt/shm /mnt/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts /mnt/pts
ln -s pts/ptmx /mnt/ptmx
ln -s /proc/self/fd /mnt/fd
mount --rbind /mnt /dev
exec </dev/null
r() { "$RUNTIME" --root "$BUNDLE/state" "$@"; }
t() { local status=0; "$@" || status=$?; echo "[$status]"; }
# What script(1) printed, without what its own terminal adds: the echo of an end of file, and CR.
# (With runc, a program may print before runc has told the terminal to keep LF.)
plain() { tr -d '\r' | sed 's/\^@//'; }
# Waits until a command holds.
until_true() { local n=0; until "$@"; do n=$((n + 1)); [ "$n" -lt 400 ] || return 1; sleep 0.05; done; }
status_is() { r state c 2>/dev/null | grep -q "\"status\": \"$1\""; }
ready() { until_true r exec c test -e /dev/shm/ready; }
# Runs the container in the background, and waits for its first process.
up() { r run --detach c >out 2>&1 || return; ready; }
cd "$BUNDLE"
"#;

/// What it runs last. A container that is left is killed.
const END: &str = r#"
for id in $(r list --quiet 2>/dev/null); do r delete --force "$id"; done
exit 0
"#;

/// Runs a situation in a new bundle.
pub(crate) fn run(situation: &Situation, runtime: Runtime) -> Result<Seen, Stop> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let cgroup = format!("pidone-beside-{}-{number}", std::process::id());
    let directory = tempfile::Builder::new().prefix(&cgroup).tempdir_in("/tmp")?;
    let bundle = directory.path();
    let rootfs = bundle.join("rootfs");
    make_root(&rootfs)?;
    write_config(situation, bundle, &cgroup)?;
    let text = format!("{PRELUDE}\n(cd rootfs; {})\n{}\n{END}", situation.image, situation.steps);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", &text]);
    command.env("RUNTIME", runtime.program).env("BUNDLE", bundle).env("CGROUP", &cgroup);
    command.stdin(Stdio::null());
    // To files: a process of a container that is left would hold a pipe open.
    let [out, errors] = ["stdout", "stderr"].map(|name| bundle.join(name));
    command.stdout(fs::File::create(&out)?).stderr(fs::File::create(&errors)?);
    let code = Call::start(&mut command).finish().code();
    let read = |path: &Path| {
        fs::read(path).map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            let text = text.replace(&*bundle.to_string_lossy(), "BUNDLE");
            let text = text.replace(&cgroup, "CGROUP").replace(runtime.name, "RUNTIME");
            text.trim_end().escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
        })
    };
    let (seen, errors) = (read(&out)?, read(&errors)?);
    if code != 0 {
        return Err(Stop::Failed(format!("{}: {code}: {seen}\n{errors}", runtime.name)));
    }
    remove_cgroups(&cgroup)?;
    Ok(Seen { seen, errors })
}

/// Makes a root file system of busybox.
fn make_root(rootfs: &Path) -> Outcome {
    for name in ["bin", "dev", "proc", "sys", "tmp", "etc", "root", "home", "data", "private"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    install(BUSYBOX, rootfs.join("bin/busybox"))?;
    let applets = Command::new(BUSYBOX).arg("--list").output()?.stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    let user = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n";
    fs::write(rootfs.join("etc/passwd"), user)?;
    fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\naudio:x:29:user\n")?;
    Ok(())
}

/// Writes the configuration: that of `pidone spec`, with the situation's changes.
fn write_config(situation: &Situation, bundle: &Path, cgroup: &str) -> Outcome {
    let path = bundle.join("config.json");
    let mut spec = Command::new(env!("CARGO_BIN_EXE_pidone"));
    if !spec.args(["spec", "--bundle"]).arg(bundle).status()?.success() {
        return Err(Stop::Failed("pidone spec".to_owned()));
    }
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    set(&mut config, "process/terminal", false.into());
    set(&mut config, "process/args", serde_json::json!(["sh", "-c", situation.inside]));
    set(&mut config, "linux/cgroupsPath", format!("/{cgroup}").into());
    for (place, value) in situation.changes {
        let bundle = bundle.to_string_lossy();
        let value = value.replace("@BUNDLE", &bundle).replace("@CGROUP", &format!("/{cgroup}"));
        let value = serde_json::from_str(&value).map_err(|error| format!("{value}: {error}"))?;
        set(&mut config, place, value);
    }
    Ok(fs::write(path, config.to_string())?)
}

/// Removes the cgroups that a runtime has left: runc keeps some of a container that failed.
fn remove_cgroups(name: &str) -> Outcome {
    let mut hierarchies = vec![Path::new(CGROUPS).to_owned()];
    for entry in fs::read_dir(CGROUPS)? {
        hierarchies.push(entry?.path());
    }
    for cgroup in hierarchies.iter().map(|hierarchy| hierarchy.join(name)) {
        if cgroup.is_dir() && !eventually(|| remove_tree(&cgroup)) {
            return Err(Stop::Failed(format!("{} stays", cgroup.display())));
        }
    }
    Ok(())
}

/// Removes a cgroup and those below it. Returns whether it is gone.
fn remove_tree(cgroup: &Path) -> bool {
    let Ok(entries) = fs::read_dir(cgroup) else { return !cgroup.exists() };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        if path.is_dir() && !remove_tree(&path) {
            return false;
        }
    }
    fs::remove_dir(cgroup).is_ok()
}
