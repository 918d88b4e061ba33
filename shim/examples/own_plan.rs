//! A plan that is put together by hand from the operations of `pidone_proto`, and launched.
//!
//! `cargo run --example own_plan`, as root or as an ordinary user. There is no configuration, no
//! state and no cgroup here: a root of a tmpfs with the host's programs, new namespaces, and a
//! process that may do nothing.

#![allow(clippy::print_stdout, reason = "an example says what it does")]

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

    let own = |id| vec![IdMap { container_id: 0, host_id: id, size: 1 }];
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut running = Launcher::new(&plan)
        .user_namespace(own(uid.as_raw()), own(gid.as_raw()))
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

    let mut said = String::new();
    if let Some(mut stdout) = running.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    print!("{said}");
    println!("it ended with status {}", running.wait()?.status());
    Ok(())
}

/// The operations, in the order in which the init runs them.
fn plan() -> Result<Plan, Box<dyn std::error::Error>> {
    let mut plan = Plan::default();
    // Until it takes an id of its user namespace, the init can own no file.
    plan.push(Op::Ids { uid: 0, gid: 0 });
    // What is mounted from here on is not the host's.
    let flags = u32::try_from(mount::flags::SLAVE | mount::flags::REC)?;
    plan.push(Op::Propagation { flags });

    // Both are made before the old root goes: a proc only while a full one is in sight.
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
        // Never where a link in the root leads.
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

/// Makes a file system that is attached later; the options are keys and values in turn.
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

/// Shows a directory of the host, read-only, or makes the link that the host has in its place.
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

/// Strings for the wire, each with its NUL.
fn strings(bytes: &[u8]) -> Result<Strings<'_>, &'static str> {
    Strings::new(bytes).ok_or("a string without its NUL")
}
