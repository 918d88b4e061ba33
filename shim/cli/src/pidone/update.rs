//! `pidone update`: changes the resource limits of a container.

use std::path::PathBuf;

use clap::Args;
use pidone::Status;
use pidone_config::config::size;
use pidone_config::{Code, Error, Result, oci};
use serde_json::{Map, Value};

use super::control::not_running;
use super::{begin, flags, read};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;

/// `pidone update`.
#[derive(Debug, Default, Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct Update {
    /// ID of the container
    #[arg(value_name = "ID")]
    id: String,

    /// File with the limits, in the format of linux.resources in config.json, or - for standard
    /// input; options override it
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,

    /// CPU period, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_period: Option<u64>,

    /// CPU time per period, in microseconds; -1 for no limit
    #[arg(long, value_name = "TIME")]
    cpu_quota: Option<i64>,

    /// Unused CPU time that may accumulate beyond the quota, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_burst: Option<u64>,

    /// CPU shares, relative to other cgroups
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,

    /// Real-time CPU period, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_rt_period: Option<u64>,

    /// Real-time CPU time per period, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_rt_runtime: Option<i64>,

    /// CPUs to use, for example 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Memory nodes to use, for example 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// 1 to run only when a CPU is otherwise idle, 0 to run as usual
    #[arg(long, value_name = "NUMBER")]
    cpu_idle: Option<i64>,

    /// Memory limit, in bytes or with the suffix k, m or g; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<i64>,

    /// Soft memory limit
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory_reservation: Option<i64>,

    /// Limit of memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory_swap: Option<i64>,

    /// Maximum number of processes; -1 for no limit
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<i64>,

    /// Intel RDT schema for the L3 cache (not supported)
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,

    /// Intel RDT schema for memory bandwidth (not supported)
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,

    /// Accepted and ignored: the kernel has removed this limit
    #[arg(long, hide = true)]
    kernel_memory: Option<String>,

    /// Accepted and ignored: the kernel has removed this limit
    #[arg(long, hide = true)]
    kernel_memory_tcp: Option<String>,
}

fn memory(text: &str) -> std::result::Result<i64, &'static str> {
    size::parse(text).ok_or("must be a number of bytes, or one with k, m, g or t as in 64m")
}

/// Changes the resource limits of a container.
///
/// # Errors
/// [`Code::ConfigInvalid`] if a limit is wrong, [`Code::ContainerNotRunning`] if the container has
/// stopped, [`Code::SystemError`] if it has no cgroup or the kernel refuses a limit.
pub(super) fn update(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (Update, flags::Global) = begin(invocation, report)?;
    let schemas =
        [("--l3-cache-schema", &flags.l3_cache_schema), ("--mem-bw-schema", &flags.mem_bw_schema)];
    for (option, schema) in schemas {
        if let Some(schema) = schema {
            let reason = "Intel RDT is not supported";
            return Err(Error::config(option, schema, reason).into());
        }
    }
    let mut container = global.container(&flags.id)?;
    if container.status()? == Status::Destroyed {
        return Err(not_running("update", &flags.id).into());
    }
    let resources = flags.resources()?;
    let mut config = container.config().clone();
    let limits = config.cgroups.as_mut().ok_or_else(|| {
        Error::reason(Code::SystemError, "update", &flags.id, "container has no cgroup")
    })?;
    resources.apply(limits)?;
    container.set(&config)?;
    Ok(0)
}

impl Update {
    /// Returns the limits of the file, overridden by the options.
    fn resources(&self) -> Result<oci::Resources> {
        let source = self.resources.as_deref().map(|path| path.to_string_lossy().into_owned());
        let source = source.unwrap_or_else(|| "options".to_owned());
        let refuse = |error: &dyn std::fmt::Display| {
            Error::reason(Code::ConfigInvalid, "resources", &source, error.to_string())
        };
        let mut all: Map<String, Value> = match &self.resources {
            Some(path) => serde_json::from_slice(&read::file_or_stdin(path)?)
                .map_err(|error| refuse(&error))?,
            None => Map::new(),
        };
        // Other tools, such as those for GPUs, may have changed the device rules of the container.
        // Keep them, as runc does.
        all.remove("devices");
        self.merge(&mut all);
        serde_path_to_error::deserialize(Value::Object(all)).map_err(|error| refuse(&error))
    }

    /// Overrides the limits of a file with those of the options.
    fn merge(&self, all: &mut Map<String, Value>) {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let options = [
            ("blockIO", "weight", self.blkio_weight.map(Value::from)),
            ("cpu", "period", self.cpu_period.map(Value::from)),
            ("cpu", "quota", self.cpu_quota.map(Value::from)),
            ("cpu", "burst", self.cpu_burst.map(Value::from)),
            ("cpu", "shares", self.cpu_share.map(Value::from)),
            ("cpu", "realtimePeriod", self.cpu_rt_period.map(Value::from)),
            ("cpu", "realtimeRuntime", self.cpu_rt_runtime.map(Value::from)),
            ("cpu", "cpus", text(&self.cpuset_cpus)),
            ("cpu", "mems", text(&self.cpuset_mems)),
            ("cpu", "idle", self.cpu_idle.map(Value::from)),
            ("memory", "limit", self.memory.map(Value::from)),
            ("memory", "reservation", self.memory_reservation.map(Value::from)),
            ("memory", "swap", self.memory_swap.map(Value::from)),
            ("pids", "limit", self.pids_limit.map(Value::from)),
        ];
        for (part, field, value) in options {
            let Some(value) = value else { continue };
            let part = all.entry(part).or_insert(Value::Null);
            if !part.is_object() {
                *part = Value::Object(Map::new());
            }
            if let Some(part) = part.as_object_mut() {
                part.insert(field.to_owned(), value);
            }
        }
        // If memory becomes unlimited, memory and swap together must too, or that limit still
        // holds.
        if let Some(memory) = all.get_mut("memory").and_then(Value::as_object_mut)
            && memory.get("limit").and_then(Value::as_i64) == Some(-1)
            && memory.get("swap").is_none_or(Value::is_null)
        {
            memory.insert("swap".to_owned(), Value::from(-1));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_override_the_file_and_unlimited_memory_implies_unlimited_swap() {
        let merged = |update: Update, file: Value| {
            let mut all = file.as_object().unwrap().clone();
            update.merge(&mut all);
            Value::Object(all)
        };
        let update = Update {
            memory: Some(64 << 20),
            cpu_quota: Some(-1),
            cpuset_cpus: Some("0-1".into()),
            ..Update::default()
        };
        let file = json!({ "memory": { "limit": 1, "reservation": 2 }, "cpu": null });
        assert_eq!(
            merged(update, file),
            json!({
                "memory": { "limit": 67_108_864, "reservation": 2 },
                "cpu": { "quota": -1, "cpus": "0-1" },
            })
        );
        let unlimited = || Update { memory: Some(-1), ..Update::default() };
        assert_eq!(
            merged(unlimited(), json!({})),
            json!({ "memory": { "limit": -1, "swap": -1 } })
        );
        let file = json!({ "memory": { "swap": 5 } });
        assert_eq!(merged(unlimited(), file), json!({ "memory": { "limit": -1, "swap": 5 } }));
        assert_eq!(merged(Update::default(), json!({})), json!({}));
    }
}
