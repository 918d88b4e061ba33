//! The values of files before a change of limits, to be restored if the change fails half-way.

use pidone_config::Result;

use super::directory::Directory;
use super::knob::{self, IfAbsent, Knob};

/// How often all values are written. One that another limits is accepted only after that one.
const ROUNDS: usize = 2;

/// The values of the files that a change writes to.
#[derive(Debug, Default)]
pub(super) struct FormerValues(Vec<(Directory, Vec<Knob>)>);

impl FormerValues {
    /// Reads the values of the files that these knobs of a directory write to.
    pub(super) fn add(&mut self, directory: Directory, knobs: &[Knob]) -> Result<()> {
        let mut former = Vec::new();
        for knob in knobs {
            let other = match &knob.if_absent {
                IfAbsent::Write(file, _) => Some(*file),
                _ => None,
            };
            for file in [Some(&*knob.file), other].into_iter().flatten() {
                let Some(text) = directory.read(file)? else { continue };
                let values = former_values(file, &text, &knob.value);
                former.extend(
                    values.into_iter().map(|value| {
                        Knob::new(knob.field, knob.controller, file.to_owned(), value)
                    }),
                );
            }
        }
        self.0.push((directory, former));
        Ok(())
    }

    /// Adds the value of `memory.oom_control` of cgroup v1, which is written apart from the others.
    pub(super) fn add_oom_control(&mut self, directory: Directory) -> Result<()> {
        let file = "memory.oom_control";
        let text = directory.read(file)?.unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix("oom_kill_disable "));
        let former = value.map(|value| Knob::new("oom_kill_disable", "memory", file, value));
        self.0.push((directory, former.into_iter().collect()));
        Ok(())
    }

    /// Writes the values. The failure that led here is reported, not one of these writes.
    pub(super) fn restore(&self) {
        for _ in 0..ROUNDS {
            for (directory, knobs) in &self.0 {
                for knob in knobs {
                    let _ = knob::apply(directory, std::slice::from_ref(knob));
                }
            }
        }
    }
}

/// Returns what restores a file with this text after `value` was written to it: its lines, and for
/// a device without a line the value that stands for no limit.
fn former_values(file: &str, text: &str, value: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty());
    let mut values: Vec<String> = lines.map(str::to_owned).collect();
    if values.is_empty() {
        // An empty list of processors or nodes; a write of no bytes would change nothing.
        values.push("\n".to_owned());
    }
    for line in value.lines() {
        let Some(device) = line.split_whitespace().next().filter(|word| word.contains(':')) else {
            continue;
        };
        let has_line = |former: &String| former.split_whitespace().next() == Some(device);
        if !values.iter().any(has_line) {
            values.retain(|former| former != "\n");
            values.push(match file {
                "io.max" => format!("{device} rbps=max wbps=max riops=max wiops=max"),
                _ => format!("{device} 0"),
            });
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_restored_and_new_devices_lose_their_limit() {
        assert_eq!(former_values("pids.max", "max\n", "5"), ["max"]);
        assert_eq!(former_values("cpuset.cpus", "\n", "0"), ["\n"]);
        let io = "8:0 rbps=1 wbps=max riops=max wiops=max\n";
        assert_eq!(former_values("io.max", io, "8:0 rbps=2"), [io.trim()]);
        let none = "8:16 rbps=max wbps=max riops=max wiops=max";
        assert_eq!(former_values("io.max", io, "8:16 rbps=2"), [io.trim(), none]);
        assert_eq!(former_values("blkio.throttle.read_bps_device", "", "8:0 4"), ["8:0 0"]);
    }
}
