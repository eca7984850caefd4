//! The past: what was known at a position or a time. The answer is the fold of the events up to there, by the same rules that the
//! projector adds them up with.

mod call;
mod session;
mod usage;

use std::time::Duration;

use chrono::{DateTime, Datelike, SubsecRound, TimeDelta, Utc};
use tokio::time::timeout;
use toolgate_events::{Event, TenantId, audit::AuditRow, canonical, sealing, upcast};
use toolgate_security::TenantTx;
use toolgate_store::KeyError;

pub(crate) use self::{call::call, session::session, usage::usage};
use crate::{
    Error, State,
    catch_up::Reading,
    queries::{
        audit::{self, AuditFilter, FirstSince, Stretch},
        parked,
    },
};

/// A place in a tenant's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// Up to and including this position.
    Position(u64),
    /// Before the first event that occurred later than this.
    Time(DateTime<Utc>),
}

/// The least time between two events that occurred at different times: events have microseconds.
const MOMENT: TimeDelta = TimeDelta::microseconds(1);

/// An event of the past.
#[derive(Debug)]
struct Past {
    row: AuditRow,
    event: Event,
}

impl AsOf {
    /// The `as_of` of a request.
    ///
    /// # Errors
    /// [`Error::AsOf`]
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Position).map_err(|_| Error::AsOf);
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| Error::AsOf)?;
        // Nothing occurs between two moments.
        let time = time.to_utc().trunc_subsecs(6);
        if (0..=9999).contains(&time.year()) { Ok(Self::Time(time)) } else { Err(Error::AsOf) }
    }
}

impl State {
    /// Takes a look back to a place in the history: from now on it is of that position.
    ///
    /// # Errors
    /// [`Error::AsOfBeyond`] for a position that there is not yet.
    pub(crate) async fn go_back(&self, mut reading: Reading, as_of: AsOf) -> Result<Reading, Error> {
        let newest = reading.position;
        reading.position = match as_of {
            AsOf::Position(position) if position > newest => return Err(Error::AsOfBeyond { newest }),
            AsOf::Position(position) => position,
            AsOf::Time(time) => {
                // Of all that occurred later, the first; what comes before it is a beginning of the history, whatever clocks say.
                let later = time + MOMENT;
                match audit::first_since(&mut reading, later).await? {
                    FirstSince::Position(first) => first.map_or(newest, |first| first - 1),
                    FirstSince::Archived(segment) => {
                        let tenant = reading.tenant;
                        reading.end(()).await?;
                        let filter = AuditFilter { from: Some(later), ..AuditFilter::default() };
                        let first = audit::archived_rows(&self.segments, &segment, &filter, Stretch::after(0), 1).await?;
                        // What is read from now on may be of a later moment: of the past it says the same.
                        reading = self.read(tenant, None).await?;
                        first.first().map_or(newest, |first| first.position - 1)
                    }
                }
            }
        };
        Ok(reading)
    }
}

/// Rows of the trail as the events that they record. What the projector has set aside is left out here too, and so is what this release
/// does not understand.
///
/// The one place where a question about the past turns rows into events, and opens their content. The rows stay as they were recorded.
async fn events_of(state: &State, tenant: TenantId, rows: Vec<AuditRow>) -> Result<Vec<Past>, Error> {
    let mut tx = TenantTx::begin(&state.pool, tenant).await?;
    let aside = parked::aside(&mut tx, &rows).await?;
    tx.end().await?;
    let mut past = Vec::with_capacity(rows.len());
    for row in rows.into_iter().filter(|row| !aside.contains(&row.stream_sequence)) {
        let event = if sealing::members(&row.event_type, row.event_version).is_empty() {
            event_of(&row)
        } else {
            let mut opened = row.clone();
            match state.log.keys().open_row(tenant, &mut opened).await {
                Ok(()) => event_of(&opened),
                Err(KeyError::Broken(_)) => None,
                Err(error) => return Err(error.into()),
            }
        };
        past.extend(event.map(|event| Past { row, event }));
    }
    Ok(past)
}

fn event_of(opened: &AuditRow) -> Option<Event> {
    let is_readable = !canonical::contains_nul(&opened.data);
    upcast(&opened.event_type, opened.event_version, &opened.data).ok().filter(|_| is_readable)
}

/// Rows of the trail read at once.
const PAGE: usize = 500;
/// Events that are added up for one question about a session or about usage.
pub(crate) const MAX_EVENTS: usize = 50_000;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Hands every event of a stretch on that a filter lets through, in order, with one page or one segment in memory. No transaction
/// lasts from one page to the next, or while content is opened: rows of the trail never change.
///
/// # Errors
/// [`Error::AsOfTooMuch`], [`Error::AsOfTooLong`]; some were handed on by then.
async fn each_event(
    state: &State,
    tenant: TenantId,
    filter: &AuditFilter,
    stretch: Stretch,
    take: impl FnMut(Past),
) -> Result<(), Error> {
    let all = each_of_all(state, tenant, filter, stretch, take);
    timeout(PATIENCE, all).await.unwrap_or(Err(Error::AsOfTooLong))
}

async fn each_of_all(
    state: &State,
    tenant: TenantId,
    filter: &AuditFilter,
    stretch: Stretch,
    mut take: impl FnMut(Past),
) -> Result<(), Error> {
    let too_much = || Error::AsOfTooMuch(MAX_EVENTS);
    let tx = TenantTx::begin(&state.pool, tenant).await?;
    let places = audit::places(tx, filter, stretch, MAX_EVENTS + 1).await?;
    let mut left = MAX_EVENTS.checked_sub(places.table.len()).ok_or_else(too_much)?;
    for segment in places.segments() {
        let rows = audit::archived_rows(&state.segments, segment, filter, stretch, left + 1).await?;
        left = left.checked_sub(rows.len()).ok_or_else(too_much)?;
        events_of(state, tenant, rows).await?.into_iter().for_each(&mut take);
    }
    for positions in places.table.chunks(PAGE) {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else { continue };
        let mut stretch = Stretch { after: first - 1, up_to: *last };
        let filter = AuditFilter { positions: Some(positions.into()), ..AuditFilter::default() };
        // Large rows come in smaller pages.
        while stretch.after < stretch.up_to {
            let tx = TenantTx::begin(&state.pool, tenant).await?;
            let (rows, has_more) = audit::page(tx, &state.segments, &filter, stretch, PAGE).await?;
            stretch.after = rows.last().filter(|_| has_more).map_or(stretch.up_to, |last| last.position);
            events_of(state, tenant, rows).await?.into_iter().for_each(&mut take);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_position_or_a_time() {
        let time = DateTime::from_timestamp(1_767_225_600, 500_000).unwrap();
        for (text, expected) in [
            ("0", AsOf::Position(0)),
            ("18446744073709551615", AsOf::Position(u64::MAX)),
            ("2026-01-01T00:00:00.0005Z", AsOf::Time(time)),
            ("2026-01-01T07:00:00.000500+07:00", AsOf::Time(time)),
        ] {
            assert_eq!(AsOf::parse(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "-1", "+1", "1.5", "1e3", "18446744073709551616", "2026-01-01", "2026-01-01T00:00:00", "now", "１"] {
            assert!(matches!(AsOf::parse(bad), Err(Error::AsOf)), "{bad:?}");
        }
    }
}
