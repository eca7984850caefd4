use std::time::Duration;

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::timeout;

use super::{EgressError, client_error};

/// Reads at most `limit` bytes of a decompressed body, and says whether there was more; that stays unread. Between two pieces
/// not more than `idle` may pass.
pub(super) async fn read(mut response: reqwest::Response, limit: usize, idle: Duration) -> Result<(Vec<u8>, bool), EgressError> {
    let mut body = Vec::new();
    loop {
        let Some(chunk) = next(&mut response, idle).await? else { return Ok((body, false)) };
        let room = limit - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
}

/// A decompressed body piece by piece, to its end or its first error.
pub(super) fn pieces(response: reqwest::Response, idle: Duration) -> BoxStream<'static, Result<Bytes, EgressError>> {
    stream::unfold(Some(response), move |response| async move {
        let mut response = response?;
        match next(&mut response, idle).await {
            Ok(Some(piece)) => Some((Ok(piece), Some(response))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

async fn next(response: &mut reqwest::Response, idle: Duration) -> Result<Option<Bytes>, EgressError> {
    let chunk = timeout(idle, response.chunk()).await.map_err(|_| EgressError::Timeout)?;
    chunk.map_err(|error| client_error(&error))
}
