//! Version 1 as it was given out: `vectors/version-1.txt` is never changed, only appended to.
//!
//! The other vectors follow the code, and whoever changes both by one mistake would not be told.
//! Here every message stands with its fields and their types, and bytes that are made of these
//! alone: each integer at its largest, so that neither a narrower nor a wider type passes.

use std::fmt::Debug;

use pidone_proto::codec::{Decode, Encode};
use pidone_proto::{
    Bincode, Call, Codec, CodecError, Create, Header, Op, Postcard, Report, Request, limits,
};

use crate::samples;
use crate::vector::{Vector, hex, read};

const FILE: &str = "version-1.txt";

/// A codec by its name, and how it writes a number.
type Writer = (&'static str, fn(u64) -> Vec<u8>);

const CODECS: [Writer; 2] = [("bincode", bincode), ("postcard", postcard)];

/// An integer as the page says it; one that no type holds has the mark of 128 bits.
fn bincode(value: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    let (mark, length) = match value {
        0..=250 => return vec![bytes[0]],
        251..=0xffff => (251, 2),
        0x1_0000..=0xffff_ffff => (252, 4),
        _ => (253, 8),
    };
    [&[mark], &bytes[..length]].concat()
}

/// LEB128.
fn postcard(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

/// A field with its type, as the page has them.
type Field = (String, String);

fn fields(text: &str) -> Vec<Field> {
    let fields = text.split(", ").filter(|field| !field.is_empty());
    fields.map(|field| field.split_once(' ').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
}

/// The bytes of the value that stands for a type.
fn largest(kind: &str, integer: fn(u64) -> Vec<u8>) -> Vec<u8> {
    let counted = |bytes: &[u8]| [&integer(bytes.len() as u64)[..], bytes].concat();
    match kind {
        "slot" | "u16" => integer(u16::MAX.into()),
        "u32" => integer(u32::MAX.into()),
        "u64" => integer(u64::MAX),
        "bool" => vec![1],
        "text" => counted(b"t\0"),
        "strings" => counted(b"a\0b\0"),
        "words" => counted(&[7, 0, 0, 0, 8, 0, 0, 0]),
        "bytes" => counted(&[9]),
        "create" => integer(2),
        "call" => integer(48),
        other => panic!("no type {other}"),
    }
}

/// How Rust prints that value.
fn printed(kind: &str) -> &'static str {
    match kind {
        "slot" => "Slot(65535)",
        "u16" => "65535",
        "u32" => "4294967295",
        "u64" => "18446744073709551615",
        "bool" => "true",
        "text" => "Text(\"t\")",
        "strings" => "[\"a\", \"b\"]",
        "words" => "[7, 8]",
        "bytes" => "[9]",
        "create" => "File",
        "call" => "Exec",
        other => panic!("no type {other}"),
    }
}

/// The bytes of a value that is too large for a type, where there is such a thing.
fn too_large(kind: &str, codec: &str) -> Option<Vec<u8>> {
    let integer = if codec == "bincode" { bincode } else { postcard };
    match kind {
        "slot" | "u16" => Some(integer(1 << 16)),
        "u32" => Some(integer(1 << 32)),
        "u64" if codec == "bincode" => Some([&[254][..], &[0; 8], &[1], &[0; 7]].concat()),
        "u64" => Some([&[0x80; 9][..], &[2]].concat()),
        "bool" => Some(vec![2]),
        _ => None,
    }
}

/// The vector of a message, made of its number, name and fields alone.
fn made(kind: &str, number: u32, name: &str, told: &str) -> Vector {
    let mut vector = Vector::new(format!("{kind} {number} {name}"));
    if !told.is_empty() {
        vector = vector.with("fields", told);
    }
    CODECS.iter().fold(vector, |vector, (codec, integer)| {
        let mut bytes = integer(number.into());
        for (_, kind) in fields(told) {
            bytes.extend(largest(&kind, *integer));
        }
        vector.with(codec, hex(&bytes))
    })
}

/// What bytes decode to as Rust prints it, and encoded again.
fn through<'a, C: Codec, T>(bytes: &'a [u8]) -> Result<(String, Vec<u8>), CodecError>
where
    T: Decode<'a> + Encode + Debug,
{
    let (message, length) = C::decode::<T>(bytes)?;
    assert_eq!(length, bytes.len(), "{message:?} leaves bytes");
    let mut again = Vec::new();
    C::append(&message, &mut again).unwrap();
    Ok((format!("{message:?}"), again))
}

fn decoded(kind: &str, codec: &str, bytes: &[u8]) -> Result<(String, Vec<u8>), CodecError> {
    match (kind, codec) {
        ("operation", "bincode") => through::<Bincode, Op<'_>>(bytes),
        ("operation", _) => through::<Postcard, Op<'_>>(bytes),
        ("request", "bincode") => through::<Bincode, Request<'_>>(bytes),
        ("request", _) => through::<Postcard, Request<'_>>(bytes),
        ("report", "bincode") => through::<Bincode, Report<'_>>(bytes),
        ("report", _) => through::<Postcard, Report<'_>>(bytes),
        ("call", "bincode") => through::<Bincode, Call>(bytes),
        ("call", _) => through::<Postcard, Call>(bytes),
        ("create", "bincode") => through::<Bincode, Create>(bytes),
        ("create", _) => through::<Postcard, Create>(bytes),
        (other, _) => panic!("nothing is {other}"),
    }
}

/// A title's kind, number and name.
fn title(vector: &Vector) -> (&str, u32, &str) {
    let words: Vec<_> = vector.title.split(' ').collect();
    let [kind, number, name] = words[..] else { panic!("{}", vector.title) };
    (kind, number.parse().unwrap(), name)
}

const MESSAGES: [&str; 5] = ["operation", "request", "report", "call", "create"];

#[test]
fn every_message_that_was_given_out_is_what_it_was() {
    let mut count = 0;
    for vector in read(FILE).iter().filter(|it| MESSAGES.contains(&title(it).0)) {
        let (kind, number, name) = title(vector);
        let line = vector.lines.iter().find(|(key, _)| key == "fields");
        let line = line.map_or("", |(_, fields)| fields);
        let told = fields(line);
        assert_eq!(*vector, made(kind, number, name, line), "was changed");
        let values: Vec<_> =
            told.iter().map(|(field, kind)| format!("{field}: {}", printed(kind))).collect();
        let expected = match &values[..] {
            [] => name.to_owned(),
            values => format!("{name} {{ {} }}", values.join(", ")),
        };
        for (codec, integer) in CODECS {
            let bytes = vector.bytes(codec);
            assert_eq!(decoded(kind, codec, &bytes), Ok((expected.clone(), bytes)), "{codec}");
            // Each field in turn beyond its type.
            for wrong in 0..told.len() {
                let Some(beyond) = too_large(&told[wrong].1, codec) else { continue };
                let mut bytes = integer(number.into());
                for (index, (_, kind)) in told.iter().enumerate() {
                    let field = largest(kind, integer);
                    bytes.extend(if index == wrong { beyond.clone() } else { field });
                }
                let refused = decoded(kind, codec, &bytes);
                assert_eq!(refused, Err(CodecError::Malformed), "{name}: {:?}", told[wrong]);
            }
        }
        count += 1;
    }
    assert!(count >= 138, "{count}: some are missing");
}

#[test]
fn every_type_of_frame_that_was_given_out_is_what_it_was() {
    let frames: Vec<_> = read(FILE).into_iter().filter(|it| title(it).0 == "frame").collect();
    assert!(frames.len() >= 7, "some are missing");
    for frame in frames {
        let (_, number, name) = title(&frame);
        let bytes = frame.bytes("bytes");
        let (header, body) = Header::split(&bytes, 2, Postcard::ID, 0x0403_0201).unwrap();
        assert_eq!(format!("{:?}", header.frame_type), name);
        assert_eq!((header.frame_type as u32, body), (number, &[5, 6, 7][..]));
        assert_eq!([&header.to_bytes()[..], body].concat(), bytes);
    }
}

#[test]
fn no_limit_is_lower_than_it_was() {
    let limits = [
        ("FRAME", limits::FRAME),
        ("PLAN", limits::PLAN),
        ("DESCRIPTORS", limits::DESCRIPTORS),
        ("SLOTS", limits::SLOTS),
        ("TIMED", limits::TIMES),
        ("TIMES_PER_REPORT", limits::TIMES_PER_REPORT),
        ("PROCESSES", limits::PROCESSES),
        ("PROCESSES_PER_REPORT", limits::PROCESSES_PER_REPORT),
        ("CLIENTS", limits::CLIENTS),
    ];
    let frozen: Vec<_> = read(FILE).into_iter().filter(|it| title(it).0 == "limit").collect();
    assert_eq!(frozen.len(), limits.len());
    for (vector, (name, now)) in frozen.iter().zip(limits) {
        let (_, then, told) = title(vector);
        assert!(told == name && now >= usize::try_from(then).unwrap(), "{name} is {now}");
    }
    // Not a bound but a place: what the init makes is where a host looks for it.
    assert_eq!(limits::FIRST_MADE_SLOT, 256);
}

/// FNV-1a, of 64 bits.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The first vectors of each file, by their number and a digest: those behind them are new.
#[test]
fn the_vectors_that_were_given_out_are_what_they_were() {
    let frozen: Vec<_> = read(FILE).into_iter().filter(|it| title(it).0 == "vectors").collect();
    assert_eq!(frozen.len(), 7);
    for vector in &frozen {
        let (_, count, name) = title(vector);
        let vectors = read(name);
        let first: String =
            vectors.iter().take(usize::try_from(count).unwrap()).map(Vector::text).collect();
        let now = format!("{:016x}", digest(&first));
        assert_eq!(now, vector.get("digest"), "the first {count} of {name} were changed");
    }
}

/// What there is now, and must be in the file too: the failure prints the lines.
#[test]
fn what_is_new_is_written_down() {
    let known: Vec<_> = read(FILE).iter().map(|vector| vector.title.clone()).collect();
    let mut lacking = String::new();
    let mut note = |kind: &str, number: u32, name: &str, fields: &str| {
        if !known.contains(&format!("{kind} {number} {name}")) {
            lacking += &made(kind, number, name, fields).text();
        }
    };
    for (kind, heading) in
        [("operation", "## Operations"), ("request", "## Requests"), ("report", "## Reports")]
    {
        for (number, cells) in crate::specification::rows(heading) {
            note(kind, number, &cells[0], &cells[1]);
        }
    }
    for (call, number) in Call::ALL.iter().zip(0..) {
        note("call", number, &format!("{call:?}"), "");
    }
    for (create, number) in [Create::Nothing, Create::Directory, Create::File].iter().zip(0..) {
        note("create", number, &format!("{create:?}"), "");
    }
    assert!(lacking.is_empty(), "{FILE} lacks\n{lacking}");
    assert_eq!(samples::OPERATIONS.len(), Op::COUNT);
}
