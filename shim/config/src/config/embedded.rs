//! The configuration for a program of the host, without a root file system: the host's system
//! directories, read-only, in an empty root.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::default::mount;
use super::mount::flags::{BIND, NODEV, NOSUID, RDONLY, REC};
use super::{Config, Link, path};
use crate::error::{Code, Error, Result};

/// The directories in which distributions keep programs, libraries and settings. Those that exist
/// are mounted. NixOS and Guix keep everything in `/nix` and `/gnu`.
const SYSTEM: [&str; 11] = [
    "/bin", "/etc", "/gnu", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/opt", "/sbin", "/usr",
];

/// Empty writable directories, each with its options.
const SCRATCH: [(&str, &str); 4] =
    [("/tmp", "mode=1777"), ("/run", "mode=755"), ("/var/tmp", "mode=1777"), ("/root", "mode=700")];

/// Secrets of the host in `/etc`: a directory, and how the names in it begin and end.
///
/// Root in the container may read what root may read, so mounting them read-only is not enough.
const SECRETS: [(&str, &str, &str); 11] = [
    ("/etc", "shadow", ""),
    ("/etc", "gshadow", ""),
    ("/etc", "sudoers", ""),
    ("/etc", "krb5.keytab", ""),
    ("/etc", "wireguard", ""),
    ("/etc/NetworkManager", "system-connections", ""),
    ("/etc/ppp", "chap-secrets", ""),
    ("/etc/ppp", "pap-secrets", ""),
    ("/etc/security", "opasswd", ""),
    ("/etc/ssh", "ssh_host_", "_key"),
    ("/etc/ssl", "private", ""),
];

impl Config {
    /// Returns the configuration for a program of the host.
    ///
    /// It is nsinit's template with a read-only tmpfs as root. The root holds the system
    /// directories found below `host`, which is `/` except in tests, private writable directories,
    /// and nothing else. Files with secrets are hidden.
    ///
    /// # Errors
    ///
    /// [`Code::SystemError`] if the host's directories cannot be examined, and
    /// [`Code::ConfigInvalid`] if there are none.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use pidone_config::Config;
    ///
    /// let config = Config::embedded(Path::new("/"))?;
    /// assert!(config.tmpfs_root && config.readonlyfs);
    /// assert!(config.mounts.iter().any(|mount| mount.destination == "/tmp"));
    /// config.validate()?;
    /// # Ok::<(), pidone_config::Error>(())
    /// ```
    pub fn embedded(host: &Path) -> Result<Self> {
        let mut config = Self::template(PathBuf::new());
        config.tmpfs_root = true;
        config.readonlyfs = true;
        let mut mounts = Vec::new();
        for place in SYSTEM {
            match look(host, place)? {
                Found::Nothing => {}
                Found::Link(target) => {
                    config.links.push(Link { target, path: place.to_owned() });
                }
                Found::Directory(source) => {
                    let flags = BIND | REC | RDONLY | NOSUID | NODEV;
                    mounts.push(mount("bind", &source, place, flags, ""));
                }
            }
        }
        if mounts.is_empty() {
            let name = host.to_string_lossy();
            return Err(Error::reason(Code::ConfigInvalid, "open", name, "no system directories"));
        }
        mounts.append(&mut config.mounts);
        for (place, mode) in SCRATCH {
            mounts.push(mount("tmpfs", "tmpfs", place, NOSUID | NODEV, mode));
        }
        config.mounts = mounts;
        config.mask_paths.extend(secrets(host)?);
        Ok(config)
    }
}

/// What exists at a path of the host.
enum Found {
    Nothing,
    /// A symbolic link into one of the system directories, with its target as it is written.
    Link(String),
    /// A directory, with its path on the host.
    Directory(String),
}

