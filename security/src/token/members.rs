use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// A JSON object in which every name is there once (RFC 7515, section 4; RFC 7519, section 4): of two claims with one name, two
/// readers may believe a different one.
#[derive(Debug)]
pub(super) struct Members(pub Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_there_once() {
        let parse = |text| serde_json::from_str::<Members>(text).map(|members| members.0.len());
        assert_eq!(parse(r#"{"a": 1, "b": {"a": 2}}"#).unwrap(), 2);
        assert_eq!(parse("{}").unwrap(), 0);
        for twice in [r#"{"a": 1, "a": 1}"#, r#"{"a": 1, "\u0061": 2}"#] {
            assert!(parse(twice).unwrap_err().to_string().contains("twice"), "{twice}");
        }
        let wrong = parse("[]").unwrap_err().to_string();
        assert!(wrong.contains("a JSON object"), "{wrong}");
    }
}
