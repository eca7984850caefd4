//! Streamable HTTP (Model Context Protocol, transports) through the guard of everything that leaves.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use rmcp::{
    model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_client::{
        HttpStatusError, SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
        StreamableHttpResponseLimits,
    },
};
use sse_stream::{Sse, SseStream};
use toolgate_security::{Egress, EgressError, EgressRequest, EgressStream};

use super::MAX_MESSAGE;

/// What the requests are counted under.
const TOOL: &str = "mcp";
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The least that a server may ask for as the time before it is connected to again, in milliseconds.
const SHORTEST_RETRY: u64 = 1_000;
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

type Error = StreamableHttpError<EgressError>;

/// The protocol's HTTP over our own.
#[derive(Clone, Debug)]
pub struct Client {
    egress: Egress,
    /// The operator's own, with credentials: the protocol's library never sees them.
    headers: HeaderMap,
}

impl Client {
    pub fn new(egress: Egress, headers: HeaderMap) -> Self {
        Self { egress, headers }
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: impl IntoIterator<Item = (HeaderName, Option<String>)>,
        others: HashMap<HeaderName, HeaderValue>,
        body: Bytes,
    ) -> Result<EgressStream, Error> {
        let mut all = self.headers.clone();
        all.extend(others);
        for (name, value) in headers {
            let value = value.map(|value| HeaderValue::from_str(&value)).transpose();
            if let Some(value) = value.map_err(|_| unexpected("a header that cannot be sent back"))? {
                all.insert(name, value);
            }
        }
        let request = EgressRequest { method, url: uri.to_owned(), headers: all, body };
        self.egress.open(TOOL, request).await.map_err(StreamableHttpError::Client)
    }
}

