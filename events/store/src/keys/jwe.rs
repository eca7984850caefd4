//! Compact JWE (RFC 7516) with `alg: dir` and `enc: A256GCM` (RFC 7518): the only form in which anything is sealed.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use toolgate_events::{CallId, sealing::Member};
use uuid::Uuid;

use super::KeyError;

/// Bytes of every key.
pub const KEY_LENGTH: usize = 32;

/// The protected header: whatever it says cannot be changed without the key, so that a ciphertext counts only where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    alg: String,
    enc: String,
    /// The key.
    pub kid: String,
    /// The call, the event and the member that it was sealed for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    call: Option<CallId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    event: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    member: Option<String>,
    /// What else it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    purpose: Option<String>,
}

/// Where something sealed belongs.
#[derive(Clone, Debug)]
pub enum Place<'a> {
    Member {
        call: CallId,
        /// Not known where only the call's row is read.
        event: Option<Uuid>,
        member: Member,
    },
    Other(&'a str),
}

impl Header {
    fn of(kid: &str, place: &Place<'_>) -> Self {
        let (call, event, member, purpose) = match place {
            Place::Member { call, event, member } => (Some(*call), *event, Some(member.pointer().to_owned()), None),
            Place::Other(purpose) => (None, None, None, Some((*purpose).to_owned())),
        };
        Self { alg: "dir".to_owned(), enc: "A256GCM".to_owned(), kid: kid.to_owned(), call, event, member, purpose }
    }

    fn belongs_to(&self, place: &Place<'_>) -> bool {
        let due = Self::of(&self.kid, place);
        let event = if due.event.is_none() { None } else { self.event };
        Self { event, ..self.clone() } == due
    }
}

/// A key for [`seal`] and [`open`].
pub fn key(bytes: &[u8]) -> Result<LessSafeKey, KeyError> {
    let key = UnboundKey::new(&AES_256_GCM, bytes)
        .map_err(|_| KeyError::Broken("a key has another length than 32 bytes".to_owned()))?;
    Ok(LessSafeKey::new(key))
}

/// Random bytes.
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| KeyError::Broken("there are no random bytes".to_owned()))?;
    Ok(bytes)
}

/// Seals `plaintext` for one place.
pub fn seal(key: &LessSafeKey, kid: &str, place: &Place<'_>, plaintext: &[u8]) -> Result<String, KeyError> {
    let header = serde_json::to_vec(&Header::of(kid, place)).map_err(|error| KeyError::Broken(error.to_string()))?;
    let nonce: [u8; NONCE_LEN] = random()?;
    let mut jwe = URL_SAFE_NO_PAD.encode(header);
    let mut bytes = plaintext.to_vec();
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(jwe.as_bytes()), &mut bytes)
        .map_err(|_| KeyError::Broken("nothing can be sealed with this key".to_owned()))?;
    jwe.reserve(bytes.len() * 4 / 3 + 64);
    // With `dir` there is no encrypted key: that part stays empty.
    jwe.push_str("..");
    URL_SAFE_NO_PAD.encode_string(nonce, &mut jwe);
    jwe.push('.');
    URL_SAFE_NO_PAD.encode_string(&bytes, &mut jwe);
    jwe.push('.');
    URL_SAFE_NO_PAD.encode_string(tag.as_ref(), &mut jwe);
    Ok(jwe)
}

/// The protected header, before anything is known to be true.
pub fn header(jwe: &str) -> Result<Header, KeyError> {
    let header = jwe.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| broken())?;
    serde_json::from_slice(&header).map_err(|_| broken())
}

/// Opens what was sealed for the same place.
pub fn open(key: &LessSafeKey, place: &Place<'_>, jwe: &str) -> Result<Vec<u8>, KeyError> {
    let parts: Vec<_> = jwe.split('.').collect();
    let [protected, "", nonce, ciphertext, tag] = parts.as_slice() else { return Err(broken()) };
    if !header(jwe)?.belongs_to(place) {
        return Err(KeyError::Broken("what is sealed belongs to another place".to_owned()));
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| broken());
    let nonce = Nonce::try_assume_unique_for_key(&decode(nonce)?).map_err(|_| broken())?;
    let mut bytes = decode(ciphertext)?;
    bytes.extend_from_slice(&decode(tag)?);
    let length = key.open_in_place(nonce, Aad::from(protected.as_bytes()), &mut bytes).map_err(|_| broken())?.len();
    bytes.truncate(length);
    Ok(bytes)
}

