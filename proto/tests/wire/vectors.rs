//! The vectors: the bytes of each message, which later versions of the code must keep.
//!
//! A change of the wire that is not an addition makes one of these tests fail. An addition needs a
//! sample in `samples.rs` and its vector in `vectors/`: the failing test prints the lines.

use std::collections::BTreeSet;
use std::fmt::Debug;

use pidone_proto::codec::{Decode, Encode};
use pidone_proto::{
    Bincode, Call, Codec, CodecError, FrameType, Header, Op, Part, Postcard, Report, Request,
};

use crate::samples::{self, name, number};
use crate::vector::{Vector, compare, hex, read};

/// Returns the number of a codec in a frame.
fn codec_number(name: &str) -> u8 {
    match name {
        "bincode" => Bincode::ID,
        "postcard" => Postcard::ID,
        other => panic!("no codec {other}"),
    }
}

fn encoded<C: Codec>(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    C::append(message, &mut bytes).unwrap();
    // `encode` and `append` write the same bytes, and a buffer of that length is enough.
    let mut exact = vec![0; bytes.len()];
    assert_eq!(C::encode(message, &mut exact), Ok(bytes.len()));
    assert_eq!(exact, bytes);
    if let Some(short) = exact.len().checked_sub(1).map(|short| &mut exact[..short]) {
        assert_eq!(C::encode(message, short), Err(CodecError::TooLarge));
    }
    bytes
}

/// Returns the vector of a message. `number` is `None` for a message without a number.
fn vector(number: Option<u32>, message: &(impl Encode + Debug)) -> Vector {
    let number = number.map(|number| format!("{number} ")).unwrap_or_default();
    Vector::new(format!("{number}{message:?}"))
        .with("bincode", hex(&encoded::<Bincode>(message)))
        .with("postcard", hex(&encoded::<Postcard>(message)))
}

/// Returns the vectors of messages whose numbers are the indices of their names in `variants`.
fn numbered(variants: &[&str], messages: &[impl Encode + Debug]) -> Vec<Vector> {
    messages.iter().map(|message| vector(Some(number(variants, message)), message)).collect()
}

/// Decodes a message with the named codec, and returns how many bytes follow it.
fn decoded<'a, T: Decode<'a>>(codec: &str, bytes: &'a [u8]) -> Result<(T, usize), CodecError> {
    let (message, length) = match codec {
        "bincode" => Bincode::decode::<T>(bytes)?,
        "postcard" => Postcard::decode::<T>(bytes)?,
        other => panic!("no codec {other}"),
    };
    Ok((message, bytes.len() - length))
}

/// Both encodings of each vector in a file decode to the message it was made of.
fn assert_decodes<T>(file: &str, expected: &[T])
where
    T: Decode<'static> + PartialEq + Debug,
{
    for (vector, expected) in read(file).iter().zip(expected) {
        for codec in ["bincode", "postcard"] {
            let bytes = vector.bytes(codec).leak();
            let (message, rest) = decoded::<T>(codec, bytes).unwrap();
            assert_eq!((&message, rest), (expected, 0), "{codec}");
        }
    }
}

/// Each variant has a sample. The number after the last one is refused.
fn assert_complete<T>(variants: &[&str], samples: &[T])
where
    T: Decode<'static> + Debug,
{
    let present: BTreeSet<_> = samples.iter().map(name).collect();
    for variant in variants {
        assert!(present.contains(*variant), "{variant} has no sample in tests/wire/samples.rs");
    }
    let unknown = &*vec![u8::try_from(variants.len()).unwrap()].leak();
    assert_eq!(Bincode::decode::<T>(unknown).err(), Some(CodecError::Malformed));
    assert_eq!(Postcard::decode::<T>(unknown).err(), Some(CodecError::Malformed));
}

#[test]
fn operations_encode_to_their_vectors_and_decode_from_them() {
    let operations = samples::operations();
    compare("operations.txt", &numbered(Op::VARIANTS, &operations));
    assert_decodes("operations.txt", &operations);
}

#[test]
fn every_operation_has_a_sample_and_the_next_number_is_refused() {
    assert_complete(Op::VARIANTS, &samples::operations());
}

