use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{Postgres, QueryBuilder, Row, postgres::PgRow, types::Json};
use toolgate_events::{CallId, TenantId, audit::AuditRow};
use toolgate_security::{ReadPool, TenantTx};
use uuid::Uuid;

use super::{
    archive::{self, Listed, Segments},
    bigint, tool_calls, unsigned,
};
use crate::Error;

const COLUMNS: &str = "a.position, a.stream_sequence, a.event_id, a.event_type, a.event_version, a.aggregate_type, a.aggregate_id, \
     a.aggregate_sequence, a.actor, a.occurred_at, a.correlation_id, a.causation_id, a.data, a.prev_hash, a.hash";

/// Bytes of `data` in one page at the most, unless its first row alone has more.
const MAX_DATA: usize = 8 * 1024 * 1024;
/// The same for a page of an event stream, of which there are many.
pub(crate) const MAX_STREAMED_DATA: usize = 1024 * 1024;
/// How many events that occurred after a time are looked at for the first of them: as many as one look may cost.
const LOOKED_AT: usize = 100_000;

/// Which rows of the audit trail; the default is all.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    pub call_id: Option<CallId>,
    pub actor: Option<String>,
    pub event_type: Option<String>,
    /// Inclusive.
    pub from: Option<DateTime<Utc>>,
    /// Exclusive.
    pub to: Option<DateTime<Utc>>,
    pub calls: Option<Arc<HashSet<Uuid>>>,
    /// Ascending.
    pub positions: Option<Arc<[u64]>>,
}

/// A stretch of positions: after the first, up to and including the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub after: u64,
    pub up_to: u64,
}

impl AuditFilter {
    /// What [`push_filter`] says in SQL.
    pub(super) fn lets_through(&self, row: &AuditRow) -> bool {
        self.call_id.is_none_or(|call| row.aggregate_id == call.0)
            && self.actor.as_ref().is_none_or(|actor| row.actor == *actor)
            && self.event_type.as_ref().is_none_or(|event_type| row.event_type == *event_type)
            && self.from.is_none_or(|from| row.occurred_at >= from)
            && self.to.is_none_or(|to| row.occurred_at < to)
            && self.calls.as_ref().is_none_or(|calls| calls.contains(&row.aggregate_id))
            && self.positions.as_ref().is_none_or(|positions| positions.binary_search(&row.position).is_ok())
    }
}

impl Stretch {
    pub(crate) fn after(after: u64) -> Self {
        Self { after, up_to: u64::MAX }
    }
}

/// A row with what the event stream needs besides.
#[derive(Clone, Debug)]
pub(crate) struct StreamedRow {
    pub audit: AuditRow,
    pub session_id: Option<String>,
    pub traceparent: Option<String>,
}

/// The first rows of a stretch, ascending, and whether more follow: `limit` rows, or fewer where their data is large.
///
/// Here and below the transaction ends before anything is fetched from the archive: a slow object store holds no connection.
pub(crate) async fn page(
    mut tx: TenantTx,
    segments: &Segments,
    filter: &AuditFilter,
    stretch: Stretch,
    limit: usize,
) -> Result<(Vec<AuditRow>, bool), Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from audit_event a where"));
    push_filter(&mut query, filter, stretch);
    // One more, to see whether it exists.
    push_limit(&mut query, limit + 1);
    let bounds = Bounds { rows: limit, data: MAX_DATA };
    let (rows, has_more) = collect(query, &mut tx, bounds, audit_row).await?;
    let listing = listing(&mut tx, filter, stretch, rows.first().map(|row| row.position)).await?;
    tx.end().await?;
    let Some(listing) = listing else { return Ok((rows, has_more)) };
    let archived = Archived::read(segments, &listing, filter, stretch, bounds).await?;
    Ok(archived.joined(rows, has_more, limit, |row| row.position))
}

/// A row as a line of an export has it: `data` is the very text that the table holds, so that a change of its spelling shows, too.
pub(crate) struct ExportedRow {
    pub position: u64,
    pub line: String,
}

/// [`page`] for an export.
pub(crate) async fn exported_page(
    mut tx: TenantTx,
    segments: &Segments,
    filter: &AuditFilter,
    stretch: Stretch,
    limit: usize,
) -> Result<(Vec<ExportedRow>, bool), Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from audit_event a where"));
    push_filter(&mut query, filter, stretch);
    push_limit(&mut query, limit + 1);
    let exported_row = |row: &PgRow| {
        let data = row.try_get_raw("data")?.as_str().map_err(sqlx::Error::Decode)?;
        let audit = audit_row(row)?;
        Ok(ExportedRow { position: audit.position, line: audit.line_over(data) })
    };
    let bounds = Bounds { rows: limit, data: MAX_DATA };
    let (rows, has_more) = collect(query, &mut tx, bounds, exported_row).await?;
    let listing = listing(&mut tx, filter, stretch, rows.first().map(|row| row.position)).await?;
    tx.end().await?;
    let Some(listing) = listing else { return Ok((rows, has_more)) };
    let archived = Archived::read(segments, &listing, filter, stretch, bounds).await?;
    let exported = |row: AuditRow| ExportedRow { position: row.position, line: row.to_line() };
    Ok(archived.map(exported).joined(rows, has_more, limit, |row| row.position))
}

