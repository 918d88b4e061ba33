//! Properties of every message, and of arbitrary bytes.

use std::fmt::Debug;

use pidone_proto::codec::{Decode, Encode};
use pidone_proto::frame::{HEADER_LENGTH, MAGIC};
use pidone_proto::{
    Bincode, Codec, CodecError, FrameError, FrameType, Header, Op, Part, Postcard, Report, Strings,
    Text, Words, limits,
};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseError;

use crate::arbitrary::{Values, values};
use crate::samples;

type Outcome = Result<(), TestCaseError>;

/// A message decodes from exactly its bytes, and from no fewer.
fn round_trips<'a, C: Codec, T>(message: &T, bytes: &'a mut Vec<u8>) -> Outcome
where
    T: Encode + Decode<'a> + PartialEq + Debug,
{
    C::append(message, bytes).map_err(|_| TestCaseError::fail("not encoded"))?;
    let length = bytes.len();
    // Bytes after the message are left.
    bytes.extend_from_slice(&[0xff; 9]);
    let (decoded, read) = C::decode::<T>(bytes).map_err(|_| TestCaseError::fail("not decoded"))?;
    prop_assert_eq!(&decoded, message);
    prop_assert_eq!(read, length);
    for end in 0..length {
        let outcome = C::decode::<T>(&bytes[..end]).err();
        prop_assert_eq!(outcome, Some(CodecError::Malformed), "cut at {} of {}", end, length);
    }
    Ok(())
}

/// Bytes are refused, or begin with a message whose encoding is not longer than what was read.
fn refused_or_decoded<'a, C: Codec, T>(bytes: &'a [u8]) -> Outcome
where
    T: Encode + Decode<'a> + PartialEq + Debug,
{
    let Ok((message, length)) = C::decode::<T>(bytes) else { return Ok(()) };
    prop_assert!(length <= bytes.len());
    // The encoder writes every integer in its shortest form; the bytes may have a longer one.
    let mut encoded = Vec::new();
    C::append(&message, &mut encoded).map_err(|_| TestCaseError::fail("not encoded"))?;
    prop_assert!(encoded.len() <= length);
    Ok(())
}

fn operation(values: &Values, number: usize) -> Op<'_> {
    values.operation(number).expect("has an arm in tests/wire/arbitrary.rs")
}

