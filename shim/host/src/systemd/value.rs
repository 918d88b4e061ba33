//! Values of D-Bus and their encoding.
//!
//! Reference: the D-Bus specification, "Type system" and "Marshaling". Only little-endian messages
//! are read and written: systemd runs on the same machine, and no supported architecture has
//! another order.

use std::fmt;

/// A value of one of the types of D-Bus.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    ObjectPath(String),
    Signature(String),
    /// The index of a descriptor among those that come with the message.
    Descriptor(u32),
    /// The signature of an element, and the elements.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    /// An entry of a dictionary, which is an array of such entries.
    Entry(Box<(Value, Value)>),
    Variant(Box<Value>),
}

/// How deep arrays, structures and variants may be nested. The specification has 64, and nothing
/// that is sent or read here has more than six.
const DEEPEST: usize = 32;

/// The longest array, in bytes: "Marshaling" of the specification.
const LONGEST_ARRAY: usize = 64 << 20;

impl Value {
    /// Returns a string.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Returns an array of bytes.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".into(), bytes.iter().map(|&byte| Self::Byte(byte)).collect())
    }

    /// Returns a variant that holds the value.
    pub(crate) fn variant(self) -> Self {
        Self::Variant(Box::new(self))
    }

    /// Returns the string, the object path or the signature that the value is.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::ObjectPath(text) | Self::Signature(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the signature of the type.
    pub(super) fn signature(&self) -> String {
        let mut signature = String::new();
        self.push_signature(&mut signature);
        signature
    }

    fn push_signature(&self, signature: &mut String) {
        let code = match self {
            Self::Byte(_) => 'y',
            Self::Bool(_) => 'b',
            Self::Int16(_) => 'n',
            Self::Uint16(_) => 'q',
            Self::Int32(_) => 'i',
            Self::Uint32(_) => 'u',
            Self::Int64(_) => 'x',
            Self::Uint64(_) => 't',
            Self::Double(_) => 'd',
            Self::Text(_) => 's',
            Self::ObjectPath(_) => 'o',
            Self::Signature(_) => 'g',
            Self::Descriptor(_) => 'h',
            Self::Variant(_) => 'v',
            Self::Array(element, _) => {
                signature.push('a');
                signature.push_str(element);
                return;
            }
            Self::Struct(fields) => {
                signature.push('(');
                fields.iter().for_each(|field| field.push_signature(signature));
                ')'
            }
            Self::Entry(entry) => {
                signature.push('{');
                entry.0.push_signature(signature);
                entry.1.push_signature(signature);
                '}'
            }
        };
        signature.push(code);
    }

    /// Appends the encoded value to a message, or to a body that begins at a multiple of 8.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Byte(byte) => out.push(*byte),
            Self::Bool(value) => number(out, &u32::from(*value).to_le_bytes()),
            Self::Int16(value) => number(out, &value.to_le_bytes()),
            Self::Uint16(value) => number(out, &value.to_le_bytes()),
            Self::Int32(value) => number(out, &value.to_le_bytes()),
            Self::Uint32(value) | Self::Descriptor(value) => number(out, &value.to_le_bytes()),
            Self::Int64(value) => number(out, &value.to_le_bytes()),
            Self::Uint64(value) => number(out, &value.to_le_bytes()),
            Self::Double(value) => number(out, &value.to_le_bytes()),
            Self::Text(text) | Self::ObjectPath(text) => {
                number(out, &length(text.len()));
                out.extend(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => encode_signature(out, text),
            Self::Array(element, values) => {
                number(out, &[0; 4]);
                let at = out.len();
                pad(out, alignment(element.as_bytes().first().copied()));
                let start = out.len();
                values.iter().for_each(|value| value.encode(out));
                let size = length(out.len() - start);
                out[at - 4..at].copy_from_slice(&size);
            }
            Self::Struct(fields) => {
                pad(out, 8);
                fields.iter().for_each(|field| field.encode(out));
            }
            Self::Entry(entry) => {
                pad(out, 8);
                entry.0.encode(out);
                entry.1.encode(out);
            }
            Self::Variant(value) => {
                encode_signature(out, &value.signature());
                value.encode(out);
            }
        }
    }
}

/// The length field of a string or an array. Nothing that is sent comes near to its end.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn number(out: &mut Vec<u8>, bytes: &[u8]) {
    pad(out, bytes.len());
    out.extend(bytes);
}

