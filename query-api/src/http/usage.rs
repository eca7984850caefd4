use axum::{Json, extract};
use chrono::{Datelike, Days, NaiveDate};
use serde::{Deserialize, Serialize};
use toolgate_events::{Usage, latency::Latency, serde_text};
use toolgate_security::{Accepts, Authenticated, Problem, Query, media};
use utoipa::{IntoParams, ToSchema};

use super::{page::check_text, refusals::Refusals};
use crate::{
    Error, State,
    as_of::{self, AsOf},
    catch_up::{Positioned, Reading},
    queries::usage::{self, UsageRow},
};

/// Days shown when nobody says how many, and at the most.
const DAYS: u64 = 30;
const MAX_DAYS: u64 = 366;

/// What a tenant used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageReport {
    /// The first and the last day (UTC) that it covers; null when nothing was ever used.
    #[schema(required)]
    from: Option<NaiveDate>,
    #[schema(required)]
    to: Option<NaiveDate>,
    /// By day and tool. What nobody used has no item.
    items: Vec<UsageItem>,
    totals: UsageSums,
    /// Up to which position it counts.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    position: u64,
}

/// What was used of one tool on one day.
#[derive(Debug, Serialize, ToSchema)]
struct UsageItem {
    /// UTC, by the time of each event: a call may be requested on one day and succeed on the next.
    day: NaiveDate,
    /// Null for refusals that name no tool.
    #[schema(required)]
    tool: Option<String>,
    #[serde(flatten)]
    sums: UsageSums,
}

/// What was used.
#[derive(Debug, Serialize, ToSchema)]
struct UsageSums {
    /// Calls that were accepted.
    requested: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    /// Of those that succeeded, the ones answered with an earlier result.
    cached: u64,
    /// Attempts of the calls that succeeded or failed.
    attempts: u64,
    /// Attempts after the first, when they began.
    retries: u64,
    /// Requests that the policy refused.
    denied: u64,
    /// Requests over a limit.
    rate_limited: u64,
    /// Of the arguments of the requested calls, as canonical JSON.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    bytes_in: u64,
    /// Of the results of the calls that succeeded, as canonical JSON.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    bytes_out: u64,
    /// How long tools ran, in milliseconds.
    #[serde(with = "serde_text::u64_string")]
    #[schema(value_type = String)]
    duration_ms: u64,
    latency_ms: UsageLatency,
}

/// How long the runs took: of calls that succeeded, but for cached ones, and of calls that failed. Each is at most an eighth more than
/// was measured, and null without runs.
#[derive(Debug, Serialize, ToSchema)]
struct UsageLatency {
    runs: u64,
    #[schema(required)]
    p50: Option<u64>,
    #[schema(required)]
    p95: Option<u64>,
    #[schema(required)]
    p99: Option<u64>,
}

impl From<&Latency> for UsageLatency {
    fn from(latency: &Latency) -> Self {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| latency.percentile(percent));
        Self { runs: latency.runs(), p50, p95, p99 }
    }
}

impl From<&Usage> for UsageSums {
    fn from(usage: &Usage) -> Self {
        Self {
            requested: usage.requested,
            succeeded: usage.succeeded,
            failed: usage.failed,
            cancelled: usage.cancelled,
            cached: usage.cached,
            attempts: usage.attempts,
            retries: usage.retries,
            denied: usage.denied,
            rate_limited: usage.rate_limited,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            duration_ms: usage.duration_ms,
            latency_ms: (&usage.latency).into(),
        }
    }
}

