use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use toolgate_events::{
    CallId, Event, Session, ToolCallEvent,
    tools::{DocumentRenderOutput, TaskCreateOutput},
};
use uuid::Uuid;

use super::{MAX_EVENTS, Past, each_event};
use crate::{
    Error, State,
    catch_up::Reading,
    queries::{
        audit::{AuditFilter, Stretch},
        sessions::{self, Failure, LISTED, Made, Told},
        tool_calls,
    },
};

/// A session as its events up to the reading's position tell it; `None` before its first.
///
/// # Errors
/// [`Error::AsOfTooMuch`], [`Error::AsOfTooLong`]
pub(crate) async fn session(state: &State, mut reading: Reading, id: &str) -> Result<Option<Told>, Error> {
    let (tenant, up_to) = (reading.tenant, reading.position);
    // Of the session as it stands only its ends are taken: what lies outside of them need not be read.
    let Some(now) = sessions::find(&mut reading, id).await? else { return Ok(None) };
    let calls = tool_calls::of_session_up_to(&mut reading, id, up_to, MAX_EVENTS + 1).await?;
    reading.end(()).await?;
    let stretch = Stretch { after: now.first_position - 1, up_to: now.position.min(up_to) };
    let filter = AuditFilter { calls: Some(Arc::new(calls)), ..AuditFilter::default() };
    let mut told = Told::default();
    let mut statuses = HashMap::new();
    each_event(state, tenant, &filter, stretch, |past| {
        let Event::ToolCall(event) = &past.event else { return };
        let call = past.row.aggregate_id;
        let before = statuses.get(&call).copied();
        let after = told.session.add(past.row.position, past.row.occurred_at, before, event);
        if after == before {
            return;
        }
        statuses.extend(after.map(|after| (call, after)));
        list(&mut told, &past, event);
    })
    .await?;
    Ok(Some(told).filter(|told| told.session.first_position > 0))
}

/// Lists what an event that took effect says of failures and of what was made.
fn list(told: &mut Told, past: &Past, event: &ToolCallEvent) {
    let (call_id, at, position) = (CallId(past.row.aggregate_id), past.row.occurred_at, past.row.position);
    match event {
        ToolCallEvent::ToolCallFailed(failed) => {
            let (kind, title) = (failed.error.kind.clone(), failed.error.title.clone());
            push(&mut told.errors, Failure { call_id, tool: failed.tool.clone(), kind, title, at, position });
        }
        ToolCallEvent::ToolCallSucceeded(succeeded) if !succeeded.cached => {
            let made = |id: Uuid| Made { id, call_id, at, position };
            match succeeded.tool.as_str() {
                Session::MAKES_ARTIFACTS => {
                    let output = serde_json::from_value::<DocumentRenderOutput>(succeeded.result.clone());
                    output.into_iter().for_each(|output| push(&mut told.artifacts, made(output.artifact_id)));
                }
                Session::MAKES_TASKS => {
                    let output = serde_json::from_value::<TaskCreateOutput>(succeeded.result.clone());
                    output.into_iter().for_each(|output| push(&mut told.tasks, made(output.task_id)));
                }
                _ => {}
            }
        }
        _ => {}
    }
}

/// Newest first, and no more than are shown.
fn push<T>(list: &mut VecDeque<T>, item: T) {
    list.push_front(item);
    list.truncate(LISTED);
}
