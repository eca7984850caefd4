//! The audit row and its hash chain.
//!
//! `hash` = SHA-256 over the canonical JSON of the row without `hash` (so `prev_hash` is inside it), as lower-case hex. The first
//! row of a tenant has as `prev_hash` the SHA-256 of `toolgate/audit/v1/<tenant_id>`, which binds the chain to its tenant.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
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
    /// What `hash` must be, given everything else in the row.
    pub fn expected_hash(&self) -> String {
        canonical::sha256_hex(&json!({
            "position": self.position.to_string(),
            "stream_sequence": self.stream_sequence.to_string(),
            "event_id": self.event_id,
            "event_type": self.event_type,
            "event_version": self.event_version,
            "aggregate_type": self.aggregate_type,
            "aggregate_id": self.aggregate_id,
            "aggregate_sequence": self.aggregate_sequence.to_string(),
            "actor": self.actor,
            "occurred_at": serde_text::timestamp::format(&self.occurred_at),
            "correlation_id": self.correlation_id,
            "causation_id": self.causation_id,
            "data": self.data,
            "prev_hash": self.prev_hash,
        }))
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
