use axum::{extract, response::Response};
use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use serde::Deserialize;
use toolgate_events::CallId;
use toolgate_security::{Accepts, Authenticated, CloudEvent, Problem, Query, Standing, TenantTx, media};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    Error, State,
    http::{events::last_event_id, page::check_text, refusals::Refusals},
    queries::{
        audit::{AuditFilter, Stretch},
        positions,
    },
    stream::{Part, Replay, Speed},
};

const SLOWEST: f64 = 0.01;
const FASTEST: f64 = 1_000.0;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Where to begin: a position, or a time (RFC 3339); either inclusive. Without it, at the beginning.
    from: Option<String>,
    /// Where to end: a position, inclusive, or a time, exclusive. Without it, at what is the newest when the replay begins.
    to: Option<String>,
    /// The position to begin after, to resume.
    #[param(value_type = Option<String>)]
    after: Option<u64>,
    /// How many times as fast as recorded, from 0.01 to 1000; `max`, or 0, for as fast as the client takes it.
    #[param(default = "1")]
    speed: Option<String>,
    session_id: Option<String>,
    call_id: Option<Uuid>,
    actor: Option<String>,
    /// An event type.
    r#type: Option<String>,
}

/// History again, in order (SSE)
///
/// Frames are those of `GET /v1/events`, as far apart as they were, but never more than an hour. `event: end` says that the last has
/// come; a replay without it was cut off, and `Last-Event-ID` resumes it. `event: reset` says that the position to resume after lies
/// beyond the newest. Nothing is done again: no tool runs, and no event is recorded.
#[utoipa::path(
    get,
    path = "/v1/audit/replay",
    tag = "audit",
    params(Parameters, ("Last-Event-ID" = Option<String>, Header, description = "Resumes after this position; wins over `after`")),
    responses((status = 200, description = "The events, and `end`", content_type = "text/event-stream", body = CloudEvent<'_>), Refusals),
    security(("bearer" = []))
)]
pub(crate) async fn replay_audit(
    Authenticated(principal): Authenticated,
    extract::State(state): extract::State<State>,
    accepts: Result<Accepts<media::EventStream>, Problem>,
    parameters: Result<Query<Parameters>, Problem>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    state.guard.authorize(&principal, "audit:replay")?;
    accepts?;
    let Query(parameters) = parameters?;
    let Parameters { session_id, actor, r#type, .. } = &parameters;
    check_text([("session_id", session_id.as_deref()), ("actor", actor.as_deref()), ("type", r#type.as_deref())])?;
    let bound = |name, text: &Option<String>| text.as_deref().map(|text| Bound::parse(name, text)).transpose();
    let (from, to) = (bound("from", &parameters.from)?, bound("to", &parameters.to)?);
    let speed = speed(parameters.speed.as_deref())?;
    let resumed = last_event_id(&headers)?.or(parameters.after);
    let tenant = principal.tenant_id;
    let place = state.streams.place_for(tenant)?;

    let mut tx = TenantTx::begin(&state.pool, tenant).await.map_err(Error::from)?;
    let newest = positions::newest(&mut tx).await?;
    tx.end().await.map_err(Error::from)?;
    let part = Part {
        filter: AuditFilter {
            call_id: parameters.call_id.map(CallId),
            actor: parameters.actor,
            event_type: parameters.r#type,
            from: from.and_then(Bound::time),
            to: to.and_then(Bound::time),
            ..AuditFilter::default()
        },
        session_id: parameters.session_id,
        stretch: stretch(from, to, resumed, newest),
    };
    let reset = reset(part.stretch, resumed, newest);
    let replay = Replay::new(state.feeds.clone(), tenant, part, speed, reset);
    let standing = Standing::new(&state.guard, principal, "audit:replay", TimeDelta::zero());
    Ok(state.streams.open(place, standing, replay))
}

/// One end of what is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Position(u64),
    Time(DateTime<Utc>),
}

impl Bound {
    fn parse(name: &'static str, text: &str) -> Result<Self, Error> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Position).map_err(|_| Error::Bound(name));
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| Error::Bound(name))?;
        Ok(Self::Time(time.with_timezone(&Utc)))
    }

    fn time(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Time(time) => Some(time),
            Self::Position(_) => None,
        }
    }

    fn position(self) -> Option<u64> {
        match self {
            Self::Position(position) => Some(position),
            Self::Time(_) => None,
        }
    }
}

fn stretch(from: Option<Bound>, to: Option<Bound>, resumed: Option<u64>, newest: u64) -> Stretch {
    let begin = from.and_then(Bound::position).map_or(0, |from| from.saturating_sub(1));
    let up_to = to.and_then(Bound::position).map_or(newest, |to| to.min(newest));
    Stretch { after: begin.max(resumed.unwrap_or(0)).min(up_to), up_to }
}

/// The position that a client is told to go on after: never one behind the end, from which it would be sent back again.
fn reset(stretch: Stretch, resumed: Option<u64>, newest: u64) -> Option<u64> {
    resumed.filter(|resumed| *resumed > newest).map(|_| stretch.after)
}

fn speed(asked: Option<&str>) -> Result<Speed, Error> {
    let Some(asked) = asked else { return Ok(Speed::Recorded(1.0)) };
    if asked == "max" {
        return Ok(Speed::Max);
    }
    match asked.parse::<f64>() {
        Ok(0.0) => Ok(Speed::Max),
        Ok(speed) if (SLOWEST..=FASTEST).contains(&speed) => Ok(Speed::Recorded(speed)),
        _ => Err(Error::Speed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_has_its_bounds() {
        assert_eq!(speed(None).unwrap(), Speed::Recorded(1.0));
        for (text, speed_of) in [("0.01", 0.01), ("0.5", 0.5), ("999.99", 999.99), ("1000", 1_000.0), ("1e2", 100.0)] {
            assert_eq!(speed(Some(text)).unwrap(), Speed::Recorded(speed_of), "{text}");
        }
        assert_eq!((speed(Some("max")).unwrap(), speed(Some("0")).unwrap()), (Speed::Max, Speed::Max));
        for bad in ["0.009", "1000.01", "-1", "NaN", "inf", "", "fast"] {
            assert!(speed(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bound_is_a_position_or_a_time() {
        assert_eq!(Bound::parse("from", "42").unwrap(), Bound::Position(42));
        let time = "2026-01-02T03:04:05+01:00";
        assert_eq!(Bound::parse("from", time).unwrap(), Bound::Time("2026-01-02T02:04:05Z".parse().unwrap()));
        for bad in ["", "-1", "1.5", "yesterday", "2026-01-02", "18446744073709551616"] {
            assert!(Bound::parse("to", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn positions_are_inclusive_and_what_was_resumed_is_not_repeated() {
        let position = |position| Some(Bound::Position(position));
        let time = Some(Bound::Time(DateTime::UNIX_EPOCH));
        for (from, to, resumed, after, up_to) in [
            (None, None, None, 0, 9),
            (position(0), None, None, 0, 9),
            (position(1), position(9), None, 0, 9),
            (position(3), position(5), None, 2, 5),
            (position(3), position(10), Some(2), 2, 9),
            (position(3), position(5), Some(4), 4, 5),
            (position(7), position(5), None, 5, 5),
            (None, None, Some(12), 9, 9),
            (time, time, Some(4), 4, 9),
        ] {
            let Stretch { after: begins, up_to: ends } = stretch(from, to, resumed, 9);
            assert_eq!((begins, ends), (after, up_to), "{from:?} {to:?} {resumed:?}");
        }
    }

    #[test]
    fn a_position_beyond_the_newest_is_reset_to_where_the_replay_ends() {
        let position = |position| Some(Bound::Position(position));
        for (to, resumed, expected) in [
            (None, None, None),
            (None, Some(8), None),
            (None, Some(9), None),
            (None, Some(10), Some(9)),
            (position(5), Some(9), None),
            (position(5), Some(10), Some(5)),
            (position(12), Some(12), Some(9)),
        ] {
            let stretch = stretch(position(2), to, resumed, 9);
            assert_eq!(reset(stretch, resumed, 9), expected, "{to:?} {resumed:?}");
            assert!(expected.is_none_or(|reset| reset <= stretch.up_to));
        }
    }
}