impl From<UsageRow> for UsageItem {
    fn from(row: UsageRow) -> Self {
        Self { day: row.day, sums: (&row.usage).into(), tool: Some(row.tool).filter(|tool| !tool.is_empty()) }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The first day (UTC); 29 days before `to` unless said otherwise.
    from: Option<NaiveDate>,
    /// The last day (UTC), at most 365 days after `from`; the newest on which anything was used unless said otherwise.
    to: Option<NaiveDate>,
    tool: Option<String>,
    /// Wait, for up to ten seconds, until the tenant is projected up to this position.
    #[param(value_type = Option<String>)]
    min_position: Option<u64>,
    /// A position, or a date and time (RFC 3339): answer as of then.
    as_of: Option<String>,
}

/// What the tenant used, by day and tool
///
/// For quotas and bills. Each event counts once, on the day on which it occurred. With `as_of` the answer is what the events up to
/// there come to; a time stands for everything before the first event of the tenant that occurred later. At most 50,000 events are
/// added up for it, of the days that were not over there: more are 400, and what takes longer than 15 seconds is 503.
#[utoipa::path(
    get,
    path = "/v1/usage",
    tag = "read-models",
    params(Parameters),
    responses((status = 200, description = "What was used", body = UsageReport), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn get_usage(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
) -> Result<Positioned<Json<UsageReport>>, Problem> {
    state.guard.authorize(&principal, "tool_call:read")?;
    accepts?;
    let Query(Parameters { from, to, tool, min_position, as_of }) = parameters?;
    check_text([("tool", tool.as_deref())])?;
    check_days(from, to)?;
    let as_of = as_of.as_deref().map(AsOf::parse).transpose()?;

    let mut reading = state.read(principal.tenant_id, min_position).await?;
    if let Some(as_of) = as_of {
        reading = state.go_back(reading, as_of).await?;
    }
    let position = reading.position;
    let days = days(&mut reading, from, to).await?;
    let rows = match days {
        None => Vec::new(),
        Some((from, to)) => {
            let rows = usage::days(&mut reading, from, to, tool.as_deref()).await?;
            if as_of.is_some() { as_of::usage(&state, reading, rows).await? } else { reading.end(rows).await?.answer }
        }
    };
    let mut totals = Usage::default();
    rows.iter().for_each(|row| totals.merge(&row.usage));
    let report = UsageReport {
        from: days.map(|(from, _)| from),
        to: days.map(|(_, to)| to),
        items: rows.into_iter().map(UsageItem::from).collect(),
        totals: (&totals).into(),
        position,
    };
    Ok(Positioned { answer: Json(report), position })
}

/// Days that were asked for must be ones that the database knows, in order, and not too many.
fn check_days(from: Option<NaiveDate>, to: Option<NaiveDate>) -> Result<(), Error> {
    for (name, day) in [("from", from), ("to", to)] {
        if day.is_some_and(|day| !(0..=9999).contains(&day.year())) {
            return Err(Error::Day(name));
        }
    }
    match (from, to) {
        (Some(from), Some(to)) if to < from || to > last_day(from, MAX_DAYS) => Err(Error::Days),
        _ => Ok(()),
    }
}

/// The days that an answer covers.
async fn days(
    reading: &mut Reading,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Result<Option<(NaiveDate, NaiveDate)>, Error> {
    let position = reading.position;
    let to = match (from, to) {
        (_, Some(to)) => Some(to),
        (from, None) => {
            let newest = usage::newest_day(reading, position).await?;
            // What was used long after `from` is too far away to be shown with it.
            from.map_or(newest, |from| Some(newest.map_or(from, |newest| newest.clamp(from, last_day(from, MAX_DAYS)))))
        }
    };
    Ok(to.map(|to| (from.unwrap_or_else(|| to.checked_sub_days(Days::new(DAYS - 1)).unwrap_or(to)), to)))
}

/// The last of so many days.
fn last_day(from: NaiveDate, days: u64) -> NaiveDate {
    from.checked_add_days(Days::new(days - 1)).unwrap_or(NaiveDate::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_come_in_order_and_at_most_a_year_of_them() {
        let day = |text: &str| Some(text.parse::<NaiveDate>().unwrap());
        for (from, to, is_fine) in [
            (None, None, true),
            (day("2026-01-01"), None, true),
            (day("2026-01-01"), day("2026-01-01"), true),
            (day("2026-01-01"), day("2025-12-31"), false),
            // 365, 366 and 367 days.
            (day("2026-01-01"), day("2026-12-31"), true),
            (day("2026-01-01"), day("2027-01-01"), true),
            (day("2026-01-01"), day("2027-01-02"), false),
            (day("0000-01-01"), None, true),
            (day("-0001-12-31"), None, false),
            (None, day("9999-12-31"), true),
            (None, day("+10000-01-01"), false),
        ] {
            assert_eq!(check_days(from, to).is_ok(), is_fine, "{from:?} {to:?}");
        }
    }
}
