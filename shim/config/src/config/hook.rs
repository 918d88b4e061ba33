//! Programs of the host, or of the container, that run at steps of a container's life.

use serde::{Deserialize, Serialize};

use super::fault::{Check, Fault, each};
use super::{json, path};

/// The hooks of a container by the step at which they run: OCI runtime specification, "POSIX-platform
/// Hooks".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hooks {
    /// On the host, once the namespaces exist and before the root is entered. Deprecated by the
    /// specification in favour of the next two, and run before them.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// On the host, behind those of [`Hooks::prestart`].
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// Programs of the host in the container's namespaces, before its root is entered.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// Programs of the container, before its own program is executed.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// On the host, once the container's program was executed.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// On the host, once the container was removed.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// A program with what it gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The absolute path of the program.
    pub path: String,
    /// The arguments, the program's name first; the path alone if there is none.
    #[serde(default, with = "json::list", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The environment, exactly: `NAME=value`.
    #[serde(default, with = "json::list", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// How many seconds it may take; without a limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

impl Hooks {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|(_, hooks)| hooks.is_empty())
    }

    /// Whether a hook must see the host's files from the container's mount namespace, or the root
    /// before it is entered.
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
        for (field, texts) in [("args", &self.args), ("env", &self.env)] {
            if let Some(text) = texts.iter().find(|text| text.contains('\0')) {
                return Err(Fault::text(field, text, "contains a NUL"));
            }
        }
        if let Some(text) = self.env.iter().find(|text| !text.contains('=')) {
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
    fn refuses_what_cannot_be_handed_over() {
        let hook = |args: &str, env: &str, timeout| Hook {
            path: "/bin/hook".into(),
            args: vec![args.into()],
            env: vec![env.into()],
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
