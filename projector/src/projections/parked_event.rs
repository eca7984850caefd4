use sqlx::PgConnection;
use uuid::Uuid;

use super::signed;
use crate::batch::Numbered;

/// Why events of a batch could not be projected in full. Their audit rows stand all the same.
#[derive(Debug, Default)]
pub struct Reasons(Vec<(Uuid, u64, String)>);

impl Reasons {
    /// The events that could not even be understood.
    pub fn of(events: &[Numbered]) -> Self {
        let mut reasons = Self::default();
        for event in events {
            if let Err(reason) = &event.event {
                reasons.add(event, reason.clone());
            }
        }
        reasons
    }

    pub fn add(&mut self, event: &Numbered, reason: String) {
        tracing::error!(reason, tenant_id = %event.tenant_id, position = event.row.position, "event parked");
        self.0.push((event.tenant_id.0, event.row.stream_sequence, reason));
    }

    /// Whether an event is among them.
    pub fn has(&self, event: &Numbered) -> bool {
        let place = (event.tenant_id.0, event.row.stream_sequence);
        self.0.iter().any(|(tenant, stream_sequence, _)| (*tenant, *stream_sequence) == place)
    }

    /// Writes them down; answers with how many there are.
    pub async fn project(self, transaction: &mut PgConnection) -> Result<u64, sqlx::Error> {
        if self.0.is_empty() {
            return Ok(0);
        }
        sqlx::query(
            "insert into parked_event (tenant_id, stream_sequence, reason)
             select * from unnest($1::uuid[], $2::bigint[], $3::text[]) on conflict do nothing",
        )
        .bind(self.0.iter().map(|(tenant, _, _)| *tenant).collect::<Vec<_>>())
        .bind(self.0.iter().map(|(_, sequence, _)| signed(*sequence)).collect::<Vec<_>>())
        .bind(self.0.iter().map(|(_, _, reason)| reason.as_str()).collect::<Vec<_>>())
        .execute(transaction)
        .await?;
        Ok(self.0.len() as u64)
    }
}
