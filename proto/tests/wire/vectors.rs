//! The vectors: what every message looks like in bytes, now and for ever.
//!
//! A change of the wire that is not an addition makes one of these tests fail. What is added must
//! be added here: the failing test prints the lines.

use std::collections::BTreeSet;
use std::fmt::Debug;

use pidone_proto::codec::{Decode, Encode};
use pidone_proto::{
    Bincode, Call, Codec, CodecError, FrameType, Header, Op, Part, Postcard, Report, Request,
};

use crate::samples;
use crate::vector::{Vector, compare, hex, read};

/// The codec of a frame's number.
fn codec(name: &str) -> u8 {
    match name {
        "bincode" => Bincode::ID,
        "postcard" => Postcard::ID,
        other => panic!("no codec {other}"),
    }
}

fn encoded<C: Codec>(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    C::append(message, &mut bytes).unwrap();
    // Both ways of writing write the same, and not a byte more than is needed.
    let mut exact = vec![0; bytes.len()];
    assert_eq!(C::encode(message, &mut exact), Ok(bytes.len()));
    assert_eq!(exact, bytes);
    if let Some(short) = exact.len().checked_sub(1).map(|short| &mut exact[..short]) {
        assert_eq!(C::encode(message, short), Err(CodecError::TooLarge));
    }
    bytes
}

/// The vector of a message; `number` is left out where a message has none.
fn vector(number: Option<u32>, message: &(impl Encode + Debug)) -> Vector {
    let number = number.map(|number| format!("{number} ")).unwrap_or_default();
    Vector::new(format!("{number}{message:?}"))
        .with("bincode", hex(&encoded::<Bincode>(message)))
        .with("postcard", hex(&encoded::<Postcard>(message)))
}

/// What the bytes of a vector decode to, with the bytes that were left.
fn decoded<'a, T: Decode<'a>>(codec: &str, bytes: &'a [u8]) -> Result<(T, usize), CodecError> {
    let (message, length) = match codec {
        "bincode" => Bincode::decode::<T>(bytes)?,
        "postcard" => Postcard::decode::<T>(bytes)?,
        other => panic!("no codec {other}"),
    };
    Ok((message, bytes.len() - length))
}

/// Decodes both lines of a vector to the same message.
fn assert_decodes<T>(vector: &Vector, expected: &T)
where
    T: for<'a> Decode<'a> + Copy + PartialEq + Debug,
{
    for codec in ["bincode", "postcard"] {
        let bytes = vector.bytes(codec);
        assert_eq!(decoded::<T>(codec, &bytes), Ok((*expected, 0)), "{codec}");
    }
}