impl StreamableHttpClient for Client {
    type Error = EgressError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Error> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        _limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Error> {
        let has_session = session_id.is_some();
        let headers = [
            (header::ACCEPT, Some(format!("{JSON}, {EVENTS}"))),
            (header::CONTENT_TYPE, Some(JSON.to_owned())),
            (SESSION_ID, session_id.map(|id| id.to_string())),
        ];
        let body = serde_json::to_vec(&message)?;
        let answer = self.send(Method::POST, &uri, headers, custom_headers, body.into()).await?;
        let session_id = text_of(&answer.headers, &SESSION_ID);
        let content_type = text_of(&answer.headers, &header::CONTENT_TYPE);
        let is = |media: &str| content_type.as_deref().is_some_and(|given| media_type(given) == media);
        let is_request = matches!(message, JsonRpcMessage::Request(_));
        match answer.status {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(StreamableHttpPostResponse::Accepted),
            StatusCode::NOT_FOUND if has_session => Err(StreamableHttpError::SessionExpired),
            status if status.is_success() && is(EVENTS) => Ok(StreamableHttpPostResponse::Sse(events(answer.body), session_id)),
            status if status.is_success() && !is_request => Ok(StreamableHttpPostResponse::Accepted),
            status if status.is_success() && is(JSON) => {
                let message = serde_json::from_slice(&collect(answer.body).await?)?;
                Ok(StreamableHttpPostResponse::Json(message, session_id))
            }
            status if status.is_success() => Err(StreamableHttpError::UnexpectedContentType(None)),
            status => {
                // A refusal may say why in the protocol's own words.
                let refused = || HttpStatusError::new(status.as_u16(), None).into();
                if !is(JSON) {
                    return Err(refused());
                }
                match serde_json::from_slice::<ServerJsonRpcMessage>(&collect(answer.body).await?) {
                    Ok(error @ JsonRpcMessage::Error(_)) => Ok(StreamableHttpPostResponse::Json(error, session_id)),
                    _ => Err(refused()),
                }
            }
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Error> {
        let headers = [(SESSION_ID, Some(session_id.to_string()))];
        // Whether the server can forget a session is its own affair.
        self.send(Method::DELETE, &uri, headers, custom_headers, Bytes::new()).await.map(drop)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Error> {
        let headers = [
            (header::ACCEPT, Some(EVENTS.to_owned())),
            (SESSION_ID, session_id.map(|id| id.to_string())),
            (LAST_EVENT_ID, last_event_id),
        ];
        let answer = self.send(Method::GET, &uri, headers, custom_headers, Bytes::new()).await?;
        let is_events =
            text_of(&answer.headers, &header::CONTENT_TYPE).is_some_and(|content_type| media_type(&content_type) == EVENTS);
        match answer.status {
            StatusCode::METHOD_NOT_ALLOWED => Err(StreamableHttpError::ServerDoesNotSupportSse),
            status if status.is_success() && is_events => Ok(events(answer.body)),
            status if status.is_success() => Err(StreamableHttpError::UnexpectedContentType(None)),
            status => Err(HttpStatusError::new(status.as_u16(), None).into()),
        }
    }
}

fn unexpected(what: &'static str) -> Error {
    StreamableHttpError::UnexpectedServerResponse(what.into())
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

type Body = BoxStream<'static, Result<Bytes, EgressError>>;

/// The whole of a body that is one message.
async fn collect(mut body: Body) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    while let Some(piece) = body.try_next().await.map_err(StreamableHttpError::Client)? {
        if whole.len() + piece.len() > MAX_MESSAGE {
            return Err(StreamableHttpError::ResponseBodyTooLarge { max_size: MAX_MESSAGE });
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// The events of a body, each of which is one message.
fn events(body: Body) -> BoxStream<'static, Result<Sse, SseError>> {
    let bounded = stream::unfold((body, Some(EventSize::default())), |(mut body, size)| async move {
        let mut size = size?;
        match body.next().await? {
            Ok(piece) if size.add(&piece) <= MAX_MESSAGE => Some((Ok(piece), (body, Some(size)))),
            Ok(_) => Some((Err(std::io::Error::other("an event is too large")), (body, None))),
            Err(error) => Some((Err(std::io::Error::other(error)), (body, None))),
        }
    });
    let paced = |sse: Sse| Sse { retry: sse.retry.map(|pause| pause.max(SHORTEST_RETRY)), ..sse };
    SseStream::from_bytes_stream(bounded.boxed()).map_ok(paced).boxed()
}

/// Counts the bytes of an event that has not ended. An empty line ends it (HTML, server-sent events).
#[derive(Debug, Default)]
struct EventSize {
    event: usize,
    line: usize,
    after_return: bool,
}

impl EventSize {
    /// The largest size that the event had, or that an event within the piece had.
    fn add(&mut self, piece: &[u8]) -> usize {
        let mut largest = self.event;
        for byte in piece {
            match byte {
                // The second half of a line's end.
                b'\n' if self.after_return => {}
                b'\n' | b'\r' if self.line == 0 => self.event = 0,
                b'\n' | b'\r' => self.line = 0,
                _ => self.line += 1,
            }
            self.event += usize::from(self.line > 0);
            self.after_return = *byte == b'\r';
            largest = largest.max(self.event);
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_event_ends_with_it() {
        for ends in ["\n\n", "\r\n\r\n", "\r\r"] {
            let mut size = EventSize::default();
            let event = format!("data: xxxx{ends}");
            assert_eq!(size.add(event.repeat(3).as_bytes()), 10, "{ends:?}");
            assert_eq!(size.add(b"data: "), 6);
            assert_eq!(size.add(b"yyyyyy\ndata: z"), 19, "{ends:?}");
        }
    }

    #[tokio::test]
    async fn an_event_is_bounded_exactly() {
        let first = async |bytes: usize| {
            let event = Bytes::from(format!("data: {}\n\n", "x".repeat(bytes - 6)));
            events(stream::iter([Ok(event)]).boxed()).next().await.unwrap()
        };
        assert!(first(MAX_MESSAGE - 1).await.is_ok() && first(MAX_MESSAGE).await.is_ok());
        assert!(first(MAX_MESSAGE + 1).await.is_err());
    }

    #[tokio::test]
    async fn a_server_cannot_ask_to_be_connected_to_without_a_pause() {
        for (asked, kept) in [(0, 1_000), (999, 1_000), (1_000, 1_000), (1_001, 1_001)] {
            let event = Bytes::from(format!("retry: {asked}\ndata: x\n\n"));
            let sse = events(stream::iter([Ok(event)]).boxed()).next().await.unwrap().unwrap();
            assert_eq!(sse.retry, Some(kept));
        }
    }

    #[tokio::test]
    async fn a_message_is_bounded_exactly() {
        let collected = async |bytes: usize| {
            let pieces = [Ok(Bytes::from(vec![b'x'; 10])), Ok(Bytes::from(vec![b'x'; bytes - 10]))];
            collect(stream::iter(pieces).boxed()).await
        };
        assert!(collected(MAX_MESSAGE - 1).await.is_ok() && collected(MAX_MESSAGE).await.is_ok());
        assert!(matches!(collected(MAX_MESSAGE + 1).await, Err(StreamableHttpError::ResponseBodyTooLarge { .. })));
    }
}
