//! Messages of D-Bus: calls that are sent, and what is received.
//!
//! Reference: the D-Bus specification, "Message Protocol".

use super::value::{Decoder, Malformed, Value, pad};

/// The longest message that is read, in bytes. The specification allows 128 MiB; what systemd sends
/// to a caller that starts a scope has some hundred bytes.
const LONGEST: usize = 1 << 20;

/// The fixed part of a header, up to the length of the fields.
const FIXED: usize = 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// The codes of header fields.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SENDER: u8 = 7;
    pub(super) const SIGNATURE: u8 = 8;
    pub(super) const UNIX_FDS: u8 = 9;
}

/// A method call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) method: &'a str,
    pub(super) arguments: &'a [Value],
    /// How many descriptors come with the message.
    pub(super) descriptors: u32,
}

impl Call<'_> {
    /// Encodes the call. `is_direct` leaves the destination out, as on a connection without a bus.
    pub(super) fn encode(&self, serial: u32, is_direct: bool) -> Vec<u8> {
        let mut body = Vec::new();
        let mut signature = String::new();
        for argument in self.arguments {
            signature.push_str(&argument.signature());
            argument.encode(&mut body);
        }
        let mut fields = vec![
            (field::PATH, Value::ObjectPath(self.path.into())),
            (field::INTERFACE, Value::text(self.interface)),
            (field::MEMBER, Value::text(self.method)),
        ];
        if !is_direct {
            fields.push((field::DESTINATION, Value::text(self.destination)));
        }
        if !signature.is_empty() {
            fields.push((field::SIGNATURE, Value::Signature(signature)));
        }
        if self.descriptors > 0 {
            fields.push((field::UNIX_FDS, Value::Uint32(self.descriptors)));
        }
        let field =
            |(code, value): (u8, Value)| Value::Struct(vec![Value::Byte(code), value.variant()]);
        let mut message = vec![b'l', METHOD_CALL, 0, 1];
        message.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        message.extend(serial.to_le_bytes());
        Value::Array("(yv)".into(), fields.into_iter().map(field).collect()).encode(&mut message);
        pad(&mut message, 8);
        message.extend(body);
        message
    }
}

/// What a received message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// The result of the call with this serial.
    Return(u32),
    /// The error of the call with this serial, and its name.
    Error(u32, String),
    /// A signal of an interface, with its name.
    Signal { interface: String, member: String },
    /// A call, or a kind that the specification does not know yet.
    Other,
}

/// A received message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// The unique name of the sender, which the bus has set; none on a connection without a bus.
    pub(super) sender: Option<String>,
    signature: String,
    body: Vec<u8>,
}

impl Message {
    /// Returns the length of the message that begins with these bytes; `None` if there are too few
    /// to tell.
    pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Ok(None) };
        let number = |at: usize| {
            let bytes = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
            u32::from_le_bytes(bytes) as usize
        };
        if fixed[0] != b'l' {
            return Err(Malformed("a message of another byte order"));
        }
        if fixed[3] != 1 {
            return Err(Malformed("a message of another version of the protocol"));
        }
        let (body, fields) = (number(4), number(12));
        if body > LONGEST || fields > LONGEST {
            return Err(Malformed("a message longer than 1 MiB"));
        }
        Ok(Some((FIXED + fields).next_multiple_of(8) + body))
    }

    /// Decodes a whole message.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let length = Self::length(bytes)?.filter(|&length| length == bytes.len());
        length.ok_or(Malformed("a message of another length"))?;
        let header = Decoder::new(bytes).header()?;
        let mut message = Self {
            kind: Kind::Other,
            sender: None,
            signature: String::new(),
            body: bytes[header.end..].to_vec(),
        };
        let (mut reply, mut name, mut interface, mut member) = (None, None, None, None);
        for (code, value) in header.fields {
            match (code, value) {
                (field::REPLY_SERIAL, Value::Uint32(serial)) => reply = Some(serial),
                (field::ERROR_NAME, Value::Text(text)) => name = Some(text),
                (field::INTERFACE, Value::Text(text)) => interface = Some(text),
                (field::MEMBER, Value::Text(text)) => member = Some(text),
                (field::SENDER, Value::Text(text)) => message.sender = Some(text),
                (field::SIGNATURE, Value::Signature(text)) => message.signature = text,
                (
                    field::REPLY_SERIAL..=field::SIGNATURE | field::INTERFACE..=field::ERROR_NAME,
                    _,
                ) if code != field::DESTINATION => {
                    return Err(Malformed("a header field of another type"));
                }
                _ => {}
            }
        }
        message.kind = match (bytes[1], reply, name, interface, member) {
            (METHOD_RETURN, Some(serial), ..) => Kind::Return(serial),
            (ERROR, Some(serial), Some(name), ..) => Kind::Error(serial, name),
            (SIGNAL, _, _, Some(interface), Some(member)) => Kind::Signal { interface, member },
            (METHOD_RETURN | ERROR | SIGNAL, ..) => {
                return Err(Malformed("a message without a required header field"));
            }
            _ => Kind::Other,
        };
        Ok(message)
    }

    /// Decodes the arguments.
    pub(super) fn arguments(&self) -> Result<Vec<Value>, Malformed> {
        Decoder::new(&self.body).all(&self.signature)
    }
}

