//! What holds for every message and for every string of bytes that is none.

use std::fmt::Debug;

use pidone_proto::codec::{Decode, Encode};
use pidone_proto::frame::{HEADER_LENGTH, MAGIC};
use pidone_proto::{
    Bincode, Codec, CodecError, FrameError, FrameType, Header, Op, Part, Postcard, Report, Strings,
    Text, Words, limits,
};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseError;

use crate::arbitrary::{Parts, parts};
use crate::samples;

type Outcome = Result<(), TestCaseError>;

/// A message comes back as it was, from exactly its bytes; from fewer it does not.
fn survives<'a, C: Codec, T>(message: &T, bytes: &'a mut Vec<u8>) -> Outcome
where
    T: Encode + Decode<'a> + PartialEq + Debug,
{
    C::append(message, bytes).map_err(|_| TestCaseError::fail("not encoded"))?;
    let length = bytes.len();
    // What comes behind a message is left.
    bytes.extend_from_slice(&[0xff; 9]);
    let (again, read) = C::decode::<T>(bytes).map_err(|_| TestCaseError::fail("not decoded"))?;
    prop_assert_eq!(&again, message);
    prop_assert_eq!(read, length);
    for end in 0..length {
        let outcome = C::decode::<T>(&bytes[..end]).err();
        prop_assert_eq!(outcome, Some(CodecError::Malformed), "cut at {} of {}", end, length);
    }
    Ok(())
}

/// Bytes of any kind are refused or are a message, which is then no longer than they are.
fn harmless<'a, C: Codec, T>(bytes: &'a [u8]) -> Outcome
where
    T: Encode + Decode<'a> + PartialEq + Debug,
{
    let Ok((message, length)) = C::decode::<T>(bytes) else { return Ok(()) };
    prop_assert!(length <= bytes.len());
    // Written again it is not longer: every integer is in its shortest form.
    let mut again = Vec::new();
    C::append(&message, &mut again).map_err(|_| TestCaseError::fail("not encoded"))?;
    prop_assert!(again.len() <= length);
    Ok(())
}

fn operation(parts: &Parts, number: usize) -> Op<'_> {
    parts.operation(number).expect("every operation can be made")
}

/// Bytes that are often nearly a message: the start of one with some bytes changed.
fn nearly_a_message() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    (parts(), 0..Op::COUNT, any::<bool>(), changes).prop_map(|(parts, number, bincode, changes)| {
        let op = operation(&parts, number);
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
    })
}

