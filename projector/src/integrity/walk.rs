//! The running check: slowly, from the beginning of the log to what is projected, and then again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use toolgate_events::{Partition, TenantId};
use toolgate_store::{Log, Received};

use super::{
    Checked, Mismatch, Unchecked,
    archived::Archived,
    compare::{Link, compare, follow},
    read, rows,
};
use crate::{audit_row::SpelledRow, batch, metrics::Metrics};

/// Slices a second, while there is something to check.
const SLICES_PER_SECOND: u32 = 4;
/// Events in one slice at the most.
const LARGEST_SLICE: u64 = 256;
/// Between two walks through a partition.
const PAUSE: Duration = Duration::from_secs(10);
/// Before what could not be checked is checked again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// A place that the broker refuses to read is asked for this often before that counts as a finding.
const ATTEMPTS: u32 = 5;

/// The partitions that a run owns, and up to where each is projected.
pub type Owned = BTreeMap<Partition, u64>;

/// What was found where.
pub type Finding = (Partition, Mismatch);

/// Compares the whole log of the partitions of a run with the audit trail, as many events a second as it may.
pub struct Walk {
    pub log: Log,
    pub database: PgPool,
    pub metrics: Metrics,
    /// At least 1.
    pub events_per_second: u32,
    pub owned: watch::Receiver<Owned>,
    pub findings: mpsc::Sender<Finding>,
}

/// How far one walk through one partition is.
#[derive(Debug, Default)]
struct Place {
    /// Up to here everything agreed.
    stream_sequence: u64,
    /// Where each tenant's chain is.
    links: HashMap<TenantId, Link>,
    /// Not before this time.
    rests_until: Option<Instant>,
    /// How often the next slice could not be checked.
    failed: u32,
}

impl Walk {
    /// Until nobody listens to what is found.
    pub async fn run(mut self) {
        let mut places: BTreeMap<Partition, Place> = BTreeMap::new();
        let slice = u64::from((self.events_per_second / SLICES_PER_SECOND).max(1)).min(LARGEST_SLICE);
        loop {
            let owned = self.owned.borrow_and_update().clone();
            places.retain(|partition, _| owned.contains_key(partition));
            let mut checked = 0;
            for (partition, upto) in owned {
                let place = places.entry(partition).or_default();
                if place.rests_until.is_some_and(|until| Instant::now() < until) {
                    continue;
                }
                match self.step(partition, place, slice, upto).await {
                    Ok(events) => checked += events,
                    Err(mismatch) => {
                        self.metrics.agrees_only_to(partition.0, place.stream_sequence);
                        if self.findings.send((partition, mismatch)).await.is_err() {
                            return;
                        }
                        // The run takes the partition out; until it has, there is nothing more to find.
                        *place = Place { rests_until: Some(Instant::now() + PAUSE), ..Place::default() };
                    }
                }
                if checked >= slice {
                    self.pace(checked).await;
                    checked = 0;
                }
            }
            self.pace(checked).await;
            if self.findings.is_closed() {
                return;
            }
        }
    }

    /// As long as so many events may take, and a slice's time when there were none.
    async fn pace(&self, events: u64) {
        let seconds = events as f64 / f64::from(self.events_per_second);
        let least = if events == 0 { 1.0 / f64::from(SLICES_PER_SECOND) } else { 0.0 };
        sleep(Duration::from_secs_f64(seconds.max(least))).await;
    }

    /// One slice. A finding is looked at twice, so that what was moving at that moment is none.
    async fn step(&self, partition: Partition, place: &mut Place, slice: u64, upto: u64) -> Result<u64, Mismatch> {
        // Event by event where something does not answer, so that the finding names the place.
        let slice = if place.failed > 0 { 1 } else { slice };
        for is_last_look in [false, true] {
            let until = upto.min(place.stream_sequence + slice);
            let checked = if until > place.stream_sequence {
                self.compare(partition, place, until).await
            } else {
                self.finish(partition, place, upto).await
            };
            match checked {
                Ok(Ok(())) => {
                    place.failed = 0;
                    self.metrics.agrees_to(partition.0, place.stream_sequence);
                    return Ok(slice);
                }
                Ok(Err(mismatch)) if is_last_look => return Err(mismatch),
                Ok(Err(_)) => sleep(Duration::from_millis(200)).await,
                Err(unchecked) => return self.cannot_check(place, &unchecked),
            }
        }
        Ok(0)
    }

    fn cannot_check(&self, place: &mut Place, unchecked: &Unchecked) -> Result<u64, Mismatch> {
        place.failed += 1;
        // A database that does not answer is no finding, and neither is a broker, as long as it does not answer for anything.
        if place.failed >= ATTEMPTS && matches!(unchecked, Unchecked::Load(_)) && self.log.is_connected() {
            return Err(Mismatch::Unreadable { stream_sequence: place.stream_sequence + 1 });
        }
        tracing::warn!(reason = %unchecked, "the log could not be compared with the audit trail; it will be");
        place.rests_until = Some(Instant::now() + RETRY_PAUSE);
        Ok(0)
    }

