//! From the live audit trail, tenant by tenant, what is archived of it first. What a row says is put into an envelope again and takes the way of an event from the
//! log, so that numbers and hashes are made anew and not copied.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sqlx::{FromRow, PgConnection, Row, postgres::PgRow};
use toolgate_events::{CallId, CallSubject, Envelope, Form, Lane, TenantId, TraceContext, audit::AuditRow};
use toolgate_store::{Archive, Received};
use uuid::Uuid;

use super::{Error, Progress, commit::commit, schema::LIVE, snapshot::Snapshot};
use crate::{
    ArchiveError, Environment,
    archiver::Listed,
    audit_row::{COLUMNS, TrailRow},
    batch::{self, Head},
    checkpoint, content, heads,
    projections::signed,
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
        let reached = "select coalesce(max(position), 0) from audit_event where tenant_id = $1";
        let reached: i64 = sqlx::query_scalar(reached).bind(tenant.0).fetch_one(&self.environment.database).await?;
        let mut position = reached.unsigned_abs();
        self.archived(live, tenant, &mut position).await?;
        loop {
            let rows = page(live, tenant, position, self.batch_size).await?;
            let is_last = rows.len() < self.batch_size;
            for row in rows {
                self.take(tenant, row, &mut position).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// What is listed in the archive beyond a position.
    async fn archived(&mut self, live: &mut PgConnection, tenant: TenantId, position: &mut u64) -> Result<(), Error> {
        let mut segments = Listed::of(tenant, live).await?;
        segments.retain(|segment| segment.name.last_position > *position);
        if segments.is_empty() {
            return Ok(());
        }
        let store = Archive::open(&self.environment.log).await.map_err(ArchiveError::from)?;
        for segment in segments {
            let reached = *position;
            let rows = segment.rows(&store).await?;
            for row in rows.into_iter().skip_while(|row| row.position <= reached) {
                self.take(tenant, Recorded { row, traceparent: None }, position).await?;
            }
        }
        Ok(())
    }

    /// The row after a position, which moves on to it.
    async fn take(&mut self, tenant: TenantId, recorded: Recorded, position: &mut u64) -> Result<(), Error> {
        *position += 1;
        if recorded.row.position != *position {
            return Err(Error::AuditGap { tenant: tenant.0, position: *position });
        }
        let call = CallId(recorded.row.aggregate_id);
        let subject = CallSubject::new(self.environment.log.partitions(), tenant, lane(), call);
        self.messages.push(recorded.into_message(subject));
        if self.messages.len() >= self.batch_size {
            self.flush().await?;
        }
        Ok(())
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

/// A row as it was recorded. Its trace is no part of the trail, and of what is archived there is none.
struct Recorded {
    row: AuditRow,
    traceparent: Option<String>,
}

impl FromRow<'_, PgRow> for Recorded {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self { row: TrailRow::from_row(row)?.0, traceparent: row.try_get("traceparent")? })
    }
}

impl Recorded {
    fn into_message(self, subject: CallSubject) -> Received {
        let Self { row, traceparent } = self;
        let (partition, stream_sequence) = (subject.partition, row.stream_sequence);
        let bytes = match &row.data {
            // What was no envelope is kept as its bytes.
            Value::Object(data) if row.event_type == "unreadable" && row.event_version == 0 => {
                data.get("bytes").and_then(Value::as_str).and_then(unhex)
            }
            _ => None,
        };
        let payload = bytes.unwrap_or_else(|| {
            let envelope = Envelope {
                event_id: row.event_id,
                event_type: row.event_type,
                event_version: row.event_version,
                tenant_id: subject.tenant_id,
                aggregate_type: row.aggregate_type,
                aggregate_id: CallId(row.aggregate_id),
                aggregate_sequence: row.aggregate_sequence,
                correlation_id: row.correlation_id,
                causation_id: row.causation_id,
                actor: row.actor,
                occurred_at: row.occurred_at,
                trace_context: traceparent.map(|traceparent| TraceContext { traceparent }),
                form: Form::Recorded,
                data: row.data,
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

async fn page(live: &mut PgConnection, tenant: TenantId, after: u64, limit: usize) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS}, traceparent from {LIVE}.audit_event where tenant_id = $1 and position > $2 order by position limit $3"
    ))
    .bind(tenant.0)
    .bind(signed(after))
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
