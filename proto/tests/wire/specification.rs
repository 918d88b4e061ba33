//! `WIRE.md` says what the code does: its tables are read and compared.

use std::path::Path;

use pidone_proto::frame::{HEADER_LENGTH, MAGIC, VERSION};
use pidone_proto::{Bincode, Call, Codec, FrameError, Header, Op, Postcard, limits};

use crate::samples;
use crate::vector::{from_hex, read};

/// The lines of a section: from a heading to the next one of its rank.
fn section(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("WIRE.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rank = heading.split(' ').next().unwrap();
    let lines: Vec<_> = text
        .lines()
        .map(str::to_owned)
        .skip_while(|line| line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with(&format!("{rank} ")))
        .collect();
    assert!(!lines.is_empty(), "no section {heading}");
    lines
}

/// The rows of the tables of a section that begin with a number: it and the other cells.
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

/// Names and types of fields, as Rust prints a value: its names, and what its values look like.
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

/// Whether a value can be of a type of the page.
fn fits(value: &str, kind: &str) -> bool {
    match kind {
        "slot" => value.starts_with("Slot("),
        "text" => value.starts_with("Text("),
        "bool" => ["true", "false"].contains(&value),
        "strings" | "words" | "bytes" => value.starts_with('['),
        "u16" | "u32" | "u64" => value.parse::<u64>().is_ok(),
        "create" => ["Nothing", "Directory", "File"].contains(&value),
        "call" => Call::ALL.iter().any(|call| format!("{call:?}") == value),
        _ => false,
    }
}

/// The fields of a row are those of a value, in their order.
fn assert_fields(printed: &str, row: &str) {
    let told: Vec<_> = row
        .split(", ")
        .filter(|field| !field.is_empty())
        .map(|field| field.split_once(' ').unwrap())
        .collect();
    let real = fields(printed);
    let names: Vec<_> = real.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(told.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names, "{printed}");
    for ((_, kind), (name, value)) in told.iter().zip(&real) {
        assert!(fits(value, kind), "{name} of {printed} is no {kind}");
    }
}

#[test]
fn operations_are_as_the_page_says() {
    let mut told = rows("## Operations");
    told.sort_by_key(|(number, _)| *number);
    let names: Vec<_> = told.iter().map(|(number, cells)| (*number, cells[0].as_str())).collect();
    assert_eq!(names, samples::OPERATIONS);
    for op in samples::operations() {
        let printed = format!("{op:?}");
        let name = printed.split(' ').next().unwrap();
        let (_, cells) = told.iter().find(|(_, cells)| cells[0] == name).unwrap();
        assert_fields(&printed, &cells[1]);
    }
    let last = format!("Numbers behind {} are unknown", Op::COUNT - 1);
    assert!(section("## Operations").iter().any(|line| line.contains(&last)), "{last}");
}

#[test]
fn reports_are_as_the_page_says() {
    let told = rows("## Reports");
    assert_eq!(told.len(), samples::REPORTS);
    for report in samples::reports() {
        let (number, name) = samples::report_name(&report);
        let (_, cells) = told.iter().find(|(told, _)| *told == number).unwrap();
        assert_eq!(cells[0], name);
        assert_fields(&format!("{report:?}"), &cells[1]);
    }
}

#[test]
fn requests_are_as_the_page_says() {
    let told = rows("## Requests");
    assert_eq!(told.len(), samples::requests().len());
    for (request, (number, cells)) in samples::requests().iter().zip(&told) {
        let printed = format!("{request:?}");
        assert_eq!(cells[0], printed.split(' ').next().unwrap(), "{number}");
        assert_fields(&printed, &cells[1]);
    }
}

#[test]
fn calls_are_as_the_page_says() {
    let told = rows("## Calls");
    let told: Vec<_> = told.iter().map(|(number, cells)| (*number, cells[0].as_str())).collect();
    let real: Vec<_> = Call::ALL.iter().map(|call| format!("{call:?}")).collect();
    let real: Vec<_> = (0..).zip(real.iter().map(String::as_str)).collect();
    assert_eq!(told, real);
}

#[test]
fn frames_are_as_the_page_says() {
    let rows = rows("## Frames");
    // Offsets, types, then codes.
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

/// A message with everything wrong, put right from the first check to the last.
#[test]
fn checks_are_made_in_the_order_that_the_page_says() {
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
    let told: Vec<_> =
        rows("## Frames").iter().skip(14).map(|(code, _)| u16::try_from(*code).unwrap()).collect();
    assert_eq!(codes, told);
    assert_eq!(FrameError::Length.code(), 6);
}

#[test]
fn limits_are_as_the_page_says() {
    let text = section("## Limits").join("\n");
    for limit in [
        format!("header and body | {} bytes", limits::FRAME),
        format!("in a memfd | {} bytes", limits::PLAN),
        format!("the memfd among them | {}", limits::DESCRIPTORS),
        format!("| slots | {}", limits::SLOTS),
        format!("by convention | {}", limits::FIRST_MADE_SLOT),
        format!("stamps of a plan | {}", limits::TIMES),
        format!("times in a report | {}", limits::TIMES_PER_REPORT),
        format!("processes at a time | {}", limits::PROCESSES),
        format!("processes in a report | {}", limits::PROCESSES_PER_REPORT),
        format!("clients at a time | {}", limits::CLIENTS),
        format!("| {} bytes", HEADER_LENGTH + 8 * limits::TIMES_PER_REPORT + 64),
    ] {
        assert!(text.contains(&limit), "{limit}");
    }
}

#[test]
fn the_example_is_made_of_vectors() {
    let frames = read("frames.txt");
    let vectors: Vec<_> = frames.iter().map(|frame| frame.get("bytes")).collect();
    let page = section("## An example");
    let messages: Vec<_> =
        page.iter().filter(|line| from_hex(line).is_some_and(|bytes| bytes.len() > 4)).collect();
    assert_eq!(messages.len(), 5);
    for message in messages {
        assert!(vectors.contains(&message.as_str()), "{message}");
    }
    // The explanation has every byte of the first one.
    let explained: Vec<u8> = page
        .iter()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" |"))
        .flat_map(|(bytes, _)| from_hex(&bytes.replace('`', "")).unwrap())
        .collect();
    assert_eq!(crate::vector::hex(&explained), vectors[0]);
}

#[test]
fn integers_are_as_the_page_says() {
    let values = [0, 127, 128, 250, 251, 65_535, 65_536, u64::from(u32::MAX), u64::MAX];
    let page = section("## Codecs").join("\n");
    for value in values {
        // The bounding set has one field of 64 bits behind the number of the operation.
        let op = Op::Bounding { keep: value };
        let mut both = [Vec::new(), Vec::new()];
        Bincode::append(&op, &mut both[0]).unwrap();
        Postcard::append(&op, &mut both[1]).unwrap();
        let [bincode, postcard] = both.map(|bytes| crate::vector::hex(&bytes[1..]));
        let row = format!("| `{bincode}` | `{postcard}` |");
        assert!(page.contains(&row), "{value}: {row}");
    }
}
