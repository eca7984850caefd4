//! Canonical JSON: one spelling per value, so that a hash over it means something.
//!
//! Object keys are sorted by their UTF-8 bytes, there is no white space, strings carry the shortest escapes of RFC 8259, and a
//! number keeps the spelling it was recorded with.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// `value` in canonical form.
pub fn to_string(value: &Value) -> String {
    let mut out = String::with_capacity(256);
    write(value, &mut out);
    out
}

/// A string in canonical form, quotes included.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_string(text, &mut out);
    out
}

/// SHA-256 over the canonical form, as lower-case hex.
pub fn sha256_hex(value: &Value) -> String {
    hex(&Sha256::digest(to_string(value)))
}

/// Whether a string in it holds U+0000, which PostgreSQL's text cannot.
pub fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(contains_nul),
        Value::Object(members) => members.iter().any(|(key, member)| key.contains('\0') || contains_nul(member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
    out
}

/// The bytes of [`hex`]; `None` for a text that is none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| {
        let digits = text.get(at..at + 2)?;
        // A sign is no digit, though it may begin a number.
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
    };
    (0..text.len()).step_by(2).map(byte).collect()
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // The map's own order depends on a feature any dependency may switch on.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write(member, out);
            }
            out.push('}');
        }
        Value::String(text) => write_string(text, out),
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&number.to_string()),
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    // Most text needs no escape, so it is copied in runs.
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        match from.as_bytes()[0] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            0x0c => out.push_str("\\f"),
            b'\r' => out.push_str("\\r"),
            control => out.push_str(&format!("\\u{control:04x}")),
        }
        rest = &from[1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_come_back_from_hexadecimal() {
        assert_eq!(unhex(&hex(&[0, 255, 10])), Some(vec![0, 255, 10]));
        assert_eq!(unhex(""), Some(Vec::new()));
        for wrong in ["0", "0g", "+1", "0é", "é0"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_are_sorted_by_bytes_at_every_depth() {
        let value = json!({"b": [{"é": 1, "z": 2}], "a": "x\u{1}\n\"/", "B": null});
        assert_eq!(to_string(&value), r#"{"B":null,"a":"x\u0001\n\"/","b":[{"z":2,"é":1}]}"#);
    }

    #[test]
    fn parsing_the_form_gives_the_form_again() {
        for text in [r#"{"a":[1,-0.0,1e300,0.1,18446744073709551615],"b":{}}"#, r#""\u001f\\""#, "[]"] {
            let once = to_string(&serde_json::from_str(text).unwrap());
            let twice = to_string(&serde_json::from_str(&once).unwrap());
            assert_eq!(once, twice);
        }
    }
}
