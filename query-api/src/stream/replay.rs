use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::response::sse::Event;
use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use toolgate_events::TenantId;
use toolgate_security::EventSource;

use super::{
    Feeds,
    feed::{PAGE, PAGE_DATA},
    rendered::Rendered,
};
use crate::{
    Error,
    queries::audit::{AuditFilter, Bounds, Stretch},
};

/// No pause between two events is longer, however long nothing happened: a night is not sat out.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// How fast history comes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// So many times as fast as it was.
    Recorded(f64),
    /// As fast as it is taken.
    Max,
}

/// Which part of a tenant's history.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub filter: AuditFilter,
    pub session_id: Option<String>,
    pub stretch: Stretch,
}

/// History again, in order: it is read, and nothing is done.
pub(crate) struct Replay {
    feeds: Feeds,
    tenant: TenantId,
    part: Part,
    /// Up to where the client has been told everything.
    place: u64,
    /// The position of a reset that is still to be told.
    reset: Option<u64>,
    page: VecDeque<Arc<Rendered>>,
    stage: Stage,
    rows: usize,
    pace: Pace,
    /// When the first event of the page is due.
    due: Option<Instant>,
}

enum Stage {
    Reading,
    /// Nothing is left to read.
    Read,
    Ended,
}

impl Replay {
    pub(crate) fn new(feeds: Feeds, tenant: TenantId, part: Part, speed: Speed, reset: Option<u64>) -> Self {
        Self {
            feeds,
            tenant,
            place: part.stretch.after,
            part,
            reset,
            page: VecDeque::new(),
            stage: Stage::Reading,
            rows: PAGE,
            pace: Pace::new(speed),
            due: None,
        }
    }

    async fn step(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(first) = self.page.front() {
                // Once for each event, however often this is asked again.
                let due = *self.due.get_or_insert_with(|| self.pace.due(first.occurred_at, Instant::now()));
                sleep_until(due).await;
                self.due = None;
                let Some(event) = self.page.pop_front() else { continue };
                self.place = event.position;
                return Ok(Some(event.frame()));
            }
            match self.stage {
                Stage::Reading => Box::pin(self.read()).await?,
                Stage::Read => {
                    self.stage = Stage::Ended;
                    self.place = self.part.stretch.up_to;
                    let position = self.place.to_string();
                    let end = Event::default().id(&position).event("end").data(json!({"position": position}).to_string());
                    return Ok(Some(end));
                }
                Stage::Ended => return Ok(None),
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let Part { filter, session_id, stretch } = &self.part;
        let stretch = Stretch { after: self.place.max(stretch.after), ..*stretch };
        if stretch.after >= stretch.up_to {
            self.stage = Stage::Read;
            return Ok(());
        }
        let bounds = Bounds { rows: self.rows, data: PAGE_DATA };
        let (events, has_more) = self.feeds.history(self.tenant, filter, session_id.as_deref(), stretch, bounds).await?;
        if has_more {
            self.rows = (events.len() * 2).min(PAGE);
        } else {
            self.stage = Stage::Read;
        }
        self.page.extend(events);
        Ok(())
    }
}

impl EventSource for Replay {
    async fn next(&mut self) -> Option<Event> {
        if let Some(position) = self.reset.take() {
            let position = position.to_string();
            return Some(Event::default().id(&position).event("reset").data(json!({"position": position}).to_string()));
        }
        match self.step().await {
            Ok(event) => event,
            Err(error) => {
                // Without its end: the client comes back with its Last-Event-ID.
                tracing::warn!(error = %error, "a replay was cut off");
                None
            }
        }
    }

    fn resume_after(&self) -> Option<u64> {
        self.reset.is_none().then_some(self.place)
    }
}

/// When each event is due.
#[derive(Debug)]
struct Pace {
    speed: Speed,
    /// When the event before was due, and when it had occurred.
    before: Option<(Instant, DateTime<Utc>)>,
}

impl Pace {
    fn new(speed: Speed) -> Self {
        Self { speed, before: None }
    }

    /// The first at once; each other as long after the one before as it was. Replicas have clocks of their own, so an event may seem to
    /// be older than the one before it: then it follows at once, and what comes next is measured from the later time.
    fn due(&mut self, occurred_at: DateTime<Utc>, now: Instant) -> Instant {
        let (Speed::Recorded(speed), Some((due, before))) = (self.speed, self.before) else {
            self.before = Some((now, occurred_at));
            return now;
        };
        let gap = (occurred_at - before).to_std().unwrap_or_default();
        let pause = Duration::try_from_secs_f64(gap.as_secs_f64() / speed).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        let due = due + pause;
        self.before = Some((due, occurred_at.max(before)));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many milliseconds after the first each event is due.
    fn due(speed: Speed, occurred_ms: &[i64]) -> Vec<u128> {
        let now = Instant::now();
        let mut pace = Pace::new(speed);
        let at = |ms: &i64| DateTime::from_timestamp_millis(*ms).unwrap();
        occurred_ms.iter().map(|ms| pace.due(at(ms), now).duration_since(now).as_millis()).collect()
    }

    #[test]
    fn pauses_are_those_of_the_recording_at_the_speed_asked_for() {
        assert_eq!(due(Speed::Recorded(1.0), &[5_000, 6_000, 6_000, 8_500]), [0, 1_000, 1_000, 3_500]);
        assert_eq!(due(Speed::Recorded(10.0), &[0, 1_000, 2_500]), [0, 100, 250]);
        assert_eq!(due(Speed::Recorded(0.5), &[0, 1_000]), [0, 2_000]);
        assert_eq!(due(Speed::Max, &[0, 1_000_000]), [0, 0]);
    }

    #[test]
    fn a_clock_that_went_back_costs_no_time_and_gains_none() {
        assert_eq!(due(Speed::Recorded(1.0), &[1_000, 400, 1_500]), [0, 0, 500]);
    }

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        let longest = 3_600_000;
        for (gap, pause) in [(longest - 1, longest - 1), (longest, longest), (longest + 1, longest)] {
            assert_eq!(due(Speed::Recorded(1.0), &[0, gap])[1], u128::try_from(pause).unwrap());
        }
        assert_eq!(due(Speed::Recorded(0.01), &[0, 3_600_000, 3_600_001]), [0, 3_600_000, 3_600_100]);
    }
}
