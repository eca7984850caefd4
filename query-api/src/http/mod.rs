//! One file per endpoint, read top to bottom: response, docs, handler.

mod artifact;
mod audit;
mod documents;
mod events;
mod page;
mod range;
mod refusals;
mod sessions;
mod tasks;
mod tool_calls;
mod tools;
mod usage;

use toolgate_events::{
    CallView,
    description::{Schemas, schemas_of},
};
use toolgate_security::{FieldError, ProblemDocument};
use utoipa::{
    OpenApi,
    openapi::{Header, Object, RefOr, Type},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::State;

/// The components that no endpoint names directly.
#[derive(OpenApi)]
#[openapi(components(schemas(ProblemDocument<'_>, FieldError)))]
struct Components;

/// Every endpoint of the query side, with its documentation. Fallbacks, health and the document itself are the binary's.
pub fn router(state: State) -> OpenApiRouter {
    endpoints().with_state(state)
}

/// The description of this API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    endpoints().into_openapi()
}

/// What the description refers to.
pub fn schemas() -> Schemas {
    schemas_of::<CallView>()
}

fn endpoints() -> OpenApiRouter<State> {
    let mut endpoints = routes();
    describe_positions(endpoints.get_openapi_mut());
    endpoints
}

/// Whatever takes `min_position` says in a header up to which position it was read.
fn describe_positions(document: &mut utoipa::openapi::OpenApi) {
    for operation in document.paths.paths.values_mut().filter_map(|path| path.get.as_mut()) {
        let takes_min_position = operation
            .parameters
            .iter()
            .flatten()
            .any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "min_position"));
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            if takes_min_position && (status.starts_with('2') || status == "304") {
                let mut header = Header::new(Object::with_type(Type::String));
                header.description = Some("The position of the tenant that the answer was read at".to_owned());
                response.headers.insert("Toolgate-Position".to_owned(), RefOr::T(header));
            }
        }
    }
}

fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::with_openapi(Components::openapi())
        .routes(routes!(tool_calls::get::get_tool_call))
        .routes(routes!(tool_calls::list::list_tool_calls))
        .routes(routes!(tool_calls::events::list_tool_call_events))
        .routes(routes!(events::subscribe_events))
        .routes(routes!(audit::list::list_audit))
        .routes(routes!(audit::export::export_audit))
        .routes(routes!(audit::replay::replay_audit))
        .routes(routes!(tools::list::list_tools))
        .routes(routes!(tools::get::get_tool))
        .routes(routes!(tasks::list_tasks))
        .routes(routes!(documents::list_documents))
        .routes(routes!(artifact::get_artifact))
        .routes(routes!(sessions::list::list_sessions))
        .routes(routes!(sessions::get::get_session))
        .routes(routes!(sessions::events::subscribe_session_events))
        .routes(routes!(usage::get_usage))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described() {
        let (router, document) = super::endpoints().split_for_parts();
        let described: BTreeSet<_> = document.paths.paths.keys().cloned().collect();
        assert_eq!(toolgate_security::paths_of(&router), described);
    }
}
