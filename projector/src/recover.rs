//! The events of a partition as the audit trail has them, for a log that lost them. Nothing is appended here.

use std::collections::{BTreeMap, HashMap};

use sqlx::{FromRow, PgPool, Row};
use toolgate_events::{
    CallId, CallSubject, Envelope, Form, Lane, Partition, RefusalEvent, TenantId, TraceContext, audit::AuditRow,
};
use toolgate_store::{Archive, ArtifactError, Log, Lost, LostContent, SegmentName, archive};
use uuid::Uuid;

use crate::{
    PROJECTION,
    audit_row::{COLUMNS, TrailRow},
    integrity,
    projections::signed,
};

/// Rows read at once.
const SLICE: usize = 500;

/// What one partition has lost of what was projected from it.
pub struct Recovery {
    database: PgPool,
    partition: Partition,
    /// Where each event's row is, by its place in the log.
    places: BTreeMap<u64, Place>,
    /// Places of which no tenant knows anything are counted as well.
    next: u64,
    last: u64,
    lanes: HashMap<(TenantId, Uuid), Lane>,
}

enum Place {
    Table(TenantId, u64),
    /// Kept whole: segments lie by tenant, and the log does not.
    Archived(TenantId, Box<AuditRow>),
}

/// Why the events cannot be had from the trail.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the log: {0}")]
    Log(#[from] toolgate_store::LogError),
    #[error("the log: {0}")]
    Load(#[from] toolgate_store::LoadError),
    #[error("the archive: {0}")]
    Archive(#[from] ArtifactError),
    #[error("the segment {0} of the archive is damaged")]
    Segment(SegmentName),
    #[error("event {0} of the log is not the one that was projected: take the stream away and make it anew first")]
    Diverged(u64),
    #[error(
        "the audit row at position {position} of tenant {tenant} does not have the hash of its content: repair the trail first"
    )]
    Row { tenant: TenantId, position: u64 },
    #[error("the audit row of event {0} cannot be made an event again")]
    Subject(u64),
}

impl Recovery {
    /// Looks where the log of a partition ends, and what the trail has beyond that.
    ///
    /// # Errors
    /// [`RecoverError`]
    pub async fn begin(log: &Log, database: PgPool, partition: Partition) -> Result<Self, RecoverError> {
        let end = log.partition_state(partition).await?.last_sequence;
        let last: Option<i64> =
            sqlx::query_scalar("select stream_sequence from projection_checkpoint where projection = $1 and partition = $2")
                .bind(PROJECTION)
                .bind(i32::from(partition.0))
                .fetch_optional(&database)
                .await?;
        let last = last.map_or(0, i64::unsigned_abs);
        let mut recovery = Self { database, partition, places: BTreeMap::new(), next: end + 1, last, lanes: HashMap::new() };
        recovery.index_table(log).await?;
        recovery.index_archive(log).await?;
        recovery.check_end(log, end).await?;
        recovery.places = recovery.places.split_off(&recovery.next);
        Ok(recovery)
    }

    /// How many events are still to be put back.
    pub fn remaining(&self) -> u64 {
        (self.last + 1).saturating_sub(self.next)
    }

    /// The next events in the order of the log; none when all are there.
    ///
    /// # Errors
    /// [`RecoverError`]
    pub async fn next(&mut self) -> Result<Vec<Lost>, RecoverError> {
        let until = self.last.min(self.next + SLICE as u64 - 1);
        let rows = self.rows(self.next, until).await?;
        let mut lost = Vec::new();
        for stream_sequence in self.next..=until {
            lost.push(match rows.get(&stream_sequence) {
                Some((tenant, row, traceparent)) => self.lost(*tenant, row, traceparent.clone()).await?,
                None => Lost {
                    stream_sequence,
                    subject: Log::filler(self.partition, stream_sequence),
                    content: LostContent::Bytes(Vec::new()),
                },
            });
        }
        self.next = until + 1;
        Ok(lost)
    }

    async fn index_table(&mut self, log: &Log) -> Result<(), RecoverError> {
        for tenant in integrity::tenants(&self.database, self.partition, log.partitions()).await? {
            let rows: Vec<(i64, i64)> = sqlx::query_as("select stream_sequence, position from audit_event where tenant_id = $1")
                .bind(tenant.0)
                .fetch_all(&self.database)
                .await?;
            let place =
                |(sequence, position): (i64, i64)| (sequence.unsigned_abs(), Place::Table(tenant, position.unsigned_abs()));
            self.places.extend(rows.into_iter().map(place));
        }
        Ok(())
    }

    async fn index_archive(&mut self, log: &Log) -> Result<(), RecoverError> {
        let segments: Vec<(Uuid, i64, i64, i64)> =
            sqlx::query_as("select tenant_id, first_position, last_position, size from audit_segment")
                .fetch_all(&self.database)
                .await?;
        let of_partition = |tenant: &Uuid| Partition::of(TenantId(*tenant), log.partitions()) == self.partition;
        let segments: Vec<_> = segments.into_iter().filter(|(tenant, ..)| of_partition(tenant)).collect();
        if segments.is_empty() {
            return Ok(());
        }
        let store = Archive::open(log).await?;
        for (tenant, first, last, size) in segments {
            let tenant = TenantId(tenant);
            let name = SegmentName { tenant, first_position: first.unsigned_abs(), last_position: last.unsigned_abs() };
            let bytes = store.get(name, size.unsigned_abs() + 1).await?;
            let rows = archive::unpack(&bytes, name.last_position - name.first_position + 1);
            for row in rows.map_err(|_| RecoverError::Segment(name))? {
                if row.stream_sequence + 1 >= self.next {
                    self.places.insert(row.stream_sequence, Place::Archived(tenant, Box::new(row)));
                }
            }
        }
        Ok(())
    }

