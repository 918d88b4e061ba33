//! A bundle: a directory with a `config.json` and, usually, the root file system.

use std::path::{Path, PathBuf};

use super::{Spec, annotation, linux, resources};
use crate::config::{Config, NamespaceType};
use crate::error::{Code, Error, Result};
use crate::text::quoted;

/// The name of the configuration file in a bundle.
const FILE: &str = "config.json";

/// A bundle: a `config.json` and the directory that it was read from.
///
/// ```
/// use std::fs;
///
/// use pidone_config::oci::{self, Bundle};
///
/// # let temporary = tempfile::tempdir()?;
/// # let directory = temporary.path();
/// // What `pidone spec` writes.
/// let spec = oci::default::spec(None);
/// fs::write(directory.join("config.json"), serde_json::to_vec(&spec)?)?;
/// fs::create_dir(directory.join("rootfs"))?;
///
/// let bundle = Bundle::open(directory)?;
/// for warning in bundle.warnings() {
///     eprintln!("{warning}");
/// }
/// let mut config = bundle.config()?;
/// // `linux.cgroupsPath` is absent, so the cgroup is to be named after the container.
/// if let Some(cgroup) = &mut config.cgroups {
///     cgroup.name = "box".into();
/// }
/// config.check_host()?;
/// let process = bundle.process()?;
/// assert_eq!(process.args, ["sh"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory, as an absolute path without symbolic links.
    pub directory: PathBuf,
    /// The contents of `config.json`.
    pub spec: Spec,
}

impl Bundle {
    /// Opens the bundle in a directory and reads its `config.json`.
    ///
    /// # Errors
    /// [`Code::SystemError`] if the directory does not exist or has no `config.json`, and as
    /// [`Spec::from_json`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = real(directory.as_ref())?;
        let spec = Spec::from_file(&directory.join(FILE))?;
        Ok(Self { directory, spec })
    }

    /// Lowers the bundle to the configuration of a container. The result is valid as far as
    /// [`Config::validate`] can check.
    ///
    /// If `linux.cgroupsPath` is absent, the name of the cgroup is empty. The caller, who knows the
    /// container's id, should set the name to it.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] with the path of the property in `config.json`; with the error
    /// number if the root file system does not exist.
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
            ..Config::default()
        };
        let mounts = spec.mounts.iter().enumerate();
        config.mounts = mounts
            .map(|(index, mount)| mount.mount(index, &self.directory))
            .collect::<Result<_>>()?;
        let (mut cgroups_path, mut limits) = ("", None);
        if let Some(linux) = &spec.linux {
            annotation::linux(&spec.annotations, linux)
                .as_ref()
                .unwrap_or(linux)
                .apply(&mut config)?;
            cgroups_path = &linux.cgroups_path;
            limits = linux.resources.as_ref();
        }
        if let Some(process) = &spec.process {
            process.apply(&mut config)?;
        }
        annotation::apply(&spec.annotations, &mut config)?;
        // Validation requires a name.
        config.cgroups = Some(resources::cgroup(cgroups_path, "container", limits)?);
        config.validate_as(&linux::NAMES)?;
        if let Some(cgroup) = config.cgroups.as_mut().filter(|_| cgroups_path.is_empty()) {
            cgroup.name.clear();
        }
        if let Some(cgroup) = config.cgroups.as_mut().filter(|cgroup| cgroup.systemd) {
            cgroup.systemd_properties = annotation::scope_properties(&spec.annotations);
        }
        Ok(config)
    }

    /// Lowers the bundle to the first process of the container. Its working directory is created if
    /// it is missing, and `process.execCPUAffinity` does not apply to it.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] with the path of the property in `config.json`, and if `process` is
    /// absent.
    pub fn process(&self) -> Result<crate::Process> {
        Ok(crate::Process { affinity: None, make_cwd: true, ..self.further_process()? })
    }

    /// Lowers the bundle to a further process with the properties of the first one.
    ///
    /// # Errors
    /// As [`Bundle::process`].
    pub fn further_process(&self) -> Result<crate::Process> {
        let missing = || Error::config("process", "", "missing");
        self.spec.process.as_ref().ok_or_else(missing)?.process()
    }

    /// Returns a line for each value of the configuration that is ignored: unknown capabilities, as
    /// the specification requires, and the id maps of a user namespace that is joined, which has
    /// its own.
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

    /// Returns the directory of the root file system. Clients may reach it through symbolic links,
    /// which a [`Config`] must not contain.
    fn rootfs(&self, path: &str) -> Result<PathBuf> {
        if path.is_empty() {
            return Err(Error::config("root.path", "", "missing"));
        }
        if path.contains('\0') {
            return Err(Error::config("root.path", quoted(path), "contains a NUL"));
        }
        if path.len() > 4095 || path.split('/').any(|name| name.len() > 255) {
            let reason = "longer than 4095 bytes, or has a name of more than 255";
            return Err(Error::config("root.path", quoted(path), reason));
        }
        let real = real(&self.directory.join(path))
            .map_err(|error| error.with_code(Code::ConfigInvalid))?;
        if !real.is_dir() {
            return Err(Error::config("root.path", quoted(path), "not a directory"));
        }
        Ok(real)
    }
}

/// Returns a path without symbolic links. It must be UTF-8, because it is also stored as JSON.
fn real(path: &Path) -> Result<PathBuf> {
    let real = path.canonicalize().map_err(|error| Error::path("open", path, error))?;
    if real.to_str().is_none() {
        let name = real.to_string_lossy();
        return Err(Error::reason(Code::ConfigInvalid, "open", name, "the path is not UTF-8"));
    }
    Ok(real)
}
