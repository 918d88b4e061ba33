//! Host interfaces that are moved into the container: OCI runtime specification, "Network Devices".
//!
//! A link loses its IP configuration when it changes its network namespace. So its addresses are
//! read before the move and added again after it. Everything else, such as the MTU, stays.
//!
//! The specification forbids moving the link out before its namespace is deleted. The kernel then
//! moves hardware to the initial namespace, and deletes virtual links: `network_namespaces(7)`.
//! Only the links of a container that failed to start are moved back.

use std::os::fd::BorrowedFd;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkFlags;
use pidone_config::{Code, Error, Result};
use rustix::io::Errno;

use super::socket::Socket;
use super::{address, link, parse};

/// The suffix of a name that is replaced by a free number, as the kernel does with it.
const TEMPLATE: &str = "%d";
/// How many numbers are tried, as in the kernel's `__dev_alloc_name()` with pages of 4 KiB.
const NUMBERS: u32 = 8 * 4096;

/// A link to move, as checked in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    host_name: String,
    name: String,
}

/// A link to move, as found on the host.
#[derive(Debug)]
pub(super) struct Found<'plan> {
    device: &'plan Device,
    index: u32,
    up: bool,
    addresses: Vec<AddressMessage>,
}

/// A link that was moved, with its state on the host.
#[derive(Debug)]
pub(super) struct Moved {
    host_name: String,
    name: String,
    up: bool,
    addresses: Vec<AddressMessage>,
}

impl Device {
    /// Checks an entry of the configuration: the name on the host, and the name in the container,
    /// which is the same if empty.
    pub(super) fn new(host_name: &str, name: &str) -> Result<Self> {
        let key = |reason| Error::config("net_devices", host_name, reason);
        let host_name = parse::interface(host_name).map_err(key)?;
        if host_name == super::LOOPBACK {
            return Err(key("is the loopback interface, which every namespace has for itself"));
        }
        let name = if name.is_empty() { &host_name } else { name };
        let value = |reason| Error::config(format!("net_devices.{host_name}"), name, reason);
        // At least one digit replaces the template.
        let example = name.strip_suffix(TEMPLATE).map(|start| format!("{start}0"));
        parse::interface(example.as_deref().unwrap_or(name)).map_err(value)?;
        let name = name.to_owned();
        Ok(Self { host_name, name })
    }

    /// Returns the name in the container, `None` if it is chosen at the move.
    pub(super) fn name(&self) -> Option<&str> {
        (!self.name.ends_with(TEMPLATE)).then_some(&self.name)
    }

    /// Finds the link on the host, and reads the state that it would lose.
    pub(super) fn find(&self, host: &mut Socket) -> Result<Found<'_>> {
        let fail = |errno| Error::system("link get", &self.host_name, errno);
        let link = link::get(host, &self.host_name)
            .map_err(|failure| failure.at("link get", &self.host_name))?
            .ok_or_else(|| fail(Errno::NODEV))?;
        if link.flags.contains(LinkFlags::Loopback) {
            let reason = "is a loopback interface, which cannot be moved";
            return Err(Error::reason(Code::SystemError, "link get", &self.host_name, reason));
        }
        let addresses = address::permanent(host, link.index)
            .map_err(|failure| failure.at("address show", &self.host_name))?;
        let up = link.flags.contains(LinkFlags::Up);
        Ok(Found { device: self, index: link.index, up, addresses })
    }

    /// Chooses the name in the container, which must not be in use there.
    ///
    /// The kernel would move the link before it refuses to rename it.
    fn free_name(&self, inside: &Socket) -> Result<String> {
        let is_free = |name: &str| link::index(inside, name).is_err();
        let free = match self.name.strip_suffix(TEMPLATE) {
            Some(start) => (0..NUMBERS)
                .map(|number| format!("{start}{number}"))
                .find(|name| parse::interface(name).is_err() || is_free(name))
                .filter(|name| parse::interface(name).is_ok()),
            None => is_free(&self.name).then(|| self.name.clone()),
        };
        free.ok_or_else(|| {
            Error::system(
                "link set",
                format!("{} name {}", self.host_name, self.name),
                Errno::EXIST,
            )
            .with_hint("in the container's namespace")
        })
    }
}

