use toolgate_events::{CallId, CallLinks, CallView, Event, ToolCall, ToolCallEvent};

use super::events_of;
use crate::{Error, State, catch_up::Reading, queries::audit};

/// A call as its events up to the reading's position tell it; `None` before its request.
pub(crate) async fn call(state: &State, reading: Reading, call_id: CallId) -> Result<Option<CallView>, Error> {
    let (tenant, up_to) = (reading.tenant, reading.position);
    let mut rows = audit::of_call(reading.into(), &state.segments, call_id).await?;
    rows.retain(|row| row.position <= up_to);
    let (mut call, mut requested_at, mut finished_at, mut position) = (ToolCall::default(), None, None, 0);
    let mut is_outcome_erased = false;
    for past in events_of(state, tenant, rows).await? {
        let Event::ToolCall(event) = past.event else { continue };
        let is_outcome = event.is_outcome();
        // What comes before a request or after an outcome is a stranger's, and changes nothing in the projection either.
        if (requested_at.is_none() && !matches!(event, ToolCallEvent::ToolCallRequested(_))) || finished_at.is_some() {
            continue;
        }
        is_outcome_erased |= match &event {
            ToolCallEvent::ToolCallSucceeded(succeeded) => succeeded.erased,
            ToolCallEvent::ToolCallFailed(failed) => failed.erased,
            _ => false,
        };
        call.evolve(event);
        position = past.row.position;
        requested_at = requested_at.or(Some(past.row.occurred_at));
        finished_at = is_outcome.then_some(past.row.occurred_at);
    }
    let (Some(request), Some(status), Some(requested_at)) = (call.request, call.status, requested_at) else { return Ok(None) };
    Ok(Some(CallView {
        call_id,
        tool: request.tool,
        status,
        session_id: request.session_id,
        cached: call.result.is_some().then_some(call.cached),
        stale: call.stale.then_some(true),
        // Gone, and not null.
        result: call.result.filter(|_| !is_outcome_erased),
        erased: is_outcome_erased.then_some(true),
        error: call.error,
        attempts: call.attempts,
        requested_at,
        finished_at,
        position: Some(position.to_string()),
        links: CallLinks::of(call_id),
    }))
}
