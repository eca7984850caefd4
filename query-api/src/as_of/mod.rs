//! The past: what was known at a position or a time. The answer is the fold of the events up to there, by the same rules that the
//! projector adds them up with.

mod call;
mod session;
mod usage;

use chrono::{DateTime, Datelike, SubsecRound, TimeDelta, Utc};
use toolgate_events::{Event, audit::AuditRow, canonical, sealing, upcast};
use toolgate_store::KeyError;

pub(crate) use self::{call::call, session::session, usage::usage};
use crate::{
    Error, State,
    catch_up::Reading,
    queries::{
        audit::{self, AuditFilter, Stretch},
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
    pub(crate) async fn go_back(&self, reading: &mut Reading, as_of: AsOf) -> Result<(), Error> {
        let newest = reading.position;
        reading.position = match as_of {
            AsOf::Position(position) if position > newest => return Err(Error::AsOfBeyond { newest }),
            AsOf::Position(position) => position,
            AsOf::Time(time) => {
                // Of all that occurred later, the first; what comes before it is a beginning of the history, whatever clocks say.
                let later = AuditFilter { from: Some(time + MOMENT), ..AuditFilter::default() };
                let (rows, _) = audit::page(reading, &self.segments, &later, Stretch { after: 0, up_to: newest }, 1).await?;
                rows.first().map_or(newest, |first| first.position - 1)
            }
        };
        Ok(())
    }
}

/// Rows of the trail as the events that they record. What the projector has set aside is left out here too, and so is what this release
/// does not understand.
///
/// The one place where a question about the past turns rows into events, and opens their content. The rows stay as they were recorded.
async fn events_of(state: &State, reading: &mut Reading, rows: Vec<AuditRow>) -> Result<Vec<Past>, Error> {
    let (tenant, aside) = (reading.tenant, parked::aside(reading, &rows).await?);
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

/// Which events of the past.
#[derive(Debug)]
struct Selection<'a> {
    filter: AuditFilter,
    session_id: Option<&'a str>,
    stretch: Stretch,
}

/// Hands every selected event on, in order, with one page in memory.
async fn each_event(
    state: &State,
    reading: &mut Reading,
    selection: Selection<'_>,
    mut take: impl FnMut(Past),
) -> Result<(), Error> {
    let Selection { filter, session_id, mut stretch } = selection;
    loop {
        let (rows, has_more) = match session_id {
            None => audit::page(reading, &state.segments, &filter, stretch, PAGE).await?,
            Some(_) => {
                let bounds = audit::Bounds { rows: PAGE, data: audit::MAX_STREAMED_DATA };
                let (rows, has_more) =
                    audit::streamed_page(reading, &state.segments, &filter, session_id, stretch, bounds).await?;
                (rows.into_iter().map(|row| row.audit).collect(), has_more)
            }
        };
        let Some(last) = rows.last().map(|row| row.position) else { return Ok(()) };
        events_of(state, reading, rows).await?.into_iter().for_each(&mut take);
        if !has_more {
            return Ok(());
        }
        stretch.after = last;
    }
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
