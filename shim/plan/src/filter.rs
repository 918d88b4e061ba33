//! Filters of profiles that were compiled before.
//!
//! A program that starts many containers gives most of them the same profile, and compiling one
//! of docker's size takes as long as a tenth of a start. What decides is the profile as a whole;
//! nothing of the host goes into a filter.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pidone_config::oci::linux::seccomp;
use pidone_config::{Result, config};
use pidone_host::seccomp::{Filter, compile, libcontainer};

/// How many filters are kept, those that were used last.
const MOST: usize = 8;

/// A profile that names more system calls than this is not kept; docker's has about 450.
const LARGEST: usize = 2048;

/// A profile as it stands in a configuration.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Oci(seccomp::Seccomp),
    Libcontainer(config::Seccomp),
}

static FILTERS: Mutex<VecDeque<(Key, Arc<Filter>)>> = Mutex::new(VecDeque::new());

/// The filter of a profile in OCI's words; none if it asks for none.
///
/// # Errors
/// As [`seccomp::Seccomp::profile`] and [`compile`].
pub(crate) fn compile_oci(seccomp: &seccomp::Seccomp) -> Result<Option<Arc<Filter>>> {
    let same = |key: &Key| matches!(key, Key::Oci(known) if known == seccomp);
    if let Some(filter) = find(same) {
        return Ok(Some(filter));
    }
    let Some(profile) = seccomp.profile()? else { return Ok(None) };
    let filter = Arc::new(compile(&profile)?);
    let size = seccomp.syscalls.iter().map(|rule| rule.names.len()).sum();
    keep(size, &filter, || Key::Oci(seccomp.clone()));
    Ok(Some(filter))
}

/// The filter of a profile in the seed's words.
///
/// # Errors
/// As [`libcontainer::profile`] and [`compile`].
pub(crate) fn compile_libcontainer(seccomp: &config::Seccomp) -> Result<Arc<Filter>> {
    let same = |key: &Key| matches!(key, Key::Libcontainer(known) if known == seccomp);
    if let Some(filter) = find(same) {
        return Ok(filter);
    }
    let filter = Arc::new(compile(&libcontainer::profile(seccomp)?)?);
    keep(seccomp.syscalls.len(), &filter, || Key::Libcontainer(seccomp.clone()));
    Ok(filter)
}

fn find(same: impl Fn(&Key) -> bool) -> Option<Arc<Filter>> {
    // Nothing is done under the lock that could leave the list half changed.
    let mut filters = FILTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = filters.iter().position(|(key, _)| same(key))?;
    let found = filters.remove(place)?;
    let filter = Arc::clone(&found.1);
    filters.push_front(found);
    Some(filter)
}

fn keep(size: usize, filter: &Arc<Filter>, key: impl Fn() -> Key) {
    if size > LARGEST {
        return;
    }
    let mut filters = FILTERS.lock().unwrap_or_else(PoisonError::into_inner);
    filters.truncate(MOST - 1);
    filters.push_front((key(), Arc::clone(filter)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::config::SeccompSyscall;

    fn refusing(number: u32, errno: i32) -> config::Seccomp {
        config::Seccomp {
            syscalls: vec![SeccompSyscall { value: number, action: errno, args: Vec::new() }],
        }
    }

    #[test]
    fn the_whole_profile_decides() {
        let [first, again, other] = [(1, 1), (1, 1), (1, 2)]
            .map(|(number, errno)| compile_libcontainer(&refusing(number, errno)).unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        assert_ne!(first, other);
        assert_eq!(*other, compile(&libcontainer::profile(&refusing(1, 2)).unwrap()).unwrap());
    }

    #[test]
    fn few_are_kept() {
        let filters: Vec<_> =
            (100..120).map(|number| compile_libcontainer(&refusing(number, 1)).unwrap()).collect();
        assert!(FILTERS.lock().unwrap().len() <= MOST);
        let first = compile_libcontainer(&refusing(100, 1)).unwrap();
        assert_eq!(first, filters[0]);
        assert!(!Arc::ptr_eq(&first, &filters[0]));
        let large = config::Seccomp {
            syscalls: (0..=LARGEST).map(|_| refusing(100, 1).syscalls.remove(0)).collect(),
        };
        let filters =
            [compile_libcontainer(&large).unwrap(), compile_libcontainer(&large).unwrap()];
        assert!(!Arc::ptr_eq(&filters[0], &filters[1]));
    }
}
