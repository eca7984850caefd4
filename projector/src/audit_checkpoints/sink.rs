use std::io;

use toolgate_events::{TenantId, audit::AuditCheckpoint, serde_text};
use toolgate_security::{Egress, EgressError, WebhookSecret};
use toolgate_store::{ArtifactError, CheckpointBucket, Clock};
use uuid::Uuid;

use super::{CheckpointDir, chain::Signed};

/// Where checkpoints go.
#[derive(Clone, Debug)]
pub enum Sink {
    File(CheckpointDir),
    Bucket(CheckpointBucket),
    Webhook(CheckpointWebhook),
}

/// Somebody outside who is told every checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointWebhook {
    pub url: String,
    pub secret: WebhookSecret,
    pub egress: Egress,
}

/// Why a checkpoint did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("the file: {0}")]
    File(#[from] io::Error),
    #[error("the bucket: {0}")]
    Bucket(#[from] ArtifactError),
    #[error("the webhook: {0}")]
    Webhook(#[from] EgressError),
    #[error("the webhook: the receiver answered {0}")]
    Answer(u16),
    #[error("the webhook: {0}")]
    Request(#[from] http::header::InvalidHeaderValue),
}

impl Sink {
    /// As metrics have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Bucket(_) => "bucket",
            Self::Webhook(_) => "webhook",
        }
    }

    /// Puts a checkpoint there. The same one twice does no harm.
    ///
    /// # Errors
    /// [`SinkError`]
    pub async fn put(&self, checkpoint: &AuditCheckpoint, clock: &Clock) -> Result<(), SinkError> {
        match self {
            Self::File(directory) => {
                let (directory, checkpoint) = (directory.clone(), checkpoint.clone());
                Ok(blocking(move || directory.append(&checkpoint)).await?)
            }
            Self::Bucket(bucket) => Ok(bucket.put(checkpoint).await?),
            Self::Webhook(webhook) => webhook.tell(checkpoint, clock).await,
        }
    }

    /// What it has got last of a tenant, where it can say.
    ///
    /// # Errors
    /// [`SinkError::File`]
    pub async fn last(&self, tenant: TenantId) -> Result<Option<Signed>, SinkError> {
        let Self::File(directory) = self else { return Ok(None) };
        let directory = directory.clone();
        let last = blocking(move || directory.last(tenant)).await?;
        Ok(last.map(|AuditCheckpoint { position, hash, .. }| Signed { position, hash }))
    }

    /// Whose checkpoints it has got, where it can say.
    ///
    /// # Errors
    /// [`SinkError::File`]
    pub async fn tenants(&self) -> Result<Vec<TenantId>, SinkError> {
        let Self::File(directory) = self else { return Ok(Vec::new()) };
        let directory = directory.clone();
        Ok(blocking(move || directory.tenants()).await?)
    }
}

impl CheckpointWebhook {
    async fn tell(&self, checkpoint: &AuditCheckpoint, clock: &Clock) -> Result<(), SinkError> {
        let AuditCheckpoint { tenant_id, position, hash, signed_at, .. } = checkpoint;
        // The same at every attempt, also after a restart.
        let id = Uuid::new_v5(&tenant_id.0, format!("audit-checkpoint/{position}/{hash}").as_bytes()).to_string();
        // `data` is the line as it was signed, byte by byte, so that a receiver can cut it out and keep it.
        let (timestamp, line) = (serde_text::timestamp::format(signed_at), checkpoint.to_line());
        let body = format!(r#"{{"type":"audit.checkpoint","timestamp":"{timestamp}","data":{}}}"#, line.trim_end());
        let request = self.secret.request(&self.url, &id, clock.now().timestamp(), body.into())?;
        let answer = self.egress.send("", request).await?;
        if answer.status.is_success() { Ok(()) } else { Err(SinkError::Answer(answer.status.as_u16())) }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
