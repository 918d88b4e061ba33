//! Annotations that change what a runtime does: those of pidone, and those of crun that podman and
//! its users set.

use std::collections::BTreeMap;

use super::Linux;
use crate::config::Config;
use crate::error::{Error, Result};

/// Selects an init that remains process 1: `true` or `false`.
pub(super) const INIT: &str = "org.pidone.init";

/// Keeps the supplementary groups of the caller, unless it is `0`. podman sets it for `--group-add
/// keep-groups`.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Refuses a seccomp profile with names that are no system call, unless it is `0`.
const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";

/// The socket of a seccomp agent, where the profile names none.
const RECEIVER: &str = "run.oci.seccomp.receiver";

/// The kind of the SELinux option of mounts: only `context`, the default, is known.
const MOUNT_CONTEXT: &str = "run.oci.mount_context_type";

/// Annotations of crun that change what the container may do or what its client gets, and that this
/// runtime does not have. The second text is the reason, the third what to do instead.
const REFUSED: [(&str, &str, &str); 8] = [
    ("run.oci.delegate-cgroup", "a cgroup below the container's cannot be delegated", ""),
    ("run.oci.handler", "there are no handlers of other kinds of programs", ""),
    ("run.oci.pidfd_autokill", "a pidfd cannot be tied to the life of its holder", ""),
    ("run.oci.pidfd_receiver", "the pidfd is not sent there", "use --pidfd-socket"),
    ("run.oci.seccomp.plugins", "there are no plugins", "name an agent in listenerPath"),
    ("run.oci.seccomp_bpf_data", "a compiled filter cannot be loaded", "use linux.seccomp"),
    ("run.oci.systemd.force_cgroup_v1", "no mount is replaced by one of cgroup v1", ""),
    ("run.oci.timens_offset", "has a property of its own", "use linux.timeOffsets"),
];

/// The annotations that change what the runtime does. A prefix ends with a full stop: `features.md`
/// of the specification.
pub(super) const UNSAFE: [&str; 3] = ["org.pidone.", PROPERTY, "run.oci."];

/// The annotations that are properties of the scope.
const PROPERTY: &str = "org.systemd.property.";

/// Returns the properties of the scope that annotations `org.systemd.property.NAME` ask for.
#[must_use]
pub fn scope_properties(annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let property = |(name, value): (&String, &String)| {
        Some((name.strip_prefix(PROPERTY)?.to_owned(), value.clone()))
    };
    annotations.iter().filter_map(property).collect()
}

/// Returns the section `linux` with what the annotations add to it, if they add anything.
pub(super) fn linux(annotations: &BTreeMap<String, String>, linux: &Linux) -> Option<Linux> {
    let receiver = annotations.get(RECEIVER).filter(|path| !path.is_empty())?;
    let seccomp = linux.seccomp.as_ref().filter(|seccomp| seccomp.listener_path.is_empty())?;
    let seccomp =
        super::linux::seccomp::Seccomp { listener_path: receiver.clone(), ..seccomp.clone() };
    Some(Linux { seccomp: Some(seccomp), ..linux.clone() })
}

/// Sets the fields that the annotations stand for. Those that are not known have no meaning here.
///
/// # Errors
/// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) for a value that is not known, and for an
/// annotation that would change access and cannot be honoured.
pub(super) fn apply(annotations: &BTreeMap<String, String>, config: &mut Config) -> Result<()> {
    let refuse = |name: &str, value: &str, reason: &'static str| {
        Error::config(format!("annotations.{name}"), value, reason)
    };
    let value = |name: &str| annotations.get(name).map(String::as_str);
    config.supervise = match value(INIT) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(refuse(INIT, other, "not true or false")),
    };
    let is_set = |name: &str| value(name).is_some_and(|value| value != "0");
    config.keep_groups = is_set(KEEP_GROUPS);
    config.refuse_unknown_syscalls = is_set(FAIL_UNKNOWN);
    match value(MOUNT_CONTEXT) {
        None | Some("" | "context") => {}
        // Without a label there is no option.
        Some(_) if config.mount_label.is_empty() => {}
        Some(other) => return Err(refuse(MOUNT_CONTEXT, other, "only context is supported")),
    }
    for (name, reason, hint) in REFUSED {
        let Some(given) = value(name).filter(|value| !value.is_empty()) else { continue };
        let error = refuse(name, given, reason);
        return Err(if hint.is_empty() { error } else { error.with_hint(hint) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn applied(pairs: &[(&str, &str)]) -> std::result::Result<Config, String> {
        let mut config = Config::default();
        apply(&annotations(pairs), &mut config).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn annotations_are_lowered_to_fields() {
        assert_eq!(applied(&[]).unwrap(), Config::default());
        for (value, is_set) in [("1", true), ("true", true), ("", true), ("0", false)] {
            let config = applied(&[(KEEP_GROUPS, value), (FAIL_UNKNOWN, value)]).unwrap();
            assert_eq!((config.keep_groups, config.refuse_unknown_syscalls), (is_set, is_set));
        }
        assert!(applied(&[(INIT, "true")]).unwrap().supervise);
    }

    #[test]
    fn annotations_of_others_and_harmless_ones_are_ignored() {
        let pairs = [
            ("org.example", "1"),
            ("run.oci.unheard-of", "1"),
            ("run.oci.hooks.stdout", "/tmp/x"),
            ("run.oci.systemd.subgroup", ""),
            ("run.oci.handler", ""),
            (MOUNT_CONTEXT, "rootcontext"),
        ];
        assert_eq!(applied(&pairs).unwrap(), Config::default());
    }

    #[test]
    fn what_would_change_access_is_refused() {
        assert_eq!(
            applied(&[("run.oci.handler", "krun")]).unwrap_err(),
            "configuration `annotations.run.oci.handler = krun`: \
             there are no handlers of other kinds of programs"
        );
        assert_eq!(
            applied(&[("run.oci.pidfd_receiver", "/x")]).unwrap_err(),
            "configuration `annotations.run.oci.pidfd_receiver = /x`: \
             the pidfd is not sent there (use --pidfd-socket)"
        );
        for (name, ..) in REFUSED {
            assert!(applied(&[(name, "1")]).is_err(), "{name}");
        }
        let labelled = &mut Config { mount_label: "l".to_owned(), ..Config::default() };
        let context = |value| annotations(&[(MOUNT_CONTEXT, value)]);
        assert!(apply(&context("rootcontext"), labelled).is_err());
        assert!(apply(&context("context"), labelled).is_ok());
    }

    #[test]
    fn the_agent_of_an_annotation_is_second_to_that_of_the_profile() {
        let section = |json: &str| serde_json::from_str::<Linux>(json).unwrap();
        let bare = section(r#"{"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}"#);
        let named = section(
            r#"{"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/first"}}"#,
        );
        let receiver = annotations(&[(RECEIVER, "/agent")]);
        let path = |section: &Linux| {
            linux(&receiver, section).map(|linux| linux.seccomp.unwrap().listener_path)
        };
        assert_eq!(path(&bare).as_deref(), Some("/agent"));
        assert_eq!(path(&named), None);
        assert_eq!(path(&Linux::default()), None);
        assert!(linux(&annotations(&[]), &bare).is_none());
    }
}
