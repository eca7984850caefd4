//! The audit row and its hash chain.
//!
//! `hash` = SHA-256 over the canonical JSON of the row without `hash` (so `prev_hash` is inside it), as lower-case hex. The first
//! row of a tenant has as `prev_hash` the SHA-256 of `toolgate/audit/v1/<tenant_id>`, which binds the chain to its tenant.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{TenantId, canonical, serde_text};

/// One row of the audit trail, as `GET /v1/audit` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Per tenant, gapless, from 1.
    #[serde(with = "serde_text::u64_string")]
    pub position: u64,
    #[serde(with = "serde_text::u64_string")]
    pub stream_sequence: u64,
    pub event_id: Uuid,
    pub event_type: String,
    pub event_version: u32,
    pub aggregate_type: String,
    pub aggregate_id: Uuid,
    #[serde(with = "serde_text::u64_string")]
    pub aggregate_sequence: u64,
    pub actor: String,
    #[serde(with = "serde_text::timestamp")]
    pub occurred_at: DateTime<Utc>,
    pub correlation_id: Uuid,
    pub causation_id: Option<Uuid>,
    pub data: Value,
    pub prev_hash: String,
    pub hash: String,
}

impl AuditRow {
    /// The row as a line of an export.
    pub fn to_line(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        canonical::to_string(&value) + "\n"
    }

    /// What `hash` must be, given everything else in the row.
    pub fn expected_hash(&self) -> String {
        self.hash_over(&canonical::to_string(&self.data))
    }

    /// [`Self::expected_hash`] for whoever has the canonical form of `data` already.
    pub fn hash_over(&self, data: &str) -> String {
        let Self { position, stream_sequence, event_id, event_version, aggregate_id, aggregate_sequence, correlation_id, .. } =
            self;
        let text = |text: &str| canonical::to_string(&Value::String(text.to_owned()));
        let causation_id = self.causation_id.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
        // Members in the order of their names, as the canonical form has them.
        let row = format!(
            r#"{{"actor":{actor},"aggregate_id":"{aggregate_id}","aggregate_sequence":"{aggregate_sequence}","aggregate_type":{aggregate_type},"causation_id":{causation_id},"correlation_id":"{correlation_id}","data":{data},"event_id":"{event_id}","event_type":{event_type},"event_version":{event_version},"occurred_at":"{occurred_at}","position":"{position}","prev_hash":{prev_hash},"stream_sequence":"{stream_sequence}"}}"#,
            actor = text(&self.actor),
            aggregate_type = text(&self.aggregate_type),
            event_type = text(&self.event_type),
            occurred_at = serde_text::timestamp::format(&self.occurred_at),
            prev_hash = text(&self.prev_hash),
        );
        canonical::hex(&Sha256::digest(row))
    }
}

/// The `prev_hash` of a tenant's first row.
pub fn genesis_hash(tenant: TenantId) -> String {
    canonical::hex(&Sha256::digest(format!("toolgate/audit/v1/{tenant}")))
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("row {position}: its hash does not match its content")]
    Changed { position: u64 },
    #[error("row {position}: it does not follow the row before it")]
    Unlinked { position: u64 },
    #[error("expected row {expected}, found row {found}")]
    Gap { expected: u64, found: u64 },
}

/// Checks `row` against the position and hash before it.
///
/// # Errors
/// [`ChainError`] naming the row.
pub fn verify(before: (u64, &str), row: &AuditRow) -> Result<(), ChainError> {
    let (position, hash) = before;
    if row.position != position + 1 {
        return Err(ChainError::Gap { expected: position + 1, found: row.position });
    }
    if row.prev_hash != hash {
        return Err(ChainError::Unlinked { position: row.position });
    }
    if row.hash != row.expected_hash() {
        return Err(ChainError::Changed { position: row.position });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(causation_id: Option<Uuid>) -> AuditRow {
        AuditRow {
            position: 7,
            stream_sequence: 12,
            event_id: Uuid::from_u128(1),
            event_type: "tool_call_\"x\"".to_owned(),
            event_version: 2,
            aggregate_type: "tool_call".to_owned(),
            aggregate_id: Uuid::from_u128(2),
            aggregate_sequence: 3,
            actor: "a\nb\u{1}".to_owned(),
            occurred_at: DateTime::from_timestamp(1_700_000_000, 5_000).unwrap(),
            correlation_id: Uuid::from_u128(4),
            causation_id,
            data: json!({"b": [1, 0.5], "a": null}),
            prev_hash: "00".to_owned(),
            hash: String::new(),
        }
    }

    #[test]
    fn the_hash_is_over_the_canonical_row_without_its_hash() {
        for causation_id in [None, Some(Uuid::from_u128(9))] {
            let row = row(causation_id);
            let mut value = serde_json::to_value(&row).unwrap();
            value.as_object_mut().unwrap().remove("hash");
            assert_eq!(row.expected_hash(), canonical::sha256_hex(&value));
        }
    }

    #[test]
    fn a_changed_row_a_gap_and_a_foreign_row_are_told_apart() {
        let mut first = AuditRow { position: 1, prev_hash: "start".to_owned(), ..row(None) };
        first.hash = first.expected_hash();
        assert_eq!(verify((0, "start"), &first), Ok(()));
        assert_eq!(verify((1, "start"), &first), Err(ChainError::Gap { expected: 2, found: 1 }));
        assert_eq!(verify((0, "other"), &first), Err(ChainError::Unlinked { position: 1 }));
        first.actor.push('x');
        assert_eq!(verify((0, "start"), &first), Err(ChainError::Changed { position: 1 }));
    }
}
