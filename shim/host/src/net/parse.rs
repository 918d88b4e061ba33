//! Parsers of addresses and names in the configuration.
//!
//! A parser returns the broken rule as its error, and a [`Field`] adds the position.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use netlink_packet_route::AddressFamily;
use pidone_config::Error;
use pidone_config::error::Result as CrateResult;

/// The position of a string in the configuration, as in `networks[1].address`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) list: &'static str,
    pub(super) index: usize,
    pub(super) name: &'static str,
}

impl Field {
    /// Returns an error about the value of this field.
    pub(super) fn error(self, value: &str, reason: impl Into<Cow<'static, str>>) -> Error {
        Error::config(format!("{}[{}].{}", self.list, self.index, self.name), value, reason)
    }

    /// Parses a required value.
    pub(super) fn required<T>(
        self,
        value: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> CrateResult<T> {
        parse(value).map_err(|reason| self.error(value, reason))
    }

    /// Parses a value, `None` if it is empty.
    pub(super) fn optional<T>(
        self,
        value: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> CrateResult<Option<T>> {
        (!value.is_empty()).then(|| self.required(value, parse)).transpose()
    }
}

/// An address with the length of its network prefix, as in `10.0.0.2/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

impl Cidr {
    /// Whether no bit after the prefix is set, as for a network but not for a host in it.
    pub(super) fn is_network(self) -> bool {
        // A prefix of the whole width leaves no bits after it.
        let host_bits = match self.address {
            IpAddr::V4(address) => {
                address.to_bits().checked_shl(self.length.into()).unwrap_or(0) != 0
            }
            IpAddr::V6(address) => {
                address.to_bits().checked_shl(self.length.into()).unwrap_or(0) != 0
            }
        };
        !host_bits
    }

    /// Whether the prefix has the whole width, as for a single host.
    pub(super) fn is_host(self) -> bool {
        self.length == width(self.address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Returns the netlink family of an address.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn split<A: FromStr + Into<IpAddr>>(value: &str) -> Option<Cidr> {
    let (address, length) = value.split_once('/')?;
    let address = address.parse::<A>().ok()?.into();
    // `u8::from_str` accepts a sign.
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|length| digits && *length <= width(address))?;
    Some(Cidr { address, length })
}

/// Parses an address of either family with its prefix length.
pub(super) fn cidr(value: &str) -> Result<Cidr, &'static str> {
    split::<IpAddr>(value).ok_or("is not an address with its prefix length, as in 10.1.0.0/16")
}

/// Parses an IPv4 address with its prefix length.
pub(super) fn ipv4_cidr(value: &str) -> Result<Cidr, &'static str> {
    split::<Ipv4Addr>(value)
        .ok_or("is not an IPv4 address with its prefix length, as in 10.0.0.2/24")
}

/// Parses an IPv6 address with its prefix length.
pub(super) fn ipv6_cidr(value: &str) -> Result<Cidr, &'static str> {
    split::<Ipv6Addr>(value)
        .ok_or("is not an IPv6 address with its prefix length, as in 2001:db8::2/64")
}

/// Parses the gateway of a route.
pub(super) fn gateway(value: &str) -> Result<IpAddr, &'static str> {
    value.parse().map_err(|_| "is not an address without a prefix length")
}

/// Parses the IPv4 gateway of an interface. Returns `None` for `localhost`.
///
/// libcontainer's example has the gateway `localhost` for the loopback interface, which needs no
/// route.
pub(super) fn ipv4_gateway(value: &str) -> Result<Option<IpAddr>, &'static str> {
    if value == "localhost" {
        return Ok(None);
    }
    let address = value.parse::<Ipv4Addr>();
    address
        .map(|address| Some(address.into()))
        .map_err(|_| "is neither an IPv4 address nor localhost")
}

/// Parses the IPv6 gateway of an interface. Returns `None` for `localhost`.
pub(super) fn ipv6_gateway(value: &str) -> Result<Option<IpAddr>, &'static str> {
    if value == "localhost" {
        return Ok(None);
    }
    let address = value.parse::<Ipv6Addr>();
    address
        .map(|address| Some(address.into()))
        .map_err(|_| "is neither an IPv6 address nor localhost")
}

/// Parses a unicast MAC address: six bytes in hexadecimal, separated by colons or dashes.
pub(super) fn mac(value: &str) -> Result<[u8; 6], &'static str> {
    const FORM: &str = "is not a MAC address, as in 02:42:ac:11:00:02";
    let mut bytes = [0; 6];
    let mut parts = value.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2).ok_or(FORM)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| FORM)?;
        if part.starts_with('+') {
            return Err(FORM);
        }
    }
    if parts.next().is_some() {
        return Err(FORM);
    }
    // The kernel's is_valid_ether_addr() refuses these.
    if bytes[0] & 1 != 0 {
        return Err("is a multicast address");
    }
    if bytes == [0; 6] {
        return Err("is zero");
    }
    Ok(bytes)
}

/// The longest name of an interface, in bytes: `IFNAMSIZ` without the final NUL.
const NAME_MAX: usize = 15;

