//! Members with the value `null`, which mean the same as absent ones.
//!
//! Go's decoder leaves a field as it is for `null`, whatever its type, and clients in other
//! languages write `null` for what is not set.

/// Returns a JSON document with spaces in the place of all members whose value is `null`, so that
/// everything else keeps its line and column; `None` if it has none.
pub(super) fn without_nulls(json: &[u8]) -> Option<Vec<u8>> {
    let mut text = json.to_vec();
    let mut found = false;
    // Where the last string begins.
    let mut string = 0;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                string = at;
                at = string_end(json, at);
            }
            b'n' if json[at..].starts_with(b"null") && last_before(&text, at) == Some(b':') => {
                at += "null".len();
                found |= blank(&mut text, string, at);
            }
            _ => at += 1,
        }
    }
    found.then_some(text)
}

/// Returns the index after the string that begins at `start`.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// Returns the last byte before an index that is not white space.
fn last_before(text: &[u8], at: usize) -> Option<u8> {
    text[..at].iter().rev().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Writes spaces over a member, and over the comma after it, or before it if it is the last one.
/// Returns whether a member ends there.
fn blank(text: &mut [u8], start: usize, end: usize) -> bool {
    let is_text = |byte: &u8| !byte.is_ascii_whitespace();
    let next = text[end..].iter().position(is_text).map_or(text.len(), |skipped| end + skipped);
    let comma = match text.get(next) {
        Some(b',') => Some(next),
        Some(b'}') => text[..start].iter().rposition(is_text).filter(|&at| text[at] == b','),
        _ => return false,
    };
    text[start..end].fill(b' ');
    if let Some(comma) = comma {
        text[comma] = b' ';
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_with_null_are_left_out() {
        for (json, kept) in [
            (r#"{"a":null}"#, "{}"),
            (r#"{"a" : null , "b":1}"#, r#"{"b":1}"#),
            (r#"{"b":1,"a":null}"#, r#"{"b":1}"#),
            (r#"{"a":null,"b":null}"#, "{}"),
            (r#"{"x":{"a":null},"b":null,"c":[{"d":null}]}"#, r#"{"x":{},"c":[{}]}"#),
            ("{\"x\":1,\n\"a\":null,\n\"b\":null\n}", r#"{"x":1}"#),
            (r#"{"a\"":null,"b":"null","c":":null"}"#, r#"{"b":"null","c":":null"}"#),
        ] {
            let text = without_nulls(json.as_bytes()).unwrap();
            assert_eq!(text.len(), json.len(), "{json}");
            let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
            assert_eq!(value(&text), value(kept.as_bytes()), "{json}");
        }
        // An element of a list is not left out, nor is a document.
        for json in ["null", "[null]", r#"{"a":[null,1]}"#, r#"{"a":"b:null"}"#, "", "\"\\"] {
            assert_eq!(without_nulls(json.as_bytes()), None, "{json}");
        }
    }

    #[test]
    fn malformed_documents_stay_malformed() {
        for json in [r#"{"a":nullx}"#, r#"{"a":null"#, r#"{"a":null "b":1}"#, ":null", "{:null}"] {
            let text = without_nulls(json.as_bytes()).unwrap_or_else(|| json.into());
            assert!(serde_json::from_slice::<serde_json::Value>(&text).is_err(), "{json}");
        }
    }
}
