//! Where the buses of systemd listen.
//!
//! Reference: the D-Bus specification, "Server Addresses" and "Well-known Message Bus Instances".

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use pidone_config::{Error, Result};

use super::Manager;
use crate::proc;

/// A socket on which systemd can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Its path; one that starts with `@` is a name in the abstract namespace.
    pub(super) path: PathBuf,
    /// Whether systemd itself listens there, without a bus.
    pub(super) is_direct: bool,
}

/// The address of the system bus, unless the environment has another.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// The socket of the service manager itself, below `/run` or the directory of a user's session. A
/// host without a bus daemon, such as a node that is a container, has only this one.
const DIRECT: &str = "systemd/private";

/// Returns the sockets to try, in this order.
///
/// # Errors
/// An address in the environment that names no Unix socket.
pub(super) fn of(manager: Manager) -> Result<Vec<Address>> {
    let (variable, fallback, directory) = match manager {
        Manager::System => {
            ("DBUS_SYSTEM_BUS_ADDRESS", Some(SYSTEM_BUS.into()), PathBuf::from("/run"))
        }
        Manager::User => {
            let directory = user_directory()?;
            let mut bus = OsString::from("unix:path=");
            bus.push(directory.join("bus"));
            ("DBUS_SESSION_BUS_ADDRESS", Some(bus), directory)
        }
    };
    let text = env::var_os(variable).filter(|text| !text.is_empty()).or(fallback);
    let text = text.unwrap_or_default();
    let mut addresses = parse(text.as_bytes());
    if addresses.is_empty() {
        let reason = "names no Unix socket";
        return Err(Error::config(variable, text.to_string_lossy(), reason));
    }
    addresses.push(Address { path: directory.join(DIRECT), is_direct: true });
    Ok(addresses)
}

/// Returns the directory of the caller's session: `XDG_RUNTIME_DIR`, or the one that systemd makes
/// for the user. In a user namespace that is the user who owns it.
fn user_directory() -> Result<PathBuf> {
    match env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => Ok(PathBuf::from(directory)),
        None => {
            let own = rustix::process::geteuid().as_raw();
            let maps = proc::own_id_maps("uid_map")?;
            let owner = maps.iter().find_map(|map| {
                let offset = own.checked_sub(map.container_id)?;
                (offset < map.size).then(|| map.host_id.checked_add(offset)).flatten()
            });
            Ok(PathBuf::from(format!("/run/user/{}", owner.unwrap_or(own))))
        }
    }
}

/// Returns the Unix sockets of a list of addresses, which are separated by `;`.
fn parse(text: &[u8]) -> Vec<Address> {
    text.split(|&byte| byte == b';').filter_map(parse_one).collect()
}

fn parse_one(text: &[u8]) -> Option<Address> {
    let pairs = text.strip_prefix(b"unix:")?;
    pairs.split(|&byte| byte == b',').find_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let value = unescape(&pair[at + 1..])?;
        let path = match &pair[..at] {
            b"path" if Path::new(&value).is_absolute() => PathBuf::from(value),
            b"abstract" if !value.is_empty() => {
                let mut name = OsString::from("@");
                name.push(value);
                PathBuf::from(name)
            }
            _ => return None,
        };
        Some(Address { path, is_direct: false })
    })
}

/// Decodes `%` and two hexadecimal digits.
fn unescape(text: &[u8]) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_unix_sockets_are_found() {
        let paths = |text: &str| -> Vec<String> {
            let found = parse(text.as_bytes());
            found.iter().map(|address| address.path.display().to_string()).collect()
        };
        assert_eq!(paths(SYSTEM_BUS), ["/run/dbus/system_bus_socket"]);
        assert_eq!(paths("unix:path=/a%20b,guid=12;unix:abstract=/tmp/x"), ["/a b", "@/tmp/x"]);
        assert_eq!(paths("tcp:host=h,port=1;unix:guid=1,path=/b"), ["/b"]);
        for none in ["", "tcp:host=h", "unix:", "unix:path=", "unix:path=rel", "unix:path=/%g", "x"]
        {
            assert_eq!(paths(none), [""; 0], "{none}");
        }
    }
}
