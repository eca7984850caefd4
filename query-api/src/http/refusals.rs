use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{Content, Ref, RefOr, Response, ResponseBuilder},
};

/// What any endpoint may answer instead, for its documentation.
pub(crate) struct Refusals;

/// [`Refusals`] of endpoints that name one thing.
pub(crate) struct RefusalsOfOne;

/// [`RefusalsOfOne`] of endpoints whose answer has the type that a tool gave it.
pub(crate) struct RefusalsOfAny;

impl IntoResponses for RefusalsOfAny {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = RefusalsOfOne::responses();
        responses.remove("406");
        responses
    }
}

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [
            ("400", "The parameters are not valid"),
            ("401", "No token, or one that does not hold"),
            ("403", "The token does not allow this"),
            ("406", "Accept excludes the answer's type"),
            ("429", "The tenant has too many of these under way; see Retry-After"),
            ("503", "Not available at the moment; see Retry-After"),
        ]
        .into_iter()
        .map(problem)
        .collect()
    }
}

impl IntoResponses for RefusalsOfOne {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Refusals::responses();
        responses.extend([problem(("404", "It does not exist, or belongs to another tenant"))]);
        responses
    }
}

fn problem((status, description): (&str, &str)) -> (String, RefOr<Response>) {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("ProblemDocument"))));
    let response = ResponseBuilder::new().description(description).content("application/problem+json", content).build();
    (status.to_owned(), RefOr::T(response))
}
