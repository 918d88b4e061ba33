//! Addresses: what `ip address` does.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

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
}
