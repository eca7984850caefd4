//! How an artifact is kept: sealed in chunks, so that it can be read as a stream, and from the middle.
//!
//! ```text
//! "TGARTIF1" | length of the key's name, one byte | the key's name | salt, 16 bytes | chunks
//! ```
//!
//! Each chunk is AES-256-GCM over 64 KiB, the last one over what is left, followed by its tag. The key is made for this one artifact:
//! HMAC-SHA256 over tenant, artifact and salt. So a nonce can count the chunks: eight bytes of number, one that is 1 in the last
//! chunk, three of zero. Everything before the first chunk is the additional data of each. A chunk that is missing, moved, or of
//! another artifact does not open, and neither does a part that is taken for the whole.

use std::io;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use bytes::{Bytes, BytesMut};
use futures::stream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;
use toolgate_events::TenantId;
use uuid::Uuid;

use super::ArtifactError;
use crate::{KeyError, Keyring, Scope, keys::random};

const MAGIC: &[u8; 8] = b"TGARTIF1";
const SALT: usize = 16;
/// Bytes of content in a chunk.
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;

/// What is kept instead of `bytes`; `None` when the keys have been destroyed.
pub async fn seal(
    keys: &Keyring,
    (tenant, scope): (TenantId, &Scope),
    artifact: Uuid,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, KeyError> {
    let Some(key) = keys.artifact_key(tenant, scope).await? else { return Ok(None) };
    let salt: [u8; SALT] = random()?;
    let name = key.name().as_bytes();
    let length = u8::try_from(name.len()).map_err(|_| KeyError::Broken("a key has too long a name".to_owned()))?;
    let mut sealed = Vec::with_capacity(bytes.len() + bytes.len() / CHUNK * TAG + 256);
    sealed.extend_from_slice(MAGIC);
    sealed.push(length);
    sealed.extend_from_slice(name);
    sealed.extend_from_slice(&salt);
    let (head, own) = (sealed.clone(), key.of_artifact(tenant, artifact, &salt)?);
    let chunks: Vec<_> = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(CHUNK).collect() };
    for (number, chunk) in chunks.iter().enumerate() {
        let mut chunk = chunk.to_vec();
        let nonce = nonce(number as u64, number + 1 == chunks.len());
        let tag = own.seal_in_place_separate_tag(nonce, Aad::from(head.as_slice()), &mut chunk);
        sealed.extend_from_slice(&chunk);
        sealed.extend_from_slice(tag.map_err(|_| KeyError::Broken("an artifact cannot be sealed".to_owned()))?.as_ref());
    }
    Ok(Some(sealed))
}

/// The content of what is kept, from the byte `first`, counted from 0. What was kept before there was sealing is content already.
pub async fn open<R>(
    keys: &Keyring,
    tenant: TenantId,
    artifact: Uuid,
    mut kept: R,
    first: u64,
) -> Result<Box<dyn AsyncRead + Send + Unpin>, ArtifactError>
where
    R: AsyncRead + Send + Unpin + 'static,
{
    let mut head = read(&mut kept, MAGIC.len() + 1).await?;
    if head.get(..MAGIC.len()) != Some(MAGIC.as_slice()) || head.len() <= MAGIC.len() {
        let mut whole = io::Cursor::new(head).chain(kept);
        skip(&mut whole, first).await?;
        return Ok(Box::new(whole));
    }
    let length = usize::from(head.last().copied().unwrap_or_default());
    head.extend(read(&mut kept, length + SALT).await?);
    let (name, salt) = head.get(MAGIC.len() + 1..).and_then(|rest| rest.split_at_checked(length)).ok_or_else(cut_off)?;
    let name = std::str::from_utf8(name).map_err(|_| cut_off())?;
    let key = keys.artifact_key_named(tenant, name).await?.ok_or(ArtifactError::Erased)?;
    let own = key.of_artifact(tenant, artifact, salt)?;
    let number = first / CHUNK as u64;
    skip(&mut kept, number * (CHUNK + TAG) as u64).await?;
    let chunks = Chunks { kept, own, head, number, ahead: BytesMut::new(), is_over: false };
    let chunks =
        stream::try_unfold(
            chunks,
            |mut chunks| async move { Ok::<_, io::Error>(chunks.next().await?.map(|chunk| (chunk, chunks))) },
        );
    let mut content = StreamReader::new(Box::pin(chunks));
    skip(&mut content, first % CHUNK as u64).await?;
    Ok(Box::new(content))
}

struct Chunks<R> {
    kept: R,
    own: LessSafeKey,
    head: Vec<u8>,
    number: u64,
    /// Read, and not opened yet.
    ahead: BytesMut,
    is_over: bool,
}

impl<R: AsyncRead + Unpin> Chunks<R> {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.is_over {
            return Ok(None);
        }
        // One byte more, to see whether another chunk follows.
        while self.ahead.len() <= CHUNK + TAG {
            if self.kept.read_buf(&mut self.ahead).await? == 0 {
                self.is_over = true;
                break;
            }
        }
        let length = self.ahead.len().min(CHUNK + TAG);
        let is_last = self.is_over && length == self.ahead.len();
        self.is_over = is_last;
        let mut chunk = self.ahead.split_to(length);
        let nonce = nonce(self.number, is_last);
        let opened = self.own.open_in_place(nonce, Aad::from(self.head.as_slice()), &mut chunk);
        let length = opened.map_err(|_| io::Error::other(cut_off()))?.len();
        chunk.truncate(length);
        self.number += 1;
        Ok(Some(chunk.freeze()))
    }
}

fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[8] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}

/// So many bytes, or fewer when there are no more.
async fn read(kept: &mut (impl AsyncRead + Unpin), length: usize) -> Result<Vec<u8>, ArtifactError> {
    let mut bytes = Vec::with_capacity(length);
    kept.take(length as u64).read_to_end(&mut bytes).await.map_err(unavailable)?;
    Ok(bytes)
}

async fn skip(kept: &mut (impl AsyncRead + Unpin), length: u64) -> Result<(), ArtifactError> {
    tokio::io::copy(&mut kept.take(length), &mut tokio::io::sink()).await.map(drop).map_err(unavailable)
}

fn unavailable(error: io::Error) -> ArtifactError {
    ArtifactError::Unavailable(error.to_string())
}

fn cut_off() -> ArtifactError {
    ArtifactError::Keys(KeyError::Broken("an artifact was cut off or changed".to_owned()))
}
