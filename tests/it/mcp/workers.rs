//! Workers in processes of their own, which keep the servers.

use std::{fs, fs::File};

use serde_json::{Value, json};
use toolgate_events::mcp::ToolName;
use toolgate_security::SecretForms;
use toolgate_store::Definitions;

use super::{Upstream, call, configure, names, offered, tool, toolgate_mcp};
use crate::app::{Child, Client, Role, Stack, Tenant, TestApp, Token, eventually, publish_raw, wait_until};

/// The roles apart from the worker, and somebody to talk to them.
struct Stage {
    stack: Stack,
    client: Client,
    reader: Client,
    _children: [Child; 3],
}

impl Stage {
    async fn start() -> Self {
        let stack = Stack::new().await;
        let (commands, queries, projector) = tokio::join!(
            Child::start(&stack, Role::CommandApi, &[]),
            Child::start(&stack, Role::QueryApi, &[]),
            Child::start(&stack, Role::Projector, &[]),
        );
        let tenant = Tenant::new();
        let client = Client::new(commands.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
        let reader = client.at(queries.url());
        Self { stack, client, reader, _children: [commands, queries, projector] }
    }
}

impl Stage {
    /// Waits until both APIs know the tool: each reads for itself.
    async fn knows(&self, tool: &str) {
        offered(&self.reader, tool).await;
        let invalid = json!({"tool": tool, "arguments": {}});
        wait_until("the tool is known", async || self.client.call("invalid", &invalid).await.status == 400).await;
    }
}

/// The settings of a worker, which the APIs know nothing of.
fn settings(upstream: &Upstream) -> Value {
    let server = upstream.stdio();
    json!({"s": {"command": server.command, "args": server.args, "plain_env": server.plain_env, "read_only": ["wait"]}})
}

/// The process that follows the script of a server, as the kernel lists it.
fn processes_of(upstream: &Upstream) -> usize {
    let marker = upstream.beside("script.json").display().to_string();
    let has_marker = |entry: fs::DirEntry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&marker)
    };
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(has_marker).filter(|has| *has).count()
}

