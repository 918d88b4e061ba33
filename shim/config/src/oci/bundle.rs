//! A bundle: a directory with a `config.json`, and usually the root file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Spec, linux, resources};
use crate::config::{Config, NamespaceType};
use crate::error::{Code, Error, Result};
use crate::text::quoted;

/// The file of a bundle.
const FILE: &str = "config.json";

/// The annotation that has the init stay process 1: `true` or `false`.
pub(super) const INIT: &str = "org.pidone.init";

/// A bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory: an absolute path that leads through no symbolic link.
    pub directory: PathBuf,
    /// What is asked for.
    pub spec: Spec,
}

impl Bundle {
    /// Reads the bundle in a directory.
    ///
    /// # Errors
    /// [`Code::SystemError`] where there is no such directory or no `config.json` in it, and as
    /// [`Spec::from_json`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = real(directory.as_ref())?;
        let spec = Spec::from_file(&directory.join(FILE))?;
        Ok(Self { directory, spec })
    }

    /// The container's configuration, which is valid as far as that can be said without looking at
    /// the host.
    ///
    /// Where no `linux.cgroupsPath` is given, the name of the cgroup is empty: it is to be the id,
    /// which the caller knows.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] with the place in `config.json`; with the errno where there is no
    /// root file system.
    pub fn config(&self) -> Result<Config> {
        let spec = &self.spec;
        spec.check_platform()?;
        let Some(root) = &spec.root else {
            return Err(Error::config("root", "", "missing"));
        };
        let mut config = Config {
            rootfs: self.rootfs(&root.path)?,
            readonlyfs: root.readonly,
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            hooks: spec.hooks.clone().unwrap_or_default(),
            annotations: spec.annotations.clone(),
            bundle: self.directory.clone(),
            new_keyring: true,
            supervise: supervises(&spec.annotations)?,
            ..Config::default()
        };
        let mounts = spec.mounts.iter().enumerate();
        config.mounts = mounts
            .map(|(index, mount)| mount.mount(index, &self.directory))
            .collect::<Result<_>>()?;
        let (mut cgroups_path, mut limits) = ("", None);
        if let Some(linux) = &spec.linux {
            linux.apply(&mut config)?;
            cgroups_path = &linux.cgroups_path;
            limits = linux.resources.as_ref();
        }
        if let Some(process) = &spec.process {
            process.apply(&mut config)?;
        }
        // What is checked has a name.
        config.cgroups = Some(resources::cgroup(cgroups_path, "container", limits)?);
        config.validate_as(&linux::NAMES)?;
        if let Some(cgroup) = config.cgroups.as_mut().filter(|_| cgroups_path.is_empty()) {
            cgroup.name.clear();
        }
        Ok(config)
    }

    /// The container's first process, to which `process.execCPUAffinity` says nothing.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] with the place in `config.json`, also where there is no `process`.
    pub fn process(&self) -> Result<crate::Process> {
        Ok(crate::Process { affinity: None, ..self.further_process()? })
    }

    /// A further process like the first one.
    ///
    /// # Errors
    /// As [`Bundle::process`].
    pub fn further_process(&self) -> Result<crate::Process> {
        let missing = || Error::config("process", "", "missing");
        self.spec.process.as_ref().ok_or_else(missing)?.process()
    }

    /// What of the configuration is ignored, a sentence each: unknown capabilities, as the
    /// specification wants it, and the id maps of a user namespace that is joined, which has its
    /// own.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings =
            self.spec.process.as_ref().map(super::Process::warnings).unwrap_or_default();
        if let Some(linux) = &self.spec.linux {
            let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
            let joined = |given: &linux::Namespace| {
                linux::NAMESPACES.contains(&(given.kind.as_str(), NamespaceType::User))
                    && !given.path.is_empty()
            };
            if mapped && linux.namespaces.iter().any(joined) {
                let reason = "the user namespace that is joined has its own, ignored";
                warnings.push(Error::config("linux.uidMappings", "", reason).to_string());
            }
        }
        warnings
    }

    /// The directory of the root file system. Clients may have it behind symbolic links, and a
    /// configuration may not.
    fn rootfs(&self, path: &str) -> Result<PathBuf> {
        if path.is_empty() {
            return Err(Error::config("root.path", "", "missing"));
        }
        if path.contains('\0') {
            return Err(Error::config("root.path", quoted(path), "contains a NUL"));
        }
        let real = real(&self.directory.join(path))
            .map_err(|error| error.with_code(Code::ConfigInvalid))?;
        if !real.is_dir() {
            return Err(Error::config("root.path", quoted(path), "not a directory"));
        }
        Ok(real)
    }
}

/// The path without symbolic links. It is also kept in files of JSON.
fn real(path: &Path) -> Result<PathBuf> {
    let real = path.canonicalize().map_err(|error| Error::path("open", path, error))?;
    if real.to_str().is_none() {
        let name = real.to_string_lossy();
        return Err(Error::reason(Code::ConfigInvalid, "open", name, "the path is not UTF-8"));
    }
    Ok(real)
}

/// Whether the annotations ask for an init that stays.
fn supervises(annotations: &BTreeMap<String, String>) -> Result<bool> {
    match annotations.get(INIT).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            Err(Error::config(format!("annotations.{INIT}"), other, "not true or false"))
        }
    }
}
