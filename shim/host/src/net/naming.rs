//! What the end of a pair on the host is called and known by, from the container's id alone.
//!
//! Both must be known before the link exists, and again after a crash, from the journal: so they
//! are hashes, by a function that never changes.

/// 64-bit FNV-1a of some strings, each ended by a NUL so that their borders count.
///
/// Not the standard library's hasher: its results may change with the compiler, and a journal
/// outlives a program.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Makes the name of the end on the host of a container's network, counted from 0.
pub(super) fn host_name(id: &str, index: usize) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let hash = hash(&["name", id, &index.to_string()]);
    // "veth" and 11 digits of 5 bits are the 15 bytes that the kernel allows.
    let digits = (0..11).map(|digit| char::from(DIGITS[(hash >> (5 * digit) & 31) as usize]));
    "veth".chars().chain(digits).collect()
}

/// Returns the MAC address of the end on the host, which identifies it as a link of this program.
///
/// A journal names a link before it is created. If that fails, an unrelated link may have the name,
/// now or later. The address distinguishes them without a further request. It is locally
/// administered and starts with 0xfe: a bridge takes the lowest address of its ports, so its own
/// does not change when containers are started and removed.
pub(super) fn host_mac(id: &str, name: &str) -> [u8; 6] {
    let [_, _, _, tail @ ..] = hash(&["mac", id, name]).to_be_bytes();
    [0xfe, tail[0], tail[1], tail[2], tail[3], tail[4]]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn is_the_published_function() {
        // FNV-1a of "foobar\0", continued by hand from the published value of "foobar".
        let foobar = 0x8594_4171_f739_67e8_u64;
        assert_eq!(hash(&["foobar"]), foobar.wrapping_mul(0x0000_0100_0000_01b3));
    }

    #[test]
    fn never_changes_between_releases() {
        assert_eq!(host_name("nsinit", 0), "veth1gqgka4in7d");
        let mac = [0xfe, 0xda, 0xfc, 0xcb, 0x51, 0xf5];
        assert_eq!(host_mac("nsinit", "vethnsinit"), mac);
    }

    #[test]
    fn differs_by_id_index_and_name() {
        let ids = ["a", "b", "ab", "", "a0", "container-1", "container-2"];
        let names: BTreeSet<_> =
            ids.iter().flat_map(|id| (0..300).map(|index| host_name(id, index))).collect();
        assert_eq!(names.len(), ids.len() * 300);
        assert!(names.iter().all(|name| super::super::parse::interface(name).is_ok()));
        assert_ne!(host_mac("a", "bc"), host_mac("ab", "c"));
        assert_ne!(host_mac("a", "x"), host_mac("b", "x"));
    }
}