    async fn compare(&self, partition: Partition, place: &mut Place, until: u64) -> Checked {
        // What is there before something missing is compared all the same, so that the place says how far all is well.
        let (messages, all_there) = read(&self.log, partition, place.stream_sequence + 1, until).await?;
        let partitions = self.log.partitions();
        let tenants: Vec<_> = messages.iter().map(|message| batch::tenant_of(message, partitions)).collect();
        let mut counts: HashMap<TenantId, usize> = HashMap::new();
        for tenant in tenants.iter().flatten() {
            *counts.entry(*tenant).or_default() += 1;
        }
        let archived = rows::archived(&self.database, counts.keys().copied()).await?;
        // Named by an event of the tenant, around which is looked again before the partition goes on.
        let mut listed =
            messages.iter().zip(&tenants).filter_map(|(message, tenant)| Some((message, archived.get(&(*tenant)?)?)));
        if let Some(mismatch) = listed.find_map(|(message, archived)| archived.check(message.stream_sequence).err()) {
            return Ok(Err(mismatch));
        }
        let archived_upto = |tenant: &TenantId| archived.get(tenant).map_or(0, Archived::upto);
        let position = |tenant: &TenantId| {
            let known = place.links.get(tenant).map_or(0, |link: &Link| link.position);
            known.max(archived_upto(tenant))
        };
        let wanted: Vec<_> = counts.iter().map(|(tenant, count)| (*tenant, position(tenant), *count)).collect();
        let found = rows::after(&self.database, &wanted).await?;
        let mut rows: HashMap<_, _> = found.iter().map(|(tenant, rows)| (*tenant, rows.iter())).collect();
        for (message, tenant) in messages.iter().zip(tenants) {
            let Some(tenant) = tenant else {
                place.stream_sequence = message.stream_sequence;
                continue;
            };
            let before = place.links.entry(tenant).or_insert_with(|| Link::genesis(tenant));
            let next = if before.position < archived_upto(&tenant) {
                agree_with_archive(message, partitions, before, archived.get(&tenant))
            } else {
                agree(message, partitions, before, rows.get_mut(&tenant).and_then(Iterator::next))
            };
            match next {
                Ok(next) => *before = next,
                Err(mismatch) => return Ok(Err(mismatch)),
            }
            place.stream_sequence = message.stream_sequence;
        }
        Ok(all_there)
    }

    /// At the end of a walk: no row says that it is of an event up to there, or of one that the log has not got, and is none.
    async fn finish(&self, partition: Partition, place: &mut Place, upto: u64) -> Checked {
        let links = &mut place.links;
        for tenant in rows::tenants(&self.database, partition, self.log.partitions()).await? {
            links.entry(tenant).or_insert_with(|| Link::genesis(tenant));
        }
        let beyond = rows::beyond(&self.database, links).await?;
        if let Some([(position, lowest), (highest_position, highest)]) = beyond {
            if lowest <= upto {
                return Ok(Err(Mismatch::Extra { stream_sequence: lowest, position }));
            }
            // Asked after the rows: what was projected meanwhile is in the log.
            let state = self.log.partition_state(partition).await.map_err(unavailable)?;
            if highest > state.last_sequence {
                return Ok(Err(Mismatch::Extra { stream_sequence: highest, position: highest_position }));
            }
        }
        self.metrics.walks.inc();
        *place = Place { rests_until: Some(Instant::now() + PAUSE), ..Place::default() };
        Ok(Ok(()))
    }
}

/// [`compare`] for a message that has a tenant.
fn agree(message: &Received, partitions: u16, before: &Link, row: Option<&SpelledRow>) -> Result<Link, Mismatch> {
    Ok(compare(message, partitions, before, row)?.unwrap_or_else(|| before.clone()))
}

/// The same where the row is in the archive. The chain that follows from the log alone must come out at the hashes that the segments
/// end with; what is in them is another check's.
fn agree_with_archive(message: &Received, partitions: u16, before: &Link, archived: Option<&Archived>) -> Result<Link, Mismatch> {
    let Some(next) = follow(message, partitions, before) else { return Ok(before.clone()) };
    let end = archived.and_then(|archived| archived.hash_at(next.position));
    if end.is_some_and(|hash| hash != next.hash) {
        return Err(Mismatch::DiffersFromArchive { stream_sequence: message.stream_sequence, position: next.position });
    }
    Ok(next)
}

fn unavailable(error: toolgate_store::LogError) -> toolgate_store::LoadError {
    toolgate_store::LoadError::Unavailable(error.to_string())
}
