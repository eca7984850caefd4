use sqlx::PgConnection;
use uuid::Uuid;

use super::{Care, signed};
use crate::batch::Numbered;

/// Why events of a batch could not be projected in full. Their audit rows stand all the same.
#[derive(Debug)]
pub struct Reasons {
    care: Care,
    parked: Vec<Parked>,
}

#[derive(Debug)]
struct Parked {
    tenant: Uuid,
    stream_sequence: u64,
    position: u64,
    reason: String,
}

impl Reasons {
    /// The events that could not even be understood.
    pub fn of(events: &[Numbered], care: Care) -> Self {
        let mut reasons = Self { care, parked: Vec::new() };
        for event in events {
            if let Err(reason) = &event.event {
                reasons.add(event, reason.clone());
            }
        }
        reasons
    }

    pub fn care(&self) -> Care {
        self.care
    }

    pub fn add(&mut self, event: &Numbered, reason: String) {
        let (tenant, stream_sequence, position) = (event.tenant_id.0, event.row.stream_sequence, event.row.position);
        self.parked.push(Parked { tenant, stream_sequence, position, reason });
    }

    /// Writes them down; answers with how many there are.
    pub async fn project(self, transaction: &mut PgConnection) -> Result<u64, sqlx::Error> {
        if self.parked.is_empty() {
            return Ok(0);
        }
        // Not before: what is tried together may be tried again.
        for Parked { tenant, position, reason, .. } in &self.parked {
            tracing::error!(reason, tenant_id = %tenant, position, "event parked");
        }
        sqlx::query(
            "insert into parked_event (tenant_id, stream_sequence, reason)
             select * from unnest($1::uuid[], $2::bigint[], $3::text[]) on conflict do nothing",
        )
        .bind(self.parked.iter().map(|parked| parked.tenant).collect::<Vec<_>>())
        .bind(self.parked.iter().map(|parked| signed(parked.stream_sequence)).collect::<Vec<_>>())
        .bind(self.parked.iter().map(|parked| parked.reason.as_str()).collect::<Vec<_>>())
        .execute(transaction)
        .await?;
        Ok(self.parked.len() as u64)
    }
}
