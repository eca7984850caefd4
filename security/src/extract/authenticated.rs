use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use chrono::Utc;
use http::{header, request::Parts};

use crate::{Guard, Principal, Problem, ProblemKind, admission::Place};

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
        authenticate(parts, &Guard::from_ref(state)).await.map(Self)
    }
}

/// Who sends a request. Verified once; whoever asks later finds it with the request.
pub(crate) async fn authenticate(parts: &mut Parts, guard: &Guard) -> Result<Arc<Principal>, Problem> {
    if let Some(principal) = parts.extensions.get::<Arc<Principal>>() {
        return Ok(Arc::clone(principal));
    }
    let principal = verify(parts, guard).await?;
    if let Some(place) = parts.extensions.get::<Arc<Place>>() {
        place.belongs_to(principal.tenant_id)?;
    }
    parts.extensions.insert(Arc::clone(&principal));
    Ok(principal)
}

async fn verify(parts: &Parts, guard: &Guard) -> Result<Arc<Principal>, Problem> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = values
        .next()
        .ok_or_else(|| Problem::new(ProblemKind::Unauthenticated, "send a token as Authorization: Bearer <token>"))?;
    if values.next().is_some() {
        return Err(Problem::new(ProblemKind::InvalidToken, "more than one Authorization header"));
    }
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let token = token.ok_or_else(|| Problem::new(ProblemKind::InvalidToken, "the Authorization header is not Bearer <token>"))?;
    #[expect(clippy::disallowed_methods, reason = "the entrance is where a token meets the clock")]
    let now = Utc::now();
    match guard.verifier.verify(token, now) {
        Ok(principal) => Ok(principal),
        Err(error) => {
            tracing::debug!(error = %error, "token refused");
            Err(Problem::new(ProblemKind::InvalidToken, "the token is malformed, expired, or not for this service"))
        }
    }
}