impl Found<'_> {
    /// Moves the link, brings it up and adds its addresses. Appends it to `moved` even after an
    /// error, unless it is certain that the link was not moved.
    pub(super) fn take(
        self,
        host: &mut Socket,
        inside: &mut Socket,
        netns: BorrowedFd<'_>,
        moved: &mut Vec<Moved>,
    ) -> Result<()> {
        let Self { device: Device { host_name, .. }, index, up, addresses } = self;
        let name = self.device.free_name(inside)?;
        let went = link::move_to(host, index, netns, &name).map_err(|failure| {
            failure.at("link set", format!("{host_name} netns container name {name}"))
        });
        let stayed = went.is_err() && link::index(host, host_name).is_ok_and(|own| own == index);
        let settled = went.and_then(|()| settle(inside, &name, true, &addresses));
        if !stayed {
            moved.push(Moved { host_name: host_name.clone(), name, up, addresses });
        }
        settled
    }
}

impl Moved {
    /// Moves the link back to the host and restores its state. A link that is not in the container,
    /// because it was not moved or was deleted, is no error.
    pub(super) fn give_back(
        &self,
        inside: &mut Socket,
        host: &mut Socket,
        host_netns: BorrowedFd<'_>,
    ) -> Result<()> {
        let link =
            link::get(inside, &self.name).map_err(|failure| failure.at("link get", &self.name))?;
        let Some(link) = link else { return Ok(()) };
        link::move_to(inside, link.index, host_netns, &self.host_name).map_err(|failure| {
            failure.at("link set", format!("{} netns host name {}", self.name, self.host_name))
        })?;
        settle(host, &self.host_name, self.up, &self.addresses)
    }
}

/// Brings up a link in its new namespace and adds its addresses.
fn settle(socket: &mut Socket, name: &str, up: bool, addresses: &[AddressMessage]) -> Result<()> {
    let index = link::index(socket, name).map_err(|failure| failure.at("link get", name))?;
    if up {
        link::up(socket, index).map_err(|failure| failure.at("link set", format!("{name} up")))?;
    }
    addresses.iter().try_for_each(|address| {
        address::restore(socket, index, address).map_err(|failure| {
            failure.at("address add", format!("{} dev {name}", address::text(address)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_templates_are_checked() {
        let name = |host: &str, name: &str| {
            Device::new(host, name).map(|device| device.name().map(str::to_owned))
        };
        assert_eq!(name("eth0", "").unwrap().as_deref(), Some("eth0"));
        assert_eq!(name("eth0", "wan").unwrap().as_deref(), Some("wan"));
        assert_eq!(name("eth0", "wan%d").unwrap(), None);
        assert_eq!(name("eth0", "abcdefghijklmn%d").unwrap(), None);
        for (host, inside, field) in [
            ("", "", "net_devices`: is missing"),
            ("eth%d", "", "net_devices = eth%d`: has a space"),
            ("lo", "eth0", "net_devices = lo`: is the loopback"),
            ("eth0", "a/b", "net_devices.eth0 = a/b`: has a space"),
            ("eth0", "a%db", "net_devices.eth0 = a%db`: has a space"),
            ("eth0", "a%d%d", "net_devices.eth0 = a%d%d`: has a space"),
            ("eth0", "abcdefghijklmno%d", "net_devices.eth0 = abcdefghijklmno%d`: is longer"),
        ] {
            let error = Device::new(host, inside).unwrap_err().to_string();
            assert!(error.starts_with(&format!("configuration `{field}")), "{error}");
        }
    }
}
