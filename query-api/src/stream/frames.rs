use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use chrono::TimeDelta;
use futures::{Stream, stream};
use http::{HeaderName, HeaderValue};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use toolgate_security::{Place, Principal};

use super::{Client, Lost, Standing, cloud_event::Rendered};
use crate::State;

const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a client is told to wait before it comes back.
const RETRY: Duration = Duration::from_secs(1);

/// What precedes the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// After this position, which was asked for or is the newest. A client that is cut off before its first event comes back to it.
    After(u64),
    /// The position asked for cannot be served: the stream goes on from this one.
    Reset(u64),
}

/// When a stream ends by itself.
enum Stage {
    Greeting(Resume),
    Resetting(u64),
    Running,
    Ended,
}

struct Streaming {
    client: Client,
    stage: Stage,
    standing: Standing,
    closed: CancellationToken,
    _place: Place,
    _counted: Counted,
}

/// `sse_clients` counts this stream for as long as it lives.
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

/// The response that serves `client` until its token expires, is revoked, or no longer allows it.
pub(crate) fn frames(state: &State, principal: Arc<Principal>, place: Place, client: Client, resume: Resume) -> Response {
    let streaming = Streaming {
        client,
        stage: Stage::Greeting(resume),
        standing: Standing::new(&state.guard, principal, "event:subscribe", TimeDelta::zero()),
        closed: state.closed.clone(),
        _place: place,
        _counted: Counted::new(&state.sse_clients),
    };
    // Proxies must not collect frames: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    let sse = Sse::new(events(streaming)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    ([unbuffered], sse).into_response()
}

fn events(streaming: Streaming) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok(event), streaming))
    })
}

impl Streaming {
    async fn next(&mut self) -> Option<Event> {
        match self.stage {
            Stage::Greeting(resume) => {
                // The first byte goes out before the first event is known.
                let greeting = Event::default().retry(RETRY).comment("toolgate");
                let (stage, greeting) = match resume {
                    Resume::After(position) => (Stage::Running, greeting.id(position.to_string())),
                    Resume::Reset(newest) => (Stage::Resetting(newest), greeting),
                };
                self.stage = stage;
                Some(greeting)
            }
            Stage::Resetting(newest) => {
                self.stage = Stage::Running;
                let position = newest.to_string();
                Some(Event::default().id(&position).event("reset").data(json!({"position": position}).to_string()))
            }
            Stage::Running => self.run().await,
            Stage::Ended => None,
        }
    }

    async fn run(&mut self) -> Option<Event> {
        let next = tokio::select! {
            biased;
            () = self.closed.cancelled() => return None,
            lost = self.standing.lost() => Err(lost),
            next = self.client.next() => Ok(next),
        };
        match next {
            Ok(Ok(event)) => event.map(|event| frame(&event)),
            Ok(Err(error)) => {
                // The client comes back with its Last-Event-ID.
                tracing::warn!(error = %error, "an event stream ended early");
                None
            }
            Err(Lost::Unconfirmed) => None,
            Err(lost) => {
                self.stage = Stage::Ended;
                let detail = lost.to_string();
                Some(Event::default().event("unauthorized").data(json!({"detail": detail}).to_string()))
            }
        }
    }
}

fn frame(event: &Arc<Rendered>) -> Event {
    Event::default().id(event.position.to_string()).event(event.sse_name()).data(&event.json)
}
