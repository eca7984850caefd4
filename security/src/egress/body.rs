use std::time::Duration;

use tokio::time::timeout;

use super::{EgressError, client_error};

/// Reads at most `limit` bytes of a decompressed body, and says whether there was more; that stays unread. Between two pieces
/// not more than `idle` may pass.
pub(super) async fn read(mut response: reqwest::Response, limit: usize, idle: Duration) -> Result<(Vec<u8>, bool), EgressError> {
    let mut body = Vec::new();
    loop {
        let chunk = timeout(idle, response.chunk()).await.map_err(|_| EgressError::Timeout)?;
        let Some(chunk) = chunk.map_err(|error| client_error(&error))? else { return Ok((body, false)) };
        let room = limit - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
}
