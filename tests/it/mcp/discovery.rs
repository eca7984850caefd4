//! From a configured server to a tool that can be called.

use serde_json::json;

use super::{Upstream, app_with, offered, tool};

#[tokio::test]
async fn a_tool_is_discovered_and_called_over_standard_input_and_output() {
    let upstream = Upstream::new(&json!({"tools": [tool("Echo", "Says it again.")]}));
    let app = app_with(&[("local", upstream.stdio())]).await;
    let client = app.admin();
    let contract = offered(&client, "mcp.local.echo").await;
    assert_eq!((&contract["description"], &contract["lane"]), (&json!("Says it again."), &json!("mcp")), "{contract}");
    let result = client.result_of("mcp.local.echo", json!({"text": "hello"})).await;
    assert_eq!(result, json!({"content": [{"type": "text", "text": r#"{"text":"hello"}"#}]}));
}
