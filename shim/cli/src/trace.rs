//! `--trace` and `--debug`: where the time of a start went.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use pidone::trace::{self, Trace};
use pidone_config::{Error, Result};
use pidone_host::span;
use rustix::time::{ClockId, clock_gettime};

use super::report::Report;

/// What `--trace` says in the help.
pub(super) const HELP: &str = "Write where the time of the start went: FILE ends in .svg (a \
    picture), .json or .txt (a table); - is a table on standard error";

/// Where a trace goes, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A table on standard error.
    Terminal,
    /// A file.
    File(PathBuf, Form),
}

/// The form of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Svg,
    Table,
}

/// Reads the value of `--trace`.
pub(super) fn target(text: &str) -> std::result::Result<Target, &'static str> {
    if text == "-" {
        return Ok(Target::Terminal);
    }
    let path = PathBuf::from(text);
    let form = match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => Form::Json,
        Some("svg") => Form::Svg,
        Some("txt") => Form::Table,
        _ => return Err("must be - or end in .json, .svg or .txt"),
    };
    Ok(Target::File(path, form))
}

/// Starts something, and tells where the time went if that is wanted, also if it failed.
///
/// # Errors
/// Those of the start; before it, that the file cannot be made.
pub(super) fn traced<T>(
    target: Option<&Target>,
    report: &mut Report,
    start: impl FnOnce(&mut Report) -> Result<T>,
) -> Result<T> {
    if target.is_none() && !report.is_debug() {
        return start(report);
    }
    let file = match target {
        Some(Target::File(path, form)) => {
            let file = File::create(path).map_err(|error| Error::path("open", path, error))?;
            Some((file, path.as_path(), *form))
        }
        _ => None,
    };
    let begun = begun();
    let (result, trace) = trace::record_since(begun, || {
        span::mark("start this program", Some(begun));
        start(report)
    });
    if matches!(target, Some(Target::Terminal)) && !report.is_debug() {
        // There is no other place to tell that this one is closed.
        let _ = write!(io::stderr(), "{trace}");
    }
    report.debug(&trace.to_string().trim_end());
    if let Some((file, path, form)) = file
        && let Err(error) = write(file, path, form, &trace)
    {
        // What was started runs, and its end matters more.
        report.warning(&error);
    }
    result
}

/// When this process began, by the monotonic clock: it has used the processor all the time since.
fn begun() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used = used.tv_sec.unsigned_abs() * 1_000_000_000 + used.tv_nsec.unsigned_abs();
    span::now().saturating_sub(used)
}

fn write(mut file: File, path: &Path, form: Form, trace: &Trace) -> Result<()> {
    let text = match form {
        Form::Svg => trace.svg().to_string(),
        Form::Table => trace.to_string(),
        Form::Json => serde_json::to_string_pretty(trace)
            .map(|text| text + "\n")
            .map_err(|error| Error::path("write", path, io::Error::from(error)))?,
    };
    file.write_all(text.as_bytes()).map_err(|error| Error::path("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_the_form() {
        assert_eq!(target("-"), Ok(Target::Terminal));
        assert_eq!(target("a/b.json"), Ok(Target::File("a/b.json".into(), Form::Json)));
        assert_eq!(target("x.y.svg"), Ok(Target::File("x.y.svg".into(), Form::Svg)));
        assert_eq!(target("/t.txt"), Ok(Target::File("/t.txt".into(), Form::Table)));
        for wrong in ["", ".json", "json", "a.JSON", "a.json/b", "a.html", "a."] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn this_process_began_in_the_past() {
        let now = span::now();
        assert!((1..now).contains(&begun()));
    }
}
