use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use cqrs_es::{EventEnvelope, Query, persist::SerializedEvent};
use serde::Serialize;
use serde_json::Value;
use toolgate_events::{CallId, Status, ToolCall, ToolCallEvent, canonical, serde_text::timestamp};

/// What a replay gathers.
#[derive(Debug, Default)]
pub struct Replaying {
    keeps_events: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    replayed: Replayed,
    /// Positions in the order they came.
    positions: Vec<u64>,
    /// What is not after this one has come already.
    after: u64,
    open: BTreeMap<CallId, ToolCall>,
    /// The error of the event that is being replayed, as it was recorded: its detail may be sealed.
    error: Option<Value>,
}

/// A replayed history.
#[derive(Debug, Default)]
pub struct Replayed {
    /// In order.
    pub events: Vec<ReplayedEvent>,
    pub calls: BTreeMap<CallId, Folded>,
}

/// One event as it was recorded, and what it is by now.
#[derive(Debug, Serialize)]
pub struct ReplayedEvent {
    pub position: String,
    pub call_id: String,
    pub event_type: String,
    /// As it was recorded.
    pub event_version: String,
    pub actor: String,
    pub occurred_at: String,
    /// In the current version; absent when nobody understands it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_understood: Option<String>,
}

/// A call as its events make it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Folded {
    pub tool: String,
    pub status: Status,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    pub cached: bool,
    pub stale: bool,
    /// SHA-256 over all of it.
    #[serde(skip)]
    pub digest: String,
}

impl Replaying {
    pub fn everything() -> Self {
        Self { keeps_events: true, inner: Mutex::default() }
    }

    /// Remembers of each call no more than a digest once it has ended, so that a large tenant fits.
    pub fn calls_alone() -> Self {
        Self::default()
    }

    pub fn query(self: Arc<Self>) -> impl Query<ToolCall> {
        Gather(self)
    }

    /// From here on the table has the events; those of the archive end at a position, and are counted no more.
    pub fn go_on_after(&self, position: u64) {
        let mut inner = self.lock();
        inner.positions.clear();
        inner.after = position;
    }

    /// How many of the events up to `last` came, and the last of those.
    pub fn counted(&self, last: u64) -> (u64, u64) {
        let inner = self.lock();
        let counted = || inner.positions.iter().filter(|position| **position <= last);
        (counted().count() as u64, counted().max().copied().unwrap_or_default())
    }

    pub fn take(&self) -> Replayed {
        let mut inner = self.lock();
        let mut replayed = std::mem::take(&mut inner.replayed);
        let open = std::mem::take(&mut inner.open);
        replayed.calls.extend(open.into_iter().filter_map(|(id, call)| Some((id, Folded::of(&call, None)?))));
        replayed
    }

    /// Before an event is brought to its current version.
    pub fn keep_recorded(&self, event: &SerializedEvent) {
        self.lock().error = event.payload.get("error").cloned();
    }

    pub fn pass_over(&self, event: &SerializedEvent, reason: String) {
        let mut inner = self.lock();
        let position = event.sequence as u64;
        inner.positions.push(position);
        if self.keeps_events && position > inner.after {
            let metadata = |key: &str| event.metadata.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            inner.replayed.events.push(ReplayedEvent {
                position: position.to_string(),
                call_id: event.aggregate_id.clone(),
                event_type: event.event_type.clone(),
                event_version: event.event_version.clone(),
                actor: metadata("actor"),
                occurred_at: in_utc(&metadata("occurred_at")),
                data: None,
                not_understood: Some(reason),
            });
        }
    }

    pub fn gather(&self, event: &EventEnvelope<ToolCall>) {
        let mut inner = self.lock();
        let position = event.sequence as u64;
        inner.positions.push(position);
        if position <= inner.after {
            return;
        }
        let error = inner.error.take().filter(|_| matches!(event.payload, ToolCallEvent::ToolCallFailed(_)));
        if self.keeps_events {
            let metadata = |key: &str| event.metadata.get(key).cloned().unwrap_or_default();
            let mut data = event.payload.data().ok();
            if let (Some(place), Some(error)) = (data.as_mut().and_then(|data| data.get_mut("error")), &error) {
                *place = error.clone();
            }
            inner.replayed.events.push(ReplayedEvent {
                position: position.to_string(),
                call_id: event.aggregate_id.clone(),
                event_type: metadata("event_type"),
                event_version: metadata("event_version"),
                actor: metadata("actor"),
                occurred_at: in_utc(&metadata("occurred_at")),
                data,
                not_understood: None,
            });
        }
        let Ok(id) = event.aggregate_id.parse::<CallId>() else { return };
        // Nothing follows an outcome.
        if inner.replayed.calls.contains_key(&id) {
            return;
        }
        let is_request = matches!(event.payload, ToolCallEvent::ToolCallRequested(_));
        // What comes before a request belongs to no call.
        if !is_request && !inner.open.contains_key(&id) {
            return;
        }
        let call = inner.open.entry(id).or_default();
        call.evolve(event.payload.clone());
        if !call.status.is_some_and(Status::is_final) {
            return;
        }
        let folded = Folded::of(call, error);
        inner.open.remove(&id);
        if let Some(mut folded) = folded {
            if !self.keeps_events {
                (folded.result, folded.error) = (None, None);
            }
            inner.replayed.calls.insert(id, folded);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A replay that panicked is counted, and found incomplete.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folded {
    fn of(call: &ToolCall, error: Option<Value>) -> Option<Self> {
        let (request, status) = (call.request.as_ref()?, call.status?);
        let digest = digest(status.as_str(), call.attempts.into(), call.result.as_ref(), error.as_ref(), call.cached, call.stale);
        Some(Self {
            tool: request.tool.clone(),
            status,
            attempts: call.attempts,
            result: call.result.clone(),
            error,
            cached: call.cached,
            stale: call.stale,
            digest,
        })
    }
}

/// One spelling, whatever time zone the database's session has, and wherever the row was.
fn in_utc(time: &str) -> String {
    let time = time.parse::<DateTime<Utc>>();
    time.map(|time| timestamp::format(&time)).unwrap_or_default()
}

/// What a call's row and the fold of its events must agree in.
pub fn digest(status: &str, attempts: i64, result: Option<&Value>, error: Option<&Value>, cached: bool, stale: bool) -> String {
    canonical::sha256_hex(&serde_json::json!([status, attempts, result, error, cached, stale]))
}

struct Gather(Arc<Replaying>);

impl Query<ToolCall> for Gather {
    // The trait is one of async-trait, written out.
    fn dispatch<'s, 'i, 'e, 'f>(
        &'s self,
        _aggregate_id: &'i str,
        events: &'e [EventEnvelope<ToolCall>],
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'f>>
    where
        's: 'f,
        'i: 'f,
        'e: 'f,
        Self: 'f,
    {
        events.iter().for_each(|event| self.0.gather(event));
        Box::pin(std::future::ready(()))
    }
}
