use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use chrono::Utc;
use http::{HeaderMap, header, request::Parts};

use crate::{Guard, Principal, Problem, ProblemKind, TokenError};

/// The principal of exactly one `Authorization: Bearer` header (RFC 6750). A token anywhere else is not looked at.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Arc<Principal>);

impl<S> FromRequestParts<S> for Authenticated
where
    S: Sync,
    Guard: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let guard = Guard::from_ref(state);
        authenticate(&parts.headers, &guard).await.map(Self)
    }
}

/// The principal that a request's headers prove.
///
/// # Errors
/// 401, 403 for a tenant that is shut out, 503 while tokens cannot be checked.
pub(crate) async fn authenticate(headers: &HeaderMap, guard: &Guard) -> Result<Arc<Principal>, Problem> {
    let token = bearer(headers)?;
    #[expect(clippy::disallowed_methods, reason = "the entrance is where a token meets the clock")]
    let now = Utc::now();
    guard.verifier.verify(token, now).await.map_err(|error| {
        tracing::debug!(error = %error, "token refused");
        error.into()
    })
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let refused = |detail: &str| Problem::new(ProblemKind::InvalidToken, detail);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values
        .next()
        .ok_or_else(|| Problem::new(ProblemKind::Unauthenticated, "send a token as Authorization: Bearer <token>"))?;
    if values.next().is_some() {
        return Err(refused("more than one Authorization header"));
    }
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    token.ok_or_else(|| refused("the Authorization header is not Bearer <token>"))
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::TooLong
            | TokenError::Malformed
            | TokenError::Header(_)
            | TokenError::UnknownKey
            | TokenError::WrongAlgorithm
            | TokenError::Signature
            | TokenError::Expired
            | TokenError::NotYetValid
            | TokenError::Claims(_)
            | TokenError::Revoked => {
                Self::new(ProblemKind::InvalidToken, "the token is malformed, expired, revoked, or not for this service")
            }
            TokenError::Suspended => Self::new(ProblemKind::Forbidden, "the tenant is suspended"),
            TokenError::NoKeys => Self::unavailable("the keys to check tokens with are not known yet"),
            TokenError::Unconfirmed => Self::unavailable("revocations cannot be checked at the moment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn kind_of(values: &[&'static str]) -> Result<String, ProblemKind> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers).map(str::to_owned).map_err(|problem| problem.kind())
    }

    #[test]
    fn there_is_one_header_with_one_token() {
        assert_eq!(kind_of(&[]), Err(ProblemKind::Unauthenticated));
        assert_eq!(kind_of(&["Bearer a", "Bearer a"]), Err(ProblemKind::InvalidToken));
        for value in ["", "Bearer", "Basic a", "Bearer\ta", "a", "Bearera b"] {
            assert_eq!(kind_of(&[value]), Err(ProblemKind::InvalidToken), "{value}");
        }
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c"] {
            assert_eq!(kind_of(&[value]), Ok("a.b.c".to_owned()), "{value}");
        }
    }

    #[test]
    fn a_refused_token_is_401_and_what_is_not_its_fault_is_not() {
        for error in
            [TokenError::TooLong, TokenError::Malformed, TokenError::Expired, TokenError::Revoked, TokenError::Claims("")]
        {
            assert_eq!(Problem::from(error).kind(), ProblemKind::InvalidToken);
        }
        assert_eq!(Problem::from(TokenError::Suspended).kind(), ProblemKind::Forbidden);
        for error in [TokenError::NoKeys, TokenError::Unconfirmed] {
            assert_eq!(Problem::from(error).kind(), ProblemKind::Unavailable);
        }
    }
}
