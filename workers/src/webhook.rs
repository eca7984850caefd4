//! Tells somebody outside what became of tasks: one signed request for each recorded outcome of `task.create` and `task.update`.
//!
//! The outcomes are read by consumers of their own, so that a receiver that is slow or dead delays no call. A message is
//! acknowledged once the receiver has taken it, so it is delivered at least once: where the process dies between the receiver's
//! answer and the acknowledgement, it comes again with the same `webhook-id`. The broker keeps the time until the next attempt, and
//! holds no place here meanwhile.

mod message;
mod schedule;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::StatusCode;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use toolgate_events::{Lane, ToolCallEvent};
use toolgate_security::{EgressError, EgressResponse, WebhookSecret};
use toolgate_store::{ConsumeError, Delivery, crash};

use self::message::Message;
use crate::{Environment, metrics::Metrics, places::Places};

/// The lane whose outcomes are told.
const LANE: &str = "task";
/// Requests under way at once; half of them for one tenant.
const CONCURRENCY: usize = 16;
/// Messages of one partition that wait for their next attempt. Beyond that, newer ones wait with them.
const MAX_WAITING: u32 = 1_000;
/// When the log does not answer: each look counts as a delivery, so there should be few.
const LOG_PAUSE: Duration = Duration::from_secs(30);

/// Where outcomes of tasks are told.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub url: String,
    pub secret: WebhookSecret,
    /// Before the second attempt; it doubles up to an hour.
    pub first_pause: Duration,
}

/// A process's share of the deliveries.
pub struct Deliveries {
    deliveries: BoxStream<'static, Delivery>,
    sender: Sender,
    ack_wait: Duration,
}

#[derive(Clone)]
struct Sender {
    environment: Environment,
    metrics: Metrics,
    webhook: Webhook,
}

/// What becomes of a message after an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Delivered,
    /// Why, and what the receiver said to wait.
    Failed(String, Option<Duration>),
    /// The receiver wants none of it, now or later.
    Gone,
}

impl Deliveries {
    /// # Errors
    /// [`ConsumeError`] when the consumers cannot be set up.
    pub async fn open(
        environment: &Environment,
        metrics: &Metrics,
        webhook: Webhook,
        lanes: &[Lane],
        ack_wait: Duration,
    ) -> Result<Option<Self>, ConsumeError> {
        let Some(lane) = lanes.iter().find(|lane| lane.as_str() == LANE) else { return Ok(None) };
        let deliveries = environment.log.consume_for_webhook(lane, ack_wait, MAX_WAITING).await?.boxed();
        let sender = Sender { environment: environment.clone(), metrics: metrics.clone(), webhook };
        Ok(Some(Self { deliveries, sender, ack_wait }))
    }

    /// Delivers until `shutdown`, then finishes the requests that are under way.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let places = Arc::new(Places::new(CONCURRENCY));
        let requests = TaskTracker::new();
        while let Some(Some(delivery)) = shutdown.run_until_cancelled(self.deliveries.next()).await {
            if delivery.is_other_than(ToolCallEvent::SUCCEEDED) {
                delivery.ack().await;
                continue;
            }
            let (sender, places, shutdown) = (self.sender.clone(), Arc::clone(&places), shutdown.clone());
            let period = self.ack_wait / 3;
            requests.spawn(async move { handle(&sender, &places, &delivery, period, &shutdown).await });
        }
        requests.close();
        requests.wait().await;
    }
}

/// Handles one delivery, keeping it alive meanwhile.
async fn handle(sender: &Sender, places: &Places, delivery: &Delivery, period: Duration, shutdown: &CancellationToken) {
    let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    let mut work = std::pin::pin!(deliver(sender, places, delivery, shutdown));
    loop {
        tokio::select! {
            () = &mut work => return,
            _ = heartbeat.tick() => delivery.in_progress().await,
        }
    }
}