/// The bytes of an operation with one to three bytes changed.
fn mutated_operation() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    (values(), 0..Op::COUNT, any::<bool>(), changes).prop_map(
        |(values, number, bincode, changes)| {
            let op = operation(&values, number);
            let mut bytes = Vec::new();
            let encoded = if bincode {
                Bincode::append(&op, &mut bytes)
            } else {
                Postcard::append(&op, &mut bytes)
            };
            encoded.expect("a vector grows");
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn operations_round_trip_in_bincode(values in values(), number in 0..Op::COUNT) {
        round_trips::<Bincode, _>(&operation(&values, number), &mut Vec::new())?;
    }

    #[test]
    fn operations_round_trip_in_postcard(values in values(), number in 0..Op::COUNT) {
        round_trips::<Postcard, _>(&operation(&values, number), &mut Vec::new())?;
    }

    #[test]
    fn reports_round_trip_in_both_codecs(values in values(), number in 0..Report::COUNT) {
        let report = values.report(number).expect("has an arm in tests/wire/arbitrary.rs");
        round_trips::<Bincode, _>(&report, &mut Vec::new())?;
        round_trips::<Postcard, _>(&report, &mut Vec::new())?;
    }

    #[test]
    fn part_heads_round_trip_in_both_codecs(
        first: u32, operations: u32, more: bool, timed: bool,
    ) {
        let part = Part { first, operations, more, timed };
        round_trips::<Bincode, _>(&part, &mut Vec::new())?;
        round_trips::<Postcard, _>(&part, &mut Vec::new())?;
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_decoded(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        refused_or_decoded::<Bincode, Part>(&bytes)?;
        refused_or_decoded::<Postcard, Part>(&bytes)?;
        refused_or_decoded::<Bincode, Op<'_>>(&bytes)?;
        refused_or_decoded::<Postcard, Op<'_>>(&bytes)?;
        refused_or_decoded::<Bincode, Report<'_>>(&bytes)?;
        refused_or_decoded::<Postcard, Report<'_>>(&bytes)?;
        // With either codec as the receiver's.
        for codec in [Bincode::ID, Postcard::ID] {
            let _ = Header::split(&bytes, 0, codec, 0);
        }
    }

    #[test]
    fn mutated_operations_are_refused_or_decoded(bytes in mutated_operation()) {
        refused_or_decoded::<Bincode, Op<'_>>(&bytes)?;
        refused_or_decoded::<Postcard, Op<'_>>(&bytes)?;
    }

    #[test]
    fn a_length_beyond_the_input_is_refused(present in 0_u32..300, beyond in 1..=u32::MAX) {
        // `HostName`, number 22: a length, and fewer bytes than that.
        let length = u64::from(present) + u64::from(beyond);
        let mut bincode = vec![22];
        Bincode::append(&Number(length), &mut bincode).expect("a vector grows");
        let mut postcard = vec![22];
        Postcard::append(&Number(length), &mut postcard).expect("a vector grows");
        for bytes in [&mut bincode, &mut postcard] {
            bytes.extend((1..present).map(|_| b'x').chain([0]));
        }
        prop_assert_eq!(Bincode::decode::<Op<'_>>(&bincode), Err(CodecError::Malformed));
        prop_assert_eq!(Postcard::decode::<Op<'_>>(&postcard), Err(CodecError::Malformed));
    }

    #[test]
    fn byte_strings_that_break_the_rule_of_their_type_are_refused(
        bytes in prop::collection::vec(0..3_u8, 0..12),
    ) {
        let ends = bytes.last() == Some(&0);
        let count = bytes.iter().filter(|&&byte| byte == 0).count();
        let mut encoded = Vec::new();
        Bincode::append(&Bytes(&bytes), &mut encoded).expect("a vector grows");
        prop_assert_eq!(Bincode::decode::<Text<'_>>(&encoded).is_ok(), ends && count == 1);
        prop_assert_eq!(Postcard::decode::<Text<'_>>(&encoded).is_ok(), ends && count == 1);
        let strings = Strings::new(&bytes);
        prop_assert_eq!(strings.is_some(), ends || bytes.is_empty());
        prop_assert_eq!(Bincode::decode::<Strings<'_>>(&encoded).is_ok(), strings.is_some());
        prop_assert_eq!(Postcard::decode::<Strings<'_>>(&encoded).is_ok(), strings.is_some());
        if let Some(strings) = strings {
            prop_assert_eq!(strings.count(), count);
            prop_assert_eq!(strings.iter().count(), count);
            let joined: Vec<u8> =
                strings.iter().flat_map(|string| string.to_bytes_with_nul()).copied().collect();
            prop_assert_eq!(joined, bytes.clone());
        }
        let words = Words::new(&bytes);
        prop_assert_eq!(words.is_some(), bytes.len() % 4 == 0);
        prop_assert_eq!(Bincode::decode::<Words<'_>>(&encoded).is_ok(), words.is_some());
        prop_assert_eq!(Postcard::decode::<Words<'_>>(&encoded).is_ok(), words.is_some());
        if let Some(words) = words {
            prop_assert_eq!(words.iter().count(), words.count());
            let joined: Vec<u8> = words.iter().flat_map(u32::to_le_bytes).collect();
            prop_assert_eq!(joined, bytes);
        }
    }

    #[test]
    fn a_frame_is_split_only_by_what_its_header_says(
        body in prop::collection::vec(any::<u8>(), 0..100),
        descriptors in 0..=limits::DESCRIPTORS,
        sequence: u32,
    ) {
        let (header, bytes) = frame(&body, descriptors, sequence);
        let split = Header::split(&bytes, descriptors, Bincode::ID, sequence);
        prop_assert_eq!(split, Ok((header, &body[..])));
        // A receiver that expects something else refuses it.
        prop_assert_eq!(
            Header::split(&bytes, descriptors, Postcard::ID, sequence),
            Err(FrameError::Codec(Bincode::ID))
        );
        prop_assert_eq!(
            Header::split(&bytes, descriptors + 1, Bincode::ID, sequence),
            Err(FrameError::Descriptors)
        );
        prop_assert_eq!(
            Header::split(&bytes, descriptors, Bincode::ID, sequence.wrapping_add(1)),
            Err(FrameError::Sequence(sequence))
        );
        // A truncated message is refused, wherever it was cut.
        for end in 0..bytes.len() {
            let expected = if end < HEADER_LENGTH { FrameError::Short } else { FrameError::Length };
            let cut = Header::split(&bytes[..end], descriptors, Bincode::ID, sequence);
            prop_assert_eq!(cut, Err(expected));
        }
        let longer = [&bytes[..], &[0]].concat();
        let split = Header::split(&longer, descriptors, Bincode::ID, sequence);
        prop_assert_eq!(split, Err(FrameError::Length));
    }

    #[test]
    fn a_changed_byte_of_a_header_is_refused(place in 0..HEADER_LENGTH, byte: u8, sequence: u32) {
        let (_, mut bytes) = frame(b"body", 2, sequence);
        let before = bytes[place];
        bytes[place] = byte;
        let outcome = Header::split(&bytes, 2, Bincode::ID, sequence).err();
        let expected = match place {
            _ if byte == before => None,
            0..4 => Some(FrameError::Magic),
            4 => Some(FrameError::Version(byte)),
            5 => Some(FrameError::Codec(byte)),
            // Another known type.
            6 if [1, 2, 3, 4, 5, 6, 0x81].contains(&byte) => None,
            6 => Some(FrameError::Type(byte)),
            7 => Some(FrameError::Descriptors),
            8..12 => {
                let bytes = bytes[8..12].try_into().expect("4 bytes");
                Some(FrameError::Sequence(u32::from_le_bytes(bytes)))
            }
            _ => Some(FrameError::Length),
        };
        prop_assert_eq!(outcome, expected);
    }
}

/// Returns a message with a body.
fn frame(body: &[u8], descriptors: usize, sequence: u32) -> (Header, Vec<u8>) {
    let header = Header {
        frame_type: FrameType::Part,
        codec: Bincode::ID,
        descriptors: descriptors.try_into().expect("at most 253"),
        sequence,
        length: body.len().try_into().expect("short"),
    };
    let bytes = [&header.to_bytes()[..], body].concat();
    assert_eq!(bytes[..4], MAGIC);
    (header, bytes)
}

/// An integer, as both codecs write it.
#[derive(Debug, bincode::Encode, serde::Serialize)]
struct Number(u64);

/// A byte string, as both codecs write it.
#[derive(Debug, bincode::Encode, serde::Serialize)]
struct Bytes<'a>(&'a [u8]);

#[test]
fn arbitrary_values_make_every_operation_and_report() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let values = proptest::strategy::ValueTree::current(
        &values().new_tree(&mut runner).expect("a strategy without conditions"),
    );
    let names =
        |make: &dyn Fn(usize) -> Option<String>| -> Vec<_> { (0..).map_while(make).collect() };
    let operations = names(&|number| values.operation(number).as_ref().map(samples::name));
    assert_eq!(operations, Op::VARIANTS, "tests/wire/arbitrary.rs");
    let reports = names(&|number| values.report(number).as_ref().map(samples::name));
    assert_eq!(reports, Report::VARIANTS, "tests/wire/arbitrary.rs");
}

#[test]
fn an_integer_in_a_longer_form_is_accepted() {
    let op = Op::Unshare { flags: 1 };
    for bytes in [&[2, 1][..], &[2, 251, 1, 0], &[2, 252, 1, 0, 0, 0], &[251, 2, 0, 1]] {
        assert_eq!(Bincode::decode(bytes), Ok((op, bytes.len())));
    }
    for bytes in [&[2, 1][..], &[2, 0x81, 0], &[2, 0x81, 0x80, 0x80, 0x80, 0], &[0x82, 0, 1]] {
        assert_eq!(Postcard::decode(bytes), Ok((op, bytes.len())));
    }
}

#[test]
fn the_largest_messages_fit_into_a_frame() {
    let filter = vec![0; limits::FRAME];
    let op = Op::Seccomp { flags: 0, filter: &filter };
    let mut frame = vec![0; limits::FRAME];
    assert_eq!(Bincode::encode(&op, &mut frame), Err(CodecError::TooLarge));
    assert_eq!(Postcard::encode(&op, &mut frame), Err(CodecError::TooLarge));
    // 8 bytes are left for the number, the flags and the length of the filter.
    let op = Op::Seccomp { flags: 0, filter: &filter[HEADER_LENGTH + 8..] };
    assert!(Bincode::encode(&op, &mut frame[HEADER_LENGTH..]).is_ok());
    assert!(Postcard::encode(&op, &mut frame[HEADER_LENGTH..]).is_ok());

    let nanoseconds = [0xff; 8 * limits::TIMES_PER_REPORT];
    let report = Report::Times { first: u32::MAX, nanoseconds: &nanoseconds };
    let mut space = [0; 8 * limits::TIMES_PER_REPORT + 64];
    assert!(Bincode::encode(&report, &mut space).is_ok());
    assert!(Postcard::encode(&report, &mut space).is_ok());
}
