use std::{io, path::PathBuf, time::Duration};

use tokio::io::AsyncReadExt;

use super::fetch::{self, MAX_DOCUMENT};

/// A file is looked at this often.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Where a key set comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A JWKS document that never changes.
    Fixed(String),
    /// A file, looked at every second.
    File(PathBuf),
    /// An http(s) address, and how often it is fetched.
    Url { url: String, every: Duration },
}

/// Why a key set could not be read this time.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("it cannot be fetched: {0}")]
    Http(#[source] reqwest::Error),
    #[error("its address was answered with {0}")]
    Status(http::StatusCode),
    #[error("it is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    #[error("it is not UTF-8")]
    Encoding,
    #[error("none of its keys can be used; the log says why")]
    NoUsableKey,
    #[error(transparent)]
    Malformed(#[from] super::JwksError),
}

/// A source that is ready to be read.
#[derive(Debug)]
pub(super) enum Reader {
    Fixed(String),
    File(PathBuf),
    Url { client: reqwest::Client, url: String, every: Duration },
}

impl Reader {
    pub(super) fn new(source: KeySource) -> Result<Self, ReadError> {
        Ok(match source {
            KeySource::Fixed(document) => Self::Fixed(document),
            KeySource::File(path) => Self::File(path),
            KeySource::Url { url, every } => Self::Url { client: fetch::client()?, url, every },
        })
    }

    pub(super) async fn read(&self) -> Result<String, ReadError> {
        let document = match self {
            Self::Fixed(document) => return Ok(document.clone()),
            Self::File(path) => {
                let file = tokio::fs::File::open(path).await?;
                let mut document = Vec::new();
                file.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut document).await?;
                document
            }
            Self::Url { client, url, .. } => fetch::fetch(client, url).await?,
        };
        if document.len() > MAX_DOCUMENT {
            return Err(ReadError::TooLarge);
        }
        String::from_utf8(document).map_err(|_| ReadError::Encoding)
    }

    /// How long to wait before the source is read again; `None` when it never changes.
    pub(super) fn pause(&self, is_loaded: bool, succeeded: bool) -> Option<Duration> {
        match self {
            Self::Fixed(_) => None,
            Self::File(_) => Some(FILE_INTERVAL),
            Self::Url { .. } if !is_loaded => Some(super::RETRY_WITHOUT_KEYS),
            Self::Url { every, .. } if !succeeded => Some((*every).min(super::RETRY)),
            Self::Url { every, .. } => Some(*every),
        }
    }
}
