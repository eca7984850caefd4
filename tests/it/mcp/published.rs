//! Servers that others have published, at the versions of `tests/mcp-servers/package-lock.json`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value, json};
use tokio::process::Child;
use toolgate::settings::mcp::McpServerSettings;

use super::{app_with, listed, offered};
use crate::app::{free_port, leashed, wait_until};

const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/mcp-servers");
const NEEDED: &str = "Node.js 18 or newer with npm must be installed: the tests talk to published MCP servers";

/// The folder with the servers, installed when the lock file has changed since.
fn installed() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mcp-servers");
        let (lock, kept) = (Path::new(PACKAGES).join("package-lock.json"), folder.join("installed.json"));
        let wanted = fs::read(&lock).unwrap();
        if fs::read(&kept).is_ok_and(|kept| kept == wanted) {
            return folder;
        }
        fs::create_dir_all(&folder).unwrap();
        for file in ["package.json", "package-lock.json"] {
            fs::copy(Path::new(PACKAGES).join(file), folder.join(file)).unwrap();
        }
        // `ci` takes what the lock file says, with the hashes it says, and nothing else.
        let npm = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .output()
            .unwrap_or_else(|error| panic!("{NEEDED} ({error})"));
        assert!(npm.status.success(), "npm ci failed: {}", String::from_utf8_lossy(&npm.stderr));
        fs::write(kept, wanted).unwrap();
        folder
    })
}

/// Its program, run by Node.js.
fn published(name: &str, arguments: &[&str]) -> McpServerSettings {
    let program = installed().join(format!("node_modules/@modelcontextprotocol/{name}/dist/index.js"));
    let program = program.display().to_string();
    McpServerSettings {
        command: Some("node".to_owned()),
        args: [program.as_str()].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect(),
        ..McpServerSettings::default()
    }
}

#[tokio::test]
async fn the_servers_everything_and_memory_work_side_by_side_over_standard_input_and_output() {
    let memory_file = crate::mcp::Upstream::new(&json!({}));
    let mut memory = published("server-memory", &[]);
    let path = memory_file.beside("memory.jsonl").display().to_string();
    memory.plain_env = BTreeMap::from([("MEMORY_FILE_PATH".to_owned(), path)]);
    let app = app_with(&[("everything", published("server-everything", &[])), ("memory", memory)]).await;
    let client = app.admin();

    offered(&client, "mcp.everything.echo").await;
    let echo = client.result_of("mcp.everything.echo", json!({"message": "hello"})).await;
    assert_eq!(echo["content"][0]["text"], "Echo: hello", "{echo}");
    let problem = client.call("k", &json!({"tool": "mcp.everything.echo", "arguments": {}})).await.problem(400, "invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/arguments/message", "{problem}");

    offered(&client, "mcp.memory.create_entities").await;
    let entity = json!({"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]});
    client.result_of("mcp.memory.create_entities", json!({"entities": [entity]})).await;
    let graph = client.result_of("mcp.memory.read_graph", json!({})).await;
    assert_eq!(graph["structured_content"]["entities"][0]["name"], "Ada", "{graph}");

    let tools = listed(&client).await;
    let of = |server: &str| tools.iter().filter(|tool| tool["upstream"]["server"] == server).count();
    assert!(of("everything") >= 5 && of("memory") >= 5, "{tools:?}");
}

#[tokio::test]
async fn the_server_everything_works_over_streamable_http() {
    let port = free_port();
    let server = published("server-everything", &["streamableHttp"]);
    let mut command = leashed("node");
    command
        .args(&server.args)
        .env("PORT", port.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut process: Child = command.spawn().unwrap_or_else(|error| panic!("{NEEDED} ({error})"));
    wait_until("the server listens", async || {
        assert!(process.try_wait().unwrap().is_none(), "it ended at once");
        reqwest::get(format!("http://127.0.0.1:{port}/")).await.is_ok()
    })
    .await;
    let url = Some(format!("http://127.0.0.1:{port}/mcp"));
    let app = app_with(&[("everything", McpServerSettings { url, ..McpServerSettings::default() })]).await;
    let client = app.admin();
    offered(&client, "mcp.everything.get-sum").await;
    let sum: Value = client.result_of("mcp.everything.get-sum", json!({"a": 2, "b": 3})).await;
    assert!(sum["content"][0]["text"].as_str().unwrap().contains('5'), "{sum}");
    drop(process.stdin.take());
    process.wait().await.unwrap();
}