/// Every event of one call, ascending. A refusal is no call.
pub(crate) async fn of_call(mut tx: TenantTx, segments: &Segments, call: CallId) -> Result<Vec<AuditRow>, Error> {
    let filter = AuditFilter { call_id: Some(call), ..AuditFilter::default() };
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from audit_event a where"));
    push_filter(&mut query, &filter, Stretch::after(0));
    query.push(" and a.aggregate_type not in ('refusal', 'erasure') order by a.position");
    let rows = query.build().try_map(|row: PgRow| audit_row(&row)).fetch_all(&mut *tx).await?;
    // Where a call begins and ends is known without looking through the archive.
    let Some(stretch) = tool_calls::stretch(&mut tx, call).await? else {
        tx.end().await?;
        return Ok(rows);
    };
    let listing = listing(&mut tx, &filter, stretch, rows.first().map(|row| row.position)).await?;
    tx.end().await?;
    let Some(listing) = listing else { return Ok(rows) };
    let archived = Archived::read(segments, &listing, &filter, stretch, Bounds::NONE).await?;
    Ok(archived.joined(rows, false, usize::MAX, |row| row.position).0)
}

/// [`page`] for the event stream.
pub(crate) async fn streamed_page(
    (pool, tenant): (&ReadPool, TenantId),
    segments: &Segments,
    filter: &AuditFilter,
    session_id: Option<&str>,
    stretch: Stretch,
    bounds: Bounds,
) -> Result<(Vec<StreamedRow>, bool), Error> {
    let mut tx = TenantTx::begin(pool, tenant).await?;
    // Only the first event of a call says its session; the call's own row says it for all of them. Neither is asked for by a join:
    // the plan of a prepared statement is made when the tables may still be small or unknown, and a join that was good then reads
    // all of a tenant's calls for every event later.
    let mut query = QueryBuilder::new(format!(
        "select {COLUMNS}, a.traceparent,
             (select c.session_id from tool_call c where c.tenant_id = a.tenant_id and c.call_id = a.aggregate_id) as session_id
         from audit_event a where",
    ));
    push_filter(&mut query, filter, stretch);
    if let Some(session_id) = session_id {
        // `is true` keeps it from becoming a join: the session's calls are read once and looked up.
        query.push(" and (a.aggregate_id in (select c.call_id from tool_call c where c.session_id = ");
        query.push_bind(session_id.to_owned()).push(")) is true");
    }
    push_limit(&mut query, bounds.rows + 1);
    let streamed_row = |row: &PgRow| {
        let (session_id, traceparent) = (row.try_get("session_id")?, row.try_get("traceparent")?);
        Ok(StreamedRow { audit: audit_row(row)?, session_id, traceparent })
    };
    let (rows, has_more) = collect(query, &mut tx, bounds, streamed_row).await?;
    let first = rows.first().map(|row| row.audit.position);
    let Some(listing) = listing(&mut tx, filter, stretch, first).await? else {
        tx.end().await?;
        return Ok((rows, has_more));
    };
    // An archived row does not say its session.
    let calls = match session_id {
        Some(session_id) => Some(Arc::new(tool_calls::of_session(&mut tx, session_id).await?)),
        None => filter.calls.clone(),
    };
    tx.end().await?;
    let filter = AuditFilter { calls, ..filter.clone() };
    let archived = Archived::read(segments, &listing, &filter, stretch, bounds).await?;
    // A call's session never changes, so another moment says the same of it.
    let mut tx = TenantTx::begin(pool, tenant).await?;
    let sessions = tool_calls::sessions(&mut tx, archived.rows.iter().map(|row| row.aggregate_id).collect()).await?;
    tx.end().await?;
    let streamed = |audit: AuditRow| {
        let session_id = sessions.get(&audit.aggregate_id).cloned();
        StreamedRow { audit, session_id, traceparent: None }
    };
    Ok(archived.map(streamed).joined(rows, has_more, bounds.rows, |row| row.audit.position))
}

