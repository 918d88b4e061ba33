//! Interfaces of the host that are moved into the container: OCI runtime specification, "Network
//! Devices".
//!
//! With its network namespace a link loses all that IP knows of it. Its addresses are therefore
//! read before and given to it again behind; everything else, such as the MTU, goes with the link.
//!
//! It stays there: the specification forbids to move it out before its namespace is deleted. The
//! kernel then returns hardware to the first namespace, and deletes what is virtual:
//! network_namespaces(7). Only from a container that failed to start is it taken back.

use std::os::fd::BorrowedFd;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkFlags;
use pidone_config::{Code, Error, Result};
use rustix::io::Errno;

use super::socket::Socket;
use super::{address, link, parse};

/// What ends a name of which the kernel, or here we, choose the number.
const TEMPLATE: &str = "%d";
/// How many numbers are tried, as in the kernel's `__dev_alloc_name()` with pages of 4 KiB.
const NUMBERS: u32 = 8 * 4096;

/// A link to move that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    host_name: String,
    name: String,
}

/// A link to move that was found on the host.
#[derive(Debug)]
pub(super) struct Found<'plan> {
    device: &'plan Device,
    index: u32,
    up: bool,
    addresses: Vec<AddressMessage>,
}

/// A link that was moved, with what it was on the host.
#[derive(Debug)]
pub(super) struct Moved {
    host_name: String,
    name: String,
    up: bool,
    addresses: Vec<AddressMessage>,
}

impl Device {
    /// Checks an entry of the configuration: the name on the host, and that in the container or
    /// nothing for the same.
    pub(super) fn new(host_name: &str, name: &str) -> Result<Self> {
        let key = |reason| Error::config("net_devices", host_name, reason);
        let host_name = parse::interface(host_name).map_err(key)?;
        if host_name == super::LOOPBACK {
            return Err(key("is the loopback interface, which every namespace has for itself"));
        }
        let name = if name.is_empty() { &host_name } else { name };
        let value = |reason| Error::config(format!("net_devices.{host_name}"), name, reason);
        // The kernel replaces the template by one digit or more.
        let example = name.strip_suffix(TEMPLATE).map(|start| format!("{start}0"));
        parse::interface(example.as_deref().unwrap_or(name)).map_err(value)?;
        let name = name.to_owned();
        Ok(Self { host_name, name })
    }

    /// The name in the container, unless it is chosen only there.
    pub(super) fn name(&self) -> Option<&str> {
        (!self.name.ends_with(TEMPLATE)).then_some(&self.name)
    }

    /// Finds the link on the host, with what it would lose.
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

    /// Chooses the name in the container; it must not be taken there.
    ///
    /// The kernel would move a link first and then refuse to rename it.
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
    /// Moves the link, brings it up and gives it its addresses. It is in `moved` as soon as it may
    /// have left.
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
    /// Moves the link back to the host and makes it what it was; one that is not there, and so was
    /// not moved or went by itself, is no failure.
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

/// Sets up a link in its new namespace.
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
    fn takes_names_and_templates() {
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
