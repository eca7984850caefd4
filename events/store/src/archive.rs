use std::{
    io::{self, BufRead, BufReader, Write},
    time::Duration,
};

use async_nats::jetstream::object_store::{GetErrorKind, ObjectMetadata, ObjectStore, PutErrorKind};
use aws_lc_rs::digest;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use futures::TryStreamExt;
use tokio::{io::AsyncReadExt, task::spawn_blocking, time::timeout};
use toolgate_events::{TenantId, audit::AuditRow, canonical};

use crate::{ArtifactError, Log};

pub(crate) const BUCKET: &str = "archive";
/// How long a segment may take on its way; the object store itself would be waited for without an end.
const PATIENCE: Duration = Duration::from_secs(15);

/// The segments of audit trails that have left the database, in JetStream's object store. What each must look like is in the
/// database.
#[derive(Clone)]
pub struct Archive(ObjectStore);

/// The stretch of positions that a segment holds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    pub tenant: TenantId,
    pub first_position: u64,
    pub last_position: u64,
}

/// Why a segment's rows cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error(transparent)]
    Store(#[from] ArtifactError),
    #[error("{0}")]
    Damaged(String),
}

impl Archive {
    /// # Errors
    /// [`ArtifactError::Unavailable`]
    pub async fn open(log: &Log) -> Result<Self, ArtifactError> {
        log.context.get_object_store(BUCKET).await.map(Self).map_err(|error| ArtifactError::Unavailable(error.to_string()))
    }

    /// Keeps a segment's bytes. Those that were kept under its name before are replaced.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`]
    pub async fn put(&self, segment: SegmentName, bytes: &[u8]) -> Result<(), ArtifactError> {
        let meta = ObjectMetadata { name: segment.to_string(), ..ObjectMetadata::default() };
        let mut reader = bytes;
        match self.0.put(meta, &mut reader).await {
            Ok(_) => Ok(()),
            // The new bytes are there already; the old ones stay behind, out of reach.
            Err(error) if error.kind() == PutErrorKind::PurgeOldChunks => Ok(()),
            Err(error) => Err(ArtifactError::Unavailable(error.to_string())),
        }
    }

    /// A segment's rows. They are believed when the bytes are the `size` ones with this digest (SHA-256, lower-case hex), which were
    /// archived. Bytes are unpacked where that keeps nobody waiting.
    ///
    /// # Errors
    /// [`SegmentError`]
    pub async fn open_segment(&self, segment: SegmentName, size: u64, sha256: &str) -> Result<Vec<AuditRow>, SegmentError> {
        // One more shows that there are more.
        let bytes = self.get(segment, size + 1).await?;
        let sha256 = sha256.to_owned();
        let unpacking = spawn_blocking(move || {
            if canonical::hex(digest::digest(&digest::SHA256, &bytes).as_ref()) != sha256 {
                return Err(SegmentError::Damaged("its bytes are not those that were archived".to_owned()));
            }
            let expected = segment.last_position - segment.first_position + 1;
            unpack(&bytes, expected).map_err(|error| SegmentError::Damaged(error.to_string()))
        });
        unpacking.await.map_err(|error| ArtifactError::Unavailable(error.to_string()))?
    }

    /// A segment's bytes, `size` of them at the most.
    ///
    /// # Errors
    /// [`ArtifactError`]; it is unavailable after 15 seconds.
    pub async fn get(&self, segment: SegmentName, size: u64) -> Result<Vec<u8>, ArtifactError> {
        let got = timeout(PATIENCE, self.get_whole(segment, size)).await;
        got.unwrap_or_else(|_| Err(ArtifactError::Unavailable(format!("it did not hand over {segment} in time"))))
    }

    async fn get_whole(&self, segment: SegmentName, size: u64) -> Result<Vec<u8>, ArtifactError> {
        let object = self.0.get(segment.to_string()).await.map_err(|error| match error.kind() {
            GetErrorKind::NotFound => ArtifactError::NotFound,
            _ => ArtifactError::Unavailable(error.to_string()),
        })?;
        let mut bytes = Vec::new();
        let read = object.take(size).read_to_end(&mut bytes).await;
        read.map_err(|error| ArtifactError::Unavailable(error.to_string()))?;
        Ok(bytes)
    }

    /// The names of everything that is kept.
    ///
    /// # Errors
    /// [`ArtifactError::Unavailable`]
    pub async fn names(&self) -> Result<Vec<String>, ArtifactError> {
        let objects = self.0.list().await.map_err(|error| ArtifactError::Unavailable(error.to_string()))?;
        let names = objects.map_ok(|object| object.name).try_collect().await;
        names.map_err(|error| ArtifactError::Unavailable(error.to_string()))
    }
}

/// Rows as a segment keeps them: the lines of an export, compressed (gzip, RFC 1952).
///
/// # Errors
/// None for rows that were read from anywhere; the signature is serde's and the compressor's.
pub fn pack(rows: &[AuditRow]) -> io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    for row in rows {
        packed.write_all(row.to_line().as_bytes())?;
    }
    packed.finish()
}

/// The rows of a segment, of which there are `expected`.
///
/// # Errors
/// When the bytes are no such segment.
pub fn unpack(bytes: &[u8], expected: u64) -> io::Result<Vec<AuditRow>> {
    let mut rows = Vec::new();
    for line in BufReader::new(GzDecoder::new(bytes)).lines() {
        if rows.len() as u64 == expected {
            return Err(io::Error::other("it has more rows than it says"));
        }
        rows.push(serde_json::from_str(&line?)?);
    }
    if (rows.len() as u64) < expected {
        return Err(io::Error::other("it has fewer rows than it says"));
    }
    Ok(rows)
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}-{}.ndjson.gz", self.tenant, self.first_position, self.last_position)
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Archive")
    }
}