/// Where the events of a stretch are that a filter lets through.
#[derive(Debug)]
pub(crate) struct Places {
    /// The positions of those that are only in the table, ascending.
    pub table: Vec<u64>,
    listing: Option<Listing>,
}

/// The places of the first `limit` events in the table, and of all in the archive.
pub(crate) async fn places(mut tx: TenantTx, filter: &AuditFilter, stretch: Stretch, limit: usize) -> Result<Places, Error> {
    let mut query = QueryBuilder::new("select a.position from audit_event a where");
    push_filter(&mut query, filter, stretch);
    push_limit(&mut query, limit);
    let mut table: Vec<u64> = query.build().try_map(|row: PgRow| unsigned(&row, "position")).fetch_all(&mut *tx).await?;
    let listing = listing(&mut tx, filter, stretch, table.first().copied()).await?;
    tx.end().await?;
    if let Some(listing) = &listing {
        table.retain(|position| *position > listing.up_to);
    }
    Ok(Places { table, listing })
}

impl Places {
    /// The segments that may hold some of the events, ascending.
    pub(crate) fn segments(&self) -> &[Listed] {
        self.listing.as_ref().map_or(&[], |listing| &listing.segments)
    }
}

/// The archived rows of a stretch in one segment that a filter lets through, `limit` of them at the most.
pub(crate) async fn archived_rows(
    segments: &Segments,
    listed: &Listed,
    filter: &AuditFilter,
    stretch: Stretch,
    limit: usize,
) -> Result<Vec<AuditRow>, Error> {
    let mut rows = Vec::new();
    let take = |row: &AuditRow, _| {
        let fits = rows.len() < limit;
        if fits {
            rows.push(row.clone());
        }
        fits
    };
    segments.read(std::slice::from_ref(listed), filter, stretch, take).await?;
    Ok(rows)
}

/// The first position of what occurred at a time or later.
#[derive(Debug)]
pub(crate) enum FirstSince {
    /// It is in the table; none when nothing occurred since.
    Position(Option<u64>),
    /// It is in this segment.
    Archived(Listed),
}

/// Where the first event is that occurred at a time or later, by position. Of what is in the table the next [`LOOKED_AT`] by time are
/// looked at: the first by position is among them, unless a clock was ahead of that many events.
pub(crate) async fn first_since(tx: &mut TenantTx, time: DateTime<Utc>) -> Result<FirstSince, Error> {
    // Whatever is archived comes before whatever is not.
    if let Some(listed) = archive::first_since(tx, time).await? {
        return Ok(FirstSince::Archived(listed));
    }
    // By the order of time, from the index alone. Asked for the least position, the database would read the trail from its beginning.
    let query = format!(
        "select min(position) from (
             select position from audit_event where occurred_at >= $1 order by occurred_at, position limit {LOOKED_AT}
         ) later"
    );
    let first: Option<i64> = sqlx::query_scalar(&query).bind(time).fetch_one(&mut **tx).await?;
    Ok(FirstSince::Position(first.map(i64::unsigned_abs)))
}

/// What the archive may have of a stretch, as the database lists it.
#[derive(Debug)]
struct Listing {
    segments: Vec<Listed>,
    /// Where the archive ends.
    up_to: u64,
}

/// Which rows of a stretch have left the table; nothing when none has. It is asked after the table, of which `first` is the first
/// position found: the archive only grows, so a row that has left meanwhile is found there, and what begins where it should has lost
/// nothing.
async fn listing(
    tx: &mut TenantTx,
    filter: &AuditFilter,
    stretch: Stretch,
    first: Option<u64>,
) -> Result<Option<Listing>, Error> {
    if first.is_some() && first == stretch.after.checked_add(1) {
        return Ok(None);
    }
    let up_to = archive::archived_to(tx).await?;
    if up_to <= stretch.after {
        return Ok(None);
    }
    let segments = archive::overlapping(tx, filter, Stretch { up_to: stretch.up_to.min(up_to), ..stretch }).await?;
    Ok(Some(Listing { segments, up_to }))
}

/// What the archive has of a stretch.
struct Archived<T> {
    rows: Vec<T>,
    /// Whether there is more of it in the archive.
    has_more: bool,
    /// Where the archive ends.
    up_to: u64,
}

impl Archived<AuditRow> {
    async fn read(
        segments: &Segments,
        listing: &Listing,
        filter: &AuditFilter,
        stretch: Stretch,
        bounds: Bounds,
    ) -> Result<Self, Error> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let take = |row: &AuditRow, data: usize| {
            bytes += data;
            let fits = !bounds.are_reached(rows.len(), bytes);
            if fits {
                rows.push(row.clone());
            }
            fits
        };
        let has_more = segments.read(&listing.segments, filter, stretch, take).await?;
        Ok(Self { rows, has_more, up_to: listing.up_to })
    }
}

