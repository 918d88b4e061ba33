//! Addresses, as in `ip address`.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Parseable as _};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::parse::{Cidr, family};
use super::socket::{Failure, Socket};

fn message(index: u32, cidr: Cidr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(cidr.address);
    message.header.prefix_len = cidr.length;
    message.header.index = index;
    if cidr.address.is_ipv6() {
        // Duplicate address detection takes one or two seconds, in which the address is unusable.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes =
        vec![AddressAttribute::Local(cidr.address), AddressAttribute::Address(cidr.address)];
    message
}

/// Adds an address to a link.
pub(super) fn add(socket: &mut Socket, index: u32, cidr: Cidr) -> Result<(), Failure> {
    let request = RouteNetlinkMessage::NewAddress(message(index, cidr));
    socket.request(request, NLM_F_CREATE | NLM_F_EXCL, |_| {})
}

/// Returns the permanent addresses of a link with global scope. Addresses that expire, and those
/// that the kernel adds itself, such as link-local ones, are left out.
pub(super) fn permanent(socket: &mut Socket, index: u32) -> Result<Vec<AddressMessage>, Failure> {
    let mut addresses = Vec::new();
    let mut readable = true;
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    // Without NETLINK_GET_STRICT_CHK the kernel ignores the index of a link in this request.
    socket.request(request, NLM_F_DUMP, |payload| match AddressMessage::parse(payload) {
        Ok(address) if address.header.index == index && is_kept(&address) => {
            addresses.push(address);
        }
        Ok(_) => {}
        Err(_) => readable = false,
    })?;
    if readable { Ok(addresses) } else { Err(Failure::Unanswered(Errno::BADMSG)) }
}

fn is_kept(address: &AddressMessage) -> bool {
    let header = &address.header;
    matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6)
        && header.scope == AddressScope::Universe
        && header.flags.contains(AddressHeaderFlags::Permanent)
}

/// Adds to a link an address that it had in another namespace.
pub(super) fn restore(
    socket: &mut Socket,
    index: u32,
    address: &AddressMessage,
) -> Result<(), Failure> {
    let request = RouteNetlinkMessage::NewAddress(restore_message(index, address));
    socket.request(request, NLM_F_CREATE | NLM_F_EXCL, |_| {})
}

/// Returns the request for an address that was read, without the attributes that the kernel sets
/// itself, and without the label, which contains the name of the link.
fn restore_message(index: u32, address: &AddressMessage) -> AddressMessage {
    // The flags that a user sets. The others are the state of the address.
    let settable = AddressFlags::Noprefixroute
        | AddressFlags::Managetempaddr
        | AddressFlags::Mcautojoin
        | AddressFlags::Homeaddress;
    let mut message = address.clone();
    message.header.index = index;
    // The address has passed the detection of duplicates, so it must not delay the container again.
    let (flag, header_flag) = match message.header.family {
        AddressFamily::Inet6 => (AddressFlags::Nodad, AddressHeaderFlags::Nodad),
        _ => (AddressFlags::empty(), AddressHeaderFlags::empty()),
    };
    message.header.flags = header_flag;
    message.attributes.retain_mut(|attribute| match attribute {
        AddressAttribute::Flags(flags) => {
            *flags = *flags & settable | flag;
            true
        }
        AddressAttribute::Address(_)
        | AddressAttribute::Local(_)
        | AddressAttribute::Broadcast(_)
        | AddressAttribute::RoutePriority(_) => true,
        _ => false,
    });
    message
}

/// Formats an address as `ip(8)` does.
pub(super) fn text(address: &AddressMessage) -> String {
    let mut found = None;
    for attribute in &address.attributes {
        match attribute {
            AddressAttribute::Local(local) => found = Some(local),
            // On a point-to-point link this is the address of the peer.
            AddressAttribute::Address(address) => found = found.or(Some(address)),
            _ => {}
        }
    }
    let found = found.map(ToString::to_string).unwrap_or_default();
    format!("{found}/{}", address.header.prefix_len)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::super::parse::cidr;
    use super::*;

    fn bytes(cidr: Cidr) -> Vec<u8> {
        let message = message(3, cidr);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn an_ipv4_address_is_encoded() {
        let mut expected = vec![2, 24, 0, 0, 3, 0, 0, 0];
        expected.extend([8, 0, 2, 0, 10, 0, 0, 2]);
        expected.extend([8, 0, 1, 0, 10, 0, 0, 2]);
        assert_eq!(bytes(cidr("10.0.0.2/24").unwrap()), expected);
    }

    #[test]
    fn an_ipv6_address_skips_duplicate_address_detection() {
        let bytes = bytes(cidr("2001:db8::2/64").unwrap());
        assert_eq!(bytes[..8], [10, 64, 2, 0, 3, 0, 0, 0]);
        assert_eq!(bytes.len(), 8 + 2 * 20);
    }

    #[test]
    fn a_restored_address_has_settings_without_state() {
        let mut read = message(3, cidr("2001:db8::2/64").unwrap());
        read.header.flags = AddressHeaderFlags::Permanent | AddressHeaderFlags::Tentative;
        read.attributes.extend([
            AddressAttribute::Flags(
                AddressFlags::Permanent | AddressFlags::Tentative | AddressFlags::Noprefixroute,
            ),
            AddressAttribute::Label("eth0:1".into()),
        ]);
        assert!(is_kept(&read));
        let moved = restore_message(7, &read);
        assert_eq!((moved.header.index, moved.header.flags), (7, AddressHeaderFlags::Nodad));
        let flags = AddressFlags::Noprefixroute | AddressFlags::Nodad;
        assert_eq!(moved.attributes[2..], [AddressAttribute::Flags(flags)]);
        assert_eq!(text(&moved), "2001:db8::2/64");
        read.header.scope = AddressScope::Link;
        assert!(!is_kept(&read));
        read.header.scope = AddressScope::Universe;
        read.header.flags = AddressHeaderFlags::empty();
        assert!(!is_kept(&read));
    }
}
