//! The object `process`.

use serde::{Deserialize, Serialize};

use super::schedule::{ExecCpuAffinity, IoPriority, Scheduler};
use crate::config::json::{self, list, object, objects};
use crate::config::{self, CapabilitySets, capability};
use crate::error::{Error, Result};
use crate::process::{Ids, TerminalSize, last_of_each_name};
use crate::text::quoted;

/// The largest number of supplementary groups, `NGROUPS_MAX`.
const GROUPS_MAX: usize = 65_536;

/// The range of the OOM score adjustment: proc_pid_oom_score_adj(5).
const OOM_SCORE: std::ops::RangeInclusive<i64> = -1000..=1000;

/// A process of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// Whether the process gets a terminal as its standard descriptors.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// The size of the terminal.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// The user.
    pub user: User,
    /// The arguments, the program first.
    #[serde(with = "list")]
    pub args: Vec<String>,
    /// The environment, as `NAME=value`.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The working directory: an absolute path in the container.
    pub cwd: String,
    /// The capabilities; if absent, the process has none.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// The resource limits.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Whether `no_new_privs` is set, so that exec grants no privileges.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    /// The AppArmor profile.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub apparmor_profile: String,
    /// The SELinux label.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selinux_label: String,
    /// The OOM score adjustment, -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    /// The scheduling policy and its parameters.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The I/O scheduling class and priority.
    #[serde(
        rename = "ioPriority",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub io_priority: Option<IoPriority>,
    /// The CPU affinity of a further process.
    #[serde(
        rename = "execCPUAffinity",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// The number of rows.
    pub height: u64,
    /// The number of columns.
    pub width: u64,
}

/// The user of a process, as ids in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The file mode creation mask; 0022 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// The supplementary groups.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// The capability sets, with names such as `CAP_CHOWN`: `capabilities(7)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The bounding set: the limit of what exec can grant.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    /// The effective set: what the kernel checks.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    /// The inheritable set: what is kept by exec of a file with the same inheritable capabilities.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    /// The permitted set: what may be made effective.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    /// The ambient set: what is kept by exec of any file without privileges.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// A resource limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The name: `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The ceiling of the soft limit.
    pub hard: u64,
    /// The limit that the kernel enforces.
    pub soft: u64,
}

