//! The floor of intake: a bare axum handler that verifies the same token and publishes the same bytes to the same log, in a
//! process of its own. Everything else that toolgate does with a request is missing here.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    routing::{get, post},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use toolgate_events::{CallId, CallSubject, Lane, TenantId};
use toolgate_store::{Clock, bare::Bare};
use uuid::Uuid;

use super::{
    Error,
    child::Floor,
    template::Template,
    tenants::{AUDIENCE, ISSUER},
};

const LANE: &str = "bench-intake";

struct Bench {
    key: DecodingKey,
    validation: Validation,
    bare: Bare,
    lane: Lane,
    template: Template,
    clock: Clock,
}

#[derive(Deserialize)]
struct Claims {
    tenant_id: Uuid,
}

/// Serves until `shutdown`.
pub async fn serve(floor: Floor, shutdown: CancellationToken) -> Result<(), Error> {
    let Floor { directory, listen, issuer, bare, clock } = floor;
    let jwks = issuer.jwks();
    let key = jwks.keys.first().ok_or(Error::Token).and_then(|jwk| DecodingKey::from_jwk(jwk).map_err(|_| Error::Token))?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    let template = Template::load(&directory.join(super::INTAKE_EVENT))?;
    let lane = Lane::new(LANE).map_err(|error| Error::Bug(error.to_string()))?;
    let bench = Arc::new(Bench { key, validation, bare, lane, template, clock });
    let routes =
        Router::new().route("/v1/tool-calls", post(accept)).route("/healthz", get(|| async { "ok\n" })).with_state(bench);
    let listener = TcpListener::bind(listen).await.map_err(|error| Error::Http(error.to_string()))?;
    let serving = axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned());
    serving.await.map_err(|error| Error::Http(error.to_string()))
}

async fn accept(State(bench): State<Arc<Bench>>, headers: HeaderMap, _body: Bytes) -> (StatusCode, String) {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let verified = token.and_then(|token| decode::<Claims>(token, &bench.key, &bench.validation).ok());
    let Some(verified) = verified else { return (StatusCode::UNAUTHORIZED, String::new()) };
    let (tenant, call) = (TenantId(verified.claims.tenant_id), CallId(bench.clock.new_id()));
    let subject = CallSubject::new(bench.bare.partitions(), tenant, bench.lane.clone(), call);
    let event = bench.template.fill(&subject, bench.clock.new_id());
    match bench.bare.publish(&subject, event).await {
        Ok(_) => (StatusCode::ACCEPTED, call.to_string()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}
