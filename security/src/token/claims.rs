use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use toolgate_events::TenantId;
use uuid::Uuid;

use super::{TokenError, members::Members};
use crate::Principal;

/// How far clocks may be apart.
pub const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// Roles, permissions, and audiences, of one token at the most.
const MAX_ITEMS: usize = 64;
/// Characters of a role, a permission, a session id or a token id at the most.
const MAX_NAME_LENGTH: usize = 128;
/// Bytes of a subject at the most.
const MAX_SUBJECT_LENGTH: usize = 255;

/// Whom a token must come from and be meant for.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub issuer: String,
    pub audience: String,
}

/// The principal that the claims of a signed token describe at the time `now`.
pub(super) fn principal(
    Members(claims): Members,
    key_id: String,
    expected: &Expected,
    now: DateTime<Utc>,
) -> Result<Principal, TokenError> {
    if claims.get("iss").and_then(Value::as_str) != Some(&expected.issuer) {
        return Err(TokenError::Claims("iss is not the issuer trusted here"));
    }
    if !is_audience(claims.get("aud"), &expected.audience) {
        return Err(TokenError::Claims("aud is not a string, or an array of at most 64 strings, that names this service"));
    }
    let subject = text(&claims, "sub", |text| !text.is_empty() && text.len() <= MAX_SUBJECT_LENGTH && is_printable(text));
    let principal = Principal {
        tenant_id: tenant(claims.get("tenant_id")).ok_or(TokenError::Claims("tenant_id is not one uuid with hyphens"))?,
        subject: subject.ok_or(TokenError::Claims("sub must be 1 to 255 bytes of printable characters"))?,
        roles: names(claims.get("roles")).ok_or(TokenError::Claims("roles must be at most 64 names"))?,
        permissions: names(claims.get("permissions")).ok_or(TokenError::Claims("permissions must be at most 64 names"))?,
        session_id: optional_id(&claims, "session_id", true)
            .ok_or(TokenError::Claims("session_id must be 1 to 128 printable characters"))?,
        token_id: optional_id(&claims, "jti", false).ok_or(TokenError::Claims("jti must be 1 to 128 printable characters"))?,
        key_id,
        issued_at: date(claims.get("iat")).ok_or(TokenError::Claims("iat is no time"))?,
        expires_at: date(claims.get("exp")).ok_or(TokenError::Claims("exp is no time"))?,
    };
    if claims.contains_key("nbf") {
        let not_before = date(claims.get("nbf")).ok_or(TokenError::Claims("nbf is no time"))?;
        if is_future(not_before, now) {
            return Err(TokenError::NotYetValid);
        }
    }
    if is_future(principal.issued_at, now) {
        return Err(TokenError::Claims("iat lies in the future"));
    }
    if is_current(&principal, now) { Ok(principal) } else { Err(TokenError::Expired) }
}

/// Whether the token has not ended, give or take the leeway.
pub(super) fn is_current(principal: &Principal, now: DateTime<Utc>) -> bool {
    // An end beyond the calendar is never reached.
    principal.expires_at.checked_add_signed(LEEWAY).is_none_or(|end| now < end)
}

/// Whether a time is further ahead than the leeway.
fn is_future(time: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now.checked_add_signed(LEEWAY).is_some_and(|latest| time > latest)
}

fn is_audience(claim: Option<&Value>, ours: &str) -> bool {
    match claim {
        Some(Value::String(audience)) => audience == ours,
        Some(Value::Array(audiences)) => {
            audiences.len() <= MAX_ITEMS
                && audiences.iter().all(Value::is_string)
                && audiences.iter().any(|audience| audience.as_str() == Some(ours))
        }
        _ => false,
    }
}

/// One uuid in its usual form (RFC 9562, section 4); other spellings of it are not heard of in tokens, so they are no accident.
fn tenant(claim: Option<&Value>) -> Option<TenantId> {
    let text = claim?.as_str().filter(|text| text.len() == uuid::fmt::Hyphenated::LENGTH)?;
    Uuid::try_parse(text).ok().map(TenantId)
}

/// The last whole second of a NumericDate (RFC 7519, section 2), which is a number, may have a fraction, and lies in our era.
fn date(claim: Option<&Value>) -> Option<DateTime<Utc>> {
    let seconds = claim?.as_number()?.as_f64().filter(|seconds| *seconds >= 0.0)?;
    // The cast saturates, which is beyond every calendar.
    DateTime::from_timestamp(seconds.floor() as i64, 0)
}

/// Names that may be left out, all of them.
fn names(claim: Option<&Value>) -> Option<Vec<String>> {
    let Some(claim) = claim else { return Some(Vec::new()) };
    let names = claim.as_array().filter(|names| names.len() <= MAX_ITEMS)?;
    names.iter().map(|name| name.as_str().filter(|name| is_name(name)).map(str::to_owned)).collect()
}

/// Nothing when the claim is not there; no answer when it is no id.
fn optional_id(claims: &Map<String, Value>, name: &str, may_be_null: bool) -> Option<Option<String>> {
    match claims.get(name) {
        None => Some(None),
        Some(Value::Null) if may_be_null => Some(None),
        Some(_) => text(claims, name, |text| !text.is_empty() && is_name(text)).map(Some),
    }
}

fn text(claims: &Map<String, Value>, name: &str, fits: impl FnOnce(&str) -> bool) -> Option<String> {
    claims.get(name)?.as_str().filter(|text| fits(text)).map(str::to_owned)
}

fn is_name(text: &str) -> bool {
    text.chars().count() <= MAX_NAME_LENGTH && is_printable(text)
}

fn is_printable(text: &str) -> bool {
    !text.contains(char::is_control)
}

#[cfg(test)]
mod tests;
