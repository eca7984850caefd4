//! Content is sealed, and what is erased is gone: from the log, the database, the artifacts and the exports.

mod crashes;
mod data_subject;
mod keys;
mod rebuild;
mod tenant;

use std::process::Output;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use toolgate_events::audit::{self, AuditRow};

use crate::app::{Client, PARTITIONS, Stack, leashed};

/// The binary as an operator runs it, with the logins of a stack.
async fn toolgate(stack: &Stack, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let connections = &stack.connections;
    let mut command = leashed(env!("CARGO_BIN_EXE_toolgate"));
    command
        .args(arguments)
        .env("TOOLGATE_DATA_DIR", &stack.data_dir)
        .env("TOOLGATE_PARTITIONS", PARTITIONS.to_string())
        .env("NATS_URL", connections.nats.expose_secret())
        .env("DATABASE_URL", connections.owner.expose_secret())
        .env("DATABASE_URL_READER", connections.reader.expose_secret())
        .envs(variables.iter().copied())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Held until it ends: the leash is its standard input.
    let leash = child.stdin.take();
    let output = child.wait_with_output().await.unwrap();
    drop(leash);
    output
}

async fn erase(stack: &Stack, client: &Client, more: &[&str]) {
    let tenant = client.tenant.0.to_string();
    let arguments = [&["tenant", "erase", "--tenant", &tenant, "--yes"], more].concat();
    let output = toolgate(stack, &arguments, &[]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Calls of every tool that keeps content, each with the word in whatever it keeps. Answers with the artifact's id.
async fn say(client: &Client, word: &str, about: Option<&str>) -> String {
    let mut artifact = String::new();
    let mut task = Value::Null;
    for (index, (tool, arguments)) in [
        ("task.create", json!({"title": word, "description": word, "labels": [word]})),
        ("task.update", json!({"task_id": null, "title": format!("{word} again"), "comment": word})),
        (
            "knowledge.upsert",
            json!({"document_id": word, "title": word, "content": format!("{word} {word}"), "metadata": {"m": word}}),
        ),
        (
            "template.upsert",
            json!({"template_id": format!("t-{}", about.is_some()), "markdown": format!("# {word}"), "description": word}),
        ),
        (
            "vector.upsert",
            json!({"collection": "c", "items": [{"id": word, "vector": [1.0, 0.5], "metadata": {"m": word}, "text": word}]}),
        ),
        ("document.render", json!({"title": word, "markdown": format!("# {word}\n\n{word}"), "format": "html"})),
        ("knowledge.search", json!({"query": word})),
        ("knowledge.get", json!({"document_id": format!("{word}-missing")})),
    ]
    .into_iter()
    .enumerate()
    {
        let mut arguments = arguments;
        if tool == "task.update" {
            arguments["task_id"] = task.clone();
        }
        let body = json!({"tool": tool, "arguments": arguments});
        let request = client
            .request(reqwest::Method::POST, "/v1/tool-calls")
            .header("idempotency-key", format!("{word}-{index}"))
            .header("prefer", "wait=30");
        let request = about.map_or(request.try_clone().unwrap(), |about| request.header("data-subject", about));
        let answer = crate::app::send(request.json(&body)).await;
        assert_eq!(answer.status, 200, "{tool}: {}", answer.text());
        let call = answer.json();
        client.get_projected(&call).await;
        match tool {
            "task.create" => task = call["result"]["task_id"].clone(),
            "document.render" => artifact = call["result"]["artifact_id"].as_str().unwrap().to_owned(),
            _ => {}
        }
    }
    artifact
}

/// The trail as it is recorded, whose chain holds from the beginning.
fn verify(client: &Client, export: &str) -> Vec<AuditRow> {
    let rows: Vec<AuditRow> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut before = (0, audit::genesis_hash(client.tenant.id()));
    for row in &rows {
        assert_eq!(audit::verify((before.0, &before.1), row), Ok(()));
        before = (row.position, row.hash.clone());
    }
    rows
}

/// The tables whose rows, as text, hold a word, as seen by somebody who sees everything; in the schemas beside the live one as well.
async fn tables_with(stack: &Stack, word: &str) -> Vec<String> {
    let mut connection = stack.connect(crate::app::TableOwner::Superuser).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select case schemaname when 'public' then tablename::text else schemaname || '.' || tablename end from pg_tables
         where schemaname = 'public' or schemaname like 'toolgate%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let count: i64 = sqlx::query_scalar(&format!("select count(*) from {table} t where position($1 in t::text) > 0"))
            .bind(word)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        if count > 0 {
            found.push(table);
        }
    }
    found
}
