//! Links, as in `ip link`.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlaBuffer, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkHeader, LinkInfo, LinkMessage, Stats64,
};
use rustix::io::Errno;
use rustix::net::netdevice;

use super::socket::{Failure, Socket};

type Result<T> = std::result::Result<T, Failure>;

/// The attributes of an existing link that this module reads.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The index of the link in its namespace.
    pub(super) index: u32,
    /// The flags, such as whether the link is up or a loopback.
    pub(super) flags: LinkFlags,
    /// The driver, such as `veth`. Empty for hardware.
    pub(super) kind: String,
    /// The MAC address.
    pub(super) address: Vec<u8>,
    /// The counters.
    pub(super) stats: Option<Stats64>,
}

impl Link {
    /// Parses the payload of an `RTM_NEWLINK`.
    ///
    /// Parses only the attributes that are needed. The others change from kernel to kernel, and one
    /// that cannot be parsed is no reason to fail.
    fn read(payload: &[u8]) -> Option<Self> {
        const HEADER: usize = 16;
        const IFLA_ADDRESS: u16 = 1;
        const IFLA_LINKINFO: u16 = 18;
        const IFLA_STATS64: u16 = 23;
        let header = LinkHeader::parse(payload).ok()?;
        let mut link = Self { index: header.index, flags: header.flags, ..Self::default() };
        for attribute in attributes(payload.get(HEADER..)?) {
            match attribute.kind() {
                IFLA_ADDRESS => link.address = attribute.value().to_owned(),
                IFLA_LINKINFO => link.kind = driver(attribute.value()),
                IFLA_STATS64 => link.stats = Stats64::parse(attribute.value()).ok(),
                _ => {}
            }
        }
        Some(link)
    }
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(std::result::Result::ok)
}

fn driver(info: &[u8]) -> String {
    const IFLA_INFO_KIND: u16 = 1;
    attributes(info)
        .find(|attribute| attribute.kind() == IFLA_INFO_KIND)
        .map(|kind| String::from_utf8_lossy(kind.value()).trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// Reads a link. Returns `None` if no link has the name.
pub(super) fn get(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut message = named(name);
    // Skips the counters, which the kernel sums over all CPUs. Those of IPv6 are many.
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    look(socket, message)
}

/// Reads a link and its counters. Returns `None` if no link has the name.
pub(super) fn get_with_stats(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    look(socket, named(name))
}

fn look(socket: &mut Socket, message: LinkMessage) -> Result<Option<Link>> {
    let mut link = None;
    let request = RouteNetlinkMessage::GetLink(message);
    match socket.request(request, 0, |payload| link = Link::read(payload)) {
        Ok(()) => Ok(Some(link.ok_or(Failure::Unanswered(Errno::BADMSG))?)),
        Err(Failure::Refused(Errno::NODEV, _)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Returns the index of a link in the socket's namespace, by `SIOCGIFINDEX` of `netdevice(7)`. It
/// is cheaper than reading the whole link, and works on sockets of every family.
pub(super) fn index(socket: &Socket, name: &str) -> Result<u32> {
    netdevice::name_to_index(socket, name).map_err(|errno| Failure::Refused(errno, None))
}

/// One end of a pair.
pub(super) struct End<'a> {
    /// The name.
    pub(super) name: &'a str,
    /// The MAC address. The kernel chooses a random one for `None`.
    pub(super) mac: Option<[u8; 6]>,
}

/// A pair of `veth(4)` devices.
pub(super) struct Pair<'a> {
    /// The end in the socket's namespace.
    pub(super) host: End<'a>,
    /// The end in the other namespace.
    pub(super) inside: End<'a>,
    /// The file of the other namespace, rather than a process id, which may have been reused.
    pub(super) netns: BorrowedFd<'a>,
    /// The index of the bridge in the socket's namespace.
    pub(super) bridge: u32,
    /// The MTU of both ends, 0 for the kernel's default.
    pub(super) mtu: u32,
    /// The length of the transmit queue of both ends, 0 for the kernel's default.
    pub(super) txqueuelen: u32,
}

impl Pair<'_> {
    fn end(&self, end: &End<'_>) -> LinkMessage {
        let mut message = named(end.name);
        let mac = end.mac.map(|mac| LinkAttribute::Address(mac.to_vec()));
        let mtu = (self.mtu != 0).then_some(LinkAttribute::Mtu(self.mtu));
        let queue = (self.txqueuelen != 0).then_some(LinkAttribute::TxQueueLen(self.txqueuelen));
        message.attributes.extend([mac, mtu, queue].into_iter().flatten());
        // By default the kernel uses one queue but allocates one for each CPU, which takes a
        // quarter of the time to create a pair even with two CPUs.
        message.attributes.extend([LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]);
        message
    }

    /// Returns the request for the whole pair: each end is created in its namespace with its final
    /// name, and the host's end on the bridge and up.
    fn message(&self) -> LinkMessage {
        let mut inside = self.end(&self.inside);
        inside.attributes.push(LinkAttribute::NetNsFd(self.netns.as_raw_fd()));
        let mut host = self.end(&self.host);
        raise(&mut host);
        host.attributes.push(LinkAttribute::Controller(self.bridge));
        host.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside))),
        ]));
        host
    }
}

