//! The bundles that a service has, each with its ready containers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pidone::pool::{Sizes, Status};
use pidone::{Factory, Pool};
use pidone_config::oci::Bundle;
use pidone_config::{Error, Result};
use serde_json::{Map, Value};

use crate::pidone::flags::Global;
use crate::report::Report;

/// The number of ready containers of a bundle without an option for it.
const SIZE: usize = 8;

/// The value of an option, for the bundle of one name or for all: `[NAME=]VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named<T> {
    /// The name; empty for none.
    name: String,
    value: T,
}

impl Named<PathBuf> {
    /// Parses a directory. What is before a `=` is its name if it consists of letters, digits, `_`,
    /// `.` and `-`, so `./a=b` has none.
    pub(super) fn path(text: OsString) -> std::result::Result<Self, &'static str> {
        let bytes = text.as_bytes();
        let split = bytes.iter().position(|byte| *byte == b'=').filter(|end| {
            let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
            *end > 0 && bytes.iter().take(*end).all(is_of_name)
        });
        let Some(end) = split else { return Ok(Self { name: String::new(), value: text.into() }) };
        let mut name = text.into_vec();
        let path = name.split_off(end + 1);
        name.truncate(end);
        if path.is_empty() {
            return Err("names no directory");
        }
        let name = String::from_utf8(name).unwrap_or_default();
        Ok(Self { name, value: OsString::from_vec(path).into() })
    }
}

impl FromStr for Named<usize> {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (name, number) = text.split_once('=').unwrap_or_default();
        let number = if name.is_empty() { text } else { number };
        let value = number.parse().map_err(|_| "must be a number, or NAME= and a number")?;
        Ok(Self { name: name.to_owned(), value })
    }
}

/// Returns the last value of an option for a bundle, or the last one for all.
fn value_for(values: &[Named<usize>], name: &str) -> Option<usize> {
    let last = |name: &str| values.iter().rfind(|value| value.name == name);
    last(name).or_else(|| last("")).map(|found| found.value)
}

/// A bundle with its ready containers.
pub(super) struct Served {
    name: String,
    pub(super) bundle: Bundle,
    pub(super) pool: Pool,
}

/// The bundles of a service.
pub(super) struct Bundles {
    all: Vec<Served>,
    /// The containers whose programs run, with the places of their bundles in `all`. Others may be
    /// ready, and are not for further programs.
    running: Mutex<BTreeMap<String, usize>>,
}

impl Bundles {
    /// Opens the bundles, and begins to fill their pools.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] if a bundle is wrong, if two have the same name, or
    /// if a number is of a name that no bundle has; those of [`Pool::new`].
    pub(super) fn open(
        flags: &super::Serve,
        global: &Global,
        factory: &Factory,
        report: &mut Report,
    ) -> Result<Self> {
        for (option, values) in [("--size", &flags.size), ("--low", &flags.low)] {
            let has_bundle = |name: &str| flags.bundle.iter().any(|bundle| bundle.name == name);
            if let Some(Named { name, .. }) =
                values.iter().find(|value| !value.name.is_empty() && !has_bundle(&value.name))
            {
                return Err(Error::config(option, name, "no bundle has this name"));
            }
        }
        let mut bundles = Self { all: Vec::new(), running: Mutex::default() };
        for Named { name, value: path } in &flags.bundle {
            if bundles.all.iter().any(|served| served.name == *name) {
                let reason = match name.as_str() {
                    "" => "two bundles have no name",
                    _ => "two bundles have this name",
                };
                return Err(Error::config("--bundle", name, reason));
            }
            let bundle = Bundle::open(path)?;
            for warning in bundle.warnings() {
                report.warning(&warning);
            }
            let mut config = bundle.config()?;
            config.supervise |= flags.init;
            global.fit_cgroup(&mut config, "pool")?;
            let size = value_for(&flags.size, name).unwrap_or(SIZE);
            let low = value_for(&flags.low, name).unwrap_or(size.div_ceil(2));
            let pool = Pool::new(factory, &config, bundle.process()?, Sizes { low, size })?;
            bundles.all.push(Served { name: name.clone(), bundle, pool });
        }
        Ok(bundles)
    }

    /// Returns the bundle that a request names, with its place.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] if there is none.
    pub(super) fn find(&self, name: Option<&str>) -> Result<(usize, &Served)> {
        let wanted = name.unwrap_or_default();
        let mut all = self.all.iter().enumerate();
        all.find(|(_, served)| served.name == wanted).ok_or_else(|| match name {
            Some(name) => Error::config("bundle", name, "the service has none of this name"),
            None => Error::config("bundle", "", "is missing: the service has none without a name"),
        })
    }

