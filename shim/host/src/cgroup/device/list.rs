//! Device rules as text for the `devices` controller of cgroup v1.
//!
//! The kernel does not order rules. It has a default for all devices, and exceptions from it, which
//! can be added and removed but cannot have exceptions themselves. Reference: the kernel's
//! `admin-guide/cgroup-v1/devices`.

use std::collections::BTreeMap;

use pidone_config::{Error, Result};
use rustix::fs::OFlags;

use super::policy::{Device, EVERYTHING, Policy, Rule, access, letters};
use crate::cgroup::directory::Directory;

type Exceptions = BTreeMap<Device, u8>;

/// Returns the devices and kinds of access for which the opposite of `policy.allow` holds.
///
/// # Errors
/// A rule that removes a part of an exception. The kernel would silently ignore it, and there are
/// too many numbers to list the rest instead.
pub(super) fn exceptions(policy: &Policy) -> Result<Exceptions> {
    let mut exceptions = Exceptions::new();
    for rule in &policy.rules {
        if rule.allow == policy.allow {
            remove_covered(&mut exceptions, rule)?;
        } else {
            *exceptions.entry(rule.device).or_default() |= rule.access;
        }
    }
    if !policy.allow {
        complete(&mut exceptions);
    }
    Ok(exceptions)
}

/// Removes the exceptions that a later rule covers.
fn remove_covered(exceptions: &mut Exceptions, rule: &Rule) -> Result<()> {
    for (device, access) in exceptions.iter_mut() {
        if *access & rule.access == 0 || !rule.device.meets(device) {
            continue;
        }
        if !rule.device.covers(device) {
            let verb = if rule.allow { "allow" } else { "deny" };
            let value = format!("{verb} {} {}", rule.device, letters(rule.access));
            let earlier = format!("{device} {}", letters(*access));
            let reason =
                format!("cgroup v1 cannot make an exception from the rule for `{earlier}`");
            return Err(Error::config("cgroups.device_rules", value, reason));
        }
        *access &= !rule.access;
    }
    exceptions.retain(|_, access| *access != 0);
    Ok(())
}

/// Adds to each exception the access of those that cover it.
///
/// The kernel allows an access only if a single exception covers it: one for reading all devices
/// and one for writing this device do not allow opening it for both.
fn complete(exceptions: &mut Exceptions) {
    let wide: Vec<(Device, u8)> = exceptions
        .iter()
        .filter(|(device, _)| device.major.is_none() || device.minor.is_none())
        .map(|(device, access)| (*device, *access))
        .collect();
    for (device, access) in exceptions.iter_mut().filter(|(_, access)| **access != EVERYTHING) {
        let covering = wide.iter().filter(|(other, _)| other.covers(device));
        *access |= covering.fold(0, |bits, (_, access)| bits | access);
    }
}

/// Writes the difference between the current rules and the wanted ones, so that a running container
/// never loses access to a device that it keeps.
pub(super) fn apply(directory: &Directory, policy: &Policy) -> Result<()> {
    let list = directory.read_existing("devices.list")?;
    let lines = lines(&list, policy.allow, &exceptions(policy)?);
    for lines in lines.chunk_by(|a, b| a.0 == b.0) {
        let Some((file, first)) = lines.first() else { continue };
        let opened = directory.file(file, OFlags::WRONLY);
        let opened = opened.map_err(|errno| directory.write_error(file, first, errno))?;
        for (_, line) in lines {
            rustix::io::retry_on_intr(|| rustix::io::write(&opened, line.as_bytes()))
                .map_err(|errno| directory.write_error(file, line, errno))?;
        }
    }
    Ok(())
}

/// Returns the lines to write and their files, given the text of `devices.list`.
fn lines(list: &str, allow: bool, wanted: &Exceptions) -> Vec<(&'static str, String)> {
    const ALLOW: &str = "devices.allow";
    const DENY: &str = "devices.deny";
    let mut lines = Vec::new();
    let mut write = |file, device: &Device, access| {
        if access != 0 {
            lines.push((file, format!("{device} {}", letters(access))));
        }
    };
    // "a *:* rwm" means that everything is allowed except for devices that the file does not list.
    // The only way to change these is to start over, with everything allowed for a moment.
    let open = list.starts_with('a');
    if allow {
        for (device, &access) in wanted {
            write(DENY, device, access);
        }
        if !open || !wanted.is_empty() {
            lines.insert(0, (ALLOW, "a".to_owned()));
        }
        return lines;
    }
    let current: Exceptions = list.lines().filter_map(parse).collect();
    for (device, &access) in wanted {
        write(ALLOW, device, access & !current.get(device).unwrap_or(&0));
    }
    for (device, &access) in &current {
        write(DENY, device, access & !wanted.get(device).unwrap_or(&0));
    }
    if open {
        lines.insert(0, (DENY, "a".to_owned()));
    }
    lines
}

