use std::{collections::HashMap, io};

use async_nats::jetstream::object_store::{GetErrorKind, ObjectMetadata, ObjectStore, PutErrorKind};
use futures::TryStreamExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use toolgate_events::TenantId;
use uuid::Uuid;

use crate::{KeyError, Keyring, Log, Scope};

mod sealed;

pub(crate) const BUCKET: &str = "artifacts";
/// Whose key an object is sealed with, in its metadata.
const SCOPE: &str = "scope";

/// The bytes that tools made, sealed, in JetStream's object store. What they are, and whose, is in the read model.
#[derive(Clone)]
pub struct Artifacts {
    bucket: ObjectStore,
    keys: Keyring,
}

/// Why an artifact could not be kept or fetched.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("there is no such artifact")]
    NotFound,
    #[error("the artifact was erased")]
    Erased,
    #[error("the object store did not answer: {0}")]
    Unavailable(String),
    #[error("an artifact can neither be sealed nor opened: {0}")]
    Keys(#[from] KeyError),
}

impl Artifacts {
    /// # Errors
    /// [`ArtifactError::Unavailable`]
    pub async fn open(log: &Log) -> Result<Self, ArtifactError> {
        let bucket = log.context.get_object_store(BUCKET).await.map_err(|error| ArtifactError::Unavailable(error.to_string()))?;
        Ok(Self { bucket, keys: log.keys().clone() })
    }

    /// Keeps `bytes` under an id, sealed with the scope's key. The same id and bytes again change nothing a reader could see. What is
    /// made after the scope was erased is not kept.
    ///
    /// # Errors
    /// [`ArtifactError`]
    pub async fn put(&self, tenant: TenantId, scope: &Scope, artifact: Uuid, bytes: &[u8]) -> Result<(), ArtifactError> {
        if self.has(tenant, artifact, bytes).await {
            return Ok(());
        }
        let Some(sealed) = sealed::seal(&self.keys, (tenant, scope), artifact, bytes).await? else { return Ok(()) };
        let metadata = HashMap::from([(SCOPE.to_owned(), scope.to_string())]);
        let meta = ObjectMetadata { name: name(tenant, artifact), metadata, ..ObjectMetadata::default() };
        match self.bucket.put(meta, &mut sealed.as_slice()).await {
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
        Ok(self.get_from(tenant, artifact, first).await?.take(length))
    }

    /// The bytes kept under an id. What was changed or cut off ends in an error, never in fewer bytes.
    ///
    /// # Errors
    /// [`ArtifactError`]
    pub async fn get(&self, tenant: TenantId, artifact: Uuid) -> Result<impl AsyncRead + Send + Unpin + use<>, ArtifactError> {
        self.get_from(tenant, artifact, 0).await
    }

    async fn get_from(
        &self,
        tenant: TenantId,
        artifact: Uuid,
        first: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, ArtifactError> {
        let kept = self.bucket.get(name(tenant, artifact)).await.map_err(|error| match error.kind() {
            GetErrorKind::NotFound => ArtifactError::NotFound,
            _ => ArtifactError::Unavailable(error.to_string()),
        })?;
        sealed::open(&self.keys, tenant, artifact, kept, first).await
    }

    /// Deletes what is sealed with the keys of a data subject, or everything of a tenant. Only the operator may. Answers with the
    /// number of artifacts.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`]; the same again goes on.
    pub async fn erase(&self, tenant: TenantId, scope: &Scope) -> Result<usize, ArtifactError> {
        let unavailable = |error: String| ArtifactError::Unavailable(error);
        let objects = self.bucket.list().await.map_err(|error| unavailable(error.to_string()))?;
        let objects: Vec<_> = objects.try_collect().await.map_err(|error| unavailable(error.to_string()))?;
        let prefix = format!("{tenant}/");
        let is_meant = |name: &str, own: Option<&String>| {
            name.starts_with(&prefix) && (*scope == Scope::tenant() || own.is_some_and(|own| *own == scope.to_string()))
        };
        let mut erased = 0;
        for object in objects.iter().filter(|object| !object.deleted && is_meant(&object.name, object.metadata.get(SCOPE))) {
            self.bucket.delete(&object.name).await.map_err(|error| unavailable(error.to_string()))?;
            erased += 1;
        }
        Ok(erased)
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
