use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};
use toolgate_events::{CallId, TenantId};
use toolgate_security::ReadPool;

use super::{
    Feeds,
    cloud_event::Rendered,
    feed::{self, PAGE},
    place::{Arrival, Place},
};
use crate::{
    Error, State,
    queries::audit::{AuditFilter, Stretch},
};

/// A client that overflows its queue and has not taken an event for this long is dropped.
const SLOW: Duration = Duration::from_secs(10);

/// Which events a client asked for; the default is all of the tenant's.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientFilter {
    pub call_id: Option<CallId>,
    pub session_id: Option<String>,
    pub event_type: Option<String>,
}

impl ClientFilter {
    fn lets_through(&self, event: &Rendered) -> bool {
        self.call_id.is_none_or(|call| call.0 == event.call_id)
            && self.event_type.as_ref().is_none_or(|event_type| *event_type == event.event_type)
            && self.session_id.as_ref().is_none_or(|session| event.session_id.as_ref() == Some(session))
    }
}

/// One client's reading: history from the database, then the live feed, without a gap or a repetition in between.
pub(crate) struct Client {
    pool: ReadPool,
    feeds: Feeds,
    tenant: TenantId,
    filter: ClientFilter,
    place: Place,
    /// Up to here the database is read before the feed is listened to.
    watermark: u64,
    /// Rows to ask for, as many as fitted lately: what is asked for and does not fit is read in vain.
    rows: usize,
    page: VecDeque<Arc<Rendered>>,
    live: Option<broadcast::Receiver<Arc<Rendered>>>,
    served_at: Instant,
}

impl Client {
    /// A reading of everything after a position.
    pub(crate) fn after(state: &State, tenant: TenantId, filter: ClientFilter, position: u64) -> Self {
        Self {
            pool: state.pool.clone(),
            feeds: state.feeds.clone(),
            tenant,
            filter,
            place: Place(position),
            watermark: position,
            rows: PAGE,
            page: VecDeque::new(),
            live: None,
            served_at: Instant::now(),
        }
    }

    /// The next event; pends while there is none, and ends when the client was too slow for the feed.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<Rendered>>, Error> {
        // The client asks again as soon as the event before has left for the network.
        let taken_after = self.served_at.elapsed();
        let next = self.read(taken_after).await;
        self.served_at = Instant::now();
        next
    }

    async fn read(&mut self, taken_after: Duration) -> Result<Option<Arc<Rendered>>, Error> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Ok(Some(event));
            }
            if self.place.0 < self.watermark {
                self.read_history().await?;
                continue;
            }
            let Some(live) = &mut self.live else {
                self.go_live().await?;
                continue;
            };
            match live.recv().await {
                Ok(event) => match self.place.judge(event.position) {
                    Arrival::Seen => {}
                    Arrival::Gap => self.watermark = event.position,
                    Arrival::Next => {
                        self.place = Place(event.position);
                        if self.filter.lets_through(&event) {
                            return Ok(Some(event));
                        }
                    }
                },
                Err(RecvError::Lagged(events)) if taken_after > SLOW => {
                    tracing::info!(events, "dropped a subscriber that was too slow; it may resume where it was");
                    return Ok(None);
                }
                // A burst: it reads the database at its own pace until it has caught up.
                Err(RecvError::Lagged(_)) => self.live = None,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    async fn read_history(&mut self) -> Result<(), Error> {
        let filter =
            AuditFilter { call_id: self.filter.call_id, event_type: self.filter.event_type.clone(), ..AuditFilter::default() };
        let stretch = Stretch { after: self.place.0, up_to: self.watermark };
        let session_id = self.filter.session_id.as_deref();
        let (events, has_more) = self.feeds.read_history(self.tenant, &filter, session_id, stretch, self.rows).await?;
        // Without more, everything up to the watermark has been seen, filtered or not.
        self.place = Place(match events.last() {
            Some(last) if has_more => last.position,
            _ => self.watermark,
        });
        if has_more {
            self.rows = (events.len() * 2).min(PAGE);
        }
        self.page.extend(events.into_iter().map(Arc::new));
        Ok(())
    }

    /// Subscribes first and fixes the watermark afterwards, so that every event is on at least one side of it.
    async fn go_live(&mut self) -> Result<(), Error> {
        let newest = feed::newest(&self.pool, self.tenant).await?;
        if newest.saturating_sub(self.place.0) > PAGE as u64 {
            // A long history would overflow the live queue meanwhile: read that first.
            self.watermark = newest;
            return Ok(());
        }
        self.live = Some(self.feeds.subscribe(self.tenant).await?);
        self.watermark = feed::newest(&self.pool, self.tenant).await?;
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("tenant", &self.tenant).field("place", &self.place).finish_non_exhaustive()
    }
}
