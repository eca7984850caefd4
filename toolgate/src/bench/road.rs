//! The whole road over HTTP: a call and its outcome, the stream of events, and how soon a query shows what was answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future;
use http_body_util::BodyExt;
use hyper::StatusCode;
use serde_json::Value;

use super::{
    figures::Figures,
    http::{Connection, Kind, Outgoing, ToolCaller},
    load::{self, Sample},
    tenants::Tenant,
};

/// Streams opened per measurement at the least.
const STREAMS: usize = 50;
const BETWEEN_QUERIES: Duration = Duration::from_millis(50);
/// The lag is measured by the query-api once a second.
const BETWEEN_LAGS: Duration = Duration::from_millis(500);
/// Until then the query-api may show the lag from before the projection had caught up.
const FIRST_LAG: Duration = Duration::from_millis(1500);

/// Where the road begins and where it ends.
#[derive(Clone, Debug)]
pub struct Road {
    /// `host:port` of the command-api.
    pub commands: String,
    /// `host:port` of the query-api.
    pub queries: String,
    pub tenants: Arc<[Tenant]>,
}

/// What was seen while calls came in on a schedule.
#[derive(Debug, Default)]
pub struct Watched {
    pub calls: Sample,
    first_byte: Sample,
    first_event: Sample,
    visible: Sample,
    lag: u64,
}

impl Road {
    /// `count` callers, each with a connection of its own.
    pub fn callers(&self, count: usize) -> Vec<ToolCaller> {
        ToolCaller::many(count, &self.commands, Kind::Synchronous, &self.tenants)
    }

    /// Calls on a schedule; meanwhile streams are opened one after the other, and queries look for what was answered.
    pub async fn watch(&self, callers: &mut Vec<ToolCaller>, per_second: f64, measured: Duration) -> Watched {
        let Watched { mut first_byte, mut first_event, mut visible, mut lag, .. } = Watched::default();
        let between = measured / u32::try_from(STREAMS).unwrap_or(u32::MAX);
        let streams = async {
            for place in 0.. {
                let took = self.stream(place).await;
                first_byte.record(took.as_ref().map(drop).map_err(Clone::clone), took.as_ref().map_or(Duration::ZERO, |t| t.0));
                if let Ok((_, event)) = took {
                    first_event.record(Ok(()), event);
                }
                if place + 1 == STREAMS {
                    break;
                }
                tokio::time::sleep(between).await;
            }
        };
        let queries = async {
            for place in 0.. {
                let took = self.query_what_was_answered(place).await;
                visible.record(took.as_ref().map(drop).map_err(Clone::clone), took.unwrap_or_default());
                tokio::time::sleep(BETWEEN_QUERIES).await;
            }
        };
        let lags = async {
            tokio::time::sleep(FIRST_LAG).await;
            loop {
                lag = lag.max(self.lag().await.unwrap_or_default());
                tokio::time::sleep(BETWEEN_LAGS).await;
            }
        };
        let calling = async { tokio::join!(load::open(callers, per_second, measured), streams).0 };
        let calls = tokio::select! {
            calls = calling => calls,
            () = async { future::join(queries, lags).await; } => Sample::default(),
        };
        Watched { calls, first_byte: first_byte.sorted(), first_event: first_event.sorted(), visible: visible.sorted(), lag }
    }

    /// Opens a stream of everything; answers with the time to its first byte and to its first event.
    async fn stream(&self, place: usize) -> Result<(Duration, Duration), String> {
        let began = Instant::now();
        let mut connection = Connection::open(&self.queries).await?;
        let response = connection.send(Outgoing::get("/v1/events?after=0", Some(self.tenant(place)))).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("GET /v1/events was answered with {}", response.status()));
        }
        let mut body = response.into_body();
        let mut first_byte = None;
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            text.extend_from_slice(frame.data_ref().map_or(&[], Bytes::as_ref));
            if !text.is_empty() {
                let first_byte = *first_byte.get_or_insert_with(|| began.elapsed());
                if String::from_utf8_lossy(&text).contains("\nid:") {
                    return Ok((first_byte, began.elapsed()));
                }
            }
        }
        Err("the stream ended before its first event".to_owned())
    }

    /// The time from a call's answer until a query shows its outcome.
    async fn query_what_was_answered(&self, place: usize) -> Result<Duration, String> {
        let tenant = self.tenant(place);
        let headers = [("content-type", "application/json"), ("prefer", "wait=30")];
        let call = Outgoing::post("/v1/tool-calls", tenant, &headers, Kind::Synchronous.body());
        let (status, body) = Connection::open(&self.commands).await?.ask(call).await?;
        let answered = Instant::now();
        let answer: Value = serde_json::from_slice(&body).map_err(|error| format!("{status}: {error}"))?;
        let path = format!("/v1/tool-calls/{}", answer["call_id"].as_str().unwrap_or_default());
        let mut connection = Connection::open(&self.queries).await?;
        loop {
            let (status, body) = connection.ask(Outgoing::get(&path, Some(tenant))).await?;
            let shown: Value = serde_json::from_slice(&body).map_err(|error| format!("{status}: {error}"))?;
            match shown["status"].as_str() {
                Some("succeeded") => return Ok(answered.elapsed()),
                Some("requested" | "running") => tokio::time::sleep(Duration::from_millis(1)).await,
                _ => return Err(format!("GET {path} was answered with {status} {shown}")),
            }
        }
    }

    /// Events that the projection is behind, over all partitions, as the query-api measures it.
    async fn lag(&self) -> Option<u64> {
        let (_, body) = Connection::open(&self.queries).await.ok()?.ask(Outgoing::get("/metrics", None)).await.ok()?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let lines = text.lines().filter(|line| line.starts_with("projection_lag_events{"));
        Some(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }

    fn tenant(&self, place: usize) -> &Tenant {
        &self.tenants[place % self.tenants.len()]
    }
}

impl Watched {
    /// Takes down everything but the calls' own latencies, which have a floor beside them.
    pub fn add_to(&self, figures: &mut Figures) {
        figures.add("sse.first_byte_p95_ms", self.first_byte.percentile(0.95), None);
        figures.add("sse.first_event_p95_ms", self.first_event.percentile(0.95), None);
        figures.add("lag.visible_p50_ms", self.visible.percentile(0.5), None);
        figures.add("lag.visible_p95_ms", self.visible.percentile(0.95), None);
        figures.add("lag.events", self.lag as f64, None);
        figures.blame("the whole road", &self.calls);
        figures.blame("GET /v1/events", &self.first_byte);
        figures.blame("GET /v1/tool-calls/{id}", &self.visible);
    }
}
