//! Values as text in annotations, in GLib's text format of `GVariant`.
//!
//! runc and crun read the values of `org.systemd.property.` annotations in this format. Reference:
//! GLib, "GVariant Text Format".

use super::value::{Value, split_type};

/// How deep values may be nested.
const DEEPEST: usize = 16;

/// Parses a value. Numbers without a type are `int32`, or `double` with a point or an exponent.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Value, &'static str> {
    let mut reader = Reader { rest: text.trim() };
    let value = reader.value(None, 0)?;
    if reader.rest.trim_start().is_empty() { Ok(value) } else { Err("has text after the value") }
}

/// The keywords for types, and their signatures.
const KEYWORDS: [(&str, &str); 11] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
];

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Reads a value of the type that comes before it, or of the `wanted` type.
    fn value(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        if depth > DEEPEST {
            return Err("is nested too deep");
        }
        self.rest = self.rest.trim_start();
        if let Some(rest) = self.rest.strip_prefix('@') {
            let length = rest.find(char::is_whitespace).ok_or("has a type without a value")?;
            let (signature, rest) = rest.split_at(length);
            match split_type(signature.as_bytes(), 0) {
                Ok((_, [])) => {}
                _ => return Err("has an unknown type"),
            }
            self.rest = rest;
            return self.value(Some(signature), depth + 1);
        }
        match self.rest.chars().next() {
            None => Err("has no value"),
            Some('\'' | '"') => text_value(self.quoted()?, wanted),
            Some('[') => self.array(wanted, depth),
            Some('(') => self.tuple(wanted, depth),
            Some('<') => {
                self.rest = &self.rest[1..];
                let value = self.value(None, depth + 1)?;
                self.expect('>')?;
                Ok(value.variant())
            }
            Some(_) => {
                let word = self.word();
                if let Some((_, signature)) = KEYWORDS.iter().find(|(name, _)| *name == word) {
                    return self.value(Some(signature), depth + 1);
                }
                match (word, wanted) {
                    ("true", None | Some("b")) => Ok(Value::Bool(true)),
                    ("false", None | Some("b")) => Ok(Value::Bool(false)),
                    _ => number(word, wanted),
                }
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let is_end = |c: char| c.is_whitespace() || ",()[]<>{}'\"".contains(c);
        let (word, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// Reads a string in single or double quotes.
    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut chars = self.rest.chars();
        let quote = chars.next().ok_or("has no value")?;
        let mut text = String::new();
        loop {
            match chars.next().ok_or("has a string without its end")? {
                c if c == quote => break,
                '\\' => text.push(match chars.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(c @ ('\\' | '\'' | '"')) => c,
                    _ => return Err("has an unknown escape in a string"),
                }),
                '\0' => return Err("has a zero byte"),
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    fn array(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        let mut element = match wanted {
            None => None,
            Some(wanted) => Some(
                wanted.strip_prefix('a').ok_or("is an array, not what its type says")?.to_owned(),
            ),
        };
        let mut values = Vec::new();
        self.rest = &self.rest[1..];
        while !self.is_at(']') {
            if !values.is_empty() {
                self.expect(',')?;
            }
            let value = self.value(element.as_deref(), depth + 1)?;
            let signature = value.signature();
            if *element.get_or_insert_with(|| signature.clone()) != signature {
                return Err("has an array of different types");
            }
            values.push(value);
        }
        Ok(Value::Array(element.ok_or("has an empty array without a type, as in @as []")?, values))
    }

    fn tuple(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        const OTHER: &str = "is a tuple, not what its type says";
        let mut types = match wanted {
            None => None,
            Some(wanted) => {
                let inner = wanted.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
                Some(inner.ok_or(OTHER)?)
            }
        };
        let mut fields = Vec::new();
        self.rest = &self.rest[1..];
        while !self.is_at(')') {
            if !fields.is_empty() {
                self.expect(',')?;
                // A tuple of one value ends with a comma.
                if fields.len() == 1 && self.is_at(')') {
                    break;
                }
            }
            let field = match &mut types {
                None => None,
                Some(types) => {
                    let (one, rest) = split_type(types.as_bytes(), 0).map_err(|_| OTHER)?;
                    let one = one.len();
                    debug_assert_eq!(one + rest.len(), types.len(), "split in two");
                    let (one, rest) = types.split_at(one);
                    *types = rest;
                    Some(one)
                }
            };
            fields.push(self.value(field, depth + 1)?);
        }
        match types {
            Some(rest) if !rest.is_empty() => Err(OTHER),
            _ if fields.is_empty() => Err("has an empty tuple"),
            _ => Ok(Value::Struct(fields)),
        }
    }

    /// Whether a character comes next, which is then skipped.
    fn is_at(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<(), &'static str> {
        if self.is_at(c) { Ok(()) } else { Err("lacks a comma or the end of a list") }
    }
}

fn text_value(text: String, wanted: Option<&str>) -> Result<Value, &'static str> {
    match wanted {
        None | Some("s") => Ok(Value::Text(text)),
        Some("o") => Ok(Value::ObjectPath(text)),
        Some("g") => Ok(Value::Signature(text)),
        Some(_) => Err("is a string, not what its type says"),
    }
}

fn number(word: &str, wanted: Option<&str>) -> Result<Value, &'static str> {
    const RANGE: &str = "is not a number, or out of the range of its type";
    let is_fraction = word.contains(['.', 'e', 'E']) && !word.starts_with("0x");
    let default = if is_fraction { "d" } else { "i" };
    let wanted = wanted.unwrap_or(default);
    if wanted == "d" {
        return word.parse().map(Value::Double).map_err(|_| RANGE);
    }
    let (digits, is_negative) = match word.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (word.strip_prefix('+').unwrap_or(word), false),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return Err(RANGE);
    }
    let absolute = i128::from_str_radix(digits, radix).map_err(|_| RANGE)?;
    let number = if is_negative { -absolute } else { absolute };
    let value = match wanted {
        "y" => number.try_into().map(Value::Byte),
        "n" => number.try_into().map(Value::Int16),
        "q" => number.try_into().map(Value::Uint16),
        "i" => number.try_into().map(Value::Int32),
        "u" => number.try_into().map(Value::Uint32),
        "x" => number.try_into().map(Value::Int64),
        "t" => number.try_into().map(Value::Uint64),
        _ => return Err("is a number, not what its type says"),
    };
    value.map_err(|_| RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_glib_reads_them() {
        let array = |signature: &str, values| Value::Array(signature.into(), values);
        for (text, value) in [
            ("true", Value::Bool(true)),
            ("15", Value::Int32(15)),
            ("-0x10", Value::Int32(-16)),
            ("010", Value::Int32(8)),
            ("1.5", Value::Double(1.5)),
            ("uint64 10000000", Value::Uint64(10_000_000)),
            ("@t 7", Value::Uint64(7)),
            ("byte 0xff", Value::Byte(255)),
            ("int64 -1", Value::Int64(-1)),
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            (r#""a\"b\n""#, Value::text("a\"b\n")),
            ("objectpath '/a'", Value::ObjectPath("/a".into())),
            ("@as []", array("s", vec![])),
            ("['a', 'b']", array("s", vec![Value::text("a"), Value::text("b")])),
            ("@at [1]", array("t", vec![Value::Uint64(1)])),
            ("('a', uint32 1)", Value::Struct(vec![Value::text("a"), Value::Uint32(1)])),
            ("@(su) ('a', 1)", Value::Struct(vec![Value::text("a"), Value::Uint32(1)])),
            ("(1,)", Value::Struct(vec![Value::Int32(1)])),
            ("<'x'>", Value::text("x").variant()),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "x",
            "uint64",
            "uint64 -1",
            "byte 256",
            "'a",
            "[]",
            "[1, 'a']",
            "[1",
            "(",
            "()",
            "1 2",
            "@zz 1",
            "@t",
            "@s 1",
            "@t 'a'",
            "@as 'a'",
            "@(su) ('a',)",
            "99999999999",
            "-",
            "'\\q'",
            "0x",
            "+-1",
            "<1",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert!(parse(&"[".repeat(1000)).is_err());
        assert!(parse(&"byte ".repeat(1000)).is_err());
    }
}