fn encode_signature(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes());
    out.push(0);
}

/// Appends zeros up to a multiple of `alignment`.
pub(super) fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

/// Returns the alignment of a type by the first byte of its signature.
fn alignment(code: Option<u8>) -> usize {
    match code {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Why bytes are not what their signature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

type Decoded<T> = Result<T, Malformed>;

/// Reads values from a message, or from a body that begins at a multiple of 8.
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns how many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Reads all values of a signature, after which nothing may follow.
    pub(super) fn all(mut self, signature: &str) -> Decoded<Vec<Value>> {
        let mut rest = signature.as_bytes();
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (one, after) = split_type(rest, 0)?;
            values.push(self.value(one, 0)?);
            rest = after;
        }
        if self.at == self.bytes.len() {
            Ok(values)
        } else {
            Err(Malformed("bytes after the last value"))
        }
    }

    /// Reads one value of a complete type.
    pub(super) fn value(&mut self, signature: &[u8], depth: usize) -> Decoded<Value> {
        if depth > DEEPEST {
            return Err(Malformed("values nested too deep"));
        }
        let (&code, inner) = signature.split_first().ok_or(Malformed("an empty type"))?;
        self.align(alignment(Some(code)))?;
        Ok(match code {
            b'y' => Value::Byte(self.take::<1>()?[0]),
            b'b' => match u32::from_le_bytes(self.take()?) {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Malformed("a boolean that is neither 0 nor 1")),
            },
            b'n' => Value::Int16(i16::from_le_bytes(self.take()?)),
            b'q' => Value::Uint16(u16::from_le_bytes(self.take()?)),
            b'i' => Value::Int32(i32::from_le_bytes(self.take()?)),
            b'u' => Value::Uint32(u32::from_le_bytes(self.take()?)),
            b'h' => Value::Descriptor(u32::from_le_bytes(self.take()?)),
            b'x' => Value::Int64(i64::from_le_bytes(self.take()?)),
            b't' => Value::Uint64(u64::from_le_bytes(self.take()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.take()?)),
            b's' => Value::Text(self.string()?),
            b'o' => Value::ObjectPath(self.string()?),
            b'g' => Value::Signature(self.short_string()?),
            b'v' => {
                let signature = self.short_string()?;
                match split_type(signature.as_bytes(), 0)? {
                    (one, []) => self.value(one, depth + 1)?.variant(),
                    _ => return Err(Malformed("a variant of several types")),
                }
            }
            b'a' => self.array(inner, depth)?,
            b'(' | b'{' => {
                let mut fields = Vec::new();
                let mut rest = &inner[..inner.len().saturating_sub(1)];
                while !rest.is_empty() {
                    let (one, after) = split_type(rest, 0)?;
                    fields.push(self.value(one, depth + 1)?);
                    rest = after;
                }
                if code == b'(' {
                    Value::Struct(fields)
                } else {
                    let pair = <[Value; 2]>::try_from(fields);
                    let [key, value] = pair.map_err(|_| Malformed("an entry that is no pair"))?;
                    Value::Entry(Box::new((key, value)))
                }
            }
            _ => return Err(Malformed("an unknown type")),
        })
    }

    fn array(&mut self, element: &[u8], depth: usize) -> Decoded<Value> {
        let size = self.size()?;
        if size > LONGEST_ARRAY {
            return Err(Malformed("an array longer than 64 MiB"));
        }
        self.align(alignment(element.first().copied()))?;
        let end = self.at.checked_add(size).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(Malformed("an array that ends after the message"))?;
        let mut values = Vec::new();
        while self.at < end {
            values.push(self.value(element, depth + 1)?);
        }
        if self.at > end {
            return Err(Malformed("an array that ends inside a value"));
        }
        Ok(Value::Array(String::from_utf8_lossy(element).into_owned(), values))
    }

    /// Skips the padding before a value, which must be zero.
    pub(super) fn align(&mut self, alignment: usize) -> Decoded<()> {
        let next = self.at.next_multiple_of(alignment);
        let padding = self.bytes.get(self.at..next).ok_or(Malformed("the message is too short"))?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(Malformed("padding that is not zero"));
        }
        self.at = next;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.first_chunk().ok_or(Malformed("the message is too short"))?;
        self.at += N;
        Ok(*bytes)
    }

    fn size(&mut self) -> Decoded<usize> {
        Ok(u32::from_le_bytes(self.take()?) as usize)
    }

    fn string(&mut self) -> Decoded<String> {
        let size = self.size()?;
        self.terminated(size)
    }

    fn short_string(&mut self) -> Decoded<String> {
        let [size] = self.take()?;
        self.terminated(size.into())
    }

    /// Reads a string of a known size, with the zero that ends it.
    fn terminated(&mut self, size: usize) -> Decoded<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (text, after) =
            rest.split_at_checked(size).ok_or(Malformed("a string that ends after the message"))?;
        if after.first() != Some(&0) || text.contains(&0) {
            return Err(Malformed("a string without its end"));
        }
        self.at += size + 1;
        let text =
            std::str::from_utf8(text).map_err(|_| Malformed("a string that is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

/// Splits the first complete type off a signature.
pub(super) fn split_type(signature: &[u8], depth: usize) -> Decoded<(&[u8], &[u8])> {
    if depth > DEEPEST {
        return Err(Malformed("types nested too deep"));
    }
    let length = match signature.first() {
        Some(b'a') => 1 + split_type(&signature[1..], depth + 1)?.0.len(),
        Some(open @ (b'(' | b'{')) => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut length = 1;
            while *signature.get(length).ok_or(Malformed("a type without its end"))? != close {
                length += split_type(&signature[length..], depth + 1)?.0.len();
            }
            if length == 1 {
                return Err(Malformed("a structure without fields"));
            }
            length + 1
        }
        Some(
            b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g'
            | b'h' | b'v',
        ) => 1,
        _ => return Err(Malformed("an unknown type")),
    };
    Ok(signature.split_at(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    /// The bytes are those of the specification's rules, worked out by hand.
    #[test]
    fn values_have_the_bytes_of_the_specification() {
        for (value, signature, bytes) in [
            (Value::Byte(7), "y", &[7][..]),
            (Value::Bool(true), "b", &[1, 0, 0, 0]),
            (Value::Int16(-2), "n", &[0xfe, 0xff]),
            (Value::Uint32(0x0102), "u", &[2, 1, 0, 0]),
            (Value::text("foo"), "s", b"\x03\0\0\0foo\0"),
            (Value::Signature("a(ss)".into()), "g", b"\x05a(ss)\0"),
            (Value::bytes(&[1, 2]), "ay", &[2, 0, 0, 0, 1, 2]),
            // An array of 8-byte numbers has padding that its length does not count.
            (
                Value::Array("t".into(), vec![Value::Uint64(5)]),
                "at",
                &[8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            ),
            (Value::Array("(sv)".into(), vec![]), "a(sv)", &[0, 0, 0, 0, 0, 0, 0, 0]),
            (Value::Uint32(1).variant(), "v", b"\x01u\0\0\x01\0\0\0"),
            (
                Value::Struct(vec![Value::Byte(1), Value::text("x")]),
                "(ys)",
                b"\x01\0\0\0\x01\0\0\0x\0",
            ),
        ] {
            assert_eq!(value.signature(), signature);
            assert_eq!(encoded(&value), bytes, "{value:?}");
            assert_eq!(Decoder::new(bytes).all(signature), Ok(vec![value]));
        }
    }

    #[test]
    fn what_is_not_a_value_is_refused() {
        for (bytes, signature) in [
            (&b"\x02\0\0\0"[..], "b"),
            (b"\x04\0\0\0foo\0", "s"),
            (b"\x03\0\0\0fooX", "s"),
            (b"\x03\0\0\0f\0o\0", "s"),
            (b"\x01\0\0\0\xff\0", "s"),
            (b"\xff\xff\xff\xff", "ay"),
            (b"\x05\0\0\0\0\0\0\0", "au"),
            (b"\x01\x01\0\0\x01\0\0\0", "yu"),
            (b"\x02uu\0\0\0\0\0", "v"),
            (b"", "y"),
            (b"\x01\x02", "y"),
            (b"", "z"),
            (b"", "a"),
            (b"", "(y"),
            (b"", "()"),
        ] {
            assert!(Decoder::new(bytes).all(signature).is_err(), "{signature} {bytes:?}");
        }
        let deep = "a".repeat(200) + "y";
        assert!(Decoder::new(&[0; 4]).all(&deep).is_err());
        // A variant in a variant, and so on.
        let deep = b"\x01v\0".repeat(200);
        assert_eq!(Decoder::new(&deep).all("v"), Err(Malformed("values nested too deep")));
    }

    mod any {
        use proptest::prelude::*;

        use super::super::*;

        fn simple() -> impl Strategy<Value = Value> {
            prop_oneof![
                any::<u8>().prop_map(Value::Byte),
                any::<bool>().prop_map(Value::Bool),
                any::<i16>().prop_map(Value::Int16),
                any::<u16>().prop_map(Value::Uint16),
                any::<i32>().prop_map(Value::Int32),
                any::<u32>().prop_map(Value::Uint32),
                any::<i64>().prop_map(Value::Int64),
                any::<u64>().prop_map(Value::Uint64),
                (-1e9_f64..1e9).prop_map(Value::Double),
                "[a-z]{0,9}".prop_map(Value::Text),
                "/[a-z]{1,9}".prop_map(Value::ObjectPath),
                "a{0,2}[ybnt]".prop_map(Value::Signature),
            ]
        }

        fn value() -> impl Strategy<Value = Value> {
            simple().prop_recursive(4, 32, 5, |inner| {
                prop_oneof![
                    inner.clone().prop_map(Value::variant),
                    prop::collection::vec(inner.clone(), 1..5).prop_map(Value::Struct),
                    (inner, 0_usize..4).prop_map(|(value, count)| {
                        Value::Array(value.signature(), vec![value; count])
                    }),
                ]
            })
        }

        /// The same value of another implementation of D-Bus.
        fn other(value: &Value) -> zvariant::Value<'static> {
            use zvariant::{Array, Signature, StructureBuilder};
            match value {
                Value::Byte(value) => (*value).into(),
                Value::Bool(value) => (*value).into(),
                Value::Int16(value) => (*value).into(),
                Value::Uint16(value) => (*value).into(),
                Value::Int32(value) => (*value).into(),
                Value::Uint32(value) | Value::Descriptor(value) => (*value).into(),
                Value::Int64(value) => (*value).into(),
                Value::Uint64(value) => (*value).into(),
                Value::Double(value) => (*value).into(),
                Value::Text(text) => text.clone().into(),
                Value::ObjectPath(path) => {
                    zvariant::ObjectPath::try_from(path.clone()).unwrap().into()
                }
                Value::Signature(text) => Signature::try_from(text.as_bytes()).unwrap().into(),
                Value::Array(element, values) => {
                    let mut array = Array::new(&Signature::try_from(element.as_bytes()).unwrap());
                    values.iter().for_each(|value| array.append(other(value)).unwrap());
                    array.into()
                }
                Value::Struct(fields) => {
                    let add = |builder: StructureBuilder<'static>, field| {
                        builder.append_field(other(field))
                    };
                    let builder = fields.iter().fold(StructureBuilder::new(), add);
                    builder.build().unwrap().into()
                }
                Value::Entry(_) => unreachable!("no strategy makes one alone"),
                Value::Variant(value) => zvariant::Value::Value(Box::new(other(value))),
            }
        }

        proptest! {
            #[test]
            fn a_value_has_the_bytes_of_another_implementation(value in value()) {
                // As a variant, which also compares the signature.
                let mut bytes = Vec::new();
                value.clone().variant().encode(&mut bytes);
                let context = zvariant::serialized::Context::new_dbus(zvariant::LE, 0);
                let expected = zvariant::to_bytes(context, &other(&value)).unwrap();
                prop_assert_eq!(&bytes[..], expected.bytes());
            }

            #[test]
            fn an_encoded_value_is_read_as_it_was(value in value()) {
                let mut bytes = Vec::new();
                value.encode(&mut bytes);
                prop_assert_eq!(Decoder::new(&bytes).all(&value.signature()), Ok(vec![value]));
            }

            #[test]
            fn no_bytes_make_the_decoder_panic(
                bytes in prop::collection::vec(any::<u8>(), 0..200),
                signature in "[ybnqiuxtdsoghva(){}]{0,12}",
            ) {
                let _ = Decoder::new(&bytes).all(&signature);
            }
        }
    }
}
