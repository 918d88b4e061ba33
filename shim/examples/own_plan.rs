//! Builds a plan from the operations of `pidone_proto`, and launches it.
//!
//! Run it with `cargo run -p pidone --example own_plan`, as root or as an ordinary user. It uses no
//! configuration, no stored state and no cgroup: only new namespaces, a tmpfs as root with the
//! host's programs, and a process without capabilities.

#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::ffi::CString;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use pidone::Launcher;
use pidone::Stdio;
use pidone::config::{IdMap, NamespaceType, mount};
use pidone::plan::Plan;
use pidone_proto::{Create, Op, Strings, Text};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = plan()?;
    print!("{plan}");

    let map = |id| vec![IdMap { container_id: 0, host_id: id, size: 1 }];
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut running = Launcher::new(&plan)
        .user_namespace(map(uid.as_raw()), map(gid.as_raw()))
        .namespaces([
            NamespaceType::Mount,
            NamespaceType::Pid,
            NamespaceType::Network,
            NamespaceType::Ipc,
            NamespaceType::Uts,
        ])
        .stdio(Stdio::Null, Stdio::Pipe, Stdio::Inherit)
        .launch()?;
    println!("process {} runs", running.pid());

    let mut output = String::new();
    if let Some(mut stdout) = running.stdout.take() {
        stdout.read_to_string(&mut output)?;
    }
    print!("{output}");
    println!("it ended with status {}", running.wait()?.status());
    Ok(())
}

/// Returns the operations, in the order in which the init runs them.
fn plan() -> Result<Plan, Box<dyn std::error::Error>> {
    let mut plan = Plan::default();
    // The init must take an id of its user namespace before it can create files.
    plan.push(Op::Ids { uid: 0, gid: 0 });
    // From here on no mount event reaches the host.
    let flags = u32::try_from(mount::flags::SLAVE | mount::flags::REC)?;
    plan.push(Op::Propagation { flags });

    // Both are made before the old root is left: the kernel allows a new proc only while an
    // unobstructed one is visible.
    let root = file_system(&mut plan, c"tmpfs", b"mode\x00755\0")?;
    let proc = file_system(&mut plan, c"proc", b"")?;
    plan.push(Op::Root { tree: root, at: Text(c"/tmp") });
    for place in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        system_directory(&mut plan, place)?;
    }
    plan.push(Op::Attach {
        mount: proc,
        at: Text(c"/proc"),
        create: Create::Directory,
        // Symbolic links in the root are not followed.
        follow: false,
    });
    plan.push(Op::PivotRoot);
    plan.push(Op::ReadOnlyRoot);

    plan.push(Op::HostName { name: Text(c"by-hand") });
    plan.push(Op::Session);
    plan.push(Op::Bounding { keep: 0 });
    plan.push(Op::ChangeDirectory { path: Text(c"/") });
    plan.push(Op::Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0 });
    plan.push(Op::NoNewPrivileges);
    let script = b"sh\0-c\0echo \"process $$ of $(uname -n)\"; grep CapBnd /proc/self/status\0";
    plan.push(Op::Exec {
        candidates: strings(b"/bin/sh\0")?,
        arguments: strings(script)?,
        environment: strings(b"PATH=/usr/bin:/bin\0")?,
        preserved: 0,
        filter_flags: 0,
        filter: &[],
    });
    Ok(plan)
}

/// Appends the creation of a file system, and returns its slot.
///
/// `options` has keys and values in turn.
fn file_system(
    plan: &mut Plan,
    fstype: &std::ffi::CStr,
    options: &[u8],
) -> Result<pidone_proto::Slot, Box<dyn std::error::Error>> {
    let into = plan.mount_slot();
    let attributes = mount::flags::attribute::NOSUID | mount::flags::attribute::NODEV;
    plan.push(Op::MakeMount {
        into,
        fstype: Text(fstype),
        options: strings(options)?,
        attributes: u32::try_from(attributes)?,
    });
    Ok(into)
}

/// Appends a read-only bind of a directory of the host, or a symbolic link where the host has one.
fn system_directory(plan: &mut Plan, place: &str) -> Result<(), Box<dyn std::error::Error>> {
    let path = CString::new(place)?;
    match Path::new(place).read_link() {
        Ok(target) => {
            let target = CString::new(target.as_os_str().as_bytes())?;
            plan.push(Op::MakeLink { target: Text(&target), path: Text(&path), replace: false });
        }
        Err(_) if Path::new(place).is_dir() => {
            let tree = plan.mount_slot();
            plan.push(Op::OpenTree { into: tree, path: Text(&path), recursive: true });
            plan.push(Op::SetAttributes {
                mount: tree,
                set: mount::flags::attribute::RDONLY,
                clear: 0,
                propagation: 0,
                recursive: true,
            });
            plan.push(Op::Attach {
                mount: tree,
                at: Text(&path),
                create: Create::Directory,
                follow: true,
            });
        }
        Err(_) => {}
    }
    Ok(())
}

/// Returns strings in the form of the wire, each with its NUL.
fn strings(bytes: &[u8]) -> Result<Strings<'_>, &'static str> {
    Strings::new(bytes).ok_or("a string without its NUL")
}
