use async_nats::jetstream::object_store::{GetErrorKind, InfoErrorKind, ObjectMetadata, ObjectStore};
use tokio::io::AsyncReadExt;
use toolgate_events::{TenantId, audit::AuditCheckpoint};

use crate::{ArtifactError, Log};

pub(crate) const BUCKET: &str = "checkpoints";

/// Signed audit checkpoints, in JetStream's object store: one object each, named `<tenant>/<position>`.
#[derive(Clone)]
pub struct CheckpointBucket(ObjectStore);

impl CheckpointBucket {
    /// # Errors
    /// [`ArtifactError::Unavailable`], also when there is no such bucket.
    pub async fn open(log: &Log) -> Result<Self, ArtifactError> {
        log.context.get_object_store(BUCKET).await.map(Self).map_err(unavailable)
    }

    /// Keeps a checkpoint. One of that position that is kept already stays as it is.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`]
    pub async fn put(&self, checkpoint: &AuditCheckpoint) -> Result<(), ArtifactError> {
        let name = name(checkpoint.tenant_id, checkpoint.position);
        match self.0.info(&name).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == InfoErrorKind::NotFound => {}
            Err(error) => return Err(unavailable(error)),
        }
        let meta = ObjectMetadata { name, ..ObjectMetadata::default() };
        let line = checkpoint.to_line();
        self.0.put(meta, &mut line.as_bytes()).await.map(drop).map_err(unavailable)
    }

    /// The line of a tenant's checkpoint at a position, where there is one. Only the operator may read.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`]
    pub async fn get(&self, tenant: TenantId, position: u64) -> Result<Option<String>, ArtifactError> {
        let mut object = match self.0.get(name(tenant, position)).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable(error)),
        };
        let mut line = String::new();
        object.read_to_string(&mut line).await.map_err(unavailable)?;
        Ok(Some(line))
    }
}

fn name(tenant: TenantId, position: u64) -> String {
    format!("{tenant}/{position}")
}

fn unavailable(error: impl std::fmt::Display) -> ArtifactError {
    ArtifactError::Unavailable(error.to_string())
}

impl std::fmt::Debug for CheckpointBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckpointBucket")
    }
}
