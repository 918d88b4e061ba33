//! `--trace` and `--debug`: how long each step of a start took.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use pidone::trace::{self, Trace};
use pidone_config::{Error, Result};
use pidone_host::span;
use rustix::time::{ClockId, clock_gettime};

use super::report::Report;

/// The help of `--trace`.
pub(super) const HELP: &str = "Write how long each step of the start took to FILE, which must \
    end in .svg (a picture), .json or .txt (a table); - prints the table on standard error";

/// The section of manual pages about `--trace`, in roff.
pub(super) const MANUAL: &str = include_str!("trace.roff");

/// Where a trace is written, and in which format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Standard error, as a table.
    Terminal,
    /// A file.
    File(PathBuf, Format),
}

/// The format of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Svg,
    Table,
}

/// Parses the value of `--trace`. The file name extension selects the format.
pub(super) fn target(text: &str) -> std::result::Result<Target, &'static str> {
    if text == "-" {
        return Ok(Target::Terminal);
    }
    let path = PathBuf::from(text);
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => Format::Json,
        Some("svg") => Format::Svg,
        Some("txt") => Format::Table,
        _ => return Err("must be - or end in .json, .svg or .txt"),
    };
    Ok(Target::File(path, format))
}

/// Calls `start`, and writes its trace if `--trace` or `--debug` asks for it, also if it failed.
///
/// # Errors
/// Those of `start`. [`pidone_config::Code::SystemError`] if the file cannot be created, which is
/// checked first. A failure to write the trace is only a warning: the container runs.
pub(super) fn traced<T>(
    target: Option<&Target>,
    report: &mut Report,
    start: impl FnOnce(&mut Report) -> Result<T>,
) -> Result<T> {
    if target.is_none() && !report.is_debug() {
        return start(report);
    }
    let file = match target {
        Some(Target::File(path, format)) => {
            let file = File::create(path).map_err(|error| Error::path("open", path, error))?;
            Some((file, path.as_path(), *format))
        }
        _ => None,
    };
    let began = began();
    let (result, trace) = trace::record_since(began, || {
        span::mark("start this program", Some(began));
        start(report)
    });
    if matches!(target, Some(Target::Terminal)) && !report.is_debug() {
        // If standard error is closed, there is nowhere to report that.
        let _ = write!(io::stderr(), "{trace}");
    }
    for line in trace.to_string().lines() {
        report.debug(&line.trim_end());
    }
    if let Some((file, path, format)) = file
        && let Err(error) = write(file, path, format, &trace)
    {
        // The container runs: do not fail because of its trace.
        report.warning(&error);
    }
    result
}

/// Returns when this process began, in nanoseconds of the monotonic clock.
///
/// This assumes that the process has used the processor ever since.
fn began() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used = used.tv_sec.unsigned_abs() * 1_000_000_000 + used.tv_nsec.unsigned_abs();
    span::now().saturating_sub(used)
}

fn write(mut file: File, path: &Path, format: Format, trace: &Trace) -> Result<()> {
    let text = match format {
        Format::Svg => trace.svg().to_string(),
        Format::Table => trace.to_string(),
        Format::Json => serde_json::to_string_pretty(trace)
            .map(|text| text + "\n")
            .map_err(|error| Error::path("write", path, io::Error::from(error)))?,
    };
    file.write_all(text.as_bytes()).map_err(|error| Error::path("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_selects_the_format() {
        assert_eq!(target("-"), Ok(Target::Terminal));
        assert_eq!(target("a/b.json"), Ok(Target::File("a/b.json".into(), Format::Json)));
        assert_eq!(target("x.y.svg"), Ok(Target::File("x.y.svg".into(), Format::Svg)));
        assert_eq!(target("/t.txt"), Ok(Target::File("/t.txt".into(), Format::Table)));
        for wrong in ["", ".json", "json", "a.JSON", "a.json/b", "a.html", "a."] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn this_process_began_in_the_past() {
        let now = span::now();
        assert!((1..now).contains(&began()));
    }
}
