//! The five capability sets, and what else decides over privileges.

use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_ambient_set, capability_is_in_bounding_set,
};

use crate::json::Json;
use crate::sys;

/// Appends the fields.
pub(crate) fn report(json: &mut Json) {
    const PR_GET_SECCOMP: usize = 21;
    const PR_GET_SECUREBITS: usize = 27;
    const PR_GET_NO_NEW_PRIVS: usize = 39;
    json.key("capabilities").object(|json| {
        if let Ok(sets) = capabilities(None) {
            json.key("effective").number(sets.effective.bits());
            json.key("permitted").number(sets.permitted.bits());
            json.key("inheritable").number(sets.inheritable.bits());
        }
        json.key("bounding").number(mask(|set| capability_is_in_bounding_set(set).ok()));
        json.key("ambient").number(mask(|set| capability_is_in_ambient_set(set).ok()));
    });
    for (name, option) in [
        ("seccomp", PR_GET_SECCOMP),
        ("securebits", PR_GET_SECUREBITS),
        ("no_new_privs", PR_GET_NO_NEW_PRIVS),
    ] {
        json.key(name);
        match sys::control(option) {
            Ok(value) => json.number(value as u64),
            Err(_) => json.null(),
        }
    }
}

/// The mask of what is in a set that is asked one by one.
fn mask(has: impl Fn(CapabilitySet) -> Option<bool>) -> u64 {
    (0..u64::BITS)
        .map(|number| 1 << number)
        .filter(|&bit| has(CapabilitySet::from_bits_retain(bit)) == Some(true))
        .fold(0, |mask, bit| mask | bit)
}
