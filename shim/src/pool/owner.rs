//! The ids of pooled containers, which name the process that owns them. The next pool can thereby
//! remove the containers of a process that has ended.

use std::sync::atomic::{AtomicU64, Ordering};

use pidone_config::Result;
use pidone_host::proc;

use crate::container::factory::Factory;
use crate::container::state::Identity;

/// The prefix of the ids.
const PREFIX: &str = "pool-";

/// The number of characters of the boot id that are part of an id.
const BOOT: usize = 8;

/// A process that has pools, identified by boot, pid namespace, pid and start time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    boot: String,
    namespace: u64,
    pid: i32,
    start: u64,
}

impl Owner {
    /// Returns the calling process.
    pub(super) fn current() -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let Identity { pid, start, boot } = Identity::from_pid(pid)?;
        let namespace = proc::own_namespace_inode("pid")?;
        Ok(Self { boot: boot.chars().take(BOOT).collect(), namespace, pid, start })
    }

    /// Returns a new id for a container.
    pub(super) fn new_id(&self) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let Self { boot, namespace, pid, start } = self;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}{boot}.{namespace:x}.{pid}.{start}.{number}")
    }

    /// Returns the owner of a container, by its id; `None` if the container is not of a pool.
    fn from_id(id: &str) -> Option<Self> {
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

    /// Whether another owner is known to have ended. This is unknown, and so false, for a process
    /// in another pid namespace.
    fn outlived(&self, other: &Self) -> bool {
        if self.boot != other.boot {
            return true;
        }
        self.namespace == other.namespace
            && Identity::from_pid(other.pid).map_or(true, |identity| identity.start != other.start)
    }

    /// Kills and removes the containers of owners that have ended.
    ///
    /// A container that cannot be removed stays for the next pool: another one may be removing it.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if the containers cannot be listed.
    pub(super) fn sweep(&self, factory: &Factory) -> Result<()> {
        let ended = |id: &String| Self::from_id(id).is_some_and(|owner| self.outlived(&owner));
        let mut stale: Vec<String> = factory.list()?.into_iter().filter(ended).collect();
        // The oldest last, since it has created the directories above the cgroups.
        stale.sort_unstable_by_key(|id| {
            let number = id.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
            std::cmp::Reverse(number)
        });
        for id in stale {
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
    fn the_owner_of_a_new_id_is_this_process() {
        let owner = Owner::current().unwrap();
        let ids = [owner.new_id(), owner.new_id()];
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| Owner::from_id(id).as_ref() == Some(&owner)), "{ids:?}");
        for id in ["pool-", "pool-x", "pool-12345678.1.2.3", "pool-b.1.2.3.4.5", "other"] {
            assert_eq!(Owner::from_id(id), None, "{id}");
        }
    }

    #[test]
    fn an_owner_is_outlived_only_if_it_is_known_to_have_ended() {
        let owner = Owner::current().unwrap();
        assert!(!owner.outlived(&owner.clone()));
        assert!(owner.outlived(&Owner { start: owner.start - 1, ..owner.clone() }));
        assert!(owner.outlived(&Owner { boot: "another".into(), ..owner.clone() }));
        let elsewhere = Owner { namespace: 1, start: 1, ..owner.clone() };
        assert!(!owner.outlived(&elsewhere));
    }
}
