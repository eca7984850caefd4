use toolgate_events::{CallId, Envelope, TenantId, TraceContext, tool_call::Command};
use toolgate_store::{AppendError, Expect, fold};

use super::{APPEND_PATIENCE, CallState, Error};
use crate::State;

/// How often a lost race is run again before the caller is asked to.
const MAX_RACES: usize = 5;

/// An authorised wish to call something off.
#[derive(Debug)]
pub struct CancelToolCall {
    pub tenant_id: TenantId,
    pub call_id: CallId,
    pub principal: String,
    pub trace_context: TraceContext,
}

/// Cancels a call that has no outcome yet.
///
/// # Errors
/// [`Error`]: not requested (404), already finished (409).
pub async fn handle(state: &State, command: CancelToolCall) -> Result<CallState, Error> {
    let CancelToolCall { tenant_id, call_id, principal, trace_context } = command;
    let not_requested = toolgate_events::tool_call::Error::NotRequested;
    let subject = state.log.locate(tenant_id, call_id).await?.ok_or(not_requested.clone())?;
    for _ in 0..MAX_RACES {
        let recorded = state.log.load(&subject).await?;
        let (Some(first), Some(last)) = (recorded.first(), recorded.last()) else { return Err(not_requested.into()) };
        let cancel = Command::Cancel { principal: principal.clone(), requested_event_id: first.envelope.event_id };
        let mut call = fold(&recorded)?;
        let event = call.decide(cancel)?;
        let stamp = state.clock.stamp(principal.clone(), Some(first.envelope.event_id), Some(trace_context.clone()));
        let finished_at = Some(stamp.occurred_at);
        let envelope = Envelope::seal(&event, tenant_id, call_id, last.envelope.aggregate_sequence + 1, stamp)?;
        match state.log.append(&subject, &envelope, Expect(last.stream_sequence), None, APPEND_PATIENCE).await {
            Ok(_) => {
                call.evolve(event);
                return Ok(CallState { call, requested_at: first.envelope.occurred_at, finished_at });
            }
            // A worker was faster: what it recorded decides.
            Err(AppendError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppendError::Conflict.into())
}
