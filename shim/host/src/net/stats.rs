//! The counters of a container's interfaces.

use netlink_packet_route::link::Stats64;
use serde::{Deserialize, Serialize};

/// The counters of an interface, as seen from the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceStats {
    /// The name of the end on the host.
    pub name: String,
    /// Bytes that the container received.
    pub rx_bytes: u64,
    /// Packets that the container received.
    pub rx_packets: u64,
    /// Packets to the container with errors.
    pub rx_errors: u64,
    /// Packets to the container that were dropped.
    pub rx_dropped: u64,
    /// Bytes that the container sent.
    pub tx_bytes: u64,
    /// Packets that the container sent.
    pub tx_packets: u64,
    /// Packets from the container with errors.
    pub tx_errors: u64,
    /// Packets from the container that were dropped.
    pub tx_dropped: u64,
}

impl InterfaceStats {
    /// Swaps the directions of the host's end: the container receives what the host sends.
    pub(super) fn swapped(name: &str, host: &Stats64) -> Self {
        Self {
            name: name.to_owned(),
            rx_bytes: host.tx_bytes,
            rx_packets: host.tx_packets,
            rx_errors: host.tx_errors,
            rx_dropped: host.tx_dropped,
            tx_bytes: host.rx_bytes,
            tx_packets: host.rx_packets,
            tx_errors: host.rx_errors,
            tx_dropped: host.rx_dropped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_swapped_counters_and_the_names_of_libcontainer() {
        let mut host = Stats64::default();
        (host.rx_bytes, host.rx_packets, host.rx_errors, host.rx_dropped) = (1, 2, 3, 4);
        (host.tx_bytes, host.tx_packets, host.tx_errors, host.tx_dropped) = (5, 6, 7, 8);
        let stats = InterfaceStats::swapped("vethx", &host);
        assert_eq!(
            serde_json::to_string(&stats).unwrap(),
            concat!(
                r#"{"Name":"vethx","RxBytes":5,"RxPackets":6,"RxErrors":7,"RxDropped":8,"#,
                r#""TxBytes":1,"TxPackets":2,"TxErrors":3,"TxDropped":4}"#
            )
        );
    }
}
