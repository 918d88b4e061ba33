//! `WIRE.md` agrees with the code: its tables are parsed and compared.

use std::fmt::Debug;
use std::path::Path;

use pidone_proto::frame::{HEADER_LENGTH, MAGIC, VERSION};
use pidone_proto::{
    Bincode, Call, Codec, Create, FrameError, Header, Op, Postcard, Report, Request, limits,
};

use crate::samples;
use crate::vector::{from_hex, read};

/// Returns the lines of a section: from a heading to the next one of its level.
fn section(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("WIRE.md");
    let text = std::fs::read_to_string(path).unwrap();
    let level = heading.split(' ').next().unwrap();
    let lines: Vec<_> = text
        .lines()
        .map(str::to_owned)
        .skip_while(|line| line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with(&format!("{level} ")))
        .collect();
    assert!(!lines.is_empty(), "no section {heading}");
    lines
}

/// Returns the rows of a section's tables that begin with a number: it and the other cells.
pub(crate) fn rows(heading: &str) -> Vec<(u32, Vec<String>)> {
    let cells = |line: &String| -> Option<(u32, Vec<String>)> {
        let line = line.strip_prefix("| ")?.strip_suffix('|')?;
        let mut cells = line.split(" |").map(|cell| cell.trim().trim_matches('`').to_owned());
        let number = cells.next()?;
        let number = number.split(' ').next()?.parse().ok()?;
        Some((number, cells.collect()))
    };
    section(heading).iter().filter_map(cells).collect()
}

/// Returns the fields of a message as `Debug` prints it: their names and their values.
fn fields(printed: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = printed.split_once(" { ") else { return Vec::new() };
    let rest = rest.strip_suffix(" }").unwrap();
    let mut fields: Vec<(String, String)> = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (place, character) in rest.char_indices().chain([(rest.len(), ',')]) {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                let (name, value) = rest[start..place].split_once(": ").unwrap();
                fields.push((name.trim().to_owned(), value.to_owned()));
                start = place + 1;
            }
            _ => {}
        }
    }
    fields
}

/// Returns whether a printed value can have a type of the specification.
///
/// Integers of different sizes look the same here; `frozen.rs` tells them apart by their bytes.
fn has_type(value: &str, field_type: &str) -> bool {
    match field_type {
        "slot" => value.starts_with("Slot("),
        "text" => value.starts_with("Text("),
        "bool" => ["true", "false"].contains(&value),
        "strings" | "words" | "bytes" => value.starts_with('['),
        "u16" | "u32" | "u64" => value.parse::<u64>().is_ok(),
        "create" => Create::VARIANTS.contains(&value),
        "call" => Call::ALL.iter().any(|call| format!("{call:?}") == value),
        _ => false,
    }
}

/// Parses a cell of fields with their types.
fn specified_fields(cell: &str) -> Vec<(&str, &str)> {
    let fields = cell.split(", ").filter(|field| !field.is_empty());
    fields.map(|field| field.split_once(' ').unwrap()).collect()
}

/// The numbered rows of a section are the variants of an enumeration, and the fields in a row are
/// those of the samples of the variant, in their order.
fn assert_specified(heading: &str, variants: &[&str], samples: &[impl Debug]) {
    let mut rows = rows(heading);
    rows.sort_by_key(|(number, _)| *number);
    let names: Vec<_> = rows.iter().map(|(number, cells)| (*number, cells[0].as_str())).collect();
    assert_eq!(names, samples::numbered(variants), "{heading} in WIRE.md");
    for sample in samples {
        let printed = format!("{sample:?}");
        let index = usize::try_from(samples::number(variants, sample)).unwrap();
        let specified = specified_fields(&rows[index].1[1]);
        let fields = fields(&printed);
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let specified_names: Vec<_> = specified.iter().map(|(name, _)| *name).collect();
        assert_eq!(specified_names, names, "{printed}");
        for ((_, field_type), (name, value)) in specified.iter().zip(&fields) {
            assert!(has_type(value, field_type), "{name} of {printed} is not a {field_type}");
        }
    }
}

#[test]
fn operations_match_the_specification() {
    assert_specified("## Operations", Op::VARIANTS, &samples::operations());
    let last = format!("Numbers above {} are unknown", Op::COUNT - 1);
    assert!(section("## Operations").iter().any(|line| line.contains(&last)), "{last}");
}

#[test]
fn reports_match_the_specification() {
    assert_specified("## Reports", Report::VARIANTS, &samples::reports());
}

#[test]
fn requests_match_the_specification() {
    assert_specified("## Requests", Request::VARIANTS, &samples::requests());
}

