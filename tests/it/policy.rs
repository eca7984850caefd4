//! The policy file: followed while it can be used, and tried on what is recorded.

use std::{fs, path::PathBuf};

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::process::Command;
use toolgate_events::{CallId, CallSubject, Lane};
use toolgate_store::Clock;

use crate::app::{Client, Tenant, TestApp, Token, eventually, publish_raw, send, task, task_titled, wait_until};

const OPEN: &str = "version = 1\n[roles]\nagent = [\"tool.*.*:invoke\", \"event:subscribe\"]\nreader = [\"event:subscribe\"]\n\
    auditor = [\"audit:read\", \"tool_call:read\"]\n";
const SHUT: &str = "version = 1\ndeny = [\"tool.task.create:invoke\"]\n[roles]\nagent = [\"tool.*.*:invoke\", \"event:subscribe\"]\n\
    reader = { deny = [\"event:subscribe\"] }\nauditor = [\"audit:read\"]\n";

/// A policy file of this test's own, gone with it.
struct PolicyFile(PathBuf);

impl PolicyFile {
    fn new(text: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("toolgate-policy-{}.toml", Clock::system().new_id())));
        file.replace(text);
        file
    }

    fn replace(&self, text: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// The value of one sample.
async fn metric(client: &Client, sample: &str) -> Option<String> {
    let text = send(client.anonymous(Method::GET, "/metrics")).await.text();
    text.lines().find_map(|line| Some(line.strip_prefix(sample)?.trim().to_owned()))
}

#[tokio::test]
async fn the_file_is_followed_and_a_broken_one_changes_nothing_but_the_gauge() {
    let file = PolicyFile::new(OPEN);
    let app = TestApp::start_with(|settings| settings.policy_file = Some(file.0.clone())).await;
    let agent = app.client(Tenant::new(), "agent");
    let status = async |key: &str| agent.call(key, &task()).await.status;
    let broken = async || metric(&agent, "policy_file_broken").await.unwrap();
    assert_eq!((status("a").await, broken().await.as_str()), (202, "0"));

    file.replace(SHUT);
    wait_until("the new policy is in force", async || status("b").await == 403).await;
    let problem = agent.call("b", &task()).await.problem(403, "forbidden");
    assert_eq!(problem["detail"], "this needs the permission tool.task.create:invoke");

    file.replace("version = 1\n[roles]\nagent = [\"everything\"]\n");
    wait_until("the broken file is noticed", async || broken().await == "1").await;
    assert_eq!(status("c").await, 403, "the policy before it stays");
    fs::remove_file(&file.0).unwrap();
    wait_until("the missing file is noticed", async || {
        metric(&agent, "policy_reloads_total{outcome=\"refused\"}").await.as_deref() == Some("2")
    })
    .await;
    assert_eq!((status("c").await, broken().await.as_str()), (403, "1"));

    file.replace(OPEN);
    wait_until("the mended policy is in force", async || [200, 202].contains(&status("d").await)).await;
    assert_eq!(broken().await, "0");
    assert_eq!(metric(&agent, "policy_reloads_total{outcome=\"applied\"}").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn an_open_stream_ends_with_the_right_to_it() {
    let file = PolicyFile::new(OPEN);
    let app = TestApp::start_with(|settings| settings.policy_file = Some(file.0.clone())).await;
    let tenant = Tenant::new();
    let (agent, reader) = (app.client(tenant, "agent"), app.client(tenant, "reader"));
    let (mut kept, mut ended) = (agent.events("", None).await, reader.events("", None).await);
    ended.frame().await.unwrap();
    kept.frame().await.unwrap();
    file.replace(SHUT);
    let farewell = ended.event().await.unwrap();
    assert_eq!((farewell.name(), farewell.json()), ("unauthorized", json!({"detail": "the token no longer allows this"})));
    assert!(ended.frame().await.is_none(), "the stream goes on");
    reader.get("/v1/events").await.problem(403, "forbidden");
    // Whoever still may goes on listening.
    agent.call("k", &json!({"tool": "knowledge.search", "arguments": {"query": "x"}})).await;
    assert_eq!(kept.event().await.unwrap().name(), "tool_call_requested");
}

#[tokio::test]
async fn a_file_that_is_no_policy_is_refused_by_name() {
    let file = PolicyFile::new("version = 1\n[roles]\nagent = [\"everything\"]\n");
    let output = toolgate(&["policy", "check", &file.0.display().to_string()]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("role \"agent\" has \"everything\""), "{error}");
}

fn toolgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command.args(arguments).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_check_explains_and_its_exit_code_says_what_came_out() {
    let file = PolicyFile::new(SHUT);
    let path = file.0.display().to_string();
    let check = async |arguments: &[&str]| {
        let output = toolgate(&[&["policy", "check", &path], arguments].concat()).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(&[]).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("role agent: 2 allowed, 0 denied"), "{text}");
    let (code, text) = check(&["--role", "agent", "--permission", "tool.knowledge.get:invoke"]).await;
    assert_eq!((code, text.lines().last()), (Some(0), Some("allowed: role agent: tool.*.*:invoke")));
    let (code, text) = check(&["--role", "agent", "--tenant", "demo", "--permission", "tool.task.create:invoke"]).await;
    assert_eq!((code, text.lines().last()), (Some(1), Some("denied: deny: tool.task.create:invoke")));
    let (code, text) = check(&["--token-permission", "a:b,c:*", "--permission", "c:d"]).await;
    assert_eq!((code, text.lines().last()), (Some(0), Some("allowed: token: c:*")));
    assert_eq!(check(&["--permission", "no permission"]).await.0, Some(2));
}

/// An event of an earlier release, where no worker looks for it.
fn old_request(tenant: Tenant) -> (CallSubject, Vec<u8>) {
    let path = format!("{}/../events/golden/tool_call_requested.v1.json", env!("CARGO_MANIFEST_DIR"));
    let mut event: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let clock = Clock::system();
    let subject = CallSubject::new(4, tenant.id(), Lane::new("bygone").unwrap(), CallId(clock.new_id()));
    event["event_id"] = json!(clock.new_id());
    event["tenant_id"] = json!(tenant.0);
    event["aggregate_id"] = json!(subject.call_id);
    event["occurred_at"] = json!(clock.now());
    event["data"]["tool"] = json!("task.create");
    event["data"]["roles"] = json!(["agent"]);
    (subject, event.to_string().into_bytes())
}

#[tokio::test]
async fn a_candidate_is_tried_on_recorded_calls_and_nothing_happens() {
    let file = PolicyFile::new(OPEN);
    let mut app = TestApp::start_with(|settings| settings.policy_file = Some(file.0.clone())).await;
    let (tenant, other) = (Tenant::new(), Tenant::new());
    let agent = app.client_with(tenant, &Token::of(tenant, "agent").subject("ada"));
    let reader = app.client(tenant, "reader");
    let created = agent.call_and_wait("one", &task()).await;
    agent.call_and_wait("two", &task_titled("two")).await;
    agent.call_and_wait("search", &json!({"tool": "knowledge.search", "arguments": {"query": "x"}})).await;
    app.client(other, "agent").call_and_wait("three", &task()).await;
    reader.call("k", &json!({"tool": "knowledge.search", "arguments": {"query": "x"}})).await.problem(403, "forbidden");
    let (subject, bytes) = old_request(tenant);
    publish_raw(&app.stack.connections.nats, &subject.to_string(), &bytes).await;
    let garbage = CallSubject { call_id: CallId(Clock::system().new_id()), ..subject.clone() };
    publish_raw(&app.stack.connections.nats, &garbage.to_string(), b"no event").await;
    // The old request waits for a worker for ever.
    app.leaves_work();
    let auditor = app.client(tenant, "auditor");
    eventually("all of it is projected", async || (auditor.audit().await.len() == 2 + 2 + 2 + 1 + 2).then_some(())).await;

    let messages = app.stack.events_in_log().await;
    let runs = async || {
        let text = send(agent.anonymous(Method::GET, "/metrics")).await.text();
        text.lines().filter(|line| line.starts_with("tool_calls_by_tool_total")).map(str::to_owned).collect::<Vec<_>>()
    };
    let runs_before = runs().await;
    let candidate = PolicyFile::new(
        "version = 1\ndeny = [\"tool.task.create:invoke\"]\n[roles]\nagent = [\"tool.*.*:invoke\"]\nreader = [\"tool.*.*:invoke\"]\n",
    );
    let path = candidate.0.display().to_string();
    let try_out = async |arguments: &[&str]| {
        let mut command = toolgate(&[&["policy", "test", &path, "--since", "1h"], arguments].concat());
        command.env("NATS_URL", app.stack.connections.nats.expose_secret()).env("TOOLGATE_PARTITIONS", "4");
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text, String::from_utf8(output.stderr).unwrap())
    };
    let (code, text, error) = try_out(&["--json"]).await;
    assert_eq!(code, Some(0), "{error}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, differences) = lines.split_last().unwrap();
    let expected = json!({
        "read": 6, "still_allowed": 1, "by_another_rule": 0, "now_denied": 4, "still_denied": 0, "now_allowed": 1,
        "undecidable": 0, "unreadable": 1,
    });
    assert_eq!(summary["summary"], expected);
    assert_eq!(differences.len(), 5);
    let of =
        |id: &str| differences.iter().map(|line| &line["difference"]).find(|difference| difference["call_id"] == id).unwrap();
    let expected = json!({
        "call_id": created.call_id(),
        "tenant_id": tenant.0,
        "principal": "ada",
        "tool": "task.create",
        "requests": 1,
        "recorded_rule": "role agent: tool.*.*:invoke",
        "new_rule": "deny: tool.task.create:invoke",
        "allowed": false,
    });
    assert_eq!(*of(&created.call_id().to_string()), expected);
    assert_eq!(of(&subject.call_id.to_string())["recorded_rule"], "unrecorded");

    // Only what was asked for, and an exit code for scripts.
    let (code, text, error) = try_out(&["--tenant", &other.0.to_string(), "--check"]).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(text.contains("calls read     1\n") && text.contains("now denied     1\n"), "{text}");
    let until = ["--until", "2020-01-01T00:00:00Z", "--check"];
    let (code, text, _) = try_out(&until).await;
    assert_eq!((code, text.contains("calls read     0\n")), (Some(0), true), "{text}");

    assert_eq!(app.stack.events_in_log().await, messages, "something was appended");
    assert_eq!(runs().await, runs_before, "a tool ran");
}
