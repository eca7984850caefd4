use std::collections::BTreeMap;

use toolgate_security::refusal;
use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

/// What a request for a call may be answered instead, for its documentation.
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [
            ("400", "Not valid, or against the tool's contract"),
            ("401", "No valid token"),
            ("403", "The token does not allow this tool"),
            ("404", "No such tool"),
            ("406", "Accept excludes the answer's type"),
            ("409", "What it is about was erased"),
            ("413", "The body is too large"),
            ("415", "The body is not application/json"),
            ("422", "The key was used for another request"),
            ("429", "Over a limit of the tenant's or the tool's; see `Retry-After`"),
            ("503", "Not accepted, or not known to be; try again with the same key"),
        ]
        .into_iter()
        .map(refusal)
        .collect()
    }
}
