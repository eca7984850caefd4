//! One HTTP request for a small document, from an address that the operator has named.

use std::time::Duration;

use reqwest::{StatusCode, redirect};

use super::source::ReadError;

/// How long a fetch may take, from the connection to the last byte.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest document, in bytes.
pub(super) const MAX_DOCUMENT: usize = 1024 * 1024;

/// Follows no redirect and asks no proxy: the keys come from where the operator said, or not at all.
pub(super) fn client() -> Result<reqwest::Client, ReadError> {
    let client =
        reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(FETCH_TIMEOUT).no_gzip().build();
    client.map_err(failed)
}

pub(super) async fn fetch(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, ReadError> {
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(ReadError::Status(response.status()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if document.len() + chunk.len() > MAX_DOCUMENT {
            return Err(ReadError::TooLarge);
        }
        document.extend_from_slice(&chunk);
    }
    Ok(document)
}

/// The address may hold a password, so an error does not repeat it.
fn failed(error: reqwest::Error) -> ReadError {
    ReadError::Http(error.without_url())
}
