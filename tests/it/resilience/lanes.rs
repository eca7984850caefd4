//! What one upstream does to others.

use futures::future::join_all;
use serde_json::json;

use super::{Upstream, app, key, outcome, request, unhurried_about_news};
use crate::app::{Client, task, wait_until};

#[tokio::test]
async fn a_lane_that_hangs_leaves_other_lanes_tenants_and_hosts_alone() {
    let (hanging, alive) = (Upstream::start().await, Upstream::start().await);
    let app = app(&[&hanging, &alive], |settings| settings.lane_concurrency = 8).await;
    let stuck: [Client; 3] = [app.admin(), app.admin(), app.admin()];
    let known = unhurried_about_news(&alive.url("/news"));
    assert_eq!(outcome(&stuck[0], &known).await["cached"], false);
    let url = hanging.url("/hang");
    // Four places are one tenant's at the most, two of them with one host. A partition hands out eight calls at a time.
    let calls = join_all([0, 0, 0, 0, 1, 1, 2].map(async |number: usize| {
        let client = &stuck[number];
        (client, client.call(&key(), &request("GET", &url)).await)
    }))
    .await;
    wait_until("the host has all that its callers may have there", async || hanging.seen("GET /hang") == 5).await;
    let client = app.admin();
    assert_eq!(outcome(&client, &request("GET", &alive.url("/"))).await["status"], "succeeded", "another host in the same lane");
    assert_eq!(outcome(&stuck[0], &request("GET", &alive.url("/"))).await["status"], "succeeded", "for the same tenant, too");
    assert_eq!(outcome(&client, &task()).await["status"], "succeeded", "another lane");
    assert_eq!(outcome(&stuck[0], &task()).await["status"], "succeeded", "the same tenant's, too");
    assert_eq!(outcome(&stuck[0], &known).await["cached"], true, "what is known needs no place in the lane");
    let search = json!({"tool": "knowledge.search", "arguments": {"query": "x"}});
    assert_eq!(outcome(&client, &search).await["status"], "succeeded");
    assert_eq!((hanging.seen("GET /hang"), hanging.gone()), (5, 0), "all of it while they hang");
    for (client, call) in calls {
        let cancelled = client.post(&format!("/v1/tool-calls/{}/cancel", call.call_id())).await;
        assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    }
}
