//! The properties of a scope: from limits, and from the text of a configuration.
//!
//! Reference: `org.freedesktop.systemd1(5)`, "Scope Unit Objects"; `systemd.resource-control(5)`.

use pidone_config::{Error, Result};

use crate::cgroup::knob::Knob;
use crate::systemd::{Property, Value, parse_text};

/// Limits of memory and tasks, in files of cgroup v2 and as properties: numbers of which the
/// largest is no limit.
const NUMBERS: [(&str, &str); 6] = [
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.max", "MemoryMax"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("pids.max", "TasksMax"),
];

/// The other properties that are also written to files.
const OTHERS: [&str; 6] = [
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "OOMPolicy",
];

/// The period of a quota that has none, in microseconds: that of the kernel.
const PERIOD: u64 = 100_000;

/// The step to which systemd rounds a quota up, in microseconds of a second.
const STEP: u64 = 10_000;

const SECOND: u64 = 1_000_000;

/// Whether the limit that a property is holds without systemd, since a file has it too.
pub(super) fn has_file(name: &str) -> bool {
    OTHERS.contains(&name) || NUMBERS.iter().any(|(_, property)| *property == name)
}

/// Returns the properties that knobs are. A later knob replaces an earlier one for the same file.
pub(super) fn of_knobs(knobs: &[Knob]) -> Result<Vec<Property>> {
    let mut properties: Vec<Property> = Vec::new();
    let mut set = |name: &str, value: Value| {
        properties.retain(|(other, _)| other != name);
        properties.push((name.to_owned(), value));
    };
    for knob in knobs {
        let value = knob.value.as_str();
        let refuse = || knob.refusal("is not a number".to_owned());
        match &*knob.file {
            "cpu.weight" => set("CPUWeight", Value::Uint64(value.parse().map_err(|_| refuse())?)),
            // The weight of a unit that runs only when no other wants the processor.
            "cpu.idle" if value == "1" => set("CPUWeight", Value::Uint64(0)),
            "cpu.max" => {
                let Quota { quota, period } = Quota::of(knob)?;
                if let Some(period) = period {
                    set("CPUQuotaPeriodUSec", Value::Uint64(period));
                }
                let per_second =
                    quota.map_or(u64::MAX, |quota| per_second(quota, period.unwrap_or(PERIOD)));
                set("CPUQuotaPerSecUSec", Value::Uint64(per_second));
            }
            "cpuset.cpus" => set_mask(value, |mask| set("AllowedCPUs", mask)),
            "cpuset.mems" => set_mask(value, |mask| set("AllowedMemoryNodes", mask)),
            "memory.oom.group" => {
                let policy = if value == "1" { "kill" } else { "continue" };
                set("OOMPolicy", Value::text(policy));
            }
            file => {
                if let Some((_, property)) = NUMBERS.iter().find(|(name, _)| *name == file) {
                    let number = match value {
                        "max" => u64::MAX,
                        number => number.parse().map_err(|_| refuse())?,
                    };
                    set(property, Value::Uint64(number));
                }
            }
        }
    }
    Ok(properties)
}

/// Changes what systemd cannot express exactly to what it makes of it, so that the files have the
/// same values before and after systemd writes them again: a quota is a multiple of 10 ms in each
/// second, and there is at least one task.
pub(in crate::cgroup) fn round(knobs: &mut [Knob]) -> Result<()> {
    for knob in knobs {
        match &*knob.file {
            "cpu.max" => {
                let Quota { quota, period } = Quota::of(knob)?;
                let Some(quota) = quota else { continue };
                let full = period.unwrap_or(PERIOD);
                let rounded = u128::from(per_second(quota, full)) * u128::from(full);
                let rounded = rounded / u128::from(SECOND);
                knob.value = match period {
                    Some(period) => format!("{rounded} {period}"),
                    None => rounded.to_string(),
                };
            }
            "pids.max" if knob.value == "0" => "1".clone_into(&mut knob.value),
            _ => {}
        }
    }
    Ok(())
}

/// A quota in microseconds, `None` for no limit, and its period, if it has one.
struct Quota {
    quota: Option<u64>,
    period: Option<u64>,
}

impl Quota {
    fn of(knob: &Knob) -> Result<Self> {
        let refuse = || knob.refusal("is not a quota and a period".to_owned());
        let mut words = knob.value.split_whitespace();
        let quota = match words.next() {
            Some("max") => None,
            Some(quota) => Some(quota.parse().map_err(|_| refuse())?),
            None => return Err(refuse()),
        };
        let period = words.next().map(|word| word.parse().map_err(|_| refuse())).transpose()?;
        if period == Some(0) || words.next().is_some() {
            return Err(refuse());
        }
        Ok(Self { quota, period })
    }
}

/// Returns the microseconds of each second that a quota is, rounded up to the step of systemd.
fn per_second(quota: u64, period: u64) -> u64 {
    let exact = u128::from(quota) * u128::from(SECOND) / u128::from(period);
    u64::try_from(exact.next_multiple_of(STEP.into())).unwrap_or(u64::MAX - 1)
}

/// Passes on the bit mask of a list such as `0-2,7`: bit 0 of byte 0 is number 0. Lists with
/// strides, which systemd does not have, are left to the file.
fn set_mask(list: &str, set: impl FnOnce(Value)) {
    /// More than any kernel has processors.
    const MOST: usize = 1 << 16;
    let mut mask = Vec::new();
    for range in list.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else { return };
        if last >= MOST {
            return;
        }
        for number in first..=last {
            if mask.len() <= number / 8 {
                mask.resize(number / 8 + 1, 0_u8);
            }
            mask[number / 8] |= 1 << (number % 8);
        }
    }
    if !mask.is_empty() {
        set(Value::bytes(&mask));
    }
}