/// Parses a line of `devices.list`: `c 1:3 rwm`.
fn parse(line: &str) -> Option<(Device, u8)> {
    let mut words = line.split_ascii_whitespace();
    let block = match words.next()? {
        "b" => true,
        "c" => false,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        text => text.parse().ok().map(Some),
    };
    let device = Device { block, major: number(major)?, minor: number(minor)? };
    Some((device, access(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::config;

    fn policy(rules: &[&str]) -> Policy {
        let device_rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Policy::from_config(&config::Cgroup { device_rules, ..config::Cgroup::default() }).unwrap()
    }

    fn text(list: &str, rules: &[&str]) -> Vec<String> {
        let policy = policy(rules);
        let lines = lines(list, policy.allow, &exceptions(&policy).unwrap());
        let text = lines.iter().map(|(file, line)| format!("{file} {line}"));
        text.map(|line| line.trim_start_matches("devices.").to_owned()).collect()
    }

    #[test]
    fn a_new_cgroup_is_closed_before_devices_are_allowed() {
        let rules = ["deny a *:* rwm", "allow c 1:3 mr", "allow c 1:3 w", "allow b *:* m"];
        assert_eq!(text("a *:* rwm\n", &rules), ["deny a", "allow c 1:3 rwm", "allow b *:* m"]);
    }

    #[test]
    fn only_the_difference_is_written() {
        let rules = ["allow c 1:3 rwm", "allow c 1:5 r"];
        let list = "c 1:3 rwm\nc 1:5 rw\nb *:* m\n";
        assert_eq!(text(list, &rules), ["deny c 1:5 w", "deny b *:* m"]);
        assert!(text("c 1:3 rwm\nc 1:5 r\n", &rules).is_empty());
    }

    #[test]
    fn everything_is_allowed_except_for_denied_devices() {
        let open = ["allow a *:* rwm"];
        assert!(text("a *:* rwm\n", &open).is_empty());
        assert_eq!(text("c 1:3 rwm\n", &open), ["allow a"]);
        let rules = ["allow a *:* rwm", "deny c 1:9 w"];
        assert_eq!(text("a *:* rwm\n", &rules), ["allow a", "deny c 1:9 w"]);
    }

    #[test]
    fn later_rules_remove_what_they_cover() {
        let rules = ["allow c 1:3 rwm", "allow c 1:5 rw", "allow c 2:5 r", "deny c 1:* w"];
        assert_eq!(text("", &rules), ["allow c 1:3 rm", "allow c 1:5 r", "allow c 2:5 r"]);
        let rules = ["allow a *:* rwm", "deny b 8:1 rw", "allow b 8:* r"];
        assert_eq!(text("a *:* rwm\n", &rules), ["allow a", "deny b 8:1 w"]);
    }

    #[test]
    fn an_exception_from_an_exception_is_refused() {
        for (rules, earlier) in [
            (["allow c *:* m", "deny c 10:200 m"], "c *:* m"),
            (["allow c 10:* rw", "deny c 10:200 rwm"], "c 10:* rw"),
            (["allow c 10:* rw", "deny c *:200 r"], "c 10:* rw"),
        ] {
            let error = exceptions(&policy(&rules)).unwrap_err().to_string();
            let start = format!("configuration `cgroups.device_rules = {}`", rules[1]);
            assert!(error.starts_with(&start), "{error}");
            assert!(error.ends_with(&format!("`{earlier}`")), "{error}");
        }
        for rules in [
            ["allow c *:* m", "deny c 10:200 rw"],
            ["allow c *:* m", "deny b 10:200 m"],
            ["allow c 10:* rw", "deny c 11:* rw"],
            ["allow c 10:* rw", "deny c *:* rw"],
        ] {
            exceptions(&policy(&rules)).unwrap();
        }
    }

    #[test]
    fn an_exception_has_the_access_of_those_that_cover_it() {
        let rules = ["allow c *:* m", "allow c 1:* r", "allow c 1:3 w", "allow b 1:3 r"];
        assert_eq!(
            text("", &rules),
            ["allow c *:* m", "allow c 1:* rm", "allow c 1:3 rwm", "allow b 1:3 r"]
        );
    }
}
