//! Answers that go on: server-sent events (WHATWG HTML, section 9.2), for as long as whoever asked may have them.

mod cloud_event;
mod standing;

use std::{convert::Infallible, fmt, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, Sse},
};
use futures::{Stream, stream};
use http::{HeaderName, HeaderValue};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use toolgate_events::TenantId;

pub use self::{
    cloud_event::CloudEvent,
    standing::{Lost, Standing},
};
use crate::{Place, Places, Problem};

/// A comment this often tells a client, and everything between, that the stream is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a client is told to wait before it comes back.
const RETRY: Duration = Duration::from_secs(1);

/// The event streams of a process: how many there are, and the end of all of them. Clones share everything.
#[derive(Clone)]
pub struct EventStreams {
    places: Places,
    clients: Gauge,
    closed: CancellationToken,
}

/// Where the frames of one stream come from.
pub trait EventSource: Send + 'static {
    /// The next frame; pends while there is none, and ends with the stream. A heartbeat drops what this has begun, and asks again.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;

    /// After which position a client that is cut off now may go on, as far as it has been told everything up to there.
    fn resume_after(&self) -> Option<u64>;
}

impl EventStreams {
    /// Three quarters of so many connections may be streams; the rest is for requests.
    pub fn register(max_connections: usize, registry: &mut Registry) -> Self {
        let clients = Gauge::default();
        registry.register("sse_clients", "Event streams open", clients.clone());
        Self { places: Places::for_streams(max_connections), clients, closed: CancellationToken::new() }
    }

    /// A place among the streams, which an answer holds as long as it goes on.
    ///
    /// # Errors
    /// 503 when none is left, 429 when the tenant has its share already.
    pub fn place_for(&self, tenant: TenantId) -> Result<Place, Problem> {
        self.places.take_for(tenant)
    }

    /// Ends every stream, open or to come: without this a graceful shutdown would wait for its clients.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// The answer that sends what `source` has until that ends, the token does, or the process.
    pub fn open(&self, place: Place, standing: Standing, source: impl EventSource) -> Response {
        let streaming = Streaming {
            source,
            stage: Stage::Greeting,
            standing,
            silent_until: Instant::now() + HEARTBEAT,
            closed: self.closed.clone(),
            _place: place,
            _counted: Counted::new(&self.clients),
        };
        // Proxies must not collect frames: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
        let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        ([unbuffered], Sse::new(frames(streaming))).into_response()
    }
}

/// An event as a frame. The log may hold types that this release never wrote; a line break in one would forge a frame.
pub fn event_frame(position: Option<u64>, event_type: &str, cloud_event: &str) -> Event {
    let event = Event::default().event(event_type.replace(char::is_control, "_")).data(cloud_event);
    match position {
        Some(position) => event.id(position.to_string()),
        None => event,
    }
}

struct Streaming<S> {
    source: S,
    stage: Stage,
    standing: Standing,
    /// When the next heartbeat is due.
    silent_until: Instant,
    closed: CancellationToken,
    _place: Place,
    _counted: Counted,
}

enum Stage {
    Greeting,
    Running,
    Ended,
}

/// `sse_clients` counts a stream for as long as it lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn frames(streaming: Streaming<impl EventSource>) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok(event), streaming))
    })
}

impl<S: EventSource> Streaming<S> {
    async fn next(&mut self) -> Option<Event> {
        let event = match self.stage {
            // The first byte goes out before the first event is known.
            Stage::Greeting => {
                self.stage = Stage::Running;
                Some(self.at_its_place(Event::default().retry(RETRY).comment("toolgate")))
            }
            Stage::Running => self.run().await,
            Stage::Ended => None,
        };
        self.silent_until = Instant::now() + HEARTBEAT;
        event
    }

    async fn run(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            lost = self.standing.lost() => self.farewell(lost),
            event = self.source.next() => event,
            () = sleep_until(self.silent_until) => Some(self.at_its_place(Event::default().comment(""))),
        }
    }

    fn farewell(&mut self, lost: Lost) -> Option<Event> {
        self.stage = Stage::Ended;
        // Nothing is known against the token: the client comes back with its Last-Event-ID.
        let is_final = lost != Lost::Unconfirmed;
        is_final.then(|| Event::default().event("unauthorized").data(json!({"detail": lost.to_string()}).to_string()))
    }

    /// Without data a frame dispatches no event, but its `id` is kept: whoever filters has not long to search after a reconnection.
    fn at_its_place(&self, event: Event) -> Event {
        match self.source.resume_after() {
            Some(position) => event.id(position.to_string()),
            None => event,
        }
    }
}

impl fmt::Debug for EventStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStreams").field("clients", &self.clients.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_from_the_log_cannot_forge_a_frame() {
        let frame = format!("{:?}", event_frame(Some(1), "a\r\nid: 9\n\ndata: x\0", "{}"));
        assert!(frame.contains("a__id: 9__data: x_"), "{frame}");
    }
}
