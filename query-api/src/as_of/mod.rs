//! The past: what was known at a position or a time. The answer is the fold of the events up to there, by the same rules that the
//! projector adds them up with.

mod call;
mod session;
mod usage;

use chrono::{DateTime, Utc};
use toolgate_events::{Event, audit::AuditRow, canonical, upcast};

pub(crate) use self::{call::call, session::session, usage::usage};
use crate::{
    Error, State,
    catch_up::Reading,
    queries::{
        audit::{self, AuditFilter, Stretch},
        positions,
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
        Ok(Self::Time(time.to_utc()))
    }
}

impl Reading {
    /// Goes back to a place in the history: from now on the look is of that position.
    ///
    /// # Errors
    /// [`Error::AsOfBeyond`] for a position that there is not yet.
    pub(crate) async fn go_back(&mut self, as_of: AsOf) -> Result<(), Error> {
        let newest = self.position;
        self.position = match as_of {
            AsOf::Position(position) if position > newest => return Err(Error::AsOfBeyond { newest }),
            AsOf::Position(position) => position,
            AsOf::Time(time) => positions::before_later_than(self, time).await?.unwrap_or(newest),
        };
        Ok(())
    }
}

/// Rows of the trail as the events that they record. What the projector sets aside because it cannot be understood is left out here too.
///
/// The one place where a question about the past turns rows into events.
async fn events_of(_state: &State, rows: Vec<AuditRow>) -> Result<Vec<Past>, Error> {
    let past = rows.into_iter().filter_map(|row| {
        let is_readable = !canonical::contains_nul(&row.data);
        let event = upcast(&row.event_type, row.event_version, &row.data).ok().filter(|_| is_readable)?;
        Some(Past { row, event })
    });
    Ok(past.collect())
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
            None => audit::page(reading, &filter, stretch, PAGE).await?,
            Some(_) => {
                let (rows, has_more) = audit::streamed_page(reading, &filter, session_id, stretch, PAGE).await?;
                (rows.into_iter().map(|row| row.audit).collect(), has_more)
            }
        };
        let Some(last) = rows.last().map(|row| row.position) else { return Ok(()) };
        events_of(state, rows).await?.into_iter().for_each(&mut take);
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
