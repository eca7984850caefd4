//! From a configured server to a tool that can be called.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toolgate::settings::mcp::McpServerSettings;

use super::{Upstream, app_with, call, names, offered, tool};
use crate::app::{TestApp, send, wait_until};

#[tokio::test]
async fn a_tool_is_discovered_and_called_over_standard_input_and_output() {
    let upstream = Upstream::new(&json!({"tools": [tool("Echo", "Says it\u{200b} again.")]}));
    let app = app_with(&[("local", upstream.stdio())]).await;
    let client = app.admin();
    let contract = offered(&client, "mcp.local.echo").await;
    assert_eq!((&contract["description"], &contract["lane"]), (&json!("Says it again."), &json!("mcp")), "{contract}");
    assert_eq!(contract["permission"], "tool.mcp.local.echo:invoke");
    assert_eq!((&contract["upstream"]["server"], &contract["upstream"]["tool"]), (&json!("local"), &json!("Echo")));
    assert_eq!(client.get("/v1/tools/mcp.local.echo").await.json(), contract);
    let result = client.result_of("mcp.local.echo", json!({"text": "hello"})).await;
    assert_eq!(result, json!({"content": [{"type": "text", "text": r#"{"text":"hello"}"#}]}));
    let metrics = send(client.anonymous(reqwest::Method::GET, "/metrics")).await.text();
    assert!(metrics.contains("mcp_server_up{server=\"local\"} 1"), "{metrics}");
    assert!(metrics.contains("tool_calls_by_tool_total{tool=\"mcp.local.echo\",outcome=\"succeeded\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_tool_is_discovered_and_called_over_http_and_the_calls_id_goes_along() {
    let upstream = Upstream::new(&json!({"tools": [tool("echo", "Says it again.")], "calls": {"echo": "changed"}}));
    let listening = upstream.listen().await;
    let app = app_with(&[("remote", listening.http())]).await;
    let client = app.admin();
    offered(&client, "mcp.remote.echo").await;
    let answer = client.call_and_wait("k", &call("mcp.remote.echo")).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], r#"{"text":"hello"}"#, "{}", answer.text());
    let seen = upstream.seen("tools/call");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["params"]["_meta"]["toolgate/idempotency-key"], answer.call_id().to_string());
    // The same key is the same call: nothing is sent again.
    assert_eq!(client.call_and_wait("k", &call("mcp.remote.echo")).await.json()["result"], answer.json()["result"]);
    assert_eq!(upstream.seen("tools/call").len(), 1);
}

#[tokio::test]
async fn a_server_over_http_may_not_be_where_tools_may_not_go_nor_be_reached_by_others() {
    let upstream = Upstream::new(&json!({"tools": [tool("echo", "")]}));
    let listening = upstream.listen().await;
    let inside = TestApp::start_with(|settings| {
        super::configure(settings, &[("inside", listening.http())]);
        settings.egress_private_networks = Vec::new();
    })
    .await;
    let client = inside.admin();
    wait_until("the refusal is counted", async || client.violations("egress_blocked").await > 0).await;
    assert_eq!(upstream.seen("initialize").len(), 0);
    // Its place is open to the server's tools alone.
    let open = app_with(&[("open", listening.http())]).await;
    let client = open.admin();
    offered(&client, "mcp.open.echo").await;
    let url = listening.http().url;
    let around = json!({"tool": "http.request", "arguments": {"method": "POST", "url": url, "json": {}}});
    let outcome = client.call_and_wait("k", &around).await.json();
    assert_eq!(outcome["error"]["type"], "urn:toolgate:tool:egress-blocked", "{outcome}");
}

#[tokio::test]
async fn pages_are_followed_and_only_chosen_tools_are_taken() {
    let tools: Vec<_> = (0..7).map(|number| tool(&format!("get_{number}"), "")).chain([tool("drop", "")]).collect();
    let upstream = Upstream::new(&json!({"tools": tools, "page": 2}));
    let chosen = McpServerSettings { tools: vec!["get_*".to_owned()], ..upstream.stdio() };
    let app = app_with(&[("paged", chosen)]).await;
    let expected: Vec<_> = (0..7).map(|number| format!("mcp.paged.get_{number}")).collect();
    names(&app.admin(), &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn only_the_operator_says_that_a_tool_changes_nothing() {
    let upstream = Upstream::new(&json!({"tools": [tool("get", ""), tool("set", ""), tool("put", "")]}));
    let server = McpServerSettings {
        read_only: vec!["get".to_owned()],
        idempotent: vec!["p*".to_owned()],
        timeout_ms: Some(1_234),
        ..upstream.stdio()
    };
    let app = app_with(&[("ruled", server)]).await;
    let client = app.admin();
    for (tool, side_effects) in [("get", "read_only"), ("set", "effectful"), ("put", "idempotent")] {
        let contract = offered(&client, &format!("mcp.ruled.{tool}")).await;
        assert_eq!((&contract["side_effects"], &contract["timeout_ms"]), (&json!(side_effects), &json!(1_234)), "{contract}");
    }
    let without_key = async |tool: &str| send(client.request(reqwest::Method::POST, "/v1/tool-calls").json(&call(tool))).await;
    assert_eq!(without_key("mcp.ruled.get").await.status, 202);
    let problem = without_key("mcp.ruled.set").await.problem(400, "invalid");
    assert_eq!(problem["errors"][0]["pointer"], "Idempotency-Key", "{problem}");
}

#[tokio::test]
async fn a_child_gets_the_variables_it_is_given_and_no_others() {
    let upstream = Upstream::new(&json!({"tools": [tool("echo", "")]}));
    let given: BTreeMap<_, _> = [("GIVEN".to_owned(), "a canary in a cage".to_owned().into())].into();
    let mut server = McpServerSettings { env: given, ..upstream.stdio() };
    let file = upstream.beside("environment");
    server.args[1] = format!("env > '{}'; {}", file.display(), server.args[1]);
    let app = app_with(&[("bare", server)]).await;
    offered(&app.admin(), "mcp.bare.echo").await;
    let text = std::fs::read_to_string(file).unwrap();
    let mut variables: Vec<_> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // The shell's own.
    variables.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    variables.sort_unstable();
    assert_eq!(variables, ["GIVEN", "MCP_TEST_SCRIPT", "PATH"], "{text}");
}

/// What a tool says of itself is data: it changes nothing but what is shown.
#[tokio::test]
async fn a_structured_answer_and_a_failure_are_told_apart() {
    let structured = json!({"type": "object", "properties": {"sum": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}});
    let mut sum = tool("sum", "");
    sum["outputSchema"] = structured;
    let script = json!({"tools": [sum, tool("fail", ""), tool("refuse", "")], "calls": {
        "sum": {"content": [], "structuredContent": {"sum": 5}},
        "fail": {"content": [{"type": "text", "text": "no such\u{1b}[31m file"}], "isError": true},
        "refuse": {"error": {"code": -32602, "message": "not like this\u{0}"}},
    }});
    let upstream = Upstream::new(&script);
    let app = app_with(&[("s", upstream.stdio())]).await;
    let client = app.admin();
    offered(&client, "mcp.s.sum").await;
    let result = client.result_of("mcp.s.sum", json!({"text": "x"})).await;
    assert_eq!(result, json!({"content": [], "structured_content": {"sum": 5}}));
    for (tool, words) in [("fail", "no such[31m file"), ("refuse", "not like this")] {
        let outcome: Value = client.call_and_wait(tool, &call(&format!("mcp.s.{tool}"))).await.json();
        assert_eq!(outcome["error"]["type"], "urn:toolgate:tool:reported", "{outcome}");
        assert_eq!(outcome["error"]["detail"], words, "{outcome}");
    }
}
