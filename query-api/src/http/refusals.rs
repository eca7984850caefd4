use std::collections::BTreeMap;

use toolgate_security::refusal;
use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
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
            ("429", "The tenant has too much under way; see Retry-After"),
            ("503", "Not available at the moment; see Retry-After"),
        ]
        .into_iter()
        .map(refusal)
        .collect()
    }
}

impl IntoResponses for RefusalsOfOne {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Refusals::responses();
        responses.extend([refusal(("404", "It does not exist, or belongs to another tenant"))]);
        responses
    }
}
