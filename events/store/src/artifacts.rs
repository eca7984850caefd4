use std::io;

use async_nats::jetstream::object_store::{GetErrorKind, ObjectMetadata, ObjectStore, PutErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt};
use toolgate_events::TenantId;
use uuid::Uuid;

use crate::Log;

pub(crate) const BUCKET: &str = "artifacts";

/// The bytes that tools made, in JetStream's object store. What they are, and whose, is in the read model.
#[derive(Clone)]
pub struct Artifacts(ObjectStore);

/// Why an artifact could not be kept or fetched.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("there is no such artifact")]
    NotFound,
    #[error("the object store did not answer: {0}")]
    Unavailable(String),
}

impl Artifacts {
    /// # Errors
    /// [`ArtifactError::Unavailable`]
    pub async fn open(log: &Log) -> Result<Self, ArtifactError> {
        log.context.get_object_store(BUCKET).await.map(Self).map_err(|error| ArtifactError::Unavailable(error.to_string()))
    }

    /// Keeps `bytes` under an id. The same id and bytes again change nothing a reader could see.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`]
    pub async fn put(&self, tenant: TenantId, artifact: Uuid, bytes: &[u8]) -> Result<(), ArtifactError> {
        if self.has(tenant, artifact, bytes).await {
            return Ok(());
        }
        let meta = ObjectMetadata { name: name(tenant, artifact), ..ObjectMetadata::default() };
        let mut reader = bytes;
        match self.0.put(meta, &mut reader).await {
            Ok(_) => Ok(()),
            // The new bytes are there already. Nobody but the operator may purge, so the old ones stay behind, out of reach.
            Err(error) if error.kind() == PutErrorKind::PurgeOldChunks => Ok(()),
            Err(error) => Err(ArtifactError::Unavailable(error.to_string())),
        }
    }

    /// Whether exactly these bytes are kept already: a tool that runs again makes them again.
    async fn has(&self, tenant: TenantId, artifact: Uuid, bytes: &[u8]) -> bool {
        let Ok(kept) = self.get(tenant, artifact).await else { return false };
        let mut found = Vec::new();
        kept.take(bytes.len() as u64 + 1).read_to_end(&mut found).await.is_ok() && found == bytes
    }

    /// `length` of the bytes kept under an id, from the byte `first`, counted from 0. The object store has no way to begin in the
    /// middle, so what comes before is read and thrown away; what comes after is not read.
    ///
    /// # Errors
    /// [`ArtifactError`]
    pub async fn get_part(
        &self,
        tenant: TenantId,
        artifact: Uuid,
        first: u64,
        length: u64,
    ) -> Result<impl AsyncRead + Send + Unpin + use<>, ArtifactError> {
        let mut bytes = self.get(tenant, artifact).await?;
        let before = tokio::io::copy(&mut (&mut bytes).take(first), &mut tokio::io::sink()).await;
        before.map_err(|error| ArtifactError::Unavailable(error.to_string()))?;
        Ok(bytes.take(length))
    }

    /// The bytes kept under an id; the object store checks their digest as they are read.
    ///
    /// # Errors
    /// [`ArtifactError`]
    pub async fn get(&self, tenant: TenantId, artifact: Uuid) -> Result<impl AsyncRead + Send + Unpin + use<>, ArtifactError> {
        self.0.get(name(tenant, artifact)).await.map_err(|error| match error.kind() {
            GetErrorKind::NotFound => ArtifactError::NotFound,
            _ => ArtifactError::Unavailable(error.to_string()),
        })
    }
}

impl std::fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Artifacts")
    }
}

impl From<ArtifactError> for io::Error {
    fn from(error: ArtifactError) -> Self {
        io::Error::other(error)
    }
}

fn name(tenant: TenantId, artifact: Uuid) -> String {
    format!("{tenant}/{artifact}")
}