#[tokio::test]
async fn a_worker_that_is_killed_takes_its_servers_along_and_another_runs_the_call() {
    let stage = Stage::start().await;
    let script = json!({"tools": [tool("wait", ""), tool("write", "")], "calls": {"wait": "hang", "write": "hang"}});
    let upstream = Upstream::new(&script);
    let mut servers = settings(&upstream);
    // One that does not go when its input ends.
    let shell = servers["s"]["args"][1].as_str().unwrap().replace("exec \"$0\"", "\"$0\"");
    servers["s"]["args"][1] = json!(format!("{shell}; exec sleep 300"));
    let servers = servers.to_string();
    let variables = [("TOOLGATE_MCP", servers.as_str()), ("TOOLGATE_ACK_WAIT_MS", "1000")];
    let mut dying = Child::start(&stage.stack, Role::Worker, &variables).await;
    stage.knows("mcp.s.wait").await;
    stage.knows("mcp.s.write").await;
    let read = stage.client.call("read", &call("mcp.s.wait")).await;
    let written = stage.client.call("write", &call("mcp.s.write")).await;
    assert_eq!((read.status, written.status), (202, 202), "{} {}", read.text(), written.text());
    wait_until("the server has both calls", async || upstream.seen("tools/call").len() == 2).await;
    assert!(processes_of(&upstream) > 0);
    dying.kill().await;
    wait_until("the server has gone with its worker", async || processes_of(&upstream) == 0).await;
    upstream.follow(&json!({"tools": script["tools"]}));
    let _healthy = Child::start(&stage.stack, Role::Worker, &variables).await;
    let outcome = async |call: &crate::app::Answer| {
        let path = format!("/v1/tool-calls/{}", call.call_id());
        eventually("the call has an outcome", async || {
            let answer = stage.reader.get(&path).await;
            (answer.status == 200 && answer.json()["finished_at"].is_string()).then(|| answer.json())
        })
        .await
    };
    // What changes nothing is run again; whether the other took effect nobody can know.
    let (read, written) = (outcome(&read).await, outcome(&written).await);
    assert_eq!(read["status"], "succeeded", "{read}");
    assert_eq!(written["status"], "failed", "{written}");
    let sent = upstream.seen("tools/call");
    assert_eq!(sent.iter().filter(|message| message["params"]["name"] == "write").count(), 1, "{sent:?}");
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_keeps_nobody_from_starting() {
    let stack = Stack::new().await;
    let upstream = Upstream::new(&json!({"tools": [tool("read", ""), tool("other", "")]}));
    // The stream is there as soon as somebody has used it.
    Definitions::of(&stack.log().await).forget(&ToolName::new("s", "nothing").unwrap()).await.unwrap();
    publish_raw(&stack.connections.nats, "mcp.seen.s.read", b"no JSON").await;
    let app = TestApp::on(stack, |settings| configure(settings, &[("s", upstream.stdio())])).await;
    let client = app.admin();
    names(&client, &["mcp.s.other"]).await;
    assert!(toolgate_mcp(&app.stack, &["forget", "s", "other"]).await.0);
    let name = ToolName::new("s", "read").unwrap();
    Definitions::of(&app.stack.log().await).forget(&name).await.unwrap();
    names(&client, &["mcp.s.other", "mcp.s.read"]).await;
}

#[tokio::test]
async fn secrets_of_servers_are_in_no_log_and_no_outcome() {
    const SECRET: &str = "canary-mcp-variable-93a1";
    const HEADER: &str = "canary-mcp-header-5c07";
    let stage = Stage::start().await;
    let said = format!("my key is {SECRET} and yours is {HEADER}");
    let script = json!({"tools": [tool("leak", &said), tool("fail", "")], "calls": {
        "leak": {"content": [{"type": "text", "text": said}], "structuredContent": {"key": SECRET}},
        "fail": {"content": [{"type": "text", "text": said}], "isError": true},
    }});
    let (upstream, remote) = (Upstream::new(&script), Upstream::new(&script));
    let listening = remote.listen().await;
    let mut servers = settings(&upstream);
    let shell = servers["s"]["args"][1].as_str().unwrap();
    servers["s"]["args"][1] = json!(format!("echo \"started with $KEY\" >&2; {shell}"));
    servers["s"]["env"] = json!({"KEY": SECRET});
    servers["r"] = json!({"url": listening.http().url, "headers": {"authorization": format!("Bearer {HEADER}")}});
    let log = stage.stack.data_dir.join(format!("mcp-log-{}", stage.client.tenant.0));
    let servers = servers.to_string();
    let variables =
        [("TOOLGATE_MCP", servers.as_str()), ("RUST_LOG", "trace"), ("TOOLGATE_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8")];
    let mut worker = Child::start_logging(&stage.stack, Role::Worker, &variables, File::create(&log).unwrap()).await;
    let mut all = String::new();
    for server in ["s", "r"] {
        for tool in ["leak", "fail"] {
            stage.knows(&format!("mcp.{server}.{tool}")).await;
            let answer = stage.client.call_and_wait(&format!("{server}{tool}"), &call(&format!("mcp.{server}.{tool}"))).await;
            assert!(answer.text().contains("[redacted]"), "{}", answer.text());
            all.push_str(&answer.text());
        }
    }
    worker.kill().await;
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.contains("started with [redacted]"), "the server's own words are in the log for who asks for them");
    all.push_str(&logged);
    for secret in [SECRET, HEADER] {
        let found = all.lines().find(|line| SecretForms::of(secret).are_in(line));
        assert_eq!(found, None);
    }
    assert!(remote.headers().iter().all(|headers| headers["authorization"] == format!("Bearer {HEADER}")), "it was sent");
    fs::remove_file(&log).unwrap();
}
