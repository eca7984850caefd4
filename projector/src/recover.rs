//! The events of a partition as the audit trail has them, for a log that lost them. Nothing is appended here.
//!
//! What is put back becomes the truth, so the trail must prove itself first: each tenant's rows are read from the first on, in the
//! archive and in the table, and must follow each other without a gap.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{FromRow, PgPool, Row};
use toolgate_events::{
    CallId, CallSubject, Envelope, ErasureEvent, Lane, Partition, RefusalEvent, TenantId,
    audit::{self, AuditRow, ChainError},
};
use toolgate_store::{Archive, ArtifactError, Log, Lost, LostContent, SegmentName, archive};
use uuid::Uuid;

use crate::{
    audit_row::{self, COLUMNS, Recorded, TrailRow, is_unreadable, recorded},
    checkpoint,
    projections::signed,
};

/// Rows read at once.
const SLICE: usize = 500;
/// Segments whose rows are in memory at once.
const MAX_SEGMENTS: usize = 16;

/// What one partition has lost of what was projected from it.
pub struct Recovery {
    database: PgPool,
    partition: Partition,
    /// `None` where nothing of the partition is archived.
    archive: Option<Archive>,
    /// Where each event's row is, by its place in the log.
    places: BTreeMap<u64, Place>,
    /// Places of which no tenant knows anything are counted as well.
    next: u64,
    last: u64,
    lanes: HashMap<(TenantId, Uuid), Lane>,
    /// Rows by position. Segments lie by tenant, and the log does not.
    segments: HashMap<SegmentName, BTreeMap<u64, AuditRow>>,
}