#[test]
fn reports_encode_to_their_vectors_and_decode_from_them() {
    let reports = samples::reports();
    assert_complete(Report::VARIANTS, &reports);
    compare("reports.txt", &numbered(Report::VARIANTS, &reports));
    assert_decodes("reports.txt", &reports);
}

#[test]
fn requests_encode_to_their_vectors_and_decode_from_them() {
    let requests = samples::requests();
    assert_complete(Request::VARIANTS, &requests);
    compare("requests.txt", &numbered(Request::VARIANTS, &requests));
    assert_decodes("requests.txt", &requests);
}

#[test]
fn calls_encode_to_their_vectors_and_decode_from_them() {
    let vectors: Vec<_> =
        Call::ALL.iter().zip(0..).map(|(call, number)| vector(Some(number), call)).collect();
    compare("calls.txt", &vectors);
    assert_decodes("calls.txt", Call::ALL);
}

#[test]
fn part_heads_encode_to_their_vectors_and_decode_from_them() {
    let parts = samples::parts();
    let vectors: Vec<_> = parts.iter().map(|part| vector(None, part)).collect();
    compare("parts.txt", &vectors);
    assert_decodes("parts.txt", &parts);
}

#[test]
fn messages_begin_with_their_number() {
    for file in ["operations.txt", "reports.txt", "requests.txt", "calls.txt"] {
        for vector in read(file) {
            let number = vector.title.split(' ').next().unwrap();
            for codec in ["bincode", "postcard"] {
                assert_eq!(vector.bytes(codec)[0].to_string(), number, "{}", vector.title);
            }
        }
    }
}

#[test]
fn frames_are_split_and_joined_to_the_same_bytes() {
    let frames = read("frames.txt");
    for frame in &frames {
        let bytes = frame.bytes("bytes");
        let codec = codec_number(frame.get("codec"));
        let sequence = u32::try_from(frame.number("sequence")).unwrap();
        let descriptors = frame.number("descriptors");
        let (header, body) = Header::split(&bytes, descriptors, codec, sequence).unwrap();
        let joined = [&header.to_bytes()[..], body].concat();
        assert_eq!(joined, bytes, "{}", frame.title);
        assert_eq!(body, frame.bytes("body"));
        let name = frame.get("type");
        assert_eq!(name, format!("{:?} {}", header.frame_type, header.frame_type as u8));
        assert_eq!(usize::from(header.descriptors), descriptors);
    }
    let present: BTreeSet<_> = frames.iter().map(|frame| frame.get("type").to_owned()).collect();
    for frame_type in [
        FrameType::Part,
        FrameType::PartInMemfd,
        FrameType::Proceed,
        FrameType::Start,
        FrameType::Request,
        FrameType::RequestInMemfd,
        FrameType::Report,
    ] {
        // The match fails to compile for a new type until it is added here.
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
fn part_frames_decode_to_the_operations_they_list() {
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
fn refused_vectors_fail_with_their_error() {
    let refused = read("refused.txt");
    let mut codes = BTreeSet::new();
    for vector in &refused {
        let bytes = vector.bytes("bytes");
        let codec = vector.get("codec");
        let error = match vector.get("as") {
            "frame" => {
                let sequence = u32::try_from(vector.number("sequence")).unwrap();
                let descriptors = vector.number("descriptors");
                let error = Header::split(&bytes, descriptors, codec_number(codec), sequence);
                let error = error.unwrap_err();
                codes.insert(error.code());
                format!("{} {}", error.code(), error.text())
            }
            "part" => outcome(decoded::<Part>(codec, &bytes)),
            "operation" => outcome(decoded::<Op<'_>>(codec, &bytes)),
            "report" => outcome(decoded::<Report<'_>>(codec, &bytes)),
            "request" => outcome(decoded::<Request<'_>>(codec, &bytes)),
            other => panic!("{}: nothing is decoded as {other}", vector.title),
        };
        assert_eq!(error, vector.get("error"), "{}", vector.title);
    }
    assert!(codes.into_iter().eq(1..=8), "each code of a refused frame has a vector");
}

/// Returns the `error` line of a vector in `refused.txt`.
fn outcome<T>(result: Result<(T, usize), CodecError>) -> String {
    match result {
        Err(error) => format!("{error:?}"),
        Ok((_, 0)) => "none".to_owned(),
        Ok((_, _)) => "TrailingBytes".to_owned(),
    }
}