impl<T> Archived<T> {
    fn map<U>(self, convert: impl FnMut(T) -> U) -> Archived<U> {
        Archived { rows: self.rows.into_iter().map(convert).collect(), has_more: self.has_more, up_to: self.up_to }
    }

    /// The page that these rows and those of the table make together.
    fn joined(mut self, table: Vec<T>, table_has_more: bool, limit: usize, position: impl Fn(&T) -> u64) -> (Vec<T>, bool) {
        // What is archived may still be in the table.
        let mut newer = table.into_iter().filter(|row| position(row) > self.up_to);
        if !self.has_more {
            let left = limit - self.rows.len();
            self.rows.extend(newer.by_ref().take(left));
        }
        let has_more = self.has_more || table_has_more || newer.next().is_some();
        (self.rows, has_more)
    }
}

/// What one page may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub rows: usize,
    /// Bytes.
    pub data: usize,
}

impl Bounds {
    const NONE: Self = Self { rows: usize::MAX, data: usize::MAX };

    /// Whether a page of so many rows is full before a row with which its data comes to so many bytes. The first row always fits.
    fn are_reached(self, rows: usize, data: usize) -> bool {
        rows == self.rows || (data > self.data && rows > 0)
    }
}

/// The rows that fit, and whether there are more. One row is held besides those of the page.
async fn collect<T>(
    mut query: QueryBuilder<'_, Postgres>,
    tx: &mut TenantTx,
    bounds: Bounds,
    convert: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<(Vec<T>, bool), Error> {
    let mut rows = query.build().fetch(&mut **tx);
    let (mut page, mut data) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        data += row.try_get_raw("data")?.as_bytes().map_err(sqlx::Error::Decode)?.len();
        if bounds.are_reached(page.len(), data) {
            return Ok((page, true));
        }
        page.push(convert(&row)?);
    }
    Ok((page, false))
}

fn push_filter(query: &mut QueryBuilder<'_, Postgres>, filter: &AuditFilter, stretch: Stretch) {
    query.push(" a.position > ").push_bind(bigint(stretch.after));
    query.push(" and a.position <= ").push_bind(bigint(stretch.up_to));
    if let Some(call) = filter.call_id {
        query.push(" and a.aggregate_id = ").push_bind(call.0);
    }
    if let Some(actor) = &filter.actor {
        query.push(" and a.actor = ").push_bind(actor.clone());
    }
    if let Some(event_type) = &filter.event_type {
        query.push(" and a.event_type = ").push_bind(event_type.clone());
    }
    if let Some(from) = filter.from {
        query.push(" and a.occurred_at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        query.push(" and a.occurred_at < ").push_bind(to);
    }
    if let Some(calls) = &filter.calls {
        query.push(" and a.aggregate_id = any(").push_bind(calls.iter().copied().collect::<Vec<_>>()).push(")");
    }
    if let Some(positions) = &filter.positions {
        query.push(" and a.position = any(").push_bind(positions.iter().copied().map(bigint).collect::<Vec<_>>()).push(")");
    }
}

fn push_limit(query: &mut QueryBuilder<'_, Postgres>, limit: usize) {
    query.push(" order by a.position limit ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
}

fn audit_row(row: &PgRow) -> Result<AuditRow, sqlx::Error> {
    let event_version: i32 = row.try_get("event_version")?;
    let aggregate_sequence: i64 = row.try_get("aggregate_sequence")?;
    let Json(data) = row.try_get("data")?;
    Ok(AuditRow {
        position: unsigned(row, "position")?,
        stream_sequence: unsigned(row, "stream_sequence")?,
        event_id: row.try_get("event_id")?,
        event_type: row.try_get("event_type")?,
        // No two numbers of the table look alike: one that somebody made negative shows.
        event_version: event_version.cast_unsigned(),
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        aggregate_sequence: aggregate_sequence.cast_unsigned(),
        actor: row.try_get("actor")?,
        occurred_at: row.try_get("occurred_at")?,
        correlation_id: row.try_get("correlation_id")?,
        causation_id: row.try_get("causation_id")?,
        data,
        prev_hash: row.try_get("prev_hash")?,
        hash: row.try_get("hash")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_full_by_rows_or_by_bytes_and_never_empty() {
        let bounds = Bounds { rows: 3, data: 10 };
        for (rows, data, reached) in [(0, 11, false), (1, 10, false), (1, 11, true), (2, 10, false), (3, 3, true)] {
            assert_eq!(bounds.are_reached(rows, data), reached, "{rows} rows, {data} bytes");
        }
    }
}