/// Checks the name of an interface by the rules of the kernel's `dev_valid_name()`.
///
/// A percent sign is refused too. The kernel uses a name such as `veth%d` as a pattern, and the
/// caller would not know the chosen name.
pub(super) fn interface(value: &str) -> Result<String, &'static str> {
    if value.is_empty() {
        return Err("is missing");
    }
    if value.len() > NAME_MAX {
        return Err("is longer than 15 bytes");
    }
    if value == "." || value == ".." {
        return Err("is not a name of an interface");
    }
    if value.contains(|c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c)) {
        return Err("has a space, a control character, or one of / : %");
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_another_family_or_form_are_refused() {
        let cidr = ipv4_cidr("10.0.0.2/24").unwrap();
        assert_eq!((cidr.address, cidr.length), ("10.0.0.2".parse().unwrap(), 24));
        assert_eq!(ipv4_cidr("127.0.0.1/0").unwrap().length, 0);
        assert_eq!(ipv6_cidr("2001:db8::2/128").unwrap().to_string(), "2001:db8::2/128");
        assert!(ipv4_cidr("2001:db8::2/64").is_err());
        assert!(ipv6_cidr("10.0.0.2/24").is_err());
        for bad in ["", "/", "10.0.0.2", "10.0.0.2/", "10.0.0.2/33", "10.0.0.2/+8", "10.0.0.2/-1"] {
            assert!(cidr_error(bad), "{bad}");
        }
        for bad in ["10.0.0/8", "10.0.0.2/8/9", " 10.0.0.2/8", "10.0.0.2/8 ", "::1/129", "::1/256"]
        {
            assert!(cidr_error(bad), "{bad}");
        }
        for bad in ["fe80::1%eth0/64", "10.0.0.2/255.0.0.0", "10.0.0.02/8", "localhost/8"] {
            assert!(cidr_error(bad), "{bad}");
        }
    }

    fn cidr_error(value: &str) -> bool {
        cidr(value).is_err()
    }

    #[test]
    fn networks_have_no_bits_after_the_prefix() {
        for network in ["10.1.0.0/16", "0.0.0.0/0", "10.0.0.1/32", "2001:db8::/32", "::1/128"] {
            assert!(cidr(network).unwrap().is_network(), "{network}");
        }
        for host in ["10.1.0.1/16", "10.0.0.1/31", "0.0.0.1/0", "2001:db8::1/64", "::1/0"] {
            assert!(!cidr(host).unwrap().is_network(), "{host}");
        }
        assert!(cidr("10.0.0.1/32").unwrap().is_host());
        assert!(!cidr("2001:db8::/32").unwrap().is_host());
    }

    #[test]
    fn localhost_is_no_gateway() {
        assert_eq!(ipv4_gateway("localhost"), Ok(None));
        assert_eq!(ipv6_gateway("localhost"), Ok(None));
        assert_eq!(ipv4_gateway("10.0.0.1"), Ok(Some("10.0.0.1".parse().unwrap())));
        assert_eq!(ipv6_gateway("fe80::1"), Ok(Some("fe80::1".parse().unwrap())));
        assert!(ipv4_gateway("fe80::1").is_err());
        assert!(ipv6_gateway("10.0.0.1").is_err());
        assert!(ipv4_gateway("10.0.0.1/24").is_err());
        assert!(gateway("localhost").is_err());
    }

    #[test]
    fn only_unicast_mac_addresses_are_accepted() {
        assert_eq!(mac("02:42:ac:11:00:fE"), Ok([2, 0x42, 0xac, 0x11, 0, 0xfe]));
        assert_eq!(mac("02-42-ac-11-00-02"), Ok([2, 0x42, 0xac, 0x11, 0, 2]));
        for bad in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:00:02"] {
            assert!(mac(bad).is_err(), "{bad}");
        }
        for bad in
            ["0242ac110002", "02:42:ac:11:00:+2", "02:42:ac:11:00:0g", "02:42:ac:11:00:\u{e9}"]
        {
            assert!(mac(bad).is_err(), "{bad}");
        }
        assert_eq!(mac("01:00:5e:00:00:01"), Err("is a multicast address"));
        assert_eq!(mac("ff:ff:ff:ff:ff:ff"), Err("is a multicast address"));
        assert_eq!(mac("00:00:00:00:00:00"), Err("is zero"));
    }

    #[test]
    fn interface_names_follow_the_rules_of_the_kernel() {
        for good in ["eth0", "v", "abcdefghijklmno", "veth-a.b_c@1", "br\u{fc}cke"] {
            assert_eq!(interface(good).as_deref(), Ok(good));
        }
        assert_eq!(interface(""), Err("is missing"));
        assert_eq!(interface("abcdefghijklmnop"), Err("is longer than 15 bytes"));
        assert_eq!(
            interface("\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}"),
            Err("is longer than 15 bytes")
        );
        for bad in
            [".", "..", "a/b", "a b", "a\tb", "a\nb", "a:1", "veth%d", "a\0b", "a\u{a0}b", "../x"]
        {
            assert!(interface(bad).is_err(), "{bad:?}");
        }
    }
}
