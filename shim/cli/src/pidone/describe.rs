//! `pidone spec`, `pidone plan` and `pidone features`: describe bundles and this runtime.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use pidone::first_plan;
use pidone_config::{Code, Error, oci};
use pidone_host::cgroup::has_only_v2;

use super::{begin, flags};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::output;
use crate::report::Report;

/// The configuration file of a bundle.
const FILE: &str = "config.json";

/// Writes a configuration to start from.
///
/// # Errors
/// [`Code::SystemError`] if the file exists or cannot be written.
pub(super) fn spec(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, _): (flags::Spec, flags::Global) = begin(invocation, report)?;
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut spec = oci::default::spec(flags.rootless.then_some(ids));
    // As runc: in its own namespace, a container sees less of the hierarchies of version 1
    // than programs expect.
    if !has_only_v2()
        && let Some(linux) = &mut spec.linux
    {
        linux.namespaces.retain(|namespace| namespace.kind != "cgroup");
    }
    let text = output::json(&spec)?;
    let path = flags.bundle.join(FILE);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
    let written = file.and_then(|mut file| file.write_all(&text));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let reason = "File config.json exists. Remove it first";
            Error::reason(Code::SystemError, "create", path.to_string_lossy(), reason)
        }
        _ => Error::path("write", &path, error),
    })?;
    Ok(0)
}

/// Prints the operations that the init would execute for the process of a bundle, one on each line.
/// Nothing is created or started.
///
/// # Errors [`Code::ConfigInvalid`] if the bundle is wrong, and [`Code::SystemError`] with the path
/// if a file of the host that it names cannot be examined.
pub(super) fn plan(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Plan, flags::Global) = begin(invocation, report)?;
    let bundle = oci::Bundle::open(&flags.bundle)?;
    for warning in bundle.warnings() {
        report.warning(&warning);
    }
    let mut config = bundle.config()?;
    global.fit_cgroup(&mut config, "plan")?;
    output::print(format_args!("{}", first_plan(&config, &bundle.process()?)?))?;
    Ok(0)
}

/// Prints the features that this runtime supports, as JSON: features.md of the OCI specification.
///
/// # Errors
/// [`Code::SystemError`] if standard output cannot be written to.
pub(super) fn features(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags::NoOptions {}, _) = begin(invocation, report)?;
    output::bytes(&output::indented(&oci::features(), b"    ")?)?;
    Ok(0)
}
