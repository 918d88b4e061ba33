//! The name and the MAC address of the host's end of a pair, derived from the container's id.
//!
//! Both must be known before the link exists, and after a crash from the journal. So they are
//! hashes by a function that never changes.

/// Returns the 64-bit FNV-1a hash of strings, each terminated by a NUL so that their boundaries
/// count.
///
/// The result of the standard library's hasher may change with the compiler, but a journal outlives
/// the program.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns the name of the host's end for a network of a container, by its index in the
/// configuration.
pub(super) fn host_name(id: &str, index: usize) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let hash = hash(&["name", id, &index.to_string()]);
    // "veth" and 11 digits of 5 bits are the 15 bytes that the kernel allows.
    let digits = (0..11).map(|digit| char::from(DIGITS[(hash >> (5 * digit) & 31) as usize]));
    "veth".chars().chain(digits).collect()
}

/// Returns the MAC address of the host's end, by which we recognize our links.
///
/// A journal has the name of a link before the link is created. If it never is, another program's
/// link may have that name, now or later. The address distinguishes them from the creation on, and
/// without a further request. It is locally administered and starts with 0xfe: a bridge uses the
/// lowest address of its ports as its own, which therefore does not change with the containers.
pub(super) fn host_mac(id: &str, name: &str) -> [u8; 6] {
    let [_, _, _, tail @ ..] = hash(&["mac", id, name]).to_be_bytes();
    [0xfe, tail[0], tail[1], tail[2], tail[3], tail[4]]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // FNV-1a of "foobar\0", continued by hand from the published value of "foobar".
        let foobar = 0x8594_4171_f739_67e8_u64;
        assert_eq!(hash(&["foobar"]), foobar.wrapping_mul(0x0000_0100_0000_01b3));
    }

    #[test]
    fn names_and_addresses_never_change_between_releases() {
        assert_eq!(host_name("nsinit", 0), "veth1gqgka4in7d");
        let mac = [0xfe, 0xda, 0xfc, 0xcb, 0x51, 0xf5];
        assert_eq!(host_mac("nsinit", "vethnsinit"), mac);
    }

    #[test]
    fn names_and_addresses_differ_by_id_index_and_name() {
        let ids = ["a", "b", "ab", "", "a0", "container-1", "container-2"];
        let names: BTreeSet<_> =
            ids.iter().flat_map(|id| (0..300).map(|index| host_name(id, index))).collect();
        assert_eq!(names.len(), ids.len() * 300);
        assert!(names.iter().all(|name| super::super::parse::interface(name).is_ok()));
        assert_ne!(host_mac("a", "bc"), host_mac("ab", "c"));
        assert_ne!(host_mac("a", "x"), host_mac("b", "x"));
    }
}