impl Process {
    /// Reads a document that is a single `process` object.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid), with the position.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        json::parse_with_nulls(text, "")
    }

    /// Lowers the object to a process to start, with the caller's standard descriptors.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid), with the path of the property in
    /// `config.json`.
    pub fn process(&self) -> Result<crate::Process> {
        if self.args.is_empty() {
            return Err(Error::config("process.args", "", "names no program"));
        }
        if self.cwd.len() > 4095 || self.cwd.split('/').any(|name| name.len() > 255) {
            let reason = "longer than 4095 bytes, or has a name of more than 255";
            return Err(Error::config("process.cwd", quoted(&self.cwd), reason));
        }
        if !self.cwd.starts_with('/') {
            let reason = "must be an absolute path";
            return Err(Error::config("process.cwd", quoted(&self.cwd), reason));
        }
        let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
        let scheduler = self.scheduler.as_ref().map(Scheduler::attributes).transpose()?;
        let affinity = self.exec_cpu_affinity.as_ref().map(ExecCpuAffinity::lists).transpose()?;
        Ok(crate::Process {
            args: self.args.iter().map(Into::into).collect(),
            env: self.environment()?.into_iter().map(Into::into).collect(),
            cwd: self.cwd.clone(),
            capability_sets: Some(self.capabilities.clone().unwrap_or_default().known()),
            ids: Some(self.user.ids()?),
            rlimits: Some(self.limits()?),
            apparmor_profile: filled(&self.apparmor_profile),
            label: filled(&self.selinux_label),
            oom_score_adj: self.oom_score()?,
            scheduler,
            io_priority: self.io_priority.as_ref().map(IoPriority::value).transpose()?,
            affinity,
            terminal: self.terminal_size()?,
            no_new_privileges: self.no_new_privileges,
            ..crate::Process::default()
        })
    }

    /// Returns a line for each value that is ignored: unknown capabilities, which the specification
    /// requires to be ignored.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (set, names) in self.capabilities.iter().flat_map(Capabilities::sets) {
            for (index, text) in names.iter().enumerate() {
                if name(text).is_none() {
                    let place = format!("process.capabilities.{set}[{index}]");
                    let what = Error::config(place, quoted(text), "unknown capability, ignored");
                    warnings.push(what.to_string());
                }
            }
        }
        warnings
    }

    /// Lowers the capabilities, limits and labels, which also apply to further processes that do
    /// not specify them.
    pub(super) fn apply(&self, config: &mut config::Config) -> Result<()> {
        let capabilities = self.capabilities.clone().unwrap_or_default();
        config.capabilities = capabilities.permitted.iter().filter_map(|text| name(text)).collect();
        config.rlimits = self.limits()?;
        config.apparmor_profile.clone_from(&self.apparmor_profile);
        config.process_label.clone_from(&self.selinux_label);
        Ok(())
    }

    /// Returns the environment. If a name occurs more than once, the last value is kept.
    fn environment(&self) -> Result<Vec<String>> {
        for (index, variable) in self.env.iter().enumerate() {
            if variable.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                let place = format!("process.env[{index}]");
                return Err(Error::config(place, quoted(variable), "must be NAME=value"));
            }
        }
        Ok(last_of_each_name(&self.env))
    }

    fn limits(&self) -> Result<Vec<config::Rlimit>> {
        let mut limits: Vec<config::Rlimit> = Vec::new();
        for (index, given) in self.rlimits.iter().enumerate() {
            let refuse = |reason: String| {
                let place = format!("process.rlimits[{index}].type");
                Err(Error::config(place, quoted(&given.kind), reason))
            };
            let number = given.kind.strip_prefix("RLIMIT_").and_then(config::Rlimit::number);
            let Some(kind) = number else {
                return refuse("unknown resource limit".to_owned());
            };
            let limit = config::Rlimit { kind, hard: given.hard, soft: given.soft };
            if limit.name().as_ref() != Some(&given.kind) {
                return refuse("unknown resource limit".to_owned());
            }
            if limits.iter().any(|earlier| earlier.kind == kind) {
                return refuse("stands more than once".to_owned());
            }
            if limit.soft > limit.hard {
                let (soft, hard) = (limit.soft, limit.hard);
                return refuse(format!("the soft limit {soft} is above the hard limit {hard}"));
            }
            limits.push(limit);
        }
        Ok(limits)
    }

    fn oom_score(&self) -> Result<Option<i32>> {
        let Some(score) = self.oom_score_adj else { return Ok(None) };
        match i32::try_from(score) {
            Ok(number) if OOM_SCORE.contains(&score) => Ok(Some(number)),
            _ => {
                let reason = "must be from -1000 to 1000";
                Err(Error::config("process.oomScoreAdj", score, reason))
            }
        }
    }

    fn terminal_size(&self) -> Result<Option<TerminalSize>> {
        // The specification says to ignore the size if there is no terminal.
        if !self.terminal {
            return Ok(None);
        }
        let size = self.console_size.unwrap_or_default();
        let number = |name: &str, number: u64| {
            u16::try_from(number).map_err(|_| {
                let place = format!("process.consoleSize.{name}");
                Error::config(place, number, "must be from 0 to 65535")
            })
        };
        let (rows, columns) = (number("height", size.height)?, number("width", size.width)?);
        Ok(Some(TerminalSize { rows, columns }))
    }
}

impl User {
    fn ids(&self) -> Result<Ids> {
        let id = |place: String, id: u32| match id {
            u32::MAX => Err(Error::config(place, id, "is no id: the kernel reads it as no change")),
            id => Ok(id),
        };
        if self.additional_gids.len() > GROUPS_MAX {
            let reason = "more than the 65536 groups that the kernel takes";
            return Err(Error::config("process.user.additionalGids", "", reason));
        }
        let groups = self.additional_gids.iter().enumerate();
        let groups =
            groups.map(|(index, gid)| id(format!("process.user.additionalGids[{index}]"), *gid));
        Ok(Ids {
            uid: id("process.user.uid".to_owned(), self.uid)?,
            gid: id("process.user.gid".to_owned(), self.gid)?,
            groups: groups.collect::<Result<_>>()?,
            // umask(2) ignores all other bits.
            umask: self.umask.map(|umask| umask & 0o777),
        })
    }
}