fn look(host: &Path, place: &str) -> Result<Found> {
    let path = below(host, Path::new(place));
    let failed = |error| Error::path("stat", &path, error);
    let file_type = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed(error)),
    };
    if file_type.is_dir() {
        return Ok(Found::Directory(text(&path)?));
    }
    if !file_type.is_symlink() {
        return Ok(Found::Nothing);
    }
    let target = path.read_link().map_err(failed)?;
    let inside = path::clean(&Path::new("/").join(&target));
    let first = inside.components().nth(1).map(Component::as_os_str);
    if SYSTEM.iter().any(|system| *system != place && first == Path::new(system).file_name()) {
        return Ok(Found::Link(text(&target)?));
    }
    // The link leads out of the mounted directories and would be dangling in the container.
    let resolved = below(host, &inside);
    match resolved.canonicalize() {
        Ok(directory) if directory.is_dir() => Ok(Found::Directory(text(&directory)?)),
        Ok(_) => Ok(Found::Nothing),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(Error::path("open", &resolved, error)),
    }
}

/// Returns the secrets that exist on the host, as paths in the container.
fn secrets(host: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (place, start, end) in SECRETS {
        let directory = below(host, Path::new(place));
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            // A directory that the caller cannot list cannot be read in the container either: root
            // there has at most the caller's rights.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
                ) =>
            {
                continue;
            }
            Err(error) => return Err(Error::path("open", &directory, error)),
        };
        for entry in entries {
            let name = entry.map_err(|error| Error::path("read", &directory, error))?.file_name();
            if let Some(name) = name.to_str()
                && name.starts_with(start)
                && name.ends_with(end)
            {
                found.push(format!("{place}/{name}"));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns an absolute path moved below another root.
fn below(host: &Path, place: &Path) -> PathBuf {
    host.join(place.strip_prefix("/").unwrap_or(place))
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let name = path.to_string_lossy();
        Error::reason(Code::ConfigInvalid, "open", name, "the path is not UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn embedded_mounts_system_directories_and_hides_secrets() {
        let host = tempfile::tempdir().unwrap();
        let root = host.path();
        for directory in ["usr/bin", "etc/ssh", "etc/sudoers.d", "etc/ssl/private", "home/opt"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["shadow", "shadow-", "gshadow", "passwd", "ssh/ssh_host_rsa_key"] {
            fs::write(root.join("etc").join(file), "").unwrap();
        }
        fs::write(root.join("etc/ssh/ssh_host_rsa_key.pub"), "").unwrap();
        fs::write(root.join("sbin"), "a file").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        symlink("home/opt", root.join("opt")).unwrap();
        symlink("nowhere", root.join("nix")).unwrap();

        let config = Config::embedded(root).unwrap();
        config.validate().unwrap();
        assert!(config.tmpfs_root && config.readonlyfs);
        let binds: Vec<_> = config
            .mounts
            .iter()
            .filter(|mount| mount.is_bind())
            .map(|mount| (mount.source.as_str(), mount.destination.as_str()))
            .collect();
        let source = |path: &str| root.canonicalize().unwrap().join(path).display().to_string();
        assert_eq!(
            binds,
            [
                (&*root.join("etc").display().to_string(), "/etc"),
                (&*source("home/opt"), "/opt"),
                (&*root.join("usr").display().to_string(), "/usr"),
            ]
        );
        let links: Vec<_> = config.links.iter().map(|l| (&*l.path, &*l.target)).collect();
        assert_eq!(links, [("/bin", "usr/bin"), ("/lib", "/usr/lib")]);
        let hidden: Vec<_> =
            config.mask_paths.iter().filter(|path| path.starts_with("/etc")).collect();
        assert_eq!(
            hidden,
            [
                "/etc/gshadow",
                "/etc/shadow",
                "/etc/shadow-",
                "/etc/ssh/ssh_host_rsa_key",
                "/etc/ssl/private",
                "/etc/sudoers.d",
            ]
        );
        for place in
            ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/tmp", "/run"]
        {
            assert!(config.mounts.iter().any(|mount| mount.destination == place), "{place}");
        }
    }

    #[test]
    fn embedded_of_this_host_is_valid_and_has_usr() {
        let config = Config::embedded(Path::new("/")).unwrap();
        config.validate().unwrap();
        assert!(config.mounts.iter().any(|mount| mount.destination == "/usr"));
    }

    #[test]
    fn embedded_of_an_empty_host_is_an_error() {
        let host = tempfile::tempdir().unwrap();
        let error = Config::embedded(host.path()).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
    }
}
