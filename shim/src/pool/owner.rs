//! The ids of pooled containers, by which the next pool knows what a dead one has left.

use std::sync::atomic::{AtomicU64, Ordering};

use pidone_config::Result;
use pidone_host::proc;

use crate::container::factory::Factory;
use crate::container::state::Identity;

/// What the ids begin with.
const PREFIX: &str = "pool-";

/// How much of the boot's id tells it from others.
const BOOT: usize = 8;

/// A process that has pools: the one that began then, in a boot and a pid namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    boot: String,
    namespace: u64,
    pid: i32,
    start: u64,
}

impl Owner {
    /// This process.
    pub(super) fn current() -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let Identity { pid, start, boot } = Identity::from_pid(pid)?;
        let namespace = proc::own_namespace_inode("pid")?;
        Ok(Self { boot: boot.chars().take(BOOT).collect(), namespace, pid, start })
    }

    /// A new id.
    pub(super) fn id(&self) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let Self { boot, namespace, pid, start } = self;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}{boot}.{namespace:x}.{pid}.{start}.{number}")
    }

    /// Whose an id is.
    fn of(id: &str) -> Option<Self> {
        let mut parts = id.strip_prefix(PREFIX)?.split('.');
        let owner = Self {
            boot: parts.next()?.to_owned(),
            namespace: u64::from_str_radix(parts.next()?, 16).ok()?,
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
        };
        parts.next()?.parse::<u64>().ok()?;
        parts.next().is_none().then_some(owner)
    }

    /// Whether another owner is known to be gone. One in another pid namespace cannot be looked
    /// for.
    fn outlived(&self, other: &Self) -> bool {
        if self.boot != other.boot {
            return true;
        }
        self.namespace == other.namespace
            && Identity::from_pid(other.pid).map_or(true, |identity| identity.start != other.start)
    }

    /// Removes the containers of owners that are gone, and their processes.
    ///
    /// What cannot be removed stays, for the next one: another pool may be at it.
    pub(super) fn sweep(&self, factory: &Factory) -> Result<()> {
        let gone = |id: &String| Self::of(id).is_some_and(|owner| self.outlived(&owner));
        let mut left: Vec<String> = factory.list()?.into_iter().filter(gone).collect();
        // The oldest last: it has made the directories above the cgroups.
        left.sort_unstable_by_key(|id| {
            let number = id.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
            std::cmp::Reverse(number)
        });
        for id in left {
            if let Ok(mut container) = factory.load(&id)
                && container.kill().is_ok()
            {
                let _ = container.destroy();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_owner() {
        let owner = Owner::current().unwrap();
        let ids = [owner.id(), owner.id()];
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| Owner::of(id).as_ref() == Some(&owner)), "{ids:?}");
        for id in ["pool-", "pool-x", "pool-12345678.1.2.3", "pool-b.1.2.3.4.5", "other"] {
            assert_eq!(Owner::of(id), None, "{id}");
        }
    }

    #[test]
    fn only_who_is_known_to_be_gone_is_outlived() {
        let owner = Owner::current().unwrap();
        assert!(!owner.outlived(&owner.clone()));
        assert!(owner.outlived(&Owner { start: owner.start - 1, ..owner.clone() }));
        assert!(owner.outlived(&Owner { boot: "another".into(), ..owner.clone() }));
        let elsewhere = Owner { namespace: 1, start: 1, ..owner.clone() };
        assert!(!owner.outlived(&elsewhere));
    }
}
