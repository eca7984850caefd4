//! A cancellation reaches the adapter.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Upstream, app, key, outcome, request, story};
use crate::app::wait_until;

#[tokio::test]
async fn a_cancelled_request_is_dropped_and_its_place_is_free() {
    let upstream = Upstream::start().await;
    let app = app(&[&upstream], |settings| settings.lane_concurrency = 1).await;
    let client = app.admin();
    for (method, events) in [("GET", &["requested", "cancelled"][..]), ("POST", &["requested", "started", "cancelled"])] {
        let gone = upstream.gone();
        let call = client.call(&key(), &request(method, &upstream.url("/hang"))).await;
        wait_until("the request is under way", async || upstream.seen(&format!("{method} /hang")) == 1).await;
        let path = format!("/v1/tool-calls/{}", call.call_id());
        assert_eq!(client.post(&format!("{path}/cancel")).await.status, 202);
        let cancelled = Instant::now();
        wait_until("the upstream sees it go", async || upstream.gone() == gone + 1).await;
        // Left alone it would have gone after 25 seconds.
        assert!(cancelled.elapsed() < Duration::from_secs(15), "{:?}", cancelled.elapsed());
        // The only place of the lane.
        assert_eq!(outcome(&client, &request("GET", &upstream.url("/"))).await["status"], "succeeded");
        assert_eq!(client.get(&path).await.json()["status"], json!("cancelled"));
        assert_eq!(story(&client, &call.json()).await, events);
        assert_eq!(upstream.seen(&format!("{method} /hang")), 1, "and it is not tried again");
    }
}
