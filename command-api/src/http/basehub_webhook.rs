use axum::extract::State;
use http::{HeaderMap, HeaderName, StatusCode};
use toolgate_security::{JsonBytes, Problem, ProblemKind};
use toolgate_store::Invalidated;

const SIGNATURE: HeaderName = HeaderName::from_static("x-basehub-webhook-signature");
/// Whose results a change of the repository makes out of date.
const TOOL: &str = "basehub.query";

/// Say that the content of the BaseHub repository has changed
///
/// For the webhook of a workflow block in the repository. What was read before is read anew by the next call. The signature is the
/// HMAC-SHA256 of the body, in hex, under the secret of the webhook; a bearer token opens nothing here. The same message twice does
/// the same as once.
#[utoipa::path(
    post,
    path = "/v1/webhooks/basehub",
    operation_id = "receive_basehub_webhook",
    tag = "webhooks",
    request_body(content = Object, description = "What BaseHub sends; only its signature matters"),
    params(("X-BaseHub-Webhook-Signature" = String, Header, description = "HMAC-SHA256 of the body, 64 hexadecimal digits")),
    responses(
        (status = 204, description = "Told to all workers"),
        (status = 400, description = "The body ended early or came too slowly", content_type = "application/problem+json"),
        (status = 401, description = "The signature does not hold", content_type = "application/problem+json"),
        (status = 404, description = "No secret is set up for such messages", content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", content_type = "application/problem+json"),
        (status = 415, description = "The body is not application/json", content_type = "application/problem+json"),
        (status = 503, description = "Not told; send it again", content_type = "application/problem+json"),
    ),
    security(()),
)]
pub async fn handler(
    State(state): State<crate::State>,
    headers: HeaderMap,
    body: Result<JsonBytes, Problem>,
) -> Result<StatusCode, Problem> {
    let secret = state.basehub_webhook.as_ref().ok_or_else(Problem::not_found)?;
    let JsonBytes(body) = body?;
    let mut signatures = headers.get_all(SIGNATURE).iter();
    let is_signed = match (signatures.next(), signatures.next()) {
        (Some(signature), None) => signature.to_str().is_ok_and(|signature| secret.has_signed(&body, signature)),
        _ => false,
    };
    if !is_signed {
        return Err(Problem::new(ProblemKind::InvalidSignature, "sign the body with the secret of the webhook"));
    }
    let again = || Problem::unavailable("the message could not be passed on; send it again");
    // Without a connection it would only be kept until there is one.
    if !state.log.is_connected() {
        return Err(again());
    }
    // Dying here, it has not answered, and BaseHub sends it again.
    state.log.announce_invalidated(&Invalidated { tool: TOOL.to_owned(), tenant_id: None }).await.map_err(|error| {
        tracing::warn!(error = %error, "a change of the BaseHub repository could not be announced");
        again()
    })?;
    Ok(StatusCode::NO_CONTENT)
}