/// Returns a property of the configuration. Of a name that ends in `Sec`, systemd has only the form
/// in microseconds, `USec`.
pub(super) fn of_text(name: &str, text: &str) -> Result<Property> {
    let refuse = |reason: &'static str| {
        Error::config(format!("cgroups.systemd_properties.{name}"), text, reason)
    };
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(refuse("is no name of a property: it has three letters or more"));
    }
    let value = parse_text(text).map_err(refuse)?;
    let Some(seconds) = name.strip_suffix("Sec").filter(|name| !name.ends_with('U')) else {
        return Ok((name.to_owned(), value));
    };
    let out_of_range = || refuse("is out of range");
    let whole = match value {
        Value::Byte(number) => Some(number.into()),
        Value::Uint16(number) => Some(number.into()),
        Value::Uint32(number) => Some(number.into()),
        Value::Uint64(number) => Some(number),
        Value::Int16(number) => number.try_into().ok(),
        Value::Int32(number) => number.try_into().ok(),
        Value::Int64(number) => number.try_into().ok(),
        Value::Double(number) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "within the range of the type, and a fraction of a microsecond is nothing"
            )]
            let microseconds = (number * SECOND as f64) as u64;
            let name = format!("{seconds}USec");
            return if number.is_finite() && (0.0..1e12).contains(&number) {
                Ok((name, Value::Uint64(microseconds)))
            } else {
                Err(out_of_range())
            };
        }
        _ => return Err(refuse("is not a number of seconds")),
    };
    let microseconds =
        whole.and_then(|number| number.checked_mul(SECOND)).ok_or_else(out_of_range)?;
    Ok((format!("{seconds}USec"), Value::Uint64(microseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::config;

    use crate::cgroup::v2;

    fn properties(config: &config::Cgroup) -> Vec<(String, Value)> {
        let mut knobs = v2::knobs(config).unwrap();
        round(&mut knobs).unwrap();
        of_knobs(&knobs).unwrap()
    }

    /// What runc 1.3 asks systemd for with the same limits.
    #[test]
    fn limits_are_the_properties_that_runc_sets() {
        let config = config::Cgroup {
            memory: 64 << 20,
            memory_swap: 128 << 20,
            memory_reservation: 32 << 20,
            cpu_quota: 55_500,
            cpu_period: 100_000,
            cpu_shares: 512,
            pids_limit: Some(50),
            cpuset_cpus: "0-1,9".into(),
            ..config::Cgroup::default()
        };
        let mut found = properties(&config);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let number = Value::Uint64;
        let expected = [
            ("AllowedCPUs", Value::bytes(&[0b11, 0b10])),
            ("CPUQuotaPerSecUSec", number(560_000)),
            ("CPUQuotaPeriodUSec", number(100_000)),
            ("CPUWeight", number(59)),
            ("MemoryLow", number(32 << 20)),
            ("MemoryMax", number(64 << 20)),
            ("MemorySwapMax", number(64 << 20)),
            ("TasksMax", number(50)),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn a_quota_is_rounded_up_in_the_file_too() {
        let quota = |quota, period| {
            let config =
                config::Cgroup { cpu_quota: quota, cpu_period: period, ..Default::default() };
            let mut knobs = v2::knobs(&config).unwrap();
            round(&mut knobs).unwrap();
            knobs[0].value.clone()
        };
        assert_eq!(quota(55_500, 100_000), "56000 100000");
        assert_eq!(quota(50_000, 100_000), "50000 100000");
        assert_eq!(quota(33_333, 0), "34000");
        assert_eq!(quota(-1, 50_000), "max 50000");
        let none = config::Cgroup { cpu_quota: -1, pids_limit: Some(0), ..Default::default() };
        let value = |name: &str| properties(&none).into_iter().find(|(other, _)| other == name);
        assert_eq!(value("CPUQuotaPerSecUSec").unwrap().1, Value::Uint64(u64::MAX));
        assert_eq!(value("TasksMax").unwrap().1, Value::Uint64(1));
    }

    #[test]
    fn files_of_unified_are_properties_where_systemd_has_one() {
        let unified =
            [("memory.high", "1048576"), ("memory.oom.group", "1"), ("io.max", "8:0 rbps=1")]
                .map(|(file, value)| (file.to_owned(), value.to_owned()));
        let config = config::Cgroup { unified: unified.into(), ..Default::default() };
        assert_eq!(
            properties(&config),
            [
                ("MemoryHigh".to_owned(), Value::Uint64(1 << 20)),
                ("OOMPolicy".to_owned(), Value::text("kill"))
            ]
        );
    }

    #[test]
    fn seconds_become_microseconds() {
        let parsed =
            |name: &str, text: &str| of_text(name, text).map_err(|error| error.to_string());
        let usec = |number| Ok(("TimeoutStopUSec".to_owned(), Value::Uint64(number)));
        assert_eq!(parsed("TimeoutStopUSec", "uint64 10000000"), usec(10_000_000));
        assert_eq!(parsed("TimeoutStopSec", "10"), usec(10_000_000));
        assert_eq!(parsed("TimeoutStopSec", "1.5"), usec(1_500_000));
        for (name, text) in [
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "'x'"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
            ("ab", "1"),
            ("A.b", "1"),
            ("KillSignal", "x"),
        ] {
            assert!(of_text(name, text).is_err(), "{name} {text}");
        }
    }
}
