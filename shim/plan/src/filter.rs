//! Compiles seccomp profiles and caches the filters.
//!
//! A program that starts many containers gives most of them the same profile, and compiling one of
//! the size of docker's takes a tenth of a start. A filter depends on nothing but its profile, so
//! the whole profile is the key.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pidone_config::oci::linux::seccomp;
use pidone_config::{Result, config};
use pidone_host::seccomp::{Filter, compile, libcontainer};

/// The number of filters in the cache. The least recently used one is evicted.
const CACHED: usize = 8;

/// A profile that names more system calls than this is not cached. Docker's names about 450.
const LARGEST: usize = 2048;

/// A profile as a configuration has it.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Oci(seccomp::Seccomp),
    Libcontainer(config::Seccomp),
}

static FILTERS: Mutex<VecDeque<(Key, Arc<Filter>)>> = Mutex::new(VecDeque::new());

/// Compiles a profile of the OCI specification; `None` if the profile needs no filter.
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

/// Compiles a list of libcontainer's.
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

/// Returns a cached filter, which becomes the most recently used one.
fn find(same: impl Fn(&Key) -> bool) -> Option<Arc<Filter>> {
    // No panic under the lock can leave the list half changed.
    let mut filters = FILTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let index = filters.iter().position(|(key, _)| same(key))?;
    let found = filters.remove(index)?;
    let filter = Arc::clone(&found.1);
    filters.push_front(found);
    Some(filter)
}

/// Caches a filter, unless its profile is too large.
fn keep(size: usize, filter: &Arc<Filter>, key: impl Fn() -> Key) {
    if size > LARGEST {
        return;
    }
    let mut filters = FILTERS.lock().unwrap_or_else(PoisonError::into_inner);
    filters.truncate(CACHED - 1);
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
    fn profiles_that_differ_in_an_errno_have_different_filters() {
        let [first, again, other] = [(1, 1), (1, 1), (1, 2)]
            .map(|(number, errno)| compile_libcontainer(&refusing(number, errno)).unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        assert_ne!(first, other);
        assert_eq!(*other, compile(&libcontainer::profile(&refusing(1, 2)).unwrap()).unwrap());
    }

    #[test]
    fn old_and_large_filters_are_not_cached() {
        let filters: Vec<_> =
            (100..120).map(|number| compile_libcontainer(&refusing(number, 1)).unwrap()).collect();
        assert!(FILTERS.lock().unwrap().len() <= CACHED);
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