#[derive(Clone, Copy)]
struct Place {
    tenant: TenantId,
    position: u64,
    /// With its size, where the row has left the table.
    segment: Option<(SegmentName, u64)>,
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
    #[error("the audit trail of tenant {tenant} does not verify: {source}; repair the trail first")]
    Chain { tenant: TenantId, source: ChainError },
    #[error("the audit trail of tenant {tenant} ends with the archive, which never has the newest row: repair the trail first")]
    NoRows { tenant: TenantId },
    #[error("rows of the tenants {} and {} say that they are of event {stream_sequence}: repair the trail first", tenants[0], tenants[1])]
    Twice { stream_sequence: u64, tenants: [TenantId; 2] },
    #[error("the trail has no row of event {0}, which was projected last: repair the trail first")]
    End(u64),
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
        let checkpoints = checkpoint::read(&mut *database.acquire().await?, &[partition]).await?;
        let checkpoint = checkpoints.get(&partition).copied();
        let last = checkpoint.map_or(0, |checkpoint| checkpoint.stream_sequence);
        let mut recovery = Self {
            database,
            partition,
            archive: None,
            places: BTreeMap::new(),
            next: end + 1,
            last,
            lanes: HashMap::new(),
            segments: HashMap::new(),
        };
        recovery.index(log).await?;
        recovery.check_end(log, end).await?;
        recovery.places = recovery.places.split_off(&recovery.next);
        if let Some(event_id) = checkpoint.and_then(|checkpoint| checkpoint.event_id).filter(|_| recovery.remaining() > 0) {
            let newest = recovery.rows(last, last).await?.remove(&last);
            if newest.is_none_or(|(_, row, _)| row.event_id != event_id) {
                return Err(RecoverError::End(last));
            }
        }
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
        let mut rows = self.rows(self.next, until).await?;
        let mut lost = Vec::new();
        for stream_sequence in self.next..=until {
            lost.push(match rows.remove(&stream_sequence) {
                Some((tenant, row, traceparent)) => self.lost(tenant, row, traceparent).await?,
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

    async fn index(&mut self, log: &Log) -> Result<(), RecoverError> {
        let mut tenants: BTreeSet<TenantId> = audit_row::tenants(&self.database, "audit_event").await?.into_iter().collect();
        tenants.extend(audit_row::tenants(&self.database, "audit_segment").await?);
        tenants.retain(|tenant| Partition::of(*tenant, log.partitions()) == self.partition);
        for tenant in tenants {
            let genesis = (0, audit::genesis_hash(tenant));
            let archived = self.index_archive(log, tenant, genesis).await?;
            self.index_table(tenant, archived).await?;
        }
        Ok(())
    }

    /// Follows a tenant's chain through its segments; answers with where they end.
    async fn index_archive(
        &mut self,
        log: &Log,
        tenant: TenantId,
        mut link: (u64, String),
    ) -> Result<(u64, String), RecoverError> {
        let segments: Vec<(i64, i64, i64)> = sqlx::query_as(
            "select first_position, last_position, size from audit_segment where tenant_id = $1 order by first_position",
        )
        .bind(tenant.0)
        .fetch_all(&self.database)
        .await?;
        for (first, last, size) in segments {
            if self.archive.is_none() {
                self.archive = Some(Archive::open(log).await?);
            }
            let name = SegmentName { tenant, first_position: first.unsigned_abs(), last_position: last.unsigned_abs() };
            let segment = (name, size.unsigned_abs());
            for row in self.unpack(segment).await? {
                link = self.index_row(tenant, link, &row, Some(segment))?;
            }
        }
        Ok(link)
    }

    /// The same through the table, from where the archive ends.
    async fn index_table(&mut self, tenant: TenantId, mut link: (u64, String)) -> Result<(), RecoverError> {
        let select =
            format!("select {COLUMNS} from audit_event where tenant_id = $1 and position > $2 order by position limit $3");
        let archived = link.0;
        loop {
            let rows: Vec<TrailRow> = sqlx::query_as(&select)
                .bind(tenant.0)
                .bind(signed(link.0))
                .bind(signed(SLICE as u64))
                .fetch_all(&self.database)
                .await?;
            for TrailRow(row) in &rows {
                link = self.index_row(tenant, link, row, None)?;
            }
            if rows.len() < SLICE {
                return if link.0 > archived { Ok(()) } else { Err(RecoverError::NoRows { tenant }) };
            }
        }
    }

    /// Checks that a row continues the chain, and notes where it is, if it is needed.
    fn index_row(
        &mut self,
        tenant: TenantId,
        (position, hash): (u64, String),
        row: &AuditRow,
        segment: Option<(SegmentName, u64)>,
    ) -> Result<(u64, String), RecoverError> {
        audit::verify((position, &hash), row).map_err(|source| RecoverError::Chain { tenant, source })?;
        let (stream_sequence, place) = (row.stream_sequence, Place { tenant, position: row.position, segment });
        // The last event that the log has is compared with its row.
        if stream_sequence + 1 >= self.next
            && let Some(other) = self.places.insert(stream_sequence, place)
        {
            return Err(RecoverError::Twice { stream_sequence, tenants: [other.tenant, tenant] });
        }
        Ok((row.position, row.hash.clone()))
    }

    async fn unpack(&self, (name, size): (SegmentName, u64)) -> Result<Vec<AuditRow>, RecoverError> {
        let damaged = RecoverError::Segment(name);
        let Some(store) = &self.archive else { return Err(damaged) };
        let Some(count) = (name.last_position + 1).checked_sub(name.first_position) else { return Err(damaged) };
        let bytes = store.get(name, size + 1).await?;
        archive::unpack(&bytes, count).map_err(|_| damaged)
    }

    /// What is put back continues what is there.
    async fn check_end(&mut self, log: &Log, end: u64) -> Result<(), RecoverError> {
        let Some((_, row, _)) = self.rows(end, end).await?.remove(&end) else { return Ok(()) };
        let found = log.message_at(self.partition, end).await?;
        let found = found.and_then(|message| Envelope::decode(&message.payload).ok());
        // What nobody could read has an id that its place gives it.
        let is_it = is_unreadable(&row) || found.is_some_and(|found| found.event_id == row.event_id);
        if is_it { Ok(()) } else { Err(RecoverError::Diverged(end)) }
    }

    /// Rows by their place, each checked once more: between the look and now, they may have changed.
    async fn rows(&mut self, from: u64, until: u64) -> Result<HashMap<u64, (TenantId, AuditRow, Option<String>)>, RecoverError> {
        let (mut tenants, mut positions, mut rows) = (Vec::new(), Vec::new(), HashMap::new());
        let places: Vec<_> = self.places.range(from..until + 1).map(|(sequence, place)| (*sequence, *place)).collect();
        for (sequence, Place { tenant, position, segment }) in places {
            if let Some(segment) = segment {
                let row = self.archived(segment, position).await?;
                rows.insert(sequence, (tenant, row, None));
            } else {
                tenants.push(tenant.0);
                positions.push(signed(position));
            }
        }
        let select = format!(
            "select tenant_id, traceparent, {COLUMNS} from audit_event
             where (tenant_id, position) in (select * from unnest($1::uuid[], $2::bigint[]))"
        );
        let count = rows.len() + positions.len();
        for row in sqlx::query(&select).bind(tenants).bind(positions).fetch_all(&self.database).await? {
            let TrailRow(audit) = TrailRow::from_row(&row)?;
            rows.insert(audit.stream_sequence, (TenantId(row.try_get("tenant_id")?), audit, row.try_get("traceparent")?));
        }
        if rows.len() != count {
            return Err(sqlx::Error::RowNotFound.into());
        }
        for (tenant, row, _) in rows.values() {
            if row.hash != row.expected_hash() {
                let source = ChainError::Changed { position: row.position };
                return Err(RecoverError::Chain { tenant: *tenant, source });
            }
        }
        Ok(rows)
    }

    async fn archived(&mut self, segment: (SegmentName, u64), position: u64) -> Result<AuditRow, RecoverError> {
        let name = segment.0;
        if !self.segments.contains_key(&name) {
            let rows = self.unpack(segment).await?;
            if self.segments.len() >= MAX_SEGMENTS {
                self.segments.clear();
            }
            self.segments.insert(name, rows.into_iter().map(|row| (row.position, row)).collect());
        }
        self.segments.get(&name).and_then(|rows| rows.get(&position)).cloned().ok_or(RecoverError::Segment(name))
    }

    async fn lost(&mut self, tenant: TenantId, row: AuditRow, traceparent: Option<String>) -> Result<Lost, RecoverError> {
        let stream_sequence = row.stream_sequence;
        let lane = self.lane(tenant, &row).await?;
        let subject = CallSubject { partition: self.partition, tenant_id: tenant, lane, call_id: CallId(row.aggregate_id) };
        let content = match recorded(tenant, row, traceparent).ok_or(RecoverError::Subject(stream_sequence))? {
            Recorded::Event(envelope) => LostContent::Event(envelope),
            Recorded::Bytes(bytes) => LostContent::Bytes(bytes),
        };
        Ok(Lost { stream_sequence, subject: subject.to_string(), content })
    }

    /// The lane is part of the subject and of no row of the trail: the call's own row has it, or its request. One that is known to
    /// nobody gets a lane that no worker serves.
    async fn lane(&mut self, tenant: TenantId, row: &AuditRow) -> Result<Lane, RecoverError> {
        if row.aggregate_type == RefusalEvent::AGGREGATE_TYPE {
            return Ok(Lane::refusal());
        }
        if row.aggregate_type == ErasureEvent::AGGREGATE_TYPE {
            return Ok(Lane::erasure());
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
