//! Which members of an event are content: they are sealed before they are recorded, and opened before anybody acts on them.
//!
//! Pure: what a member is sealed with, and where the keys are, is the store's.

use serde_json::{Value, json};

use crate::ToolCallEvent;

/// A member of an event's `data` that holds what somebody said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Member {
    Arguments,
    Result,
    ErrorDetail,
}

/// What became of a sealed member.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    Content(Value),
    /// The key was destroyed, or was so before the content was recorded.
    Erased,
}

/// A member in its sealed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed<'a> {
    /// A compact JWE (RFC 7516).
    Jwe(&'a str),
    /// It was left out, because its key was destroyed before it was recorded.
    Erased,
}

impl Member {
    /// Where it stands in `data` (RFC 6901).
    pub fn pointer(self) -> &'static str {
        match self {
            Self::Arguments => "/arguments",
            Self::Result => "/result",
            Self::ErrorDetail => "/error/detail",
        }
    }

    /// What stands in its place when its content is gone: of the same type, and empty.
    pub fn placeholder(self) -> Value {
        match self {
            Self::Arguments => json!({}),
            Self::Result => Value::Null,
            Self::ErrorDetail => json!(""),
        }
    }
}

/// The members that are sealed in events of a type and version; none in those that were written before there was sealing.
pub fn members(event_type: &str, version: u32) -> &'static [Member] {
    match (event_type, version) {
        (ToolCallEvent::REQUESTED, 3..) => &[Member::Arguments],
        (ToolCallEvent::SUCCEEDED, 3..) => &[Member::Result],
        (ToolCallEvent::FAILED, 2..) => &[Member::ErrorDetail],
        _ => &[],
    }
}

/// The members that hold content, sealed or not, in events of a type.
pub fn content_of(event_type: &str) -> &'static [Member] {
    members(event_type, u32::MAX)
}

impl<'a> Sealed<'a> {
    /// `None` when the value is nothing sealed.
    pub fn parse(value: &'a Value) -> Option<Self> {
        let members = value.as_object().filter(|members| members.len() == 1)?;
        match members.iter().next()? {
            (name, Value::String(jwe)) if name == "jwe" => Some(Self::Jwe(jwe)),
            (name, Value::Bool(true)) if name == "erased" => Some(Self::Erased),
            _ => None,
        }
    }

    /// The member's value.
    pub fn to_value(self) -> Value {
        match self {
            Self::Jwe(jwe) => json!({"jwe": jwe}),
            Self::Erased => json!({"erased": true}),
        }
    }
}

/// The pseudonym of whoever an event's content is about.
pub fn data_subject(data: &Value) -> Option<&str> {
    data.get("data_subject")?.as_str()
}

/// Puts what was opened in the place of what is sealed. What is gone leaves a placeholder, and `erased` beside it.
pub fn put_opened(data: &mut Value, member: Member, opened: Opened) {
    let value = match opened {
        Opened::Content(value) => value,
        Opened::Erased => {
            if let Some(members) = data.as_object_mut() {
                members.insert("erased".to_owned(), Value::Bool(true));
            }
            member.placeholder()
        }
    };
    if let Some(place) = data.pointer_mut(member.pointer()) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_has_one_member_and_nothing_else_is_taken_for_it() {
        assert_eq!(Sealed::parse(&json!({"jwe": "a..b.c.d"})), Some(Sealed::Jwe("a..b.c.d")));
        assert_eq!(Sealed::parse(&json!({"erased": true})), Some(Sealed::Erased));
        for other in
            [json!({}), json!({"jwe": "x", "y": 1}), json!({"jwe": 1}), json!({"erased": false}), json!("x"), json!(null)]
        {
            assert_eq!(Sealed::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn only_what_was_written_since_there_is_sealing_is_sealed() {
        assert_eq!(members(ToolCallEvent::REQUESTED, 2), []);
        assert_eq!(members(ToolCallEvent::REQUESTED, 3), [Member::Arguments]);
        assert_eq!(members(ToolCallEvent::SUCCEEDED, 2), []);
        assert_eq!(members(ToolCallEvent::SUCCEEDED, 3), [Member::Result]);
        assert_eq!(members(ToolCallEvent::FAILED, 1), []);
        assert_eq!(members(ToolCallEvent::FAILED, 2), [Member::ErrorDetail]);
        assert_eq!(members(ToolCallEvent::CANCELLED, 9), []);
    }

    #[test]
    fn what_is_gone_leaves_a_word_that_it_is() {
        let mut data = json!({"error": {"detail": {"jwe": "x"}}});
        put_opened(&mut data, Member::ErrorDetail, Opened::Erased);
        assert_eq!(data, json!({"error": {"detail": ""}, "erased": true}));
        put_opened(&mut data, Member::ErrorDetail, Opened::Content(json!("why")));
        assert_eq!(data["error"]["detail"], "why");
    }
}
