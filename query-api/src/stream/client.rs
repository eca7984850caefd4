use std::{fmt, time::Duration};

use axum::response::sse::Event;
use serde_json::json;
use tokio::time::{Instant, sleep};
use toolgate_events::{CallId, TenantId};
use toolgate_security::EventSource;

use super::{
    Feeds,
    course::{Course, Next},
    feed::{PAGE_DATA, PAGES_DATA},
    rendered::Rendered,
};
use crate::{
    Error,
    queries::audit::{AuditFilter, Bounds, Stretch},
};

/// Before a client whose history could not be read for now has it read again.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of data in a client's page at the most, however many share [`PAGES_DATA`], unless one event has more.
const SMALLEST_PAGE: usize = 16 * 1024;

/// Which events a client asked for; the default is all of the tenant's.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientFilter {
    pub call_id: Option<CallId>,
    pub session_id: Option<String>,
    pub event_type: Option<String>,
}

impl ClientFilter {
    pub(super) fn lets_through(&self, event: &Rendered) -> bool {
        self.call_id.is_none_or(|call| call.0 == event.call_id)
            && self.event_type.as_ref().is_none_or(|event_type| *event_type == event.event_type)
            && self.session_id.as_ref().is_none_or(|session| event.session_id.as_ref() == Some(session))
    }
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// After this position, which was asked for or is the newest. A client that is cut off before its first event comes back to it.
    After(u64),
    /// The position asked for cannot be served: the stream goes on from this one.
    Reset(u64),
}

impl Resume {
    /// [`Self::of`], where what a feed has told is enough to know: from there it goes on. What lies beyond, only the database knows.
    pub(super) fn told(asked: Option<u64>, oldest: u64, told: u64) -> Option<Self> {
        asked.is_none_or(|asked| asked <= told).then(|| Self::of(asked, oldest, told))
    }

    /// `oldest` is the first position that can be served. What lies before it is missing to whoever resumes there, and what lies
    /// beyond the newest was never there: both are told.
    pub(super) fn of(asked: Option<u64>, oldest: u64, newest: u64) -> Self {
        match asked {
            None => Self::After(newest),
            Some(asked) if asked > newest || asked + 1 < oldest => Self::Reset(newest),
            Some(asked) => Self::After(asked),
        }
    }

    pub(super) fn position(self) -> u64 {
        match self {
            Self::After(position) | Self::Reset(position) => position,
        }
    }
}

/// One client's stream.
pub(crate) struct Client {
    feeds: Feeds,
    tenant: TenantId,
    filter: ClientFilter,
    stage: Stage,
    /// When an event was handed over, until the next is asked for.
    served_at: Option<Instant>,
}

enum Stage {
    /// It asked for what comes after this position. The greeting does not wait until that is known to exist.
    Asked(u64),
    Begun(Course),
}

enum Step {
    Frame(Event),
    Again,
    End,
}

impl Client {
    /// A stream that begins after the position asked for. Without one it begins with this call: whatever happens once its answer has
    /// begun, it tells.
    ///
    /// # Errors
    /// [`Error::Database`], only without a position.
    pub(crate) async fn begin(feeds: &Feeds, tenant: TenantId, filter: ClientFilter, asked: Option<u64>) -> Result<Self, Error> {
        let stage = match asked {
            Some(asked) => Stage::Asked(asked),
            None => {
                // In a box, here and below, because most clients wait most of the time, and then what reading needs is no part of them.
                let (live, resume) = Box::pin(feeds.listen(tenant, &filter, None)).await?;
                Stage::Begun(Course::after(resume.position(), live))
            }
        };
        Ok(Self { feeds: feeds.clone(), tenant, filter, stage, served_at: None })
    }

