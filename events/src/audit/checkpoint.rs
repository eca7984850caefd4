//! Audit checkpoints: signed statements about where a tenant's chain stands, kept where the database's owner cannot change them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{PublicKey, SigningKey, verify::MAX_LINE};
use crate::{Partition, TenantId, canonical, serde_text};

/// Where a tenant's chain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub tenant_id: TenantId,
    /// Of the newest row.
    pub position: u64,
    /// Of that row.
    pub hash: String,
    /// Where in the log the row's event is.
    pub partition: Partition,
    pub stream_sequence: u64,
}

/// A signed [`Head`]: at `signed_at`, row `position` of the tenant had this hash, and with it every row before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditCheckpoint {
    format: Format,
    pub tenant_id: TenantId,
    #[serde(with = "serde_text::u64_string")]
    pub position: u64,
    pub hash: String,
    pub partition: u16,
    #[serde(with = "serde_text::u64_string")]
    pub stream_sequence: u64,
    #[serde(with = "serde_text::timestamp")]
    pub signed_at: DateTime<Utc>,
    /// [`PublicKey::id`]
    pub key_id: String,
    /// Over the canonical JSON of everything else; Ed25519, in base64.
    pub signature: String,
}

/// So that a signature over something else can never be taken for one over a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[default]
    #[serde(rename = "toolgate/audit-checkpoint/v1")]
    V1,
}

impl AuditCheckpoint {
    pub fn sign(head: Head, signed_at: DateTime<Utc>, key: &SigningKey) -> Self {
        let Head { tenant_id, position, hash, partition, stream_sequence } = head;
        let mut checkpoint = Self {
            format: Format::V1,
            tenant_id,
            position,
            hash,
            partition: partition.0,
            stream_sequence,
            signed_at,
            key_id: key.public().id().to_owned(),
            signature: String::new(),
        };
        checkpoint.signature = key.sign(&checkpoint.spell(None));
        checkpoint
    }

    /// Reads a line, newline included, without checking its signature.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok().filter(|text| text.len() < MAX_LINE)?;
        let checkpoint: Self = serde_json::from_str(text).ok()?;
        // One spelling, so that two readers cannot read two things in it.
        (checkpoint.position > 0 && checkpoint.spell(Some(&checkpoint.signature)) == text).then_some(checkpoint)
    }

    /// The canonical JSON and a newline.
    pub fn to_line(&self) -> String {
        self.spell(Some(&self.signature)) + "\n"
    }

    /// Members in the order of their names; what is signed is the text without `signature`.
    fn spell(&self, signature: Option<&str>) -> String {
        let Self { format: Format::V1, tenant_id, position, partition, stream_sequence, .. } = self;
        format!(
            r#"{{"format":"toolgate/audit-checkpoint/v1","hash":{hash},"key_id":{key_id},"partition":{partition},"position":"{position}",{signature}"signed_at":"{signed_at}","stream_sequence":"{stream_sequence}","tenant_id":"{tenant_id}"}}"#,
            hash = canonical::text(&self.hash),
            key_id = canonical::text(&self.key_id),
            signature = signature.map(|signature| format!(r#""signature":{},"#, canonical::text(signature))).unwrap_or_default(),
            signed_at = serde_text::timestamp::format(&self.signed_at),
        )
    }
}

/// Why checkpoints prove nothing. The line is the one of the file they were read from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("line {line} is no audit checkpoint")]
    Unreadable { line: u64 },
    #[error("line {line} is signed by the key {key_id:?}, which is not among the public keys given")]
    UnknownKey { line: u64, key_id: String },
    #[error("line {line}: the signature is not the one of its key over this text: it was changed or forged")]
    Forged { line: u64 },
    #[error("line {line} is about the tenant {found}, an earlier one about {expected}; say which is meant with --tenant")]
    AnotherTenant { line: u64, expected: TenantId, found: TenantId },
    #[error("lines {earlier} and {line} are signed for different hashes of row {position}: it was rewritten in between")]
    Contradiction { earlier: u64, line: u64, position: u64 },
    #[error("there is no audit checkpoint of the tenant")]
    Empty,
}

/// What one tenant's checkpoints say, every signature of which has been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    pub(super) tenant: Option<TenantId>,
    only: Option<TenantId>,
    /// Hash by position, with the line it was read from.
    heads: BTreeMap<u64, (String, u64)>,
    lines: u64,
}

impl Signed {
    /// No checkpoints; the tenant, where it is known, says how its chain begins.
    pub fn nothing(tenant: Option<TenantId>) -> Self {
        Self { tenant, only: tenant, ..Self::default() }
    }

    /// Adds the next line of a file, newline included. Lines of other tenants than the one that was named are checked and passed over.
    ///
    /// # Errors
    /// [`CheckpointError`] when the line is not a checkpoint that one of `keys` has signed.
    pub fn add(&mut self, line: &[u8], keys: &[PublicKey]) -> Result<(), CheckpointError> {
        self.lines += 1;
        let number = self.lines;
        let checkpoint = AuditCheckpoint::parse(line).ok_or(CheckpointError::Unreadable { line: number })?;
        let signers: Vec<_> = keys.iter().filter(|key| key.id() == checkpoint.key_id).collect();
        if signers.is_empty() {
            return Err(CheckpointError::UnknownKey { line: number, key_id: checkpoint.key_id });
        }
        let text = checkpoint.spell(None);
        if !signers.iter().any(|key| key.verifies(&text, &checkpoint.signature)) {
            return Err(CheckpointError::Forged { line: number });
        }
        let AuditCheckpoint { tenant_id, position, hash, .. } = checkpoint;
        match (self.only, self.tenant) {
            (Some(only), _) if only != tenant_id => return Ok(()),
            (None, Some(expected)) if expected != tenant_id => {
                return Err(CheckpointError::AnotherTenant { line: number, expected, found: tenant_id });
            }
            _ => self.tenant = Some(tenant_id),
        }
        match self.heads.get(&position) {
            Some((known, earlier)) if *known != hash => {
                Err(CheckpointError::Contradiction { earlier: *earlier, line: number, position })
            }
            Some(_) => Ok(()),
            None => {
                self.heads.insert(position, (hash, number));
                Ok(())
            }
        }
    }

    /// Ends the adding.
    ///
    /// # Errors
    /// [`CheckpointError::Empty`] when nothing of the tenant was there: an empty file must not pass for a proof.
    pub fn complete(self) -> Result<Self, CheckpointError> {
        if self.heads.is_empty() { Err(CheckpointError::Empty) } else { Ok(self) }
    }

    /// The position of the newest one.
    pub(super) fn newest(&self) -> Option<u64> {
        self.heads.last_key_value().map(|(position, _)| *position)
    }

    pub(super) fn hash_at(&self, position: u64) -> Option<&str> {
        self.heads.get(&position).map(|(hash, _)| hash.as_str())
    }
}
