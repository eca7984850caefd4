//! One file per endpoint, and the request headers they share.

pub mod agent_stream;
pub mod basehub_webhook;
pub mod cancel_tool_call;
mod data_subject;
mod idempotency_key;
mod own_token;
mod prefer;
mod refusals;
pub mod request_tool_call;

use toolgate_events::{CallId, CallLinks, CallView};
use toolgate_security::Described;

use crate::commands::CallState;

/// For the documentation, which takes no generic type.
type CallSchema = Described<CallView>;
type BodySchema = Described<request_tool_call::Body>;

/// The call as both APIs show it. Its position is the projector's to say.
fn view(call_id: CallId, state: CallState) -> Option<CallView> {
    let CallState { call, requested_at, finished_at } = state;
    let request = call.request?;
    Some(CallView {
        call_id,
        tool: request.tool,
        status: call.status?,
        session_id: request.session_id,
        cached: call.result.is_some().then_some(call.cached),
        stale: call.stale.then_some(true),
        erased: call.erased.then_some(true),
        result: call.result,
        error: call.error,
        attempts: call.attempts,
        requested_at,
        finished_at,
        position: None,
        links: CallLinks::of(call_id),
    })
}
