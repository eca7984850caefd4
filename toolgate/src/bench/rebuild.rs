//! How fast projections are made anew: a log with so many events, projected live, then again beside it, and compared.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use toolgate_events::{
    Authorization, CallId, CallOptions, CallSubject, Envelope, Lane, TenantId, ToolCallEvent, ToolCallRequested, ToolCallStarted,
    ToolCallSucceeded,
};
use toolgate_projector::rebuild::{Comparison, Logins, Purpose, Rebuild, RebuildOptions, Source};
use toolgate_store::Expect;

use super::{Error, Options, child::Part, stage::Stage, tenants};
use crate::{
    migrations::MIGRATIONS,
    roles::{self, Context},
    services::Progress,
    settings::{Profile, Settings},
};

/// Calls that are appended at the same time.
const CONCURRENCY: usize = 256;
const PATIENCE: Duration = Duration::from_secs(30);
/// Of `toolgate replay`.
const BATCH: usize = 5_000;

/// What was measured.
#[derive(Debug)]
pub struct Rebuilt {
    events: u64,
    live: Duration,
    from_log: Duration,
    from_audit: Duration,
    comparing: Duration,
    different: Vec<String>,
}

impl Rebuilt {
    /// Names of projections that came out different: none, or something is broken.
    pub fn different(&self) -> &[String] {
        &self.different
    }
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, took: Duration| {
            let rate = self.events as f64 / took.as_secs_f64().max(1e-3);
            writeln!(f, "{what:<22} {:>8.2} s  {rate:>9.0} events/s", took.as_secs_f64())
        };
        line("projected live", self.live)?;
        line("rebuilt from the log", self.from_log)?;
        line("rebuilt from the audit", self.from_audit)?;
        line("compared row by row", self.comparing)?;
        let verdict =
            if self.different.is_empty() { "equal".to_owned() } else { format!("DIFFERENT: {}", self.different.join(", ")) };
        write!(f, "{} events, every projection {verdict}", self.events)
    }
}

/// Measures with a system of its own.
///
/// # Errors
/// When a part does not run, or an event cannot be appended.
pub async fn measure(options: &Options, events: u64, progress: &Progress) -> Result<Rebuilt, Error> {
    let mut stage = Stage::open(options.durable, options.tenants, progress).await?;
    let step = progress.step(format!("Appending {events} events"));
    let events = append(&stage, events).await?;
    step.done();

    let began = Instant::now();
    let projector = stage.start(Part::Projector).await?;
    stage.caught_up().await?;
    let live = began.elapsed();
    stage.stop(projector).await?;

    let (from_log, _, _) = rebuilt(&stage, Source::Log).await?;
    let (from_audit, comparing, comparisons) = rebuilt(&stage, Source::Audit).await?;
    let different = comparisons.into_iter().filter(|it| !it.is_equal()).map(|it| it.table).collect();
    stage.close().await;
    Ok(Rebuilt { events, live, from_log, from_audit, comparing, different })
}

async fn rebuilt(stage: &Stage, source: Source) -> Result<(Duration, Duration, Vec<Comparison>), Error> {
    let connections = stage.connections();
    let settings = Settings::load(Profile::Server, vec![]).map_err(|error| Error::Bug(error.to_string()))?;
    let logins =
        Logins { owner: connections.owner.expose_secret().parse()?, projector: connections.projector.expose_secret().parse()? };
    let context = Context { settings, connections: connections.clone() };
    let live = roles::projector_environment(&context, stage.log.clone()).map_err(|error| Error::Bug(error.to_string()))?;
    let mut rebuild = Rebuild::open(live, logins, RebuildOptions { source, purpose: Purpose::Check, batch_size: BATCH }).await?;
    rebuild.make(&MIGRATIONS, true).await?;
    let began = Instant::now();
    rebuild.roll_forward().await?;
    let rolled = began.elapsed();
    let began = Instant::now();
    let comparisons = rebuild.compare(&[]).await?;
    let compared = began.elapsed();
    rebuild.discard().await?;
    Ok((rolled, compared, comparisons))
}