async fn deliver(sender: &Sender, places: &Places, delivery: &Delivery, shutdown: &CancellationToken) {
    let message = match Message::of(&sender.environment.log, delivery).await {
        Ok(Some(message)) => message,
        // Another tool's outcome, or what no worker wrote.
        Ok(None) => return delivery.ack().await,
        Err(reason) => {
            tracing::warn!(reason = %reason, subject = delivery.subject(), "a webhook waits for the log");
            return delivery.retry_after(LOG_PAUSE).await;
        }
    };
    let Some(_place) = shutdown.run_until_cancelled(places.take(message.tenant_id, None)).await else {
        return delivery.retry_after(Duration::ZERO).await;
    };
    let verdict = sender.send(&message).await;
    crash::point("worker.delivered");
    match verdict {
        Verdict::Delivered => {
            sender.metrics.webhook("delivered");
            delivery.ack().await;
        }
        Verdict::Gone => sender.give_up(delivery, "the receiver answered 410").await,
        Verdict::Failed(reason, asked) => {
            let age = (sender.environment.clock.now() - message.recorded).to_std().unwrap_or_default();
            match schedule::pause(sender.webhook.first_pause, delivery.delivered, age, message.event_id, asked) {
                Some(pause) => {
                    tracing::debug!(reason, attempt = delivery.delivered, "a webhook was not delivered yet");
                    sender.metrics.webhook("retried");
                    delivery.retry_after(pause).await;
                }
                None => sender.give_up(delivery, &reason).await,
            }
        }
    }
}

impl Sender {
    async fn send(&self, message: &Message) -> Verdict {
        // Of the attempt, not of the outcome.
        let (id, timestamp) = (message.event_id.to_string(), self.environment.clock.now().timestamp());
        let body = Bytes::clone(&message.body);
        let request = match self.webhook.secret.request(&self.webhook.url, &id, timestamp, body) {
            Ok(request) => request,
            Err(error) => return Verdict::Failed(error.to_string(), None),
        };
        verdict(self.environment.egress.send(message.tool, request).await)
    }

    /// Sets the message aside where operators look. When that fails it is tried, and told, once more.
    async fn give_up(&self, delivery: &Delivery, reason: &str) {
        let reason = format!("webhook given up at attempt {}: {reason}", delivery.delivered);
        let log = &self.environment.log;
        if let Err(error) = log.park(delivery.partition, delivery.stream_sequence, delivery.subject(), &reason).await {
            tracing::warn!(error = %error, "a webhook could not be set aside yet");
            return delivery.retry_after(Duration::from_secs(60)).await;
        }
        tracing::error!(reason, subject = delivery.subject(), sequence = delivery.stream_sequence, "message parked");
        self.metrics.webhook("given_up");
        delivery.ack().await;
    }
}

fn verdict(answer: Result<EgressResponse, EgressError>) -> Verdict {
    match answer {
        Ok(answer) if answer.status.is_success() => Verdict::Delivered,
        Ok(answer) if answer.status == StatusCode::GONE => Verdict::Gone,
        Ok(answer) => {
            Verdict::Failed(format!("the receiver answered {}", answer.status.as_u16()), schedule::retry_after(&answer.headers))
        }
        Err(error) => Verdict::Failed(error.to_string(), None),
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("webhook", &self.sender.webhook).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;

    #[test]
    fn success_ends_it_410_ends_it_and_everything_else_is_tried_again() {
        let answer = |status: u16, headers: HeaderMap| {
            verdict(Ok(EgressResponse { status: StatusCode::from_u16(status).unwrap(), headers, body: vec![], truncated: false }))
        };
        for status in [200, 202, 204, 299] {
            assert_eq!(answer(status, HeaderMap::new()), Verdict::Delivered);
        }
        assert_eq!(answer(410, HeaderMap::new()), Verdict::Gone);
        for status in [302, 400, 404, 409, 411, 429, 500, 503] {
            assert!(matches!(answer(status, HeaderMap::new()), Verdict::Failed(_, None)), "{status}");
        }
        let wait = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("7"))]);
        assert!(matches!(answer(429, wait), Verdict::Failed(_, Some(pause)) if pause == Duration::from_secs(7)));
        assert!(matches!(verdict(Err(EgressError::Timeout)), Verdict::Failed(_, None)));
    }
}