/// Creates a pair. A refused request leaves no end of it.
pub(super) fn add(socket: &mut Socket, pair: &Pair<'_>) -> Result<()> {
    let request = RouteNetlinkMessage::NewLink(pair.message());
    socket.request(request, NLM_F_CREATE | NLM_F_EXCL, |_| {})
}

fn raise(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}

/// Brings a link up.
pub(super) fn up(socket: &mut Socket, index: u32) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    raise(&mut message);
    socket.request(RouteNetlinkMessage::SetLink(message), 0, |_| {})
}

/// Moves a link from the socket's namespace to another, and gives it a name there.
pub(super) fn move_to(
    socket: &mut Socket,
    index: u32,
    netns: BorrowedFd<'_>,
    name: &str,
) -> Result<()> {
    let mut message = named(name);
    message.header.index = index;
    message.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    socket.request(RouteNetlinkMessage::SetLink(message), 0, |_| {})
}

fn hairpin_message(name: &str) -> LinkMessage {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
    ]));
    message
}

/// Allows the bridge to send frames back through the port on which it received them.
///
/// The kernel reads the attributes of a port only for an existing link, so [`add`] cannot set it.
pub(super) fn hairpin(socket: &mut Socket, name: &str) -> Result<()> {
    socket.request(RouteNetlinkMessage::NewLink(hairpin_message(name)), 0, |_| {})
}

/// Deletes a link. It is no error if the link does not exist.
pub(super) fn delete(socket: &mut Socket, index: u32) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match socket.request(RouteNetlinkMessage::DelLink(message), 0, |_| {}) {
        Err(Failure::Refused(Errno::NODEV, _)) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use netlink_packet_core::Emitable;

    use super::*;

    fn bytes(message: &LinkMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn one_queue() -> [LinkAttribute; 2] {
        [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]
    }

    #[test]
    fn a_pair_is_one_request() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let pair = Pair {
            host: End { name: "vethx", mac: Some([0xfe, 1, 2, 3, 4, 5]) },
            inside: End { name: "eth0", mac: None },
            netns: null.as_fd(),
            bridge: 7,
            mtu: 1400,
            txqueuelen: 0,
        };
        let mut inside = named("eth0");
        inside.attributes.push(LinkAttribute::Mtu(1400));
        inside.attributes.extend(one_queue());
        inside.attributes.push(LinkAttribute::NetNsFd(null.as_raw_fd()));
        let mut host = named("vethx");
        raise(&mut host);
        host.attributes
            .extend([LinkAttribute::Address(vec![0xfe, 1, 2, 3, 4, 5]), LinkAttribute::Mtu(1400)]);
        host.attributes.extend(one_queue());
        host.attributes.extend([
            LinkAttribute::Controller(7),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside))),
            ]),
        ]);
        assert_eq!(pair.message(), host);
    }

    #[test]
    fn the_hairpin_mode_is_encoded_for_a_bridge_port() {
        // ifinfomsg; IFLA_IFNAME;
        // IFLA_LINKINFO { INFO_SLAVE_KIND, INFO_SLAVE_DATA { BRPORT_MODE } }
        let mut expected = vec![0; 16];
        expected.extend([6, 0, 3, 0, b'v', 0, 0, 0]);
        expected.extend([28, 0, 18, 0x80, 11, 0, 4, 0]);
        expected.extend(*b"bridge\0\0");
        expected.extend([12, 0, 5, 0x80, 5, 0, 4, 0, 1, 0, 0, 0]);
        let mut actual = bytes(&hairpin_message("v"));
        // The kernel does not look at NLA_F_NESTED here.
        for high_byte_of_type in [27, 43] {
            actual[high_byte_of_type] |= 0x80;
        }
        assert_eq!(actual, expected);
    }

    #[test]
    fn a_link_is_parsed_from_its_header_on() {
        let mut message = LinkMessage::default();
        message.header.index = 42;
        message.attributes = vec![
            LinkAttribute::IfName("vethx".to_owned()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
        ];
        let whole = bytes(&message);
        let link = Link::read(&whole).unwrap();
        assert_eq!((link.index, link.kind.as_str()), (42, "veth"));
        assert_eq!(link.address, [2, 0, 0, 0, 0, 1]);
        assert!(link.stats.is_none());
        for length in 0..whole.len() {
            let cut = Link::read(&whole[..length]);
            assert_eq!(cut.is_some(), length >= 16, "{length}");
        }
    }

    #[test]
    fn attributes_of_the_wrong_length_are_ignored() {
        let mut bytes = vec![0; 16];
        // IFLA_STATS64 and IFLA_LINKINFO that are too short, and an attribute without its end.
        bytes.extend([6, 0, 23, 0, 1, 1, 0, 0]);
        bytes.extend([5, 0, 18, 0, 9, 0, 0, 0]);
        bytes.extend([200, 0, 1, 0]);
        let link = Link::read(&bytes).unwrap();
        assert_eq!((link.kind.as_str(), link.address.len()), ("", 0));
    }
}
