//! What was refused, on record: denials and exceeded limits become events, bounded in number however many requests there are.
//!
//! Of each kind (tenant, reason, principal, tool) the first refusal in a minute is recorded at once, and the number of the others
//! when the minute is over. The numbers add up exactly for as long as the process lives; when it is killed, what was counted since
//! the last event is lost, a minute's worth at the most. Nothing here makes a request wait or fail: while the log does not answer,
//! the counting goes on.

mod ledger;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use toolgate_events::{
    CallId, CallSubject, Envelope, Lane, LimitPolicy, RateLimitExceeded, RefusalEvent, TenantId, ToolCallDenied,
};
use toolgate_security::{Denied, Principal};
use toolgate_store::{AppendError, Clock, Expect, Log};

use self::ledger::{Counted, Ledger, WINDOW};
use crate::commands::APPEND_PATIENCE;

/// Before the log is asked again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long the rest may take to be recorded when the process ends.
const LAST_PATIENCE: Duration = Duration::from_secs(8);
const WINDOW_SECONDS: u32 = WINDOW.as_secs() as u32;

/// Keeps account of refusals. Clones share it; its background task ends with the last one.
#[derive(Clone)]
pub struct Refusals {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    _closes: Arc<DropGuard>,
}

struct Shared {
    log: Log,
    clock: Clock,
    ledger: Mutex<Ledger>,
    /// There is a first refusal to record.
    first: Notify,
    closing: CancellationToken,
    unrecorded: Counter,
}

impl Refusals {
    /// Begins to record in the background.
    pub fn open(log: Log, clock: Clock, registry: &mut Registry) -> Self {
        let unrecorded = Counter::default();
        registry.register("refusals_unrecorded", "Refusals that no event tells of", unrecorded.clone());
        let closing = CancellationToken::new();
        let shared = Shared { log, clock, ledger: Mutex::default(), first: Notify::new(), closing: closing.clone(), unrecorded };
        let shared = Arc::new(shared);
        let tasks = TaskTracker::new();
        tasks.spawn(record_all(Arc::clone(&shared)));
        tasks.close();
        Self { shared, tasks, _closes: Arc::new(closing.drop_guard()) }
    }

    /// A principal was answered with 403. `tool` is a name of the registry.
    pub fn denied(&self, principal: &Principal, tool: Option<&'static str>, denied: &Denied) {
        let decision = &denied.decision;
        self.count_denied(principal, tool, &denied.permission, &decision.policy_version, &decision.rule);
    }

    /// A principal that may call no tool at all asked for one that does not exist. Its name is the caller's text and not recorded.
    pub fn denied_any_tool(&self, principal: &Principal, policy_version: &str) {
        self.count_denied(principal, None, ToolCallDenied::ANY_TOOL, policy_version, "no rule grants any tool");
    }

    /// A request was answered with 429. `tool` is a name of the registry.
    pub fn rate_limited(
        &self,
        tenant: TenantId,
        policy: LimitPolicy,
        tool: Option<&'static str>,
        limit: u64,
        principal: Option<&str>,
    ) {
        let exceeded = RateLimitExceeded {
            policy,
            tool: tool.map(str::to_owned),
            limit,
            window_seconds: WINDOW_SECONDS,
            principal: principal.map(str::to_owned),
            refused: 0,
        };
        self.count(tenant, RefusalEvent::RateLimitExceeded(exceeded));
    }

    /// Records what is left. To be awaited after the last refusal; answers after eight seconds at the latest.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        if timeout(LAST_PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!("the log did not take the last refusals in time; they are not on record");
        }
    }

    fn count_denied(
        &self,
        principal: &Principal,
        tool: Option<&'static str>,
        permission: &str,
        policy_version: &str,
        rule: &str,
    ) {
        let denied = ToolCallDenied {
            tool: tool.map(str::to_owned),
            permission: permission.to_owned(),
            policy_version: policy_version.to_owned(),
            rule: rule.to_owned(),
            principal: Some(principal.subject.clone()),
            roles: principal.roles.clone(),
            permissions: principal.permissions.clone(),
            refused: 0,
            window_seconds: WINDOW_SECONDS,
        };
        self.count(principal.tenant_id, RefusalEvent::ToolCallDenied(denied));
    }

    fn count(&self, tenant: TenantId, kind: RefusalEvent) {
        let counted = self.shared.ledger().count(tenant, kind, Instant::now());
        match counted {
            Counted::First => self.shared.first.notify_one(),
            Counted::Again => {}
            Counted::Lost => drop(self.shared.unrecorded.inc()),
        }
    }
}

/// Records what is due until it is told to end, and then the rest.
async fn record_all(shared: Arc<Shared>) {
    loop {
        let ending = shared.closing.is_cancelled();
        // At the end every window is over.
        let now = if ending { Instant::now() + WINDOW } else { Instant::now() };
        let (due, next_end) = {
            let mut ledger = shared.ledger();
            (ledger.take(now), ledger.next_end())
        };
        match due {
            Some((tenant, event)) => {
                let recorded = record(&shared, tenant, &event).await;
                if ending && !recorded {
                    // The log does not answer, and there is no time left to wait for it.
                    let rest: u64 = std::iter::from_fn(|| shared.ledger().take(now)).map(|(_, event)| event.refused()).sum();
                    tracing::error!(refused = rest, "the last refusals are not on record");
                    return;
                }
            }
            None if ending => return,
            None => {
                let end = async {
                    match next_end {
                        Some(end) => sleep_until(end).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = shared.first.notified() => {}
                    () = end => {}
                    () = shared.closing.cancelled() => {}
                }
            }
        }
    }
}

/// Appends one event, and says whether it is in the log. An append that was not answered is tried again as it stands, until the
/// process ends: the event cannot come to be in the log twice.
async fn record(shared: &Shared, tenant: TenantId, event: &RefusalEvent) -> bool {
    let actor = event.principal().unwrap_or(RefusalEvent::SEVERAL);
    let stamp = shared.clock.stamp(actor, None, None);
    let subject = CallSubject::new(shared.log.partitions(), tenant, Lane::refusal(), CallId(stamp.event_id));
    let envelope = match Envelope::seal_refusal(event, tenant, stamp) {
        Ok(envelope) => envelope,
        Err(error) => return shared.give_up(event, &error),
    };
    loop {
        let error = match shared.log.append(&subject, &envelope, Expect::NOTHING, None, APPEND_PATIENCE).await {
            Ok(_) => return true,
            Err(error) => error,
        };
        let may_pass = matches!(error, AppendError::Full | AppendError::Unknown | AppendError::Refused(_));
        if !may_pass || shared.closing.is_cancelled() {
            return shared.give_up(event, &error);
        }
        tracing::warn!(error = %error, "refusals cannot be recorded at the moment; they are counted meanwhile");
        let _ending = shared.closing.run_until_cancelled(sleep(RETRY_PAUSE)).await;
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // The counts stay consistent whatever panicked while holding them.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, event: &RefusalEvent, error: &dyn std::error::Error) -> bool {
        tracing::error!(error = %error, refused = event.refused(), "refusals are not on record");
        self.unrecorded.inc_by(event.refused());
        false
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals")
    }
}
