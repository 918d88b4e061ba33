//! Version 1 as it was released: `vectors/version-1.txt` is only ever appended to.
//!
//! The other vectors follow the code: one mistaken change could alter both, and their tests would
//! still pass. `version-1.txt` lists each message with its fields and their types, and bytes made
//! from these alone. Each integer has the largest value of its type, so that neither a narrower nor
//! a wider type passes.

use std::fmt::Debug;

use pidone_proto::codec::{Decode, Encode};
use pidone_proto::{
    Bincode, Call, Codec, CodecError, Create, Header, Op, Postcard, Report, Request, limits,
};

use crate::vector::{Vector, hex, read};

const FILE: &str = "version-1.txt";

/// The name of a codec, and how it writes an integer.
type Writer = (&'static str, fn(u64) -> Vec<u8>);

const CODECS: [Writer; 2] = [("bincode", bincode), ("postcard", postcard)];

/// Encodes an integer as `WIRE.md` specifies for codec 1, independently of the crate.
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

/// Encodes an integer as LEB128.
fn postcard(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

/// The name and the type of a field, as in `WIRE.md`.
type Field = (String, String);

fn fields(text: &str) -> Vec<Field> {
    let fields = text.split(", ").filter(|field| !field.is_empty());
    fields.map(|field| field.split_once(' ').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
}

/// Returns the bytes of the example value of a type: the largest, for an integer.
fn example_bytes(field_type: &str, integer: fn(u64) -> Vec<u8>) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&integer(bytes.len() as u64)[..], bytes].concat();
    match field_type {
        "slot" | "u16" => integer(u16::MAX.into()),
        "u32" => integer(u32::MAX.into()),
        "u64" => integer(u64::MAX),
        "bool" => vec![1],
        "text" => with_length(b"t\0"),
        "strings" => with_length(b"a\0b\0"),
        "words" => with_length(&[7, 0, 0, 0, 8, 0, 0, 0]),
        "bytes" => with_length(&[9]),
        "create" => integer(2),
        "call" => integer(48),
        other => panic!("no type {other}"),
    }
}

/// Returns the example value of a type as `Debug` prints it.
fn example_text(field_type: &str) -> &'static str {
    match field_type {
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

/// Returns the bytes of a value that is too large for a type, if the type has a largest value.
fn too_large(field_type: &str, codec: &str) -> Option<Vec<u8>> {
    let integer = if codec == "bincode" { bincode } else { postcard };
    match field_type {
        "slot" | "u16" => Some(integer(1 << 16)),
        "u32" => Some(integer(1 << 32)),
        // bincode's mark 254 is followed by 128 bits.
        "u64" if codec == "bincode" => Some([&[254][..], &[0; 8], &[1], &[0; 7]].concat()),
        "u64" => Some([&[0x80; 9][..], &[2]].concat()),
        "bool" => Some(vec![2]),
        _ => None,
    }
}

/// Returns the vector of a message, made from its number, its name and its fields alone.
fn message_vector(kind: &str, number: u32, name: &str, field_list: &str) -> Vector {
    let mut vector = Vector::new(format!("{kind} {number} {name}"));
    if !field_list.is_empty() {
        vector = vector.with("fields", field_list);
    }
    CODECS.iter().fold(vector, |vector, (codec, integer)| {
        let mut bytes = integer(number.into());
        for (_, field_type) in fields(field_list) {
            bytes.extend(example_bytes(&field_type, *integer));
        }
        vector.with(codec, hex(&bytes))
    })
}

/// Decodes bytes, and returns the message as `Debug` prints it and its encoding.
fn round_trip<'a, C: Codec, T>(bytes: &'a [u8]) -> Result<(String, Vec<u8>), CodecError>
where
    T: Decode<'a> + Encode + Debug,
{
    let (message, length) = C::decode::<T>(bytes)?;
    assert_eq!(length, bytes.len(), "{message:?} leaves bytes");
    let mut encoded = Vec::new();
    C::append(&message, &mut encoded).unwrap();
    Ok((format!("{message:?}"), encoded))
}

fn round_trip_of(kind: &str, codec: &str, bytes: &[u8]) -> Result<(String, Vec<u8>), CodecError> {
    match (kind, codec) {
        ("operation", "bincode") => round_trip::<Bincode, Op<'_>>(bytes),
        ("operation", _) => round_trip::<Postcard, Op<'_>>(bytes),
        ("request", "bincode") => round_trip::<Bincode, Request<'_>>(bytes),
        ("request", _) => round_trip::<Postcard, Request<'_>>(bytes),
        ("report", "bincode") => round_trip::<Bincode, Report<'_>>(bytes),
        ("report", _) => round_trip::<Postcard, Report<'_>>(bytes),
        ("call", "bincode") => round_trip::<Bincode, Call>(bytes),
        ("call", _) => round_trip::<Postcard, Call>(bytes),
        ("create", "bincode") => round_trip::<Bincode, Create>(bytes),
        ("create", _) => round_trip::<Postcard, Create>(bytes),
        (other, _) => panic!("{other} is not a kind of message"),
    }
}

/// Splits a title into kind, number and name.
fn title(vector: &Vector) -> (&str, u32, &str) {
    let words: Vec<_> = vector.title.split(' ').collect();
    let [kind, number, name] = words[..] else { panic!("{}", vector.title) };
    (kind, number.parse().unwrap(), name)
}

/// Returns the vectors of one kind.
fn vectors_of(kind: &str) -> Vec<Vector> {
    read(FILE).into_iter().filter(|vector| title(vector).0 == kind).collect()
}

#[test]
fn version_1_messages_encode_and_decode_as_released() {
    let mut count = 0;
    for vector in ["operation", "request", "report", "call", "create"].map(vectors_of).concat() {
        let (kind, number, name) = title(&vector);
        let field_list = vector.lines.iter().find(|(key, _)| key == "fields");
        let field_list = field_list.map_or("", |(_, fields)| fields);
        let fields = fields(field_list);
        assert_eq!(vector, message_vector(kind, number, name, field_list), "was changed");
        let values: Vec<_> = fields
            .iter()
            .map(|(field, field_type)| format!("{field}: {}", example_text(field_type)))
            .collect();
        let expected = match &values[..] {
            [] => name.to_owned(),
            values => format!("{name} {{ {} }}", values.join(", ")),
        };
        for (codec, integer) in CODECS {
            let bytes = vector.bytes(codec);
            let expected = Ok((expected.clone(), bytes.clone()));
            assert_eq!(round_trip_of(kind, codec, &bytes), expected, "{codec}");
            // Each field in turn with a value that is too large for its type.
            for wrong in 0..fields.len() {
                let Some(too_large) = too_large(&fields[wrong].1, codec) else { continue };
                let mut bytes = integer(number.into());
                for (index, (_, field_type)) in fields.iter().enumerate() {
                    let field = example_bytes(field_type, integer);
                    bytes.extend(if index == wrong { too_large.clone() } else { field });
                }
                let refused = round_trip_of(kind, codec, &bytes);
                assert_eq!(refused, Err(CodecError::Malformed), "{name}: {:?}", fields[wrong]);
            }
        }
        count += 1;
    }
    assert!(count >= 140, "only {count} messages: some are missing");
}

#[test]
fn version_1_frame_types_have_the_released_numbers() {
    let frames = vectors_of("frame");
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
fn limits_are_not_lower_than_released() {
    // The names in the file are those of the release, also if the code has others since.
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
    let released = vectors_of("limit");
    assert_eq!(released.len(), limits.len());
    for (vector, (name, limit)) in released.iter().zip(limits) {
        let (_, value, released_name) = title(vector);
        assert_eq!(released_name, name);
        assert!(limit >= usize::try_from(value).unwrap(), "{name} is {limit}");
    }
    // Not a limit but a convention: hosts use the slots from here up for what the init makes.
    assert_eq!(limits::FIRST_MADE_SLOT, 256);
}

/// Returns the 64-bit FNV-1a hash of a text.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The file has a count and a digest of the first vectors of each other file. Later ones are new.
#[test]
fn released_vectors_are_unchanged() {
    let released = vectors_of("vectors");
    assert_eq!(released.len(), 7);
    for vector in &released {
        let (_, count, name) = title(vector);
        let vectors = read(name);
        let first: String =
            vectors.iter().take(usize::try_from(count).unwrap()).map(Vector::text).collect();
        let digest = format!("{:016x}", digest(&first));
        assert_eq!(digest, vector.get("digest"), "the first {count} of {name} were changed");
    }
}

/// An addition is recorded in the file too. The failure prints the lines.
#[test]
fn every_message_is_in_the_file_of_version_1() {
    let known: Vec<_> = read(FILE).iter().map(|vector| vector.title.clone()).collect();
    let mut missing = String::new();
    let mut check = |kind: &str, number: u32, name: &str, fields: &str| {
        if !known.contains(&format!("{kind} {number} {name}")) {
            missing += &message_vector(kind, number, name, fields).text();
        }
    };
    // That the specification has every message is a test in `specification.rs`.
    for (kind, heading) in
        [("operation", "## Operations"), ("request", "## Requests"), ("report", "## Reports")]
    {
        for (number, cells) in crate::specification::rows(heading) {
            check(kind, number, &cells[0], &cells[1]);
        }
    }
    for (call, number) in Call::ALL.iter().zip(0..) {
        check("call", number, &format!("{call:?}"), "");
    }
    for (name, number) in Create::VARIANTS.iter().zip(0..) {
        check("create", number, name, "");
    }
    assert!(missing.is_empty(), "{FILE} lacks\n{missing}");
}