/// Appends whole calls until there are as many events; answers with how many.
async fn append(stage: &Stage, events: u64) -> Result<u64, Error> {
    let appended = AtomicU64::new(0);
    let calls = stream::iter(0_u64..).take_while(|_| std::future::ready(appended.load(Ordering::Relaxed) < events));
    calls.map(|number| append_call(stage, number, &appended)).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    Ok(appended.into_inner())
}

async fn append_call(stage: &Stage, number: u64, appended: &AtomicU64) -> Result<(), Error> {
    let tenants = u64::try_from(stage.tenants.len()).unwrap_or(1);
    let tenant = TenantId(tenants::id(usize::try_from(number % tenants).unwrap_or_default()));
    let (tool, lane, arguments, result) = content(stage, number);
    let lane = Lane::new(lane).map_err(|error| Error::Bug(error.to_string()))?;
    let subject = CallSubject::new(stage.log.partitions(), tenant, lane.clone(), CallId(stage.clock.new_id()));
    let worker = "worker-0123456789ab".to_owned();
    let mut story = vec![requested(tool, lane, arguments)];
    if tool == "http.request" {
        let started = ToolCallStarted { tool: tool.to_owned(), attempt: 1, worker: worker.clone() };
        story.push(ToolCallEvent::ToolCallStarted(started));
    }
    story.push(ToolCallEvent::ToolCallSucceeded(ToolCallSucceeded {
        tool: tool.to_owned(),
        attempt: 1,
        worker,
        duration_ms: 12,
        result,
        cached: false,
        stale: false,
        source_call_id: None,
        age_seconds: None,
        data_subject: None,
        erased: false,
    }));
    let mut expect = Expect::NOTHING;
    for (event, sequence) in story.iter().zip(1..) {
        let stamp = stage.clock.stamp("bench", None, None);
        let envelope = Envelope::seal(event, tenant, subject.call_id, sequence, stamp)?;
        let appending = stage.log.append(&subject, &envelope, expect, None, PATIENCE);
        expect = Expect(appending.await.map_err(|error| Error::Bug(error.to_string()))?);
        appended.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// What agents ask for: mostly tasks, some requests, documents and knowledge.
fn content(stage: &Stage, number: u64) -> (&'static str, &'static str, Value, Value) {
    let id = stage.clock.new_id();
    match number % 20 {
        0 => (
            "knowledge.upsert",
            "knowledge",
            json!({"document_id": format!("doc-{number}"), "title": "Refunds", "content": "Refunds take five working days. ".repeat(8)}),
            json!({"document_id": format!("doc-{number}"), "content_sha256": "00".repeat(32)}),
        ),
        1 | 2 => (
            "document.render",
            "render",
            json!({"title": "Report", "markdown": "# Report\n\nAll is well.", "format": "html"}),
            json!({"artifact_id": id, "content_type": "text/html; charset=utf-8", "size": 512, "sha256": "00".repeat(32)}),
        ),
        3..7 => (
            "http.request",
            "http",
            json!({"method": "GET", "url": format!("https://example.com/{number}")}),
            json!({"status": 200, "headers": {"content-type": "text/plain"}, "body": "ok"}),
        ),
        _ => (
            "task.create",
            "task",
            json!({"title": format!("Review report {number}"), "assignee": "ada", "labels": ["audit", "weekly"]}),
            json!({"task_id": id}),
        ),
    }
}

fn requested(tool: &str, lane: Lane, arguments: Value) -> ToolCallEvent {
    let arguments = match arguments {
        Value::Object(arguments) => arguments,
        _ => serde_json::Map::new(),
    };
    ToolCallEvent::ToolCallRequested(Box::new(ToolCallRequested {
        tool: tool.to_owned(),
        lane,
        arguments,
        session_id: Some("session-1".to_owned()),
        data_subject: None,
        erased: false,
        options: CallOptions::default(),
        request_fingerprint: "00".repeat(32),
        authorization: Authorization {
            policy_version: "00".repeat(32),
            rule: "role agent: tool.*.*:invoke".to_owned(),
            principal: "bench".to_owned(),
            roles: vec!["agent".to_owned()],
            permissions: Vec::new(),
            tool_version: 1,
            contract_hash: "00".repeat(32),
        },
    }))
}
