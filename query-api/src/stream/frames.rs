use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use chrono::Utc;
use futures::{Stream, stream};
use http::{HeaderName, HeaderValue};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use tokio::time::{Instant, Interval, Sleep, interval};
use tokio_util::sync::CancellationToken;
use toolgate_security::{Policies, Principal, TokenError, TokenVerifier};

use super::{Client, cloud_event::Rendered};
use crate::State;

const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a client is told to wait before it comes back.
const RETRY: Duration = Duration::from_secs(1);

/// How often a stream looks whether its token still counts.
const RECHECK: Duration = Duration::from_secs(1);

/// What precedes the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// The position asked for, or now.
    Exact,
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
    expiry: std::pin::Pin<Box<Sleep>>,
    principal: Arc<Principal>,
    policies: Policies,
    verifier: Arc<TokenVerifier>,
    rechecks: Interval,
    closed: CancellationToken,
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
pub(crate) fn frames(state: &State, principal: Arc<Principal>, client: Client, resume: Resume) -> Response {
    #[expect(clippy::disallowed_methods, reason = "the end of a token is a time on the clock")]
    let left = (principal.expires_at - Utc::now()).to_std().unwrap_or_default();
    let streaming = Streaming {
        client,
        stage: Stage::Greeting(resume),
        expiry: Box::pin(tokio::time::sleep_until(Instant::now() + left)),
        principal,
        policies: state.guard.policies.clone(),
        verifier: Arc::clone(&state.guard.verifier),
        rechecks: interval(RECHECK),
        closed: state.closed.clone(),
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
                self.stage = match resume {
                    Resume::Exact => Stage::Running,
                    Resume::Reset(newest) => Stage::Resetting(newest),
                };
                // The first byte goes out before the first event is known.
                Some(Event::default().retry(RETRY).comment("toolgate"))
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
        // Begun once: a reading that is given up and begun again would forget how long the client has been slow.
        let mut next = pin!(self.client.next());
        let next = loop {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return None,
                () = &mut self.expiry => break Err("the token has expired"),
                _ = self.rechecks.tick() => match self.verifier.recheck(&self.principal) {
                    Ok(()) if self.policies.allows(&self.principal, "event:subscribe") => {}
                    Ok(()) => break Err("the token no longer allows this"),
                    // Nothing is known against the token: the client may come back as soon as that can be checked.
                    Err(TokenError::Unconfirmed) => return None,
                    Err(TokenError::Suspended) => break Err("the tenant is suspended"),
                    Err(_) => break Err("the token has been revoked"),
                },
                next = &mut next => break Ok(next),
            }
        };
        match next {
            Ok(Ok(event)) => event.map(|event| frame(&event)),
            Ok(Err(error)) => {
                // The client comes back with its Last-Event-ID.
                tracing::warn!(error = %error, "an event stream ended early");
                None
            }
            Err(detail) => {
                self.stage = Stage::Ended;
                Some(Event::default().event("unauthorized").data(json!({"detail": detail}).to_string()))
            }
        }
    }
}

fn frame(event: &Arc<Rendered>) -> Event {
    Event::default().id(event.position.to_string()).event(event.sse_name()).data(&event.json)
}
