use std::collections::{BTreeMap, HashMap, HashSet, hash_map::Entry};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use toolgate_events::TenantId;
use uuid::Uuid;

use super::{Care, signed};
use crate::{batch::Numbered, ownership};

/// Why an event is parked, for counting: few and fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NotUnderstood,
    Refused,
    Waiting,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::NotUnderstood, Self::Refused, Self::Waiting];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUnderstood => "not_understood",
            Self::Refused => "refused",
            Self::Waiting => "waiting",
        }
    }
}

/// A call, or another aggregate, of one tenant.
pub type Call = (TenantId, Uuid);

/// Why events of a batch could not be projected in full. Their audit rows stand all the same.
#[derive(Debug, Default)]
pub struct Reasons {
    care: Care,
    parked: Vec<Parked>,
    /// The position of each call's first parked event, wherever that was parked.
    first: HashMap<Call, u64>,
    /// Tenant and position of what is in `parked`.
    known: HashSet<(TenantId, u64)>,
}

#[derive(Debug)]
struct Parked {
    call: Call,
    position: u64,
    stream_sequence: u64,
    kind: Kind,
    reason: String,
}

impl Reasons {
    /// The events that could not even be understood.
    pub fn of(events: &[Numbered]) -> Self {
        let mut reasons = Self::default();
        for event in events {
            if let Err(reason) = &event.event {
                reasons.park(event, Kind::NotUnderstood, reason.clone());
            }
        }
        reasons
    }

    /// From now on one row after another is written.
    pub fn take_care(&mut self) {
        self.care = Care::Singly;
    }

    pub fn care(&self) -> Care {
        self.care
    }

    /// Nothing could be made of the event although it was understood.
    pub fn add(&mut self, event: &Numbered, reason: String) {
        self.park(event, Kind::Refused, reason);
    }

    /// The position of an event that this one has to wait for: one of its call that is parked.
    pub fn waits_for(&self, event: &Numbered) -> Option<u64> {
        self.first.get(&call_of(event)).copied().filter(|first| *first < event.row.position)
    }

    /// Parks what has to wait, so that what follows from a call's events follows in their order.
    pub fn hold_back(&mut self, events: &mut [Numbered]) {
        if self.first.is_empty() {
            return;
        }
        for event in events {
            let is_parked = self.known.contains(&(event.tenant_id, event.row.position));
            if let Some(first) = self.waits_for(event).filter(|_| !is_parked) {
                let reason = format!("waits for position {first}");
                self.park(event, Kind::Waiting, reason.clone());
                event.event = Err(reason);
            }
        }
    }

    /// Learns of what is parked from before. Asks nothing where it is known that there is nothing.
    pub async fn look_up(&mut self, transaction: &mut PgConnection, events: &[Numbered]) -> Result<(), sqlx::Error> {
        let calls: HashSet<Call> = events.iter().filter(|event| event.may_wait).map(call_of).collect();
        if calls.is_empty() {
            return Ok(());
        }
        let found = first_parked(transaction, &calls).await?;
        if found.is_empty() {
            return Ok(());
        }
        // Somebody may be about to project those events after all: then it is waited for, and looked at again.
        let mut tenants: Vec<_> = found.iter().map(|((tenant, _), _)| *tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        for tenant in tenants {
            ownership::lock_parked(transaction, tenant).await?;
        }
        for (call, position) in first_parked(transaction, &calls).await? {
            self.note_first(call, position);
        }
        Ok(())
    }

    fn park(&mut self, event: &Numbered, kind: Kind, reason: String) {
        if !self.known.insert((event.tenant_id, event.row.position)) {
            return;
        }
        let (call, position) = (call_of(event), event.row.position);
        match kind {
            Kind::Waiting => tracing::warn!(reason, tenant_id = %event.tenant_id, position, "event parked"),
            _ => tracing::error!(reason, tenant_id = %event.tenant_id, position, "event parked"),
        }
        self.note_first(call, position);
        self.parked.push(Parked { call, position, stream_sequence: event.row.stream_sequence, kind, reason });
    }

    /// What is waited for may have turned out to be parked itself, behind an earlier one: in two batches the earlier one would be named.
    fn reason(&self, parked: &Parked) -> String {
        match self.first.get(&parked.call).filter(|_| parked.kind == Kind::Waiting) {
            Some(first) => format!("waits for position {first}"),
            None => parked.reason.clone(),
        }
    }

    fn note_first(&mut self, call: Call, position: u64) {
        match self.first.entry(call) {
            Entry::Occupied(mut first) => *first.get_mut() = position.min(*first.get()),
            Entry::Vacant(first) => {
                first.insert(position);
            }
        }
    }

    /// Whether the event at a position is among them.
    pub fn holds(&self, tenant: TenantId, position: u64) -> bool {
        self.known.contains(&(tenant, position))
    }

    /// Writes them down; answers with how many there are.
    pub async fn project(self, transaction: &mut PgConnection) -> Result<u64, sqlx::Error> {
        self.project_since(transaction, &BTreeMap::new()).await
    }

    /// The same where some have been parked for longer, by position.
    pub async fn project_since(
        self,
        transaction: &mut PgConnection,
        since: &BTreeMap<u64, DateTime<Utc>>,
    ) -> Result<u64, sqlx::Error> {
        let parked = &self.parked;
        if parked.is_empty() {
            return Ok(0);
        }
        sqlx::query(
            "insert into parked_event (tenant_id, stream_sequence, position, aggregate_id, kind, reason, parked_at)
             select a, b, c, d, e, f, coalesce(g, now())
             from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[])
                 as n (a, b, c, d, e, f, g)
             on conflict do nothing",
        )
        .bind(parked.iter().map(|parked| parked.call.0.0).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| signed(parked.stream_sequence)).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| signed(parked.position)).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| parked.call.1).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| parked.kind.as_str()).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| self.reason(parked)).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| since.get(&parked.position).copied()).collect::<Vec<_>>())
        .execute(transaction)
        .await?;
        Ok(parked.len() as u64)
    }
}

fn call_of(event: &Numbered) -> Call {
    (event.tenant_id, event.row.aggregate_id)
}

/// The position of the first parked event of each call that has any.
async fn first_parked(transaction: &mut PgConnection, calls: &HashSet<Call>) -> Result<Vec<(Call, u64)>, sqlx::Error> {
    let rows: Vec<(Uuid, Uuid, i64)> = sqlx::query_as(
        "select c.tenant_id, c.aggregate_id, first.position
         from unnest($1::uuid[], $2::uuid[]) as c (tenant_id, aggregate_id)
         cross join lateral (
             select p.position from parked_event p
             where p.tenant_id = c.tenant_id and p.aggregate_id = c.aggregate_id order by p.position limit 1
         ) first",
    )
    .bind(calls.iter().map(|(tenant, _)| tenant.0).collect::<Vec<_>>())
    .bind(calls.iter().map(|(_, aggregate)| *aggregate).collect::<Vec<_>>())
    .fetch_all(transaction)
    .await?;
    Ok(rows.into_iter().map(|(tenant, aggregate, first)| ((TenantId(tenant), aggregate), first.unsigned_abs())).collect())
}
