//! Input that means nothing, or two things. Each vector is a refusal with its status, and nothing comes of it.

mod bodies;
mod contracts;
mod headers;
mod numbers;
mod queries;
mod text;
mod wire;

use std::collections::BTreeSet;

use reqwest::Method;

use crate::app::{Answer, Client, TestApp, send};

/// What no answer shows: types, libraries and places of the code.
const INTERNALS: [&str; 12] =
    ["struct", "serde", "::", "sqlx", "postgres", "panicked", ".rs", "enum ", "toolgate_", "Option", "u32", "usize"];

/// A request, and the answer it must get.
#[derive(Clone, Debug)]
struct Vector {
    name: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    status: u16,
    kind: &'static str,
    /// Of the first error of a 400.
    pointer: Option<&'static str>,
}

impl Vector {
    /// A call with this body, refused with 400.
    fn post(name: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", b"application/json".to_vec()), ("idempotency-key", name.as_bytes().to_vec())];
        let (method, path) = (Method::POST, "/v1/tool-calls".to_owned());
        Self { name, method, path, headers, body: body.into(), status: 400, kind: "invalid", pointer: None }
    }

    /// A question, refused with 400.
    fn get(name: &'static str, path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), ..Self::post(name, "") }
    }

    fn at(self, pointer: &'static str) -> Self {
        Self { pointer: Some(pointer), ..self }
    }

    fn with(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| *header != name);
        self
    }

    fn refused_with(self, status: u16, kind: &'static str) -> Self {
        Self { status, kind, ..self }
    }

    async fn send(&self, client: &Client) -> Answer {
        let mut request = client.request(self.method.clone(), &self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value.as_slice());
        }
        if self.method == Method::POST {
            request = request.body(self.body.clone());
        }
        send(request).await
    }
}

fn task_with(member: &str) -> String {
    format!(r#"{{"tool":"task.create","arguments":{{"title":"T"}},{member}}}"#)
}

/// A call whose arguments hold any JSON at `/arguments/metadata`.
fn metadata(value: &str) -> String {
    format!(
        r#"{{"tool":"knowledge.upsert","arguments":{{"document_id":"d","title":"T","content":"C","metadata":{{"m":{value}}}}}}}"#
    )
}

/// Refuses every vector as it says; nothing is appended or projected, and every refusal is counted.
async fn assert_refused(vectors: Vec<Vector>) {
    let app = TestApp::start().await;
    let client = app.admin();
    let mut counted = 0;
    for vector in &vectors {
        let answer = vector.send(&client).await;
        assert_eq!(answer.status, vector.status, "{}: {}", vector.name, answer.text());
        let problem = answer.problem(vector.status, vector.kind);
        let text = answer.text();
        for internal in INTERNALS {
            assert!(!text.contains(internal), "{}: {internal:?} in {text}", vector.name);
        }
        if vector.status == 400 {
            let pointer = problem["errors"][0]["pointer"].as_str();
            assert!(pointer.is_some(), "{}: no pointer in {problem}", vector.name);
            assert!(vector.pointer.is_none() || pointer == vector.pointer, "{}: {problem}", vector.name);
        }
        counted += u64::from([400, 415].contains(&vector.status));
    }
    assert_eq!(client.violations("invalid").await, counted);
    app.stack.assert_untouched().await;
}

/// What looks like an attack and is none is accepted.
async fn assert_accepted(neighbours: Vec<Vector>) {
    let app = TestApp::start().await;
    let client = app.admin();
    for vector in &neighbours {
        let answer = vector.send(&client).await;
        assert!([200, 202].contains(&answer.status), "{}: {}", vector.name, answer.text());
    }
    assert_eq!(client.violations("invalid").await, 0);
}

#[test]
fn there_are_many_vectors_and_each_has_a_name_of_its_own() {
    let all =
        [bodies::vectors(), contracts::vectors(), headers::vectors(), numbers::vectors(), queries::vectors(), text::vectors()];
    let names: Vec<_> = all.iter().flatten().map(|vector| vector.name).chain(wire::names()).collect();
    assert!(names.len() >= 120, "{}", names.len());
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = names.into_iter().filter(|name| !seen.insert(*name)).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