    /// Lists a container while its program runs. `place` is that of its bundle.
    pub(super) fn list(&self, id: &str, place: usize) -> Listed<'_> {
        self.running().insert(id.to_owned(), place);
        Listed(self, id.to_owned())
    }

    /// Returns the bundle of a container whose program runs.
    pub(super) fn of_running(&self, id: &str) -> Option<&Served> {
        let place = self.running().get(id).copied()?;
        self.all.get(place)
    }

    /// Removes the ready containers.
    ///
    /// # Errors
    /// The first error of a pool. All are drained nevertheless.
    pub(super) fn drain(&self) -> Result<()> {
        self.all.iter().map(|served| served.pool.drain()).fold(Ok(()), Result::and)
    }

    /// Returns the status: the sums, and with names that of each bundle.
    pub(super) fn status(&self) -> Value {
        let all = self.each();
        let mut total: Option<(Status, Vec<String>)> = None;
        let mut bundles = Map::new();
        for (name, status, running) in all {
            bundles.insert(name.to_owned(), encode(&status, &running));
            match &mut total {
                None => total = Some((status, running)),
                Some((total, ids)) => {
                    add(total, status);
                    ids.extend(running);
                }
            }
        }
        let Some((total, ids)) = total else { return Value::Null };
        let mut total = encode(&total, &ids);
        if !bundles.keys().all(String::is_empty) {
            total["bundles"] = bundles.into();
        }
        total
    }

    /// Returns each bundle's name, the status of its pool, and the IDs of the containers whose
    /// programs run.
    pub(super) fn each(&self) -> Vec<(&str, Status, Vec<String>)> {
        let running = self.running().clone();
        let each = self.all.iter().enumerate().map(|(place, served)| {
            let ids = running.iter().filter(|(_, of)| **of == place).map(|(id, _)| id.clone());
            (served.name.as_str(), served.pool.status(), ids.collect())
        });
        each.collect()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bundles {
    fn drop(&mut self) {
        // The first pool has made the directories of cgroups that the others are in, too.
        while self.all.pop().is_some() {}
    }
}

/// The name of a container among those whose programs run, until it is dropped.
pub(super) struct Listed<'a>(&'a Bundles, String);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.running().remove(&self.1);
    }
}

fn encode(status: &Status, running: &[String]) -> Value {
    let mut status = serde_json::to_value(status).unwrap_or_default();
    status["running"] = running.iter().map(String::as_str).collect();
    status
}

/// Adds the numbers of another pool.
fn add(total: &mut Status, other: Status) {
    for (sum, number) in [
        (&mut total.ready, other.ready),
        (&mut total.making, other.making),
        (&mut total.size, other.size),
        (&mut total.low, other.low),
        (&mut total.ended, other.ended),
    ] {
        *sum += number;
    }
    for (sum, number) in [
        (&mut total.warm, other.warm),
        (&mut total.cold, other.cold),
        (&mut total.discarded, other.discarded),
    ] {
        *sum += number;
    }
    total.error = total.error.take().or(other.error);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<T>(name: &str, value: T) -> Named<T> {
        Named { name: name.into(), value }
    }

    #[test]
    fn a_name_comes_before_the_equals_sign() {
        for (text, name, path) in [
            ("box", "", "box"),
            ("web=/srv/web", "web", "/srv/web"),
            ("a.b-c_1=x=y", "a.b-c_1", "x=y"),
            ("./a=b", "", "./a=b"),
            ("/srv/a=b", "", "/srv/a=b"),
            ("=x", "", "=x"),
            ("a b=c", "", "a b=c"),
        ] {
            assert_eq!(Named::path(text.into()), Ok(named(name, path.into())), "{text}");
        }
        assert!(Named::path("web=".into()).is_err());
        let bytes = OsString::from_vec(b"n=/\xff".into());
        assert_eq!(Named::path(bytes).unwrap().value.as_os_str().as_bytes(), b"/\xff");
    }

    #[test]
    fn numbers_are_of_one_bundle_or_of_all() {
        let parse = |text: &str| text.parse::<Named<usize>>();
        assert_eq!(parse("7"), Ok(named("", 7)));
        assert_eq!(parse("web=7"), Ok(named("web", 7)));
        for bad in ["", "x", "web=", "web=x", "=7", "-1", "a=b=1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let values = [named("", 1), named("web", 2), named("", 3), named("web", 4)];
        assert_eq!(value_for(&values, "web"), Some(4));
        assert_eq!(value_for(&values, "db"), Some(3));
        assert_eq!(value_for(&values[1..2], "db"), None);
    }
}
