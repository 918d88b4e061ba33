//! Hooks: programs of the host or of the container that run at steps of a container's life.

use serde::{Deserialize, Serialize};

use super::fault::{Check, Fault, each};
use super::{json, path};

/// The hooks of a container by step: OCI runtime specification, "POSIX-platform Hooks".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hooks {
    /// Run on the host, once the namespaces exist and before the root is entered. The specification
    /// deprecates them in favour of the next two, and they run first.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// Run on the host, after those of [`Hooks::prestart`].
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// Programs of the host that run in the container's namespaces before the root is entered.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// Programs of the container that run before its first program is executed.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// Run on the host, once the container's first program was executed.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// Run on the host, once the container was removed.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// A program to run as a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The absolute path of the program.
    pub path: String,
    /// The arguments, the program's name first. If empty, only the path is passed.
    #[serde(default, with = "json::list", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The whole environment: `NAME=value`. If absent, a hook on the host inherits the caller's,
    /// and one in the container's namespaces that of the container's program, as in runc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The timeout in seconds; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

impl Hooks {
    /// Returns whether there are no hooks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|(_, hooks)| hooks.is_empty())
    }

    /// Returns whether a hook needs the host's mounts in the container's mount namespace, or the
    /// root before it is entered.
    #[must_use]
    pub fn need_host_mounts(&self) -> bool {
        let lists = [&self.prestart, &self.create_runtime, &self.create_container];
        lists.iter().any(|hooks| !hooks.is_empty())
    }

    fn lists(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("hooks.prestart", &self.prestart),
            ("hooks.createRuntime", &self.create_runtime),
            ("hooks.createContainer", &self.create_container),
            ("hooks.startContainer", &self.start_container),
            ("hooks.poststart", &self.poststart),
            ("hooks.poststop", &self.poststop),
        ]
    }

    pub(super) fn check(&self) -> Check {
        for (field, hooks) in self.lists() {
            each(field, hooks, Hook::check)?;
        }
        Ok(())
    }
}

impl Hook {
    fn check(&self) -> Check {
        path::check_absolute("path", &self.path)?;
        let env = self.env.as_deref().unwrap_or_default();
        for (field, texts) in [("args", self.args.as_slice()), ("env", env)] {
            if let Some(text) = texts.iter().find(|text| text.contains('\0')) {
                return Err(Fault::text(field, text, "contains a NUL"));
            }
        }
        if let Some(text) = env.iter().find(|text| !text.contains('=')) {
            return Err(Fault::text("env", text, "must be NAME=value"));
        }
        match self.timeout {
            Some(timeout @ ..=0) => Err(Fault::new("timeout", timeout, "must be above 0")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_hooks_are_refused() {
        let hook = |args: &str, env: &str, timeout| Hook {
            path: "/bin/hook".into(),
            args: vec![args.into()],
            env: Some(vec![env.into()]),
            timeout,
        };
        let check = |hook: Hook| Hooks { poststart: vec![hook], ..Hooks::default() }.check();
        check(hook("hook", "A=b=c", Some(1))).unwrap();
        check(hook("", "=", None)).unwrap();
        for bad in [
            hook("a\0b", "A=b", None),
            hook("hook", "A=\0", None),
            hook("hook", "A", None),
            hook("hook", "A=b", Some(0)),
            hook("hook", "A=b", Some(-1)),
            Hook { path: "bin/hook".into(), ..hook("hook", "A=b", None) },
        ] {
            assert!(check(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
