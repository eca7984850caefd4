use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Sse, Tenant};

/// One caller with one token.
#[derive(Clone, Debug)]
pub struct Client {
    pub tenant: Tenant,
    pub url: String,
    pub token: String,
    http: reqwest::Client,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Arguments of a task that any test may create.
pub fn task() -> Value {
    task_titled("Review")
}

pub fn task_titled(title: &str) -> Value {
    json!({"tool": "task.create", "arguments": {"title": title}})
}

impl Client {
    pub fn new(url: String, tenant: Tenant, token: String) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        Self { tenant, url, token, http: reqwest::Client::new() }
    }

    /// The same caller, talking to another address.
    pub fn at(&self, url: String) -> Self {
        Self { url, ..self.clone() }
    }

    /// A request with this caller's token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str) -> Answer {
        send(self.request(Method::POST, path)).await
    }

    /// Requests a call under a key and does not wait for its outcome.
    pub async fn call(&self, key: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, "/v1/tool-calls").header("idempotency-key", key).json(body)).await
    }

    /// [`Self::call`], answered when there is an outcome.
    pub async fn call_and_wait(&self, key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, "/v1/tool-calls").header("idempotency-key", key).header("prefer", "wait=30");
        send(request.json(body)).await
    }

    /// The result of a call that must succeed, under a key nobody else uses.
    pub async fn result_of(&self, tool: &str, arguments: Value) -> Value {
        let key = toolgate_store::Clock::system().new_id().to_string();
        let answer = self.call_and_wait(&key, &json!({"tool": tool, "arguments": arguments})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let call = answer.json();
        assert_eq!(call["status"], "succeeded", "{call}");
        self.get_projected(&call).await;
        call["result"].clone()
    }

    /// The call as the read side has it, once that knows the outcome.
    pub async fn get_projected(&self, call: &Value) -> Value {
        let path = format!("/v1/tool-calls/{}", call["call_id"].as_str().unwrap());
        super::eventually("the outcome is projected", async || {
            let call = self.get(&path).await.json();
            call["finished_at"].is_string().then_some(call)
        })
        .await
    }

    /// Every row of the tenant's audit trail, page by page.
    pub async fn audit(&self) -> Vec<Value> {
        self.pages("/v1/audit?limit=500", "after").await
    }

    /// Every item of a list, page by page.
    pub async fn pages(&self, path: &str, parameter: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut next = path.to_owned();
        loop {
            let page = self.get(&next).await;
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            let Some(cursor) = page["next_cursor"].as_str() else { return items };
            let separator = if path.contains('?') { '&' } else { '?' };
            next = format!("{path}{separator}{parameter}={cursor}");
        }
    }

    /// The counter `violations_total` of one kind, over all tools.
    pub async fn violations(&self, kind: &str) -> u64 {
        let metrics = send(self.anonymous(Method::GET, "/metrics")).await.text();
        let prefix = format!("violations_total{{kind=\"{kind}\"");
        let samples = metrics.lines().filter(|line| line.starts_with(&prefix));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Requests a call under a key and follows it.
    pub async fn follow(&self, key: &str, body: &Value) -> Sse {
        let request = self.request(Method::POST, "/v1/agent-stream").header("idempotency-key", key).json(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
        Sse::new(response)
    }

    /// Opens the event stream.
    pub async fn events(&self, query: &str, last_event_id: Option<&str>) -> Sse {
        self.stream(&format!("/v1/events{query}"), last_event_id).await
    }

    /// Opens any stream of events.
    pub async fn stream(&self, path: &str, last_event_id: Option<&str>) -> Sse {
        let mut request = self.request(Method::GET, path);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
        Sse::new(response)
    }
}

pub async fn send(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.unwrap()).await
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Empty when the header is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn call_id(&self) -> Uuid {
        self.json()["call_id"].as_str().unwrap().parse().unwrap()
    }

    /// Checks that this is a refusal as the interface promises every refusal, and gives its body.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("urn:toolgate:problem:{kind}"), "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        assert_eq!(problem["trace_id"].as_str().map(str::len), Some(32), "{problem}");
        problem
    }
}