impl Capabilities {
    fn sets(&self) -> [(&'static str, &[String]); 5] {
        [
            ("bounding", &self.bounding),
            ("effective", &self.effective),
            ("inheritable", &self.inheritable),
            ("permitted", &self.permitted),
            ("ambient", &self.ambient),
        ]
    }

    /// Returns the sets without unknown names.
    fn known(&self) -> CapabilitySets {
        let known = |names: &[String]| names.iter().filter_map(|text| name(text)).collect();
        CapabilitySets {
            bounding: known(&self.bounding),
            effective: known(&self.effective),
            permitted: known(&self.permitted),
            inheritable: known(&self.inheritable),
            ambient: known(&self.ambient),
        }
    }
}

/// Returns the name of a capability without `CAP_`; `None` unless it is spelled as in the
/// specification.
fn name(text: &str) -> Option<String> {
    capability::name(text).filter(|name| text.strip_prefix("CAP_") == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Process {
        Process::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn properties_are_lowered_to_fields() {
        let made = process(
            r#"{"terminal": true, "consoleSize": {"height": 25, "width": 80},
                "user": {"uid": 5, "gid": 6, "umask": 63, "additionalGids": [7, 8]},
                "args": ["a", "b"], "env": ["A=1", "B=2", "A=3"], "cwd": "/tmp",
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_CHOWN"],
                    "inheritable": ["CAP_FOWNER"], "permitted": ["CAP_SETUID"],
                    "ambient": ["CAP_SETGID"]},
                "rlimits": [{"type": "RLIMIT_CORE", "hard": 18446744073709551615, "soft": 0}],
                "noNewPrivileges": true, "apparmorProfile": "p", "selinuxLabel": "l",
                "oomScoreAdj": -5,
                "scheduler": {"policy": "SCHED_FIFO", "priority": 10,
                    "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
                "execCPUAffinity": {"initial": "0", "final": "0-1"}}"#,
        )
        .process()
        .unwrap();
        assert_eq!(made.terminal, Some(TerminalSize { rows: 25, columns: 80 }));
        let ids = Ids { uid: 5, gid: 6, groups: vec![7, 8], umask: Some(0o77) };
        assert_eq!(made.ids, Some(ids));
        assert_eq!((made.args.len(), made.cwd.as_str()), (2, "/tmp"));
        assert_eq!(made.env, ["B=2", "A=3"]);
        let sets = made.capability_sets.unwrap();
        let sets = [sets.bounding, sets.effective, sets.inheritable, sets.permitted, sets.ambient];
        assert_eq!(sets.concat(), ["KILL", "CHOWN", "FOWNER", "SETUID", "SETGID"]);
        let limit = made.rlimits.unwrap()[0];
        assert_eq!((limit.kind, limit.hard), (libc::RLIMIT_CORE, config::Rlimit::UNLIMITED));
        assert!(made.no_new_privileges);
        assert_eq!(
            (made.apparmor_profile.as_deref(), made.label.as_deref()),
            (Some("p"), Some("l"))
        );
        assert_eq!(made.oom_score_adj, Some(-5));
        let scheduler = made.scheduler.unwrap();
        assert_eq!((scheduler.policy, scheduler.priority, scheduler.flags), (1, 10, 1));
        assert_eq!(made.io_priority, Some(2 << 13 | 4));
        assert_eq!(made.affinity.unwrap().last, "0-1");
    }

    #[test]
    fn absent_properties_are_lowered_to_defaults() {
        let made = process(
            r#"{"args": ["a"], "cwd": "/", "user": {}, "env": null,
            "consoleSize": {"height": 70000, "width": 1}, "rlimits": null}"#,
        )
        .process()
        .unwrap();
        assert_eq!(made.terminal, None, "without a terminal its size has no meaning");
        assert_eq!(made.capability_sets, Some(CapabilitySets::default()));
        assert_eq!(made.ids, Some(Ids::default()));
        assert_eq!((made.apparmor_profile, made.label, made.scheduler), (None, None, None));
        assert_eq!(made.rlimits, Some(Vec::new()));
    }

    #[test]
    fn unknown_capabilities_are_ignored_with_a_warning() {
        let given = process(
            r#"{"args": ["a"], "cwd": "/", "user": {},
                "capabilities": {"bounding": ["CAP_KILL", "CAP_FLY"], "ambient": ["kill"]}}"#,
        );
        assert_eq!(
            given.warnings(),
            [
                "configuration `process.capabilities.bounding[1] = \"CAP_FLY\"`: \
                 unknown capability, ignored",
                "configuration `process.capabilities.ambient[0] = \"kill\"`: \
                 unknown capability, ignored",
            ]
        );
        let sets = given.process().unwrap().capability_sets.unwrap();
        assert_eq!((sets.bounding, sets.ambient), (vec!["KILL".to_owned()], Vec::new()));
    }

    #[test]
    fn resource_limits_of_the_specification_are_known() {
        for name in [
            "AS",
            "CORE",
            "CPU",
            "DATA",
            "FSIZE",
            "LOCKS",
            "MEMLOCK",
            "MSGQUEUE",
            "NICE",
            "NOFILE",
            "NPROC",
            "RSS",
            "RTPRIO",
            "RTTIME",
            "SIGPENDING",
            "STACK",
        ] {
            let limit = Rlimit { kind: format!("RLIMIT_{name}"), hard: 1, soft: 1 };
            let process = Process { rlimits: vec![limit], ..Process::default() };
            assert_eq!(process.limits().unwrap().len(), 1, "{name}");
        }
    }
}
