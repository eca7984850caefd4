//! What is parked, for operators: to look at, and to try again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval, timeout};
use toolgate_events::TenantId;
use toolgate_store::Keyring;

use crate::metrics::Metrics;
pub use crate::projections::{Entry, Error, Kind, Retried};

/// How often what is parked is counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which parked events are meant; by default all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which {
    pub tenant: Option<TenantId>,
    /// Of one tenant.
    pub position: Option<u64>,
}

/// The parked events, by tenant and position.
///
/// # Errors
/// Whatever the database says.
pub async fn list(database: &PgPool, which: Which) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as(
        "select p.tenant_id, p.position, p.stream_sequence, p.aggregate_id,
             coalesce(a.event_type, 'archived') as event_type, coalesce(a.event_version, 0) as event_version, p.kind, p.reason, p.parked_at
         from parked_event p left join audit_event a on a.tenant_id = p.tenant_id and a.position = p.position
         where ($1::uuid is null or p.tenant_id = $1) and ($2::bigint is null or p.position = $2)
         order by p.tenant_id, p.position",
    )
    .bind(which.tenant.map(|tenant| tenant.0))
    .bind(which.position.map(|position| i64::try_from(position).unwrap_or(i64::MAX)))
    .fetch_all(database)
    .await
}

/// Projects parked events as this release understands them, call by call in the order in which their first event was parked: a call's
/// waiting events come with the one that they wait for. The projector may go on meanwhile.
///
/// # Errors
/// [`Error`]. The calls before that are done.
pub async fn retry(database: &PgPool, keys: &Keyring, which: Which) -> Result<Retried, Error> {
    let mut seen = HashSet::new();
    let calls = list(database, which).await?.into_iter().map(|entry| (TenantId(entry.tenant_id), entry.aggregate_id));
    let calls: Vec<_> = calls.filter(|call| seen.insert(*call)).collect();
    let mut total = Retried::default();
    for call in calls {
        let retried = crate::projections::retry(database, keys, call).await?;
        total.projected += retried.projected;
        total.still_parked += retried.still_parked;
    }
    Ok(total)
}

/// Keeps the number of parked events up to date, for as long as this is waited for.
pub(crate) async fn count(database: &PgPool, metrics: &Metrics) {
    let mut ticks = interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let counts =
            sqlx::query_as::<_, (String, i64)>("select kind, count(*) from parked_event group by kind").fetch_all(database);
        match timeout(PATIENCE, counts).await {
            Ok(Ok(counts)) => {
                let counts: HashMap<_, _> = counts.into_iter().collect();
                for kind in Kind::ALL {
                    metrics.parked_now(kind.as_str(), counts.get(kind.as_str()).copied().unwrap_or_default());
                }
            }
            Ok(Err(error)) => tracing::debug!(error = %error, "parked events could not be counted"),
            Err(_elapsed) => tracing::debug!("parked events could not be counted in time"),
        }
    }
}
