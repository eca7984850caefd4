//! An upstream tool behind its contract.

use serde_json::json;

use super::{Upstream, app_with, call, listed, offered, tool};
use crate::app::{Tenant, Token};

#[tokio::test]
async fn arguments_that_break_the_servers_schema_are_400_and_go_nowhere() {
    let upstream = Upstream::new(&json!({"tools": [tool("echo", "")]}));
    let app = app_with(&[("s", upstream.stdio())]).await;
    let client = app.admin();
    offered(&client, "mcp.s.echo").await;
    for (arguments, pointer) in [
        (json!({}), "/arguments/text"),
        (json!({"text": 5}), "/arguments/text"),
        (json!({"text": "12345678901"}), "/arguments/text"),
        (json!({"text": "x", "more": 1}), "/arguments/more"),
    ] {
        let problem = client.call("k", &json!({"tool": "mcp.s.echo", "arguments": arguments})).await.problem(400, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    for (length, status) in [(9, 200), (10, 200), (11, 400)] {
        let body = json!({"tool": "mcp.s.echo", "arguments": {"text": "x".repeat(length)}});
        assert_eq!(client.call_and_wait(&length.to_string(), &body).await.status, status, "{length}");
    }
    assert_eq!(upstream.seen("tools/call").len(), 2);
}

#[tokio::test]
async fn who_may_not_call_a_tool_does_not_see_it() {
    let upstream = Upstream::new(&json!({"tools": [tool("open", ""), tool("closed", "")]}));
    let app = app_with(&[("s", upstream.stdio())]).await;
    offered(&app.admin(), "mcp.s.closed").await;
    let tenant = Tenant::new();
    let permissions = json!(["tool:list", "tool.mcp.s.open:invoke"]);
    let narrow = app.client_with(tenant, &Token::of(tenant, "nobody").claim("permissions", permissions));
    let names: Vec<_> = listed(&narrow).await.iter().map(|contract| contract["name"].clone()).collect();
    assert_eq!(names, ["mcp.s.open"]);
    narrow.get("/v1/tools/mcp.s.closed").await.problem(404, "not-found");
    narrow.call("k", &call("mcp.s.closed")).await.problem(403, "forbidden");
    assert_eq!(narrow.call_and_wait("k", &call("mcp.s.open")).await.json()["status"], "succeeded");
    // An agent may call any tool; another tenant's calls are not its affair.
    let agent = app.client(Tenant::new(), "agent");
    let answer = agent.call_and_wait("k", &call("mcp.s.closed")).await;
    assert_eq!(answer.json()["status"], "succeeded", "{}", answer.text());
    narrow.get(&format!("/v1/tool-calls/{}", answer.call_id())).await.problem(403, "forbidden");
    app.admin().get(&format!("/v1/tool-calls/{}", answer.call_id())).await.problem(404, "not-found");
    for unknown in ["mcp.s.none", "mcp.none.open", "mcp.s.open.x", "mcp.s.OPEN", "mcp.."] {
        agent.call("k", &call(unknown)).await.problem(404, "not-found");
    }
}
