//! Device rules as properties of a systemd unit, which makes a BPF program of them.
//!
//! The program of this library is attached beside it, and a device must pass both. So the
//! properties name everything that any rule allows, and leave exceptions to that program.

use super::policy::{Policy, letters};
use crate::systemd::{Property, Value};

/// Returns the properties `DevicePolicy` and `DeviceAllow`: `systemd.resource-control(5)`.
pub(in crate::cgroup) fn properties(policy: &Policy) -> [Property; 2] {
    let mut allowed = Vec::new();
    if !policy.allow {
        for rule in policy.rules.iter().filter(|rule| rule.allow) {
            let kind = if rule.device.block { "block" } else { "char" };
            let name = match (rule.device.major, rule.device.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                (None, _) => format!("{kind}-*"),
            };
            let pair = Value::Struct(vec![Value::text(name), Value::text(letters(rule.access))]);
            if !allowed.contains(&pair) {
                allowed.push(pair);
            }
        }
    }
    let default = if policy.allow { "auto" } else { "strict" };
    [
        ("DevicePolicy".to_owned(), Value::text(default)),
        ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), allowed)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::config;

    #[test]
    fn everything_that_a_rule_allows_is_named() {
        let rules = [
            "deny a *:* rwm",
            "allow c *:* m",
            "allow c 1:3 rwm",
            "allow c 136:* rw",
            "allow c 1:3 rwm",
        ];
        let device_rules = rules.map(|rule| rule.parse().unwrap()).into();
        let config = config::Cgroup { device_rules, ..config::Cgroup::default() };
        let policy = Policy::from_config(&config).unwrap();
        let pair =
            |name: &str, access: &str| Value::Struct(vec![Value::text(name), Value::text(access)]);
        let [kind, allowed] = properties(&policy);
        assert_eq!(kind.1, Value::text("strict"));
        let expected =
            vec![pair("char-*", "m"), pair("/dev/char/1:3", "rwm"), pair("char-136", "rw")];
        assert_eq!(allowed.1, Value::Array("(ss)".into(), expected));

        let open = config::Cgroup { allow_all_devices: true, ..config::Cgroup::default() };
        let [kind, allowed] = properties(&Policy::from_config(&open).unwrap());
        assert_eq!((kind.1, allowed.1), (Value::text("auto"), Value::Array("(ss)".into(), vec![])));
    }
}
