//! `pidone exec`: starts a further process in a container.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use pidone::{Container, Running, Status};
use pidone_config::config::CapabilitySets;
use pidone_config::oci::{self, Bundle};
use pidone_config::{Code, Error, Process, Result, TerminalSize};
use pidone_host::span::{span, span_of};

use super::console_setup::ExtraFds;
use super::create::status;
use super::{begin, flags, read};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;
use crate::session::attach;
use crate::signals::Signals;
use crate::trace::traced;

/// A timeout that never expires, but is small enough to be added to a time.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Runs a program in a container.
///
/// # Errors [`Code::ContainerNotRunning`] if the container has stopped or is paused,
/// [`Code::ConfigInvalid`] if an option is wrong, and [`Code::SystemError`] if the program cannot
/// be started.
pub(super) fn exec(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Exec, flags::Global) = begin(invocation, report)?;
    let (id, args) = split_line(&flags.line)?;
    report.set_failure_status(255);
    flags.setup.configure(report);
    let signals = if flags.detach { None } else { Some(Signals::block()?) };
    let (mut running, extra_fds) =
        traced(flags.setup.trace.as_ref(), report, |_| flags.start(&global, id, args))?;
    report.debug(&format_args!("started process {}", running.pid()));
    let sent = extra_fds.send(&mut running);
    let attached = match (sent, &signals) {
        (Ok(()), None) => return Ok(0),
        (Ok(()), Some(signals)) => attach(&mut running, signals),
        (Err(error), _) => Err(error),
    };
    if attached.is_err() {
        // No process waits for it any more. It may have exited by itself.
        let _ = running.signal(libc::SIGKILL);
        let _ = running.wait();
    }
    Ok(status(attached?))
}

impl flags::Exec {
    /// Starts the process.
    fn start(
        &self,
        global: &flags::Global,
        id: &str,
        args: &[OsString],
    ) -> Result<(Running, ExtraFds<'_>)> {
        let mut options = flags::Global::options();
        if self.ignore_paused {
            // The process starts whenever the container is resumed.
            options = options.timeout(FOREVER);
        }
        let load = || {
            let container = global.factory(options)?.load(id)?;
            Ok((container.status()?, container))
        };
        let (status, container) = span_of("load the container", || id.into(), load)?;
        let refuse = |reason| Err(Error::reason(Code::ContainerNotRunning, "exec", id, reason));
        match status {
            Status::Creating => return refuse("cannot exec in a container that is being created"),
            Status::Destroyed => return refuse("cannot exec in a stopped container"),
            Status::Paused if !self.ignore_paused => {
                return refuse(
                    "cannot exec in a paused container (use --ignore-paused to override)",
                );
            }
            _ => {}
        }
        let mut process = span("read the process", || match &self.process {
            Some(path) => {
                if !args.is_empty() {
                    let reason = "has the program; there can be no other";
                    return Err(Error::config("--process", path.display(), reason));
                }
                oci::Process::from_json(&read::file(path)?)?.process()
            }
            None => self.bundle_process(&container, args),
        })?;
        process.sub_cgroups = sub_cgroups(&self.cgroup)?;
        process.ignore_paused = self.ignore_paused;
        // The program that gets the process ID waits for the process. It is the parent of this
        // process or a subreaper, so the process must be a child of this one.
        process.as_child = self.detach || self.setup.reports_process();
        let extra_fds = self.setup.prepare(&mut process, self.detach, "setns")?;
        Ok((container.exec(&process)?, extra_fds))
    }

    /// Returns the process of the container's bundle, overridden by the options.
    fn bundle_process(&self, container: &Container, args: &[OsString]) -> Result<Process> {
        if args.is_empty() {
            return Err(Error::config("exec", "", "names no program, and there is no --process"));
        }
        let config = container.config();
        let bundle = &config.bundle;
        let mut process = if bundle.as_os_str().is_empty() {
            Process::default()
        } else {
            Bundle::open(bundle)?.further_process()?
        };
        args.clone_into(&mut process.args);
        let size: Option<TerminalSize> = process.terminal;
        process.terminal = self.tty.then(|| size.unwrap_or_default());
        process.no_new_privileges |= self.no_new_privs;
        for variable in &self.env {
            process.set_variable(variable);
        }
        if let Some(cwd) = &self.cwd {
            if !cwd.starts_with('/') {
                return Err(Error::config("--cwd", cwd, "must be an absolute path"));
            }
            process.cwd.clone_from(cwd);
        }
        if self.apparmor.is_some() {
            process.apparmor_profile.clone_from(&self.apparmor);
        }
        if self.process_label.is_some() {
            process.label.clone_from(&self.process_label);
        }
        if self.user.is_some() || !self.additional_gids.is_empty() {
            let ids = process.ids.get_or_insert_default();
            if let Some((uid, gid)) = self.user {
                ids.uid = uid;
                ids.gid = gid.unwrap_or(ids.gid);
            }
            ids.groups.extend(&self.additional_gids);
        }
        if !self.cap.is_empty() {
            // Not inheritable: files of the image could regain those (CVE-2022-29162). Ambient ones
            // are raised only where they are inheritable already, as in runc.
            let sets = process.capability_sets.get_or_insert_default();
            let CapabilitySets { bounding, effective, permitted, ambient, .. } = sets;
            for set in [bounding, effective, permitted, ambient] {
                set.extend(self.cap.iter().cloned());
            }
        }
        Ok(process)
    }
}

/// Splits an argument list into the ID of the container and the rest.
///
/// # Errors
/// [`Code::ConfigInvalid`] if it is empty, which the parser does not accept, and
/// [`Code::InvalidIdFormat`] if the ID is not UTF-8.
pub(super) fn split_line(line: &[OsString]) -> Result<(&str, &[OsString])> {
    let (id, rest) =
        line.split_first().ok_or_else(|| Error::config("command", "", "names no container"))?;
    let id = id.to_str().ok_or_else(|| {
        Error::reason(Code::InvalidIdFormat, "id", id.to_string_lossy(), "is not UTF-8")
    })?;
    Ok((id, rest))
}

/// Returns the paths of `--cgroup` by controller. One path without a controller has an empty key.
fn sub_cgroups(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for text in given {
        let refuse = |reason| Err(Error::config("--cgroup", text, reason));
        let Some((controllers, path)) = text.split_once(':') else {
            if given.len() > 1 {
                return refuse("has no CONTROLLER: before the path");
            }
            all.insert(String::new(), text.clone());
            continue;
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return refuse("has an empty controller");
            }
            if all.insert(controller.to_owned(), path.to_owned()).is_some() {
                return refuse("has a controller that another one has");
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_paths_are_split_by_controller() {
        let parse = |given: &[&str]| {
            sub_cgroups(&given.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        let single = parse(&["a/b"]).unwrap();
        assert_eq!(single.get("").map(String::as_str), Some("a/b"));
        let several = parse(&["cpu,memory:a", "pids:b:c"]).unwrap();
        let pairs: Vec<_> = several.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("cpu", "a"), ("memory", "a"), ("pids", "b:c")]);
        for bad in [&["a", "b"][..], &[":a"], &["cpu,:a"], &["cpu:a", "cpu:b"], &["cpu:a", "b"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
