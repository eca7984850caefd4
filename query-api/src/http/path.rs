use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use toolgate_security::Problem;
use uuid::Uuid;

/// The length of a UUID in the one spelling that this API writes.
const HYPHENATED: usize = 36;

/// The id in a path. What is no id names nothing, so it is 404 like an id that names nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Name(text) = Name::from_request_parts(parts, state).await?;
        let id = (text.len() == HYPHENATED).then(|| Uuid::try_parse(&text).ok()).flatten();
        id.map(Self).ok_or_else(Problem::not_found)
    }
}

/// The name in a path.
#[derive(Clone, Debug)]
pub(crate) struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_| Problem::not_found())
    }
}
