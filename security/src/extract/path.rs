use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use uuid::Uuid;

use crate::Problem;

/// The length of a UUID in the one spelling that this API writes.
const HYPHENATED: usize = 36;

/// The id in a path. What is no id names nothing, so it is 404 like an id that names nothing.
#[derive(Clone, Copy, Debug)]
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let PathName(text) = PathName::from_request_parts(parts, state).await?;
        let id = (text.len() == HYPHENATED).then(|| Uuid::try_parse(&text).ok()).flatten();
        id.map(Self).ok_or_else(Problem::not_found)
    }
}

/// The name in a path; 404 when it is no text.
#[derive(Clone, Debug)]
pub struct PathName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_| Problem::not_found())
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use http::{Request, StatusCode, header};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_is_no_id_is_a_404_problem() {
        let routes = Router::new().route("/{id}", get(|PathId(id): PathId| async move { id.to_string() }));
        let ask = async |path: &str| routes.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(ask("/6f9619ff-8b86-5d01-b42d-00cf4fc964ff").await.status(), StatusCode::OK);
        for path in ["/%FF", "/x", "/%00", "/6f9619ff8b865d01b42d00cf4fc964ff"] {
            let response = ask(path).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json", "{path}");
        }
    }
}
