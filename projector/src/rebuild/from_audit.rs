//! From the live audit trail, tenant by tenant. What a row says is put into an envelope again and takes the way of an event from the
//! log, so that numbers and hashes are made anew and not copied.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use toolgate_events::{CallId, CallSubject, Envelope, Form, Lane, TenantId, TraceContext};
use toolgate_store::Received;
use uuid::Uuid;

use super::{Error, Progress, commit::commit, schema::LIVE, snapshot::Snapshot};
use crate::{
    Environment,
    batch::{self, Head},
    checkpoint, content, heads,
};

/// Projects everything that the snapshot's audit trail has; answers with how many events that took.
///
/// # Errors
/// [`Error`]; what was committed stays.
pub async fn forward(
    environment: &Environment,
    snapshot: &mut Snapshot,
    batch_size: usize,
    progress: &Progress,
) -> Result<u64, Error> {
    let targets = snapshot.checkpoints().clone();
    let partitions: Vec<_> = targets.keys().copied().collect();
    let known = checkpoint::load(&environment.database, &partitions).await?;
    for (partition, checkpoint) in &known {
        progress.begin(*partition, checkpoint.stream_sequence, targets[partition].stream_sequence);
        if checkpoint.stream_sequence > targets[partition].stream_sequence {
            return Err(Error::Ahead { partition: *partition });
        }
    }
    let mut run = Run { environment, progress, heads: HashMap::new(), messages: Vec::new(), batch_size, events: 0 };
    for tenant in tenants(snapshot.connection()).await? {
        run.tenant(snapshot.connection(), TenantId(tenant)).await?;
    }
    run.flush().await?;
    // Only now: rows are passed over by what their tenant has, and not by this.
    let moves: BTreeMap<_, _> = known
        .into_iter()
        .map(|(partition, known)| (partition, (known, checkpoint::Checkpoint { table: known.table, ..targets[&partition] })))
        .filter(|(_, (known, target))| known != target)
        .collect();
    commit(environment, &mut [], &moves).await?;
    for (partition, (_, target)) in moves {
        progress.reach(partition, target.stream_sequence);
    }
    Ok(run.events)
}

struct Run<'a> {
    environment: &'a Environment,
    progress: &'a Progress,
    heads: HashMap<TenantId, Head>,
    messages: Vec<Received>,
    batch_size: usize,
    events: u64,
}

impl Run<'_> {
    async fn tenant(&mut self, live: &mut PgConnection, tenant: TenantId) -> Result<(), Error> {
        let (lane, partitions) = (lane(), self.environment.log.partitions());
        let reached = "select coalesce(max(position), 0) from audit_event where tenant_id = $1";
        let mut position: i64 = sqlx::query_scalar(reached).bind(tenant.0).fetch_one(&self.environment.database).await?;
        loop {
            let rows = page(live, tenant, position, self.batch_size).await?;
            let is_last = rows.len() < self.batch_size;
            for row in rows {
                position += 1;
                if row.position != position {
                    let position = u64::try_from(position).unwrap_or_default();
                    return Err(Error::AuditGap { tenant: tenant.0, position });
                }
                let subject = CallSubject::new(partitions, tenant, lane.clone(), CallId(row.aggregate_id));
                self.messages.push(row.into_message(subject));
                if self.messages.len() >= self.batch_size {
                    self.flush().await?;
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let messages = std::mem::take(&mut self.messages);
        let (database, partitions) = (&self.environment.database, self.environment.log.partitions());
        // Each tenant comes once, so that of most nothing need be remembered.
        self.heads.clear();
        heads::load(database, partitions, &mut self.heads, &messages).await?;
        let opened = content::open(self.environment.log.keys(), &messages).await?;
        let mut events = Vec::with_capacity(messages.len());
        for (message, opened) in messages.iter().zip(&opened) {
            events.extend(batch::number(message, content::as_ref(opened), partitions, &mut self.heads));
        }
        let parked = commit(self.environment, &mut events, &BTreeMap::new()).await?;
        heads::note_parked(&mut self.heads, &events, parked);
        self.progress.count(messages.len());
        self.events += messages.len() as u64;
        Ok(())
    }
}

/// What a row is made of again.
#[derive(FromRow)]
struct Row {
    position: i64,
    stream_sequence: i64,
    event_id: Uuid,
    event_type: String,
    event_version: i32,
    aggregate_type: String,
    aggregate_id: Uuid,
    aggregate_sequence: i64,
    actor: String,
    occurred_at: DateTime<Utc>,
    correlation_id: Uuid,
    causation_id: Option<Uuid>,
    data: Value,
    traceparent: Option<String>,
}

impl Row {
    fn into_message(self, subject: CallSubject) -> Received {
        let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
        let (partition, stream_sequence) = (subject.partition, unsigned(self.stream_sequence));
        let bytes = match &self.data {
            // What was no envelope is kept as its bytes.
            Value::Object(data) if self.event_type == "unreadable" && self.event_version == 0 => {
                data.get("bytes").and_then(Value::as_str).and_then(unhex)
            }
            _ => None,
        };
        let payload = bytes.unwrap_or_else(|| {
            let envelope = Envelope {
                event_id: self.event_id,
                event_type: self.event_type,
                event_version: u32::try_from(self.event_version).unwrap_or_default(),
                tenant_id: subject.tenant_id,
                aggregate_type: self.aggregate_type,
                aggregate_id: CallId(self.aggregate_id),
                aggregate_sequence: unsigned(self.aggregate_sequence),
                correlation_id: self.correlation_id,
                causation_id: self.causation_id,
                actor: self.actor,
                occurred_at: self.occurred_at,
                trace_context: self.traceparent.map(|traceparent| TraceContext { traceparent }),
                form: Form::Recorded,
                data: self.data,
            };
            // An envelope can always be written.
            envelope.encode().unwrap_or_default()
        });
        Received { partition, stream_sequence, subject: subject.to_string(), payload: payload.into() }
    }
}

/// The trail does not say in which lane a call was; no row depends on it.
fn lane() -> Lane {
    Lane::refusal()
}

/// Every tenant that has rows, found by jumping from one to the next.
async fn tenants(live: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(&format!(
        "with recursive t as (
             (select tenant_id from {LIVE}.audit_event order by tenant_id limit 1)
             union all
             select (select a.tenant_id from {LIVE}.audit_event a where a.tenant_id > t.tenant_id order by a.tenant_id limit 1)
             from t where t.tenant_id is not null
         )
         select tenant_id from t where tenant_id is not null"
    ))
    .fetch_all(live)
    .await
}

async fn page(live: &mut PgConnection, tenant: TenantId, after: i64, limit: usize) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select position, stream_sequence, event_id, event_type, event_version, aggregate_type, aggregate_id, aggregate_sequence,
             actor, occurred_at, correlation_id, causation_id, data, traceparent
         from {LIVE}.audit_event where tenant_id = $1 and position > $2 order by position limit $3"
    ))
    .bind(tenant.0)
    .bind(after)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(live)
    .await
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_hexadecimal() {
        assert_eq!(unhex("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!(unhex(""), Some(Vec::new()));
        for bad in ["0", "0g", "0é"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