/// The decoded fields of a header, and where the body begins.
struct Header {
    fields: Vec<(u8, Value)>,
    end: usize,
}

impl Decoder<'_> {
    fn header(mut self) -> Result<Header, Malformed> {
        let malformed = Malformed("a header that is none");
        // The fixed part before the fields: four bytes, and two numbers.
        let fixed = self.value(b"(yyyyuu)", 0)?;
        debug_assert!(matches!(fixed, Value::Struct(_)), "a structure was asked for");
        let Value::Array(_, values) = self.value(b"a(yv)", 0)? else { return Err(malformed) };
        self.align(8)?;
        let fields = values.into_iter().map(|value| {
            let Value::Struct(pair) = value else { return Err(malformed) };
            match <[Value; 2]>::try_from(pair) {
                Ok([Value::Byte(code), Value::Variant(value)]) => Ok((code, *value)),
                _ => Err(malformed),
            }
        });
        Ok(Header { fields: fields.collect::<Result<_, _>>()?, end: self.position() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The call that every client sends first, as dbus-daemon's own tools send it.
    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let call = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            method: "Hello",
            arguments: &[],
            descriptors: 0,
        };
        let expected = b"l\x01\0\x01\0\0\0\0\x01\0\0\0m\0\0\0\
            \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
            \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
            \x03\x01s\0\x05\0\0\0Hello\0\0\0\
            \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0";
        assert_eq!(call.encode(1, false), expected);
        let direct = call.encode(1, true);
        assert!(direct.len() < expected.len());
        assert_eq!(Message::length(&direct), Ok(Some(direct.len())));
    }

    fn reply(kind: u8, fields: Vec<(u8, Value)>, body: &[Value]) -> Vec<u8> {
        let mut encoded = Vec::new();
        body.iter().for_each(|value| value.encode(&mut encoded));
        let mut message = vec![b'l', kind, 1, 1];
        message.extend(u32::try_from(encoded.len()).unwrap().to_le_bytes());
        message.extend(9_u32.to_le_bytes());
        let field =
            |(code, value): (u8, Value)| Value::Struct(vec![Value::Byte(code), value.variant()]);
        Value::Array("(yv)".into(), fields.into_iter().map(field).collect()).encode(&mut message);
        pad(&mut message, 8);
        message.extend(encoded);
        message
    }

    #[test]
    fn replies_errors_and_signals_are_told_apart() {
        let text = |text: &str| Value::text(text);
        let bytes = reply(
            METHOD_RETURN,
            vec![
                (field::REPLY_SERIAL, Value::Uint32(3)),
                (field::SENDER, text(":1.0")),
                (field::SIGNATURE, Value::Signature("s".into())),
            ],
            &[text("done")],
        );
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Return(3));
        assert_eq!(message.sender.as_deref(), Some(":1.0"));
        assert_eq!(message.arguments(), Ok(vec![text("done")]));

        let fields =
            vec![(field::REPLY_SERIAL, Value::Uint32(3)), (field::ERROR_NAME, text("a.b"))];
        let message = Message::decode(&reply(ERROR, fields, &[])).unwrap();
        assert_eq!(message.kind, Kind::Error(3, "a.b".into()));

        let fields = vec![(field::INTERFACE, text("a.b")), (field::MEMBER, text("C"))];
        let message = Message::decode(&reply(SIGNAL, fields, &[])).unwrap();
        assert_eq!(message.kind, Kind::Signal { interface: "a.b".into(), member: "C".into() });
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        let good = reply(METHOD_RETURN, vec![(field::REPLY_SERIAL, Value::Uint32(3))], &[]);
        assert!(Message::decode(&good).is_ok());
        assert_eq!(Message::length(&good[..FIXED - 1]), Ok(None));
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Message::decode(&bytes).map(|message| message.kind)
        };
        // Byte order, version, length of the body, length of the fields, the type of a field.
        for (at, byte) in [(0, b'B'), (3, 2), (4, 1), (6, 0xff), (12, 3), (15, 0x7f), (18, b'i')] {
            assert!(changed(at, byte).is_err(), "{at}");
        }
        assert!(Message::decode(&reply(METHOD_RETURN, vec![], &[])).is_err());
        assert!(Message::decode(&reply(ERROR, vec![(5, Value::Uint32(1))], &[])).is_err());
        // A kind of a later version.
        assert_eq!(Message::decode(&reply(7, vec![], &[])).unwrap().kind, Kind::Other);
        for length in 0..good.len() {
            assert!(Message::decode(&good[..length]).is_err());
        }
    }
}
