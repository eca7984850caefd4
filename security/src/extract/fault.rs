//! What is wrong with a value, in words for whoever sent it: serde's own name types of ours and repeat the value.

use std::fmt;

use serde::de::{Expected, Unexpected};

/// Why a value does not become what it is meant to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A member is not there.
    Missing(&'static str),
    /// A member or parameter that nobody knows.
    Unknown,
    /// A member or parameter that is there twice.
    Repeated(&'static str),
    /// A value of another kind.
    Expected(String),
    /// A value that says itself what is wrong with it.
    Invalid,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(_) => f.write_str("is required"),
            Self::Unknown => f.write_str("is not known here"),
            Self::Repeated(_) => f.write_str("appears twice"),
            Self::Expected(what) => write!(f, "must be {what}"),
            Self::Invalid => f.write_str("is not valid here"),
        }
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Invalid
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Expected(format!("one of {}", expected.join(", ")))
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Repeated(field)
    }
}

impl Fault {
    pub(super) fn expected(expected: &dyn Expected) -> Self {
        let name = expected.to_string();
        let plain = match name.as_str() {
            "u8" => format!("a whole number from 0 to {}", u8::MAX),
            "u16" => format!("a whole number from 0 to {}", u16::MAX),
            "u32" => format!("a whole number from 0 to {}", u32::MAX),
            "u64" => "a whole number from 0".to_owned(),
            "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
            "f32" | "f64" => "a number".to_owned(),
            "a map" => "an object".to_owned(),
            "a sequence" => "an array".to_owned(),
            "a string" | "a boolean" => name,
            name if name.starts_with("struct ") => "an object".to_owned(),
            name if name.contains("UUID") => "a UUID".to_owned(),
            name if name.contains("formatted date string") => "a date (YYYY-MM-DD)".to_owned(),
            name if name.contains("RFC 3339") || name.contains("date and time") => "a date and time (RFC 3339)".to_owned(),
            _ => return Self::Invalid,
        };
        Self::Expected(plain)
    }
}