    /// What is put back continues what is there.
    async fn check_end(&self, log: &Log, end: u64) -> Result<(), RecoverError> {
        let Some((_, row, _)) = self.rows(end, end).await?.remove(&end) else { return Ok(()) };
        let found = log.message_at(self.partition, end).await?;
        let found = found.and_then(|message| Envelope::decode(&message.payload).ok());
        // What nobody could read has an id that its place gives it.
        let is_it = is_unreadable(&row) || found.is_some_and(|found| found.event_id == row.event_id);
        if is_it { Ok(()) } else { Err(RecoverError::Diverged(end)) }
    }

    /// Rows by their place, each with the hash of its content.
    async fn rows(&self, from: u64, until: u64) -> Result<HashMap<u64, (TenantId, AuditRow, Option<String>)>, RecoverError> {
        let (mut tenants, mut positions, mut rows) = (Vec::new(), Vec::new(), HashMap::new());
        for (sequence, place) in self.places.range(from..until + 1) {
            match place {
                Place::Table(tenant, position) => {
                    tenants.push(tenant.0);
                    positions.push(signed(*position));
                }
                Place::Archived(tenant, row) => {
                    rows.insert(*sequence, (*tenant, (**row).clone(), None));
                }
            }
        }
        let select = format!(
            "select tenant_id, traceparent, {COLUMNS} from audit_event
             where (tenant_id, position) in (select * from unnest($1::uuid[], $2::bigint[]))"
        );
        for row in sqlx::query(&select).bind(tenants).bind(positions).fetch_all(&self.database).await? {
            let TrailRow(audit) = TrailRow::from_row(&row)?;
            rows.insert(audit.stream_sequence, (TenantId(row.try_get("tenant_id")?), audit, row.try_get("traceparent")?));
        }
        for (tenant, row, _) in rows.values() {
            if row.hash != row.expected_hash() {
                return Err(RecoverError::Row { tenant: *tenant, position: row.position });
            }
        }
        Ok(rows)
    }

    async fn lost(&mut self, tenant: TenantId, row: &AuditRow, traceparent: Option<String>) -> Result<Lost, RecoverError> {
        let lane = self.lane(tenant, row).await?;
        let subject = CallSubject { partition: self.partition, tenant_id: tenant, lane, call_id: CallId(row.aggregate_id) };
        let content = if is_unreadable(row) {
            let bytes = row.data["bytes"].as_str().and_then(from_hex);
            LostContent::Bytes(bytes.ok_or(RecoverError::Subject(row.stream_sequence))?)
        } else {
            LostContent::Event(Box::new(Envelope {
                event_id: row.event_id,
                event_type: row.event_type.clone(),
                event_version: row.event_version,
                tenant_id: tenant,
                aggregate_type: row.aggregate_type.clone(),
                aggregate_id: CallId(row.aggregate_id),
                aggregate_sequence: row.aggregate_sequence,
                correlation_id: row.correlation_id,
                causation_id: row.causation_id,
                actor: row.actor.clone(),
                occurred_at: row.occurred_at,
                trace_context: traceparent.map(|traceparent| TraceContext { traceparent }),
                data: row.data.clone(),
                form: Form::Recorded,
            }))
        };
        Ok(Lost { stream_sequence: row.stream_sequence, subject: subject.to_string(), content })
    }

    /// The lane is part of the subject and of no row of the trail: the call's own row has it, or its request. One that is known to
    /// nobody gets a lane that no worker serves.
    async fn lane(&mut self, tenant: TenantId, row: &AuditRow) -> Result<Lane, RecoverError> {
        if row.aggregate_type == RefusalEvent::AGGREGATE_TYPE {
            return Ok(Lane::refusal());
        }
        let call = (tenant, row.aggregate_id);
        if let Some(lane) = self.lanes.get(&call) {
            return Ok(lane.clone());
        }
        let of_row: Option<String> = sqlx::query_scalar("select lane from tool_call where tenant_id = $1 and call_id = $2")
            .bind(tenant.0)
            .bind(row.aggregate_id)
            .fetch_optional(&self.database)
            .await?;
        let of_request = || row.data.get("lane").and_then(|lane| lane.as_str()).map(str::to_owned);
        let lane = of_row.or_else(of_request).unwrap_or_else(|| "unknown".to_owned());
        let lane = Lane::new(lane).map_err(|_| RecoverError::Subject(row.stream_sequence))?;
        self.lanes.insert(call, lane.clone());
        Ok(lane)
    }
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("partition", &self.partition).field("next", &self.next).finish_non_exhaustive()
    }
}

fn is_unreadable(row: &AuditRow) -> bool {
    row.event_type == "unreadable" && row.event_version == 0
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_hexadecimal() {
        assert_eq!(from_hex("00ff0a"), Some(vec![0, 255, 10]));
        assert_eq!(from_hex(""), Some(vec![]));
        for wrong in ["0", "0g", "é0"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