#[test]
fn calls_match_the_specification() {
    let rows = rows("## Calls");
    let specified: Vec<_> =
        rows.iter().map(|(number, cells)| (*number, cells[0].as_str())).collect();
    let names: Vec<_> = Call::ALL.iter().map(|call| format!("{call:?}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(specified, samples::numbered(&names));
}

#[test]
fn frames_match_the_specification() {
    let rows = rows("## Frames");
    // The tables in their order: fields by their offsets, types, codes of refusal.
    let offsets: Vec<_> = rows.iter().take(7).map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 4, 5, 6, 7, 8, 12]);
    let types: Vec<_> = rows.iter().skip(7).take(7).map(|(number, _)| *number).collect();
    assert_eq!(types, [1, 2, 3, 4, 5, 6, 0x81]);
    let codes: Vec<_> = rows.iter().skip(14).map(|(code, _)| *code).collect();
    assert_eq!(codes, [1, 2, 3, 4, 5, 7, 8, 6]);
    let header = section("## Frames").join("\n");
    assert!(header.contains(&format!("version of the wire: {VERSION}")));
    assert!(header.contains(&format!("{} bincode, {} postcard", Bincode::ID, Postcard::ID)));
    assert!(header.contains(&crate::vector::hex(&MAGIC)));
}

/// Begins with a message that fails every check, and corrects it one check at a time.
#[test]
fn header_checks_run_in_the_specified_order() {
    let mut bytes = vec![0; HEADER_LENGTH + 1];
    let mut codes = vec![Header::split(&bytes[..HEADER_LENGTH - 1], 1, 1, 0).unwrap_err().code()];
    let check = |bytes: &[u8]| Header::split(bytes, 1, 1, 0).unwrap_err().code();
    bytes[8] = 1;
    codes.push(check(&bytes));
    bytes[..4].copy_from_slice(&MAGIC);
    codes.push(check(&bytes));
    bytes[4] = VERSION;
    codes.push(check(&bytes));
    bytes[5] = 1;
    codes.push(check(&bytes));
    bytes[6] = 1;
    codes.push(check(&bytes));
    bytes[7] = 1;
    codes.push(check(&bytes));
    bytes[8] = 0;
    codes.push(check(&bytes));
    bytes[12] = 1;
    assert!(Header::split(&bytes, 1, 1, 0).is_ok());
    let specified: Vec<_> =
        rows("## Frames").iter().skip(14).map(|(code, _)| u16::try_from(*code).unwrap()).collect();
    assert_eq!(codes, specified);
    assert_eq!(FrameError::Length.code(), 6);
}

#[test]
fn limits_match_the_specification() {
    let text = section("## Limits").join("\n");
    for limit in [
        format!("| a message, header and body | {} bytes", limits::FRAME),
        format!("| a part in a memfd | {} bytes", limits::PLAN),
        format!("the memfd among them | {}", limits::DESCRIPTORS),
        format!("| slots | {}", limits::SLOTS),
        format!("by convention | {}", limits::FIRST_MADE_SLOT),
        format!("| time stamps of a plan | {}", limits::TIMES),
        format!("| time stamps in a report | {}", limits::TIMES_PER_REPORT),
        format!("| processes at a time | {}", limits::PROCESSES),
        format!("| processes in a report | {}", limits::PROCESSES_PER_REPORT),
        format!("| clients at a time | {}", limits::CLIENTS),
        format!(
            "| a report, header and body | {} bytes",
            HEADER_LENGTH + 8 * limits::TIMES_PER_REPORT + 64
        ),
    ] {
        assert!(text.contains(&limit), "{limit}");
    }
}

#[test]
fn the_example_consists_of_vectors() {
    let frames = read("frames.txt");
    let vectors: Vec<_> = frames.iter().map(|frame| frame.get("bytes")).collect();
    let page = section("## An example");
    let messages: Vec<_> =
        page.iter().filter(|line| from_hex(line).is_some_and(|bytes| bytes.len() > 4)).collect();
    assert_eq!(messages.len(), 5);
    for message in messages {
        assert!(vectors.contains(&message.as_str()), "{message}");
    }
    // The table explains every byte of the first message.
    let explained: Vec<u8> = page
        .iter()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" |"))
        .flat_map(|(bytes, _)| from_hex(&bytes.replace('`', "")).unwrap())
        .collect();
    assert_eq!(crate::vector::hex(&explained), vectors[0]);
}

#[test]
fn integers_are_encoded_as_in_the_table() {
    let values = [0, 127, 128, 250, 251, 65_535, 65_536, u64::from(u32::MAX), u64::MAX];
    let page = section("## Codecs").join("\n");
    for value in values {
        // `Bounding` has one field, of 64 bits, after the number of the operation.
        let op = Op::Bounding { keep: value };
        let mut both = [Vec::new(), Vec::new()];
        Bincode::append(&op, &mut both[0]).unwrap();
        Postcard::append(&op, &mut both[1]).unwrap();
        let [bincode, postcard] = both.map(|bytes| crate::vector::hex(&bytes[1..]));
        let row = format!("| `{bincode}` | `{postcard}` |");
        assert!(page.contains(&row), "{value}: {row}");
    }
}
