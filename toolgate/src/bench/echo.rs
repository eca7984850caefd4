//! The floor of the whole road: publish → consume → publish → reply on the bare bus. The requester is in the bench itself, where
//! the HTTP clients are otherwise; the worker is a process of its own, like ours.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use toolgate_events::{CallId, CallSubject, Lane, TenantId};
use toolgate_store::{Clock, bare::BareRequester};
use uuid::Uuid;

use super::{Error, child::Floor, load::Caller, template::Template};

const REQUESTS: &str = "bench-echo";
const OUTCOMES: &str = "bench-outcome";

/// Answers bare requests until `shutdown`.
pub async fn serve(floor: Floor, shutdown: CancellationToken) -> Result<(), Error> {
    let Floor { directory, bare, clock, .. } = floor;
    let template = Arc::new(Template::load(&directory.join(super::OUTCOME_EVENT))?);
    let outcomes = lane(OUTCOMES)?;
    let outcome = move |request: CallSubject| {
        let subject = CallSubject { lane: outcomes.clone(), ..request };
        let event = template.fill(&subject, clock.new_id());
        (subject, event)
    };
    let served = shutdown.run_until_cancelled(bare.echo(&lane(REQUESTS)?, outcome)).await;
    Ok(served.unwrap_or(Ok(()))?)
}

/// Makes bare round trips, one tenant after the other.
#[derive(Clone, Debug)]
pub struct EchoCaller {
    requester: Arc<BareRequester>,
    template: Arc<Template>,
    tenants: Arc<[Uuid]>,
    lane: Lane,
    clock: Clock,
    place: usize,
}

impl EchoCaller {
    /// `count` callers, spread over the tenants.
    pub fn many(
        count: usize,
        requester: BareRequester,
        template: Template,
        tenants: Vec<Uuid>,
        clock: Clock,
    ) -> Result<Vec<Self>, Error> {
        let first = Self {
            requester: Arc::new(requester),
            template: Arc::new(template),
            tenants: tenants.into(),
            lane: lane(REQUESTS)?,
            clock,
            place: 0,
        };
        Ok((0..count).map(|place| Self { place, ..first.clone() }).collect())
    }
}

impl Caller for EchoCaller {
    async fn call(&mut self) -> Result<(), String> {
        self.place = (self.place + 1) % self.tenants.len();
        let (tenant, call) = (TenantId(self.tenants[self.place]), CallId(self.clock.new_id()));
        let subject = CallSubject::new(self.requester.partitions(), tenant, self.lane.clone(), call);
        let event = self.template.fill(&subject, self.clock.new_id());
        self.requester.request(&subject, event).await.map(drop).map_err(|error| error.to_string())
    }
}

fn lane(name: &str) -> Result<Lane, Error> {
    Lane::new(name).map_err(|error| Error::Bug(error.to_string()))
}
