//! Parsers of numbers in files of cgroups. Malformed lines are ignored.

use pidone_config::Result;

use super::super::directory::Directory;
use super::{BlkioEntry, Pressure, Psi};

/// Parses a number. `max` is `u64::MAX`, and a negative number, which a counter of cgroup v1 may
/// show for a moment, is 0.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        text if text.starts_with('-') => text[1..].parse::<u64>().ok().map(|_| 0),
        text => text.parse().ok(),
    }
}

/// Reads a file that holds one number. Returns 0 if it does not exist.
pub(super) fn read_number(directory: &Directory, file: &str) -> Result<u64> {
    Ok(directory.read(file)?.as_deref().and_then(number).unwrap_or(0))
}

/// Parses lines of `key number`.
pub(super) fn keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, number(value)?))
    })
}

/// Parses lines of `major:minor [operation] number` of the controller blkio. The line with the sum
/// of all devices has no device number and is ignored.
pub(super) fn blkio(text: &str) -> Vec<BlkioEntry> {
    let parse = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = match (words.next()?, words.next()) {
            (op, Some(value)) => (op, value),
            (value, None) => ("", value),
        };
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: number(value)?,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Parses a line of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and one of `full`.
pub(super) fn psi(text: &str) -> Psi {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let mut pressure = Pressure::default();
        let target = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let share = value.parse().unwrap_or(0.0);
            match key {
                "avg10" => pressure.avg10 = share,
                "avg60" => pressure.avg60 = share,
                "avg300" => pressure.avg300 = share,
                "total" => pressure.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        *target = pressure;
    }
    psi
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_negative_or_max() {
        assert_eq!(number("12\n"), Some(12));
        assert_eq!(number("-12\n"), Some(0));
        assert_eq!(number("max\n"), Some(u64::MAX));
        for bad in ["", "x", "-x", "1 2", "18446744073709551616"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        let pairs: Vec<_> = keyed("a 1\nb -3\n\nc\nd x\ne 2").collect();
        assert_eq!(pairs, [("a", 1), ("b", 0), ("e", 2)]);
    }

    #[test]
    fn block_device_lines_may_have_an_operation() {
        let entry = |minor, op: &str, value| BlkioEntry { major: 8, minor, op: op.into(), value };
        assert_eq!(
            blkio("8:0 Read 100\n8:0 Total 130\n8:16 7\nTotal 130\n8:0 Read\n"),
            [entry(0, "Read", 100), entry(0, "Total", 130), entry(16, "", 7)]
        );
    }

    #[test]
    fn pressure_has_some_and_full() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\n\
                    full avg10=0.10 avg60=0.00 avg300=0.00 total=7\nnone x=1\n";
        let found = psi(text);
        assert_eq!(found.some, Pressure { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 42 });
        assert_eq!(found.full.total, 7);
    }
}