/// The name of a message in the source.
fn variant(message: &impl Debug) -> String {
    let text = format!("{message:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

fn operation_number(op: &Op<'_>) -> u32 {
    let name = variant(op);
    let found = samples::OPERATIONS.iter().find(|(_, known)| *known == name);
    found.unwrap_or_else(|| panic!("{name} has no number")).0
}

#[test]
fn operations_are_written_as_ever() {
    let ops = samples::operations();
    let made: Vec<_> = ops.iter().map(|op| vector(Some(operation_number(op)), op)).collect();
    compare("operations.txt", &made);
    for (written, op) in read("operations.txt").iter().zip(&ops) {
        for codec in ["bincode", "postcard"] {
            let bytes = written.bytes(codec);
            assert_eq!(decoded::<Op<'_>>(codec, &bytes), Ok((*op, 0)), "{codec}");
            assert_eq!(u32::from(bytes[0]), operation_number(op), "the number comes first");
        }
    }
}

#[test]
fn every_operation_has_its_number_and_a_vector() {
    let numbers = samples::OPERATIONS.iter().map(|(number, _)| *number);
    assert!(numbers.eq(0..u32::try_from(Op::COUNT).unwrap()), "numbers count from 0");
    let present: BTreeSet<_> = samples::operations().iter().map(variant).collect();
    for (_, name) in samples::OPERATIONS {
        assert!(present.contains(*name), "{name} has no vector");
    }
    // The number behind the last one is refused, not taken for something else.
    let unknown = [u8::try_from(Op::COUNT).unwrap()];
    assert_eq!(Bincode::decode::<Op<'_>>(&unknown), Err(CodecError::Malformed));
    assert_eq!(Postcard::decode::<Op<'_>>(&unknown), Err(CodecError::Malformed));
}

#[test]
fn reports_are_written_as_ever() {
    let reports = samples::reports();
    let made: Vec<_> = reports
        .iter()
        .map(|report| {
            let (number, name) = samples::report_name(report);
            assert_eq!(name, variant(report));
            vector(Some(number), report)
        })
        .collect();
    compare("reports.txt", &made);
    for (written, report) in read("reports.txt").iter().zip(&reports) {
        for codec in ["bincode", "postcard"] {
            let bytes = written.bytes(codec);
            assert_eq!(decoded::<Report<'_>>(codec, &bytes), Ok((*report, 0)), "{codec}");
            assert_eq!(u32::from(bytes[0]), samples::report_name(report).0);
        }
    }
    let present: BTreeSet<_> =
        reports.iter().map(|report| samples::report_name(report).0).collect();
    assert!(present.into_iter().eq(0..u32::try_from(samples::REPORTS).unwrap()));
    let unknown = [u8::try_from(samples::REPORTS).unwrap()];
    assert_eq!(Bincode::decode::<Report<'_>>(&unknown), Err(CodecError::Malformed));
    assert_eq!(Postcard::decode::<Report<'_>>(&unknown), Err(CodecError::Malformed));
}

#[test]
fn requests_are_written_as_ever() {
    let requests = samples::requests();
    assert_eq!(requests.len(), Request::COUNT);
    let made: Vec<_> =
        requests.iter().zip(0..).map(|(request, number)| vector(Some(number), request)).collect();
    compare("requests.txt", &made);
    for ((written, request), number) in read("requests.txt").iter().zip(&requests).zip(0_u8..) {
        for codec in ["bincode", "postcard"] {
            let bytes = written.bytes(codec);
            assert_eq!(decoded::<Request<'_>>(codec, &bytes), Ok((*request, 0)), "{codec}");
            assert_eq!(bytes[0], number);
        }
    }
    let unknown = [u8::try_from(Request::COUNT).unwrap()];
    assert_eq!(Bincode::decode::<Request<'_>>(&unknown), Err(CodecError::Malformed));
    assert_eq!(Postcard::decode::<Request<'_>>(&unknown), Err(CodecError::Malformed));
}

#[test]
fn calls_are_written_as_ever() {
    let made: Vec<_> =
        Call::ALL.iter().zip(0..).map(|(call, number)| vector(Some(number), call)).collect();
    compare("calls.txt", &made);
    for (written, call) in read("calls.txt").iter().zip(Call::ALL) {
        assert_decodes(written, call);
    }
}

#[test]
fn heads_of_parts_are_written_as_ever() {
    let parts = samples::parts();
    let made: Vec<_> = parts.iter().map(|part| vector(None, part)).collect();
    compare("parts.txt", &made);
    for (written, part) in read("parts.txt").iter().zip(&parts) {
        assert_decodes(written, part);
    }
}

#[test]
fn frames_are_written_as_ever() {
    let frames = read("frames.txt");
    for frame in &frames {
        let bytes = frame.bytes("bytes");
        let codec = codec(frame.get("codec"));
        let sequence = u32::try_from(frame.number("sequence")).unwrap();
        let descriptors = frame.number("descriptors");
        let (header, body) = Header::split(&bytes, descriptors, codec, sequence).unwrap();
        let again = [&header.to_bytes()[..], body].concat();
        assert_eq!(again, bytes, "{}", frame.title);
        assert_eq!(body, frame.bytes("body"));
        let name = frame.get("type");
        assert_eq!(name, format!("{:?} {}", header.frame_type, header.frame_type as u8));
        assert_eq!(usize::from(header.descriptors), descriptors);
    }
    let present: BTreeSet<_> = frames.iter().map(|frame| frame.get("type").to_owned()).collect();
    // A new type does not build without a vector.
    for frame_type in [
        FrameType::Part,
        FrameType::PartInMemfd,
        FrameType::Proceed,
        FrameType::Start,
        FrameType::Request,
        FrameType::RequestInMemfd,
        FrameType::Report,
    ] {
        let name = match frame_type {
            FrameType::Part => "Part 1",
            FrameType::PartInMemfd => "PartInMemfd 2",
            FrameType::Proceed => "Proceed 3",
            FrameType::Start => "Start 4",
            FrameType::Request => "Request 5",
            FrameType::RequestInMemfd => "RequestInMemfd 6",
            FrameType::Report => "Report 129",
        };
        assert!(present.contains(name), "no frame of type {name}");
    }
}

#[test]
fn the_plan_of_a_frame_is_its_operations() {
    let frames = read("frames.txt");
    let parts = frames.iter().filter(|frame| frame.get("type") == "Part 1");
    for frame in parts {
        let body = frame.bytes("body");
        let codec = frame.get("codec");
        let (part, mut left) = decoded::<Part>(codec, &body).unwrap();
        let mut operations = Vec::new();
        for _ in 0..part.operations {
            let (op, rest) = decoded::<Op<'_>>(codec, &body[body.len() - left..]).unwrap();
            operations.push(format!("{op:?}"));
            left = rest;
        }
        assert_eq!(left, 0);
        let expected: Vec<_> = frame
            .lines
            .iter()
            .filter(|(key, _)| key == "operation")
            .map(|(_, value)| value.clone())
            .collect();
        assert_eq!(operations, expected);
    }
}

#[test]
fn what_is_wrong_is_refused_for_the_reason_given() {
    let refused = read("refused.txt");
    let mut codes = BTreeSet::new();
    for vector in &refused {
        let bytes = vector.bytes("bytes");
        let name = vector.get("codec");
        let error = match vector.get("as") {
            "frame" => {
                let sequence = u32::try_from(vector.number("sequence")).unwrap();
                let count = vector.number("descriptors");
                let error = Header::split(&bytes, count, codec(name), sequence).unwrap_err();
                codes.insert(error.code());
                format!("{} {}", error.code(), error.text())
            }
            "part" => outcome(decoded::<Part>(name, &bytes)),
            "operation" => outcome(decoded::<Op<'_>>(name, &bytes)),
            "report" => outcome(decoded::<Report<'_>>(name, &bytes)),
            "request" => outcome(decoded::<Request<'_>>(name, &bytes)),
            other => panic!("{}: nothing is decoded as {other}", vector.title),
        };
        assert_eq!(error, vector.get("error"), "{}", vector.title);
    }
    assert!(codes.into_iter().eq(1..=8), "each code of a refused frame has a vector");
}

/// Why decoding was refused.
fn outcome<T>(result: Result<(T, usize), CodecError>) -> String {
    match result {
        Err(error) => format!("{error:?}"),
        Ok((_, 0)) => "none".to_owned(),
        Ok((_, _)) => "TrailingBytes".to_owned(),
    }
}