fn broken() -> KeyError {
    KeyError::Broken("what is sealed was changed, or sealed with another key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(call: u128, event: Option<u128>, member: Member) -> Place<'static> {
        Place::Member { call: CallId(Uuid::from_u128(call)), event: event.map(Uuid::from_u128), member }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let own = key(&[7; KEY_LENGTH]).unwrap();
        let jwe = seal(&own, "k", &place(1, Some(2), Member::Result), b"secret").unwrap();
        assert_eq!(jwe.split('.').count(), 5);
        assert_eq!(open(&own, &place(1, Some(2), Member::Result), &jwe).unwrap(), b"secret");
        assert_eq!(open(&own, &place(1, None, Member::Result), &jwe).unwrap(), b"secret", "the row of the call knows no event");
        for other in [
            place(9, Some(2), Member::Result),
            place(1, Some(9), Member::Result),
            place(1, Some(2), Member::Arguments),
            Place::Other("x"),
        ] {
            assert!(open(&own, &other, &jwe).is_err(), "{other:?}");
        }
        assert!(open(&key(&[8; KEY_LENGTH]).unwrap(), &place(1, Some(2), Member::Result), &jwe).is_err());
    }

    #[test]
    fn a_changed_byte_is_noticed_in_every_part() {
        let own = key(&[7; KEY_LENGTH]).unwrap();
        let here = Place::Other("p");
        let jwe = seal(&own, "k", &here, b"secret").unwrap();
        for index in (0..jwe.len()).filter(|index| jwe.as_bytes()[*index] != b'.') {
            // The last character of a part may hold bits that mean nothing; a decoder that is strict refuses those too.
            let replaced = if jwe.as_bytes()[index] == b'A' { "B" } else { "A" };
            let mut changed = jwe.clone();
            changed.replace_range(index..=index, replaced);
            assert!(open(&own, &here, &changed).is_err(), "{index} of {jwe}");
        }
        for broken in ["", "a", "a.b.c.d.e", "....", &jwe[..jwe.len() - 1], &format!("{jwe}.x")] {
            assert!(open(&own, &here, broken).is_err(), "{broken}");
        }
    }

    /// Sealed by another program, with the key of sevens: see `events/golden/`.
    #[test]
    fn what_was_once_sealed_opens_for_ever() {
        for (text, member, expected) in [
            (
                include_str!("../../../golden/tool_call_requested.v3.json"),
                Member::Arguments,
                "{\"labels\":[\"audit\",\"größe\"],\"title\":\"Review the report\"}",
            ),
            (include_str!("../../../golden/tool_call_failed.v2.json"), Member::ErrorDetail, "\"no answer within 5000 ms\""),
            (
                include_str!("../../../golden/tool_call_succeeded.v3.json"),
                Member::Result,
                "{\"base64\":false,\"body\":\"größe\",\"headers\":{\"content-type\":\"text/plain\"},\"status\":200,\"truncated\":false}",
            ),
        ] {
            let envelope: toolgate_events::Envelope = serde_json::from_str(text).unwrap();
            let place = Place::Member { call: envelope.aggregate_id, event: Some(envelope.event_id), member };
            let Some(toolgate_events::sealing::Sealed::Jwe(jwe)) =
                envelope.data.pointer(member.pointer()).and_then(toolgate_events::sealing::Sealed::parse)
            else {
                panic!("not sealed")
            };
            let opened = open(&key(&[7; KEY_LENGTH]).unwrap(), &place, jwe).unwrap();
            assert_eq!(String::from_utf8(opened).unwrap(), expected);
        }
    }

    #[test]
    fn a_nonce_is_never_the_same() {
        let own = key(&[7; KEY_LENGTH]).unwrap();
        let seals: std::collections::HashSet<_> = (0..100).map(|_| seal(&own, "k", &Place::Other("p"), b"").unwrap()).collect();
        assert_eq!(seals.len(), 100);
    }
}
