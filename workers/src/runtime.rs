use std::{fmt, sync::Arc};

use futures::{StreamExt, future, stream::BoxStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use toolgate_events::{Lane, ToolCallEvent};
use toolgate_store::{ConsumeError, Delivery};

use crate::{
    Environment, Options,
    answers::Answers,
    breaker::Breakers,
    call::{self, Context},
    metrics::Metrics,
    places::Places,
    webhook::Deliveries,
};

/// A process's worker: one stream of calls per lane.
pub struct Worker {
    lanes: Vec<LaneStream>,
    context: Context,
    webhook: Option<Deliveries>,
}

struct LaneStream {
    lane: Lane,
    concurrency: usize,
    deliveries: BoxStream<'static, Delivery>,
}

impl Worker {
    pub(crate) async fn new(environment: Environment, options: Options, metrics: Metrics) -> Result<Self, ConsumeError> {
        let log = &environment.log;
        let options = &options;
        let lanes = future::try_join_all(options.lanes.iter().map(|lane| async move {
            // One tenant alone may keep a lane busy, and not more than that waits here: the rest stays with the broker.
            let concurrency = options.concurrency_of(lane);
            let held_per_partition = u32::try_from(concurrency).unwrap_or(u32::MAX);
            let deliveries = log.consume_lane(lane, options.ack_wait, held_per_partition).await?.boxed();
            Ok::<_, ConsumeError>(LaneStream { lane: lane.clone(), concurrency, deliveries })
        }))
        .await?;
        let webhook = match &options.webhook {
            Some(webhook) => Deliveries::open(&environment, &metrics, webhook.clone(), &options.lanes, options.ack_wait).await?,
            None => None,
        };
        let name = format!("worker-{}", &environment.clock.new_id().simple().to_string()[20..]);
        for contract in environment.catalog.all() {
            metrics.circuit_state(contract.name, 0);
        }
        let context = Context {
            environment,
            breakers: Breakers::new(options.circuit_open, metrics.clone()),
            answers: Answers::default(),
            metrics,
            name,
            ack_wait: options.ack_wait,
            shutdown: CancellationToken::new(),
        };
        Ok(Self { lanes, context, webhook })
    }

    /// Works until `shutdown`, then finishes what it holds. A call cut off in the middle is taken over by another worker.
    pub async fn run(self, shutdown: CancellationToken) {
        let context = Arc::new(Context { shutdown: shutdown.clone(), ..self.context });
        let calls = TaskTracker::new();
        let lanes = self.lanes.into_iter().map(|LaneStream { lane, concurrency, mut deliveries }| {
            let (context, calls, shutdown) = (Arc::clone(&context), calls.clone(), shutdown.clone());
            let places = Arc::new(Places::new(concurrency));
            async move {
                while let Some(Some(delivery)) = shutdown.run_until_cancelled(deliveries.next()).await {
                    // Claims and outcomes pass by on the same lane; they are nobody's work.
                    if delivery.is_other_than(ToolCallEvent::REQUESTED) {
                        delivery.ack().await;
                        continue;
                    }
                    let in_flight = context.metrics.in_flight(lane.as_str());
                    let (context, places, lane) = (Arc::clone(&context), Arc::clone(&places), lane.clone());
                    calls.spawn(async move {
                        call::handle(&context, &lane, &places, delivery).await;
                        drop(in_flight);
                    });
                }
            }
        });
        let delivering = async {
            if let Some(webhook) = self.webhook {
                webhook.run(shutdown.clone()).await;
            }
        };
        future::join(future::join_all(lanes), delivering).await;
        calls.close();
        calls.wait().await;
        context.environment.log.flush().await;
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes: Vec<_> = self.lanes.iter().map(|stream| &stream.lane).collect();
        f.debug_struct("Worker").field("lanes", &lanes).finish_non_exhaustive()
    }
}
