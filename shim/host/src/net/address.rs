//! Addresses: what `ip address` does.

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
        // Duplicate address detection takes a second or two, in which nothing can use the address.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes =
        vec![AddressAttribute::Local(cidr.address), AddressAttribute::Address(cidr.address)];
    message
}

/// Gives an address to a link.
pub(super) fn add(socket: &mut Socket, index: u32, cidr: Cidr) -> Result<(), Failure> {
    let request = RouteNetlinkMessage::NewAddress(message(index, cidr));
    socket.request(request, NLM_F_CREATE | NLM_F_EXCL, |_| {})
}

/// Reads the addresses of a link that were given to it for good and reach beyond it; those of the
/// kernel's own making, as a link-local one, and those that expire are none of them.
pub(super) fn permanent(socket: &mut Socket, index: u32) -> Result<Vec<AddressMessage>, Failure> {
    let mut addresses = Vec::new();
    let mut readable = true;
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    // The kernel heeds the number of a link in such a request only if asked to be strict.
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

/// Gives a link an address that another, or it in another namespace, had.
pub(super) fn restore(
    socket: &mut Socket,
    index: u32,
    address: &AddressMessage,
) -> Result<(), Failure> {
    let request = RouteNetlinkMessage::NewAddress(moved(index, address));
    socket.request(request, NLM_F_CREATE | NLM_F_EXCL, |_| {})
}

/// The request for an address that was read: without what the kernel finds out for itself, and
/// without its label, which has the name of the link in it.
fn moved(index: u32, address: &AddressMessage) -> AddressMessage {
    // What somebody has asked for; the others tell of a state.
    let asked = AddressFlags::Noprefixroute
        | AddressFlags::Managetempaddr
        | AddressFlags::Mcautojoin
        | AddressFlags::Homeaddress;
    let mut message = address.clone();
    message.header.index = index;
    // It was found to be no duplicate, and there is no time to wait.
    let (flag, header_flag) = match message.header.family {
        AddressFamily::Inet6 => (AddressFlags::Nodad, AddressHeaderFlags::Nodad),
        _ => (AddressFlags::empty(), AddressHeaderFlags::empty()),
    };
    message.header.flags = header_flag;
    message.attributes.retain_mut(|attribute| match attribute {
        AddressAttribute::Flags(flags) => {
            *flags = *flags & asked | flag;
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

/// An address as in the words of ip(8).
pub(super) fn text(address: &AddressMessage) -> String {
    let mut own = None;
    for attribute in &address.attributes {
        match attribute {
            AddressAttribute::Local(local) => own = Some(local),
            // That of the other end, where both are known.
            AddressAttribute::Address(address) => own = own.or(Some(address)),
            _ => {}
        }
    }
    let own = own.map(ToString::to_string).unwrap_or_default();
    format!("{own}/{}", address.header.prefix_len)
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
    fn encodes_an_ipv4_address() {
        let mut expected = vec![2, 24, 0, 0, 3, 0, 0, 0];
        expected.extend([8, 0, 2, 0, 10, 0, 0, 2]);
        expected.extend([8, 0, 1, 0, 10, 0, 0, 2]);
        assert_eq!(bytes(cidr("10.0.0.2/24").unwrap()), expected);
    }

    #[test]
    fn spares_ipv6_the_duplicate_address_detection() {
        let bytes = bytes(cidr("2001:db8::2/64").unwrap());
        assert_eq!(bytes[..8], [10, 64, 2, 0, 3, 0, 0, 0]);
        assert_eq!(bytes.len(), 8 + 2 * 20);
    }

    #[test]
    fn moves_what_was_asked_for_and_not_the_state_of_an_address() {
        let mut read = message(3, cidr("2001:db8::2/64").unwrap());
        read.header.flags = AddressHeaderFlags::Permanent | AddressHeaderFlags::Tentative;
        read.attributes.extend([
            AddressAttribute::Flags(
                AddressFlags::Permanent | AddressFlags::Tentative | AddressFlags::Noprefixroute,
            ),
            AddressAttribute::Label("eth0:1".into()),
        ]);
        assert!(is_kept(&read));
        let moved = moved(7, &read);
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