    async fn step(&mut self, taken_after: Duration) -> Result<Step, Error> {
        let course = match &mut self.stage {
            Stage::Begun(course) => course,
            Stage::Asked(asked) => {
                let (live, resume) = Box::pin(self.feeds.listen(self.tenant, &self.filter, Some(*asked))).await?;
                let position = resume.position();
                self.stage = Stage::Begun(Course::after(position, live));
                let Resume::Reset(_) = resume else { return Ok(Step::Again) };
                let position = position.to_string();
                let reset = Event::default().id(&position).event("reset").data(json!({"position": position}).to_string());
                return Ok(Step::Frame(reset));
            }
        };
        match course.next(&self.filter, taken_after) {
            Next::Event(event) => {
                self.served_at = Some(Instant::now());
                Ok(Step::Frame(event.frame()))
            }
            Next::Mode(mode) => Ok(Step::Frame(self.feeds.modes.frame(mode))),
            Next::Read(stretch, rows) => {
                Box::pin(self.read(stretch, rows)).await?;
                Ok(Step::Again)
            }
            Next::Wait => Ok(if course.news().await { Step::Again } else { Step::End }),
            Next::Drop => {
                tracing::info!("dropped a subscriber that was too slow; it may resume where it was");
                Ok(Step::End)
            }
        }
    }

    async fn read(&mut self, stretch: Stretch, rows: usize) -> Result<(), Error> {
        let Stage::Begun(course) = &mut self.stage else { return Ok(()) };
        let filter =
            AuditFilter { call_id: self.filter.call_id, event_type: self.filter.event_type.clone(), ..AuditFilter::default() };
        let session_id = self.filter.session_id.as_deref();
        let bounds = Bounds { rows, data: share(course.listeners()) };
        let (events, has_more) = self.feeds.history(self.tenant, &filter, session_id, stretch, bounds).await?;
        course.has_read(stretch, events, has_more);
        Ok(())
    }
}

/// A client's share of the memory that the pages of all of a tenant's clients may take.
fn share(clients: usize) -> usize {
    (PAGES_DATA / clients.max(1)).clamp(SMALLEST_PAGE, PAGE_DATA)
}

impl EventSource for Client {
    async fn next(&mut self) -> Option<Event> {
        // The client asks again as soon as the event before has left for the network.
        let taken_after = self.served_at.take().map_or(Duration::ZERO, |at| at.elapsed());
        loop {
            match self.step(taken_after).await {
                Ok(Step::Frame(event)) => return Some(event),
                Ok(Step::Again) => {}
                Ok(Step::End) => return None,
                Err(error) if error.is_passing() => {
                    tracing::warn!(error = %error, "an event stream waits for what cannot be read for now");
                    sleep(PAUSE).await;
                }
                Err(error) => {
                    // The client comes back with its Last-Event-ID.
                    tracing::warn!(error = %error, "an event stream ended early");
                    return None;
                }
            }
        }
    }

    fn resume_after(&self) -> Option<u64> {
        match &self.stage {
            Stage::Asked(asked) => Some(*asked),
            Stage::Begun(course) => course.told_up_to(&self.filter),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("tenant", &self.tenant).field("place", &self.resume_after()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_served_is_reset() {
        for (asked, oldest, newest, resume) in [
            (None, 1, 9, Resume::After(9)),
            (Some(0), 1, 9, Resume::After(0)),
            (Some(8), 1, 9, Resume::After(8)),
            (Some(9), 1, 9, Resume::After(9)),
            (Some(10), 1, 9, Resume::Reset(9)),
            (Some(u64::MAX), 1, 9, Resume::Reset(9)),
            (Some(3), 5, 9, Resume::Reset(9)),
            (Some(4), 5, 9, Resume::After(4)),
            (Some(5), 5, 9, Resume::After(5)),
            (Some(0), 1, 0, Resume::After(0)),
            (Some(1), 1, 0, Resume::Reset(0)),
        ] {
            assert_eq!(Resume::of(asked, oldest, newest), resume, "{asked:?} of {oldest} to {newest}");
        }
    }
    #[test]
    fn what_the_feed_has_told_is_answered_from_memory() {
        for (asked, told, resume) in [
            (None, 9, Some(Resume::After(9))),
            (Some(8), 9, Some(Resume::After(8))),
            (Some(9), 9, Some(Resume::After(9))),
            (Some(10), 9, None),
            (Some(0), 0, Some(Resume::After(0))),
        ] {
            assert_eq!(Resume::told(asked, 1, told), resume, "{asked:?} of {told}");
        }
    }

    #[test]
    fn many_clients_have_small_pages() {
        for (clients, bytes) in [(0, 1024 * 1024), (16, 1024 * 1024), (32, 512 * 1024), (1_024, 16 * 1024), (5_000, 16 * 1024)] {
            assert_eq!(share(clients), bytes, "{clients}");
        }
    }
}
