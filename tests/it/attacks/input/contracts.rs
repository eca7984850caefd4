//! Members of another type, and arguments against the tool's contract.

use serde_json::json;

use super::{Vector, assert_accepted, assert_refused, task_with};
use crate::app::TestApp;

pub fn vectors() -> Vec<Vector> {
    let body = |name, text: &str| Vector::post(name, text);
    let task = |name, member: &str| Vector::post(name, task_with(member));
    let arguments = |name, text: &str| Vector::post(name, format!(r#"{{"tool":"task.create","arguments":{text}}}"#));
    vec![
        body("no tool", r#"{"arguments":{}}"#).at("/tool"),
        body("no arguments", r#"{"tool":"task.create"}"#).at("/arguments"),
        body("nothing at all", "{}").at("/tool"),
        body("a tool that is null", r#"{"tool":null,"arguments":{}}"#).at("/tool"),
        body("a tool that is a number", r#"{"tool":5,"arguments":{}}"#).at("/tool"),
        body("a tool that is a list", r#"{"tool":["task.create"],"arguments":{}}"#).at("/tool"),
        body("a tool that is an object", r#"{"tool":{"name":"task.create"},"arguments":{}}"#).at("/tool"),
        arguments("arguments that are null", "null").at("/arguments"),
        arguments("arguments that are a list", r#"[["title","T"]]"#).at("/arguments"),
        arguments("arguments that are text", r#""{}""#).at("/arguments"),
        arguments("arguments that are a number", "1").at("/arguments"),
        task("a session that is a number", r#""session_id":5"#).at("/session_id"),
        task("a session that is an object", r#""session_id":{}"#).at("/session_id"),
        task("a session without a character", r#""session_id":"""#).at("/session_id"),
        task("a session that is too long", &format!(r#""session_id":"{}""#, "s".repeat(129))).at("/session_id"),
        task("a session with a control character", r#""session_id":"a\u0007""#).at("/session_id"),
        task("options that are null", r#""options":null"#).at("/options"),
        task("options that are a list", r#""options":["en",1,1]"#).at("/options"),
        task("options that are text", r#""options":"fast""#).at("/options"),
        task("an unknown option", r#""options":{"retries":5}"#).at("/options/retries"),
        task("a locale that is a number", r#""options":{"locale":5}"#).at("/options/locale"),
        task("a locale that is none", r#""options":{"locale":"en_US.UTF-8"}"#).at("/options/locale"),
        task("a timeout that is text", r#""options":{"timeout_ms":"5"}"#).at("/options/timeout_ms"),
        task("a timeout that is negative", r#""options":{"timeout_ms":-1}"#).at("/options/timeout_ms"),
        task("a timeout that is a fraction", r#""options":{"timeout_ms":1.5}"#).at("/options/timeout_ms"),
        task("a timeout of nothing", r#""options":{"timeout_ms":0}"#).at("/options/timeout_ms"),
        task("a timeout of 2^32", r#""options":{"timeout_ms":4294967296}"#).at("/options/timeout_ms"),
        task("a freshness that is a list", r#""options":{"freshness_seconds":[1]}"#).at("/options/freshness_seconds"),
        arguments("no title", "{}").at("/arguments/title"),
        arguments("a title that is null", r#"{"title":null}"#).at("/arguments/title"),
        arguments("a title that is a number", r#"{"title":5}"#).at("/arguments/title"),
        arguments("a title without a character", r#"{"title":""}"#).at("/arguments/title"),
        arguments("labels that are text", r#"{"title":"T","labels":"a"}"#).at("/arguments/labels"),
        arguments("a label that is a number", r#"{"title":"T","labels":["a",5]}"#).at("/arguments/labels/1"),
        arguments("a day that is none", r#"{"title":"T","due":"2026-02-30T00:00:00Z"}"#).at("/arguments/due"),
        arguments("an argument nobody knows", r#"{"title":"T","a/b~c":1}"#).at("/arguments/a~1b~0c"),
        arguments("a status of one's own choosing", r#"{"title":"T","status":"done"}"#).at("/arguments/status"),
        arguments("a tenant among the arguments", r#"{"title":"T","tenant_id":"x"}"#).at("/arguments/tenant_id"),
    ]
}

#[tokio::test]
async fn every_member_of_another_type_is_refused_where_it_stands() {
    assert_refused(vectors()).await;
}

#[tokio::test]
async fn members_at_their_limits_are_accepted() {
    let task = |name, member: &str| Vector::post(name, task_with(member));
    assert_accepted(vec![
        task("the longest session", &format!(r#""session_id":"{}""#, "s".repeat(128))),
        task("a session of one character", r#""session_id":"s""#),
        task("the largest timeout", r#""options":{"timeout_ms":4294967295}"#),
        task("the smallest timeout", r#""options":{"timeout_ms":1}"#),
        task("no option", r#""options":{}"#),
        task("a freshness of nothing", r#""options":{"freshness_seconds":0}"#),
    ])
    .await;
}

#[tokio::test]
async fn every_error_is_listed_up_to_the_thirty_second() {
    let app = TestApp::start().await;
    let client = app.admin();
    for (unknown, listed) in [(31, 31), (32, 32), (33, 32)] {
        let mut arguments = json!({"title": "T"});
        for number in 0..unknown {
            arguments[format!("x{number}")] = json!("secret");
        }
        let answer = client.call("k", &json!({"tool": "task.create", "arguments": arguments})).await;
        let problem = answer.problem(400, "invalid");
        assert_eq!(problem["errors"].as_array().unwrap().len(), listed);
        assert!(!answer.text().contains("secret"));
    }
}