proptest! {
    #[test]
    fn operations_survive_bincode(parts in parts(), number in 0..Op::COUNT) {
        survives::<Bincode, _>(&operation(&parts, number), &mut Vec::new())?;
    }

    #[test]
    fn operations_survive_postcard(parts in parts(), number in 0..Op::COUNT) {
        survives::<Postcard, _>(&operation(&parts, number), &mut Vec::new())?;
    }

    #[test]
    fn reports_survive_both(parts in parts(), number in 0..samples::REPORTS) {
        let report = parts.report(number).expect("every report can be made");
        survives::<Bincode, _>(&report, &mut Vec::new())?;
        survives::<Postcard, _>(&report, &mut Vec::new())?;
    }

    #[test]
    fn heads_survive_both(
        first: u32, operations: u32, more: bool, timed: bool,
    ) {
        let part = Part { first, operations, more, timed };
        survives::<Bincode, _>(&part, &mut Vec::new())?;
        survives::<Postcard, _>(&part, &mut Vec::new())?;
    }

    #[test]
    fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        harmless::<Bincode, Part>(&bytes)?;
        harmless::<Postcard, Part>(&bytes)?;
        harmless::<Bincode, Op<'_>>(&bytes)?;
        harmless::<Postcard, Op<'_>>(&bytes)?;
        harmless::<Bincode, Report<'_>>(&bytes)?;
        harmless::<Postcard, Report<'_>>(&bytes)?;
        // Whatever the receiver expects.
        for codec in [Bincode::ID, Postcard::ID] {
            let _ = Header::split(&bytes, 0, codec, 0);
        }
    }

    #[test]
    fn nearly_a_message_is_harmless(bytes in nearly_a_message()) {
        harmless::<Bincode, Op<'_>>(&bytes)?;
        harmless::<Postcard, Op<'_>>(&bytes)?;
    }

    #[test]
    fn a_length_beyond_the_input_is_refused(there in 0_u32..300, beyond in 1..=u32::MAX) {
        // The name of a host: number 22, a length, and fewer bytes than that.
        let told = u64::from(there) + u64::from(beyond);
        let mut bincode = vec![22];
        Bincode::append(&Number(told), &mut bincode).expect("a vector grows");
        let mut postcard = vec![22];
        Postcard::append(&Number(told), &mut postcard).expect("a vector grows");
        for bytes in [&mut bincode, &mut postcard] {
            bytes.extend((1..there).map(|_| b'x').chain([0]));
        }
        prop_assert_eq!(Bincode::decode::<Op<'_>>(&bincode), Err(CodecError::Malformed));
        prop_assert_eq!(Postcard::decode::<Op<'_>>(&postcard), Err(CodecError::Malformed));
    }

    #[test]
    fn strings_are_what_ends_in_nul(bytes in prop::collection::vec(0..3_u8, 0..12)) {
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
    fn a_frame_is_what_its_header_says(
        body in prop::collection::vec(any::<u8>(), 0..100),
        descriptors in 0..=limits::DESCRIPTORS,
        sequence: u32,
    ) {
        let (header, bytes) = frame(&body, descriptors, sequence);
        let split = Header::split(&bytes, descriptors, Bincode::ID, sequence);
        prop_assert_eq!(split, Ok((header, &body[..])));
        // Nothing else was expected.
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
        // A message that is cut is refused wherever it is.
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
    fn no_byte_of_a_header_is_idle(place in 0..HEADER_LENGTH, byte: u8, sequence: u32) {
        let (_, mut bytes) = frame(b"body", 2, sequence);
        let before = bytes[place];
        bytes[place] = byte;
        let outcome = Header::split(&bytes, 2, Bincode::ID, sequence).err();
        let expected = match place {
            _ if byte == before => None,
            0..4 => Some(FrameError::Magic),
            4 => Some(FrameError::Version(byte)),
            5 => Some(FrameError::Codec(byte)),
            // Another type that there is.
            6 if [1, 2, 3, 4, 5, 6, 0x81].contains(&byte) => None,
            6 => Some(FrameError::Type(byte)),
            7 => Some(FrameError::Descriptors),
            8..12 => {
                let [.., s0, s1, s2, s3, _, _, _, _] = *bytes.first_chunk::<HEADER_LENGTH>().expect("long");
                Some(FrameError::Sequence(u32::from_le_bytes([s0, s1, s2, s3])))
            }
            _ => Some(FrameError::Length),
        };
        prop_assert_eq!(outcome, expected);
    }
}

/// A message with a body.
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

/// An integer, and bytes behind their length, as the codecs write them.
#[derive(Debug, bincode::Encode, serde::Serialize)]
struct Number(u64);

#[derive(Debug, bincode::Encode, serde::Serialize)]
struct Bytes<'a>(&'a [u8]);

#[test]
fn every_operation_and_report_can_be_made() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let parts = proptest::strategy::ValueTree::current(
        &parts().new_tree(&mut runner).expect("a strategy without conditions"),
    );
    assert!(parts.operation(Op::COUNT).is_none());
    assert!(parts.report(samples::REPORTS).is_none());
    for (number, name) in samples::OPERATIONS {
        let op = operation(&parts, usize::try_from(*number).expect("small"));
        assert!(format!("{op:?}").starts_with(name), "{op:?} is not {name}");
    }
}

#[test]
fn an_integer_in_a_longer_form_is_read() {
    let op = Op::Unshare { flags: 1 };
    for bytes in [&[2, 1][..], &[2, 251, 1, 0], &[2, 252, 1, 0, 0, 0], &[251, 2, 0, 1]] {
        assert_eq!(Bincode::decode(bytes), Ok((op, bytes.len())));
    }
    for bytes in [&[2, 1][..], &[2, 0x81, 0], &[2, 0x81, 0x80, 0x80, 0x80, 0], &[0x82, 0, 1]] {
        assert_eq!(Postcard::decode(bytes), Ok((op, bytes.len())));
    }
}

#[test]
fn the_longest_messages_have_room() {
    // 65535 bytes with their header in a frame.
    let filter = vec![0; limits::FRAME];
    let op = Op::Seccomp { flags: 0, filter: &filter };
    let mut frame = vec![0; limits::FRAME];
    assert_eq!(Bincode::encode(&op, &mut frame), Err(CodecError::TooLarge));
    assert_eq!(Postcard::encode(&op, &mut frame), Err(CodecError::TooLarge));
    let op = Op::Seccomp { flags: 0, filter: &filter[HEADER_LENGTH + 8..] };
    assert!(Bincode::encode(&op, &mut frame[HEADER_LENGTH..]).is_ok());
    assert!(Postcard::encode(&op, &mut frame[HEADER_LENGTH..]).is_ok());

    let nanoseconds = [0xff; 8 * limits::TIMES_PER_REPORT];
    let report = Report::Times { first: u32::MAX, nanoseconds: &nanoseconds };
    let mut space = [0; 8 * limits::TIMES_PER_REPORT + 64];
    assert!(Bincode::encode(&report, &mut space).is_ok());
    assert!(Postcard::encode(&report, &mut space).is_ok());
}
