use std::time::Duration;

use reqwest::{Client, Response, StatusCode, header};
use serde_json::{Value, json};
use toolgate_events::{canonical, tools::KnowledgeUpsertInput};

use super::{Error, Options, Outcome};

/// How often one request is sent at the most. Its key makes a repetition harmless.
const ATTEMPTS: u32 = 30;
/// Before a request is sent again, unless the server says how long.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Sends documents.
#[derive(Debug)]
pub struct Sender {
    http: Client,
    url: String,
    token: String,
}

/// A call that has succeeded.
struct Call {
    result: Value,
    /// It was made by an earlier load.
    is_replayed: bool,
}

/// Why a call did not succeed.
enum Failure {
    /// It is on record why it failed; `replayed_from` is the call where an earlier request made it.
    Recorded {
        error: Value,
        replayed_from: Option<String>,
    },
    Refused(String),
}

impl Sender {
    pub fn new(options: &Options) -> Result<Self, Error> {
        let http = Client::builder().timeout(Duration::from_secs(60)).build().map_err(Error::Http)?;
        let url = format!("{}/v1/tool-calls", options.url.trim_end_matches('/'));
        Ok(Self { http, url, token: options.token.clone() })
    }

    /// Writes the document unless it is there already.
    ///
    /// # Errors
    /// Says why it could not.
    pub async fn send(&self, document: &KnowledgeUpsertInput) -> Result<Outcome, String> {
        let arguments = serde_json::to_value(document).map_err(|error| error.to_string())?;
        // Absent and null are the same to us, and only absent is valid.
        let arguments: Value = arguments
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .map(owned)
            .collect::<serde_json::Map<_, _>>()
            .into();
        let text = canonical::sha256_hex(&arguments);
        if !self.upsert(&arguments, &format!("load:{text}")).await?.is_replayed {
            return Ok(Outcome::Written);
        }
        // An earlier load wrote the same. It may have been replaced since.
        let there = self.get(&document.document_id).await?;
        if is_same(&there, &arguments) {
            return Ok(Outcome::Unchanged);
        }
        let instead_of = there["position"].as_str().unwrap_or_default();
        let key = format!("load:{text}:{instead_of}");
        let is_replayed = self.upsert(&arguments, &key).await?.is_replayed;
        Ok(if is_replayed { Outcome::Unchanged } else { Outcome::Written })
    }

    /// What failed before may go well now, and its key means that failure for ever. The next key follows from the call that failed,
    /// so that a load that goes on after a crash finds the same calls.
    async fn upsert(&self, arguments: &Value, first_key: &str) -> Result<Call, String> {
        let body = json!({"tool": "knowledge.upsert", "arguments": arguments});
        let mut key = first_key.to_owned();
        loop {
            match self.call(&body, Some(&key)).await {
                Err(Failure::Recorded { replayed_from: Some(call_id), .. }) => {
                    let next = format!("{first_key}:{call_id}");
                    if next == key {
                        return Err("the server repeats a call under another key".to_owned());
                    }
                    key = next;
                }
                outcome => return outcome.map_err(Failure::into_text),
            }
        }
    }

    /// The document there is, or null.
    async fn get(&self, document_id: &str) -> Result<Value, String> {
        let body = json!({"tool": "knowledge.get", "arguments": {"document_id": document_id, "max_characters": 1}});
        match self.call(&body, None).await {
            Ok(call) => Ok(call.result),
            Err(Failure::Recorded { error, .. }) if error["type"] == "urn:toolgate:tool:not-found" => Ok(Value::Null),
            Err(failure) => Err(failure.into_text()),
        }
    }

    /// Calls a tool and waits for the outcome. What the server has no room for, or an answer that does not come, is asked for again.
    async fn call(&self, body: &Value, key: Option<&str>) -> Result<Call, Failure> {
        let mut reason = String::new();
        for _ in 0..ATTEMPTS {
            let mut request = self.http.post(&self.url).bearer_auth(&self.token).header("prefer", "wait=30").json(body);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) => {
                    reason = error.without_url().to_string();
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (status, pause) = (answer.status(), retry_after(&answer));
            let is_replayed = answer.headers().contains_key("idempotency-replayed");
            let answer: Value = match answer.json().await {
                Ok(answer) => answer,
                // It broke off, or is not the gateway's: what became of the call is not known yet.
                Err(error) if status.is_success() => {
                    reason = error.without_url().to_string();
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(_) => Value::Null,
            };
            match status {
                StatusCode::OK if answer["status"] == "succeeded" => {
                    return Ok(Call { result: answer["result"].clone(), is_replayed });
                }
                StatusCode::OK => {
                    let replayed_from = answer["call_id"].as_str().filter(|_| is_replayed).map(str::to_owned);
                    return Err(Failure::Recorded { error: answer["error"].clone(), replayed_from });
                }
                // It goes on: asking again waits for it again.
                StatusCode::ACCEPTED => reason = "has no outcome yet".to_owned(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    reason = text(status, &answer);
                    tokio::time::sleep(pause).await;
                }
                StatusCode::PAYLOAD_TOO_LARGE => {
                    return Err(Failure::Refused("is larger than the server takes; split it".to_owned()));
                }
                _ => return Err(Failure::Refused(text(status, &answer))),
            }
        }
        Err(Failure::Refused(format!("given up after {ATTEMPTS} attempts: {reason}")))
    }
}

impl Failure {
    fn into_text(self) -> String {
        match self {
            Self::Recorded { error, .. } => error["detail"].as_str().unwrap_or("failed").to_owned(),
            Self::Refused(reason) => reason,
        }
    }
}

/// Whether the document that is there says what these arguments say.
fn is_same(there: &Value, arguments: &Value) -> bool {
    let content = arguments["content"].as_str().unwrap_or_default();
    let sha256 = canonical::hex(&<sha2::Sha256 as sha2::Digest>::digest(content));
    let metadata = arguments.get("metadata").cloned().unwrap_or_else(|| json!({}));
    // A reference may take its source from the metadata.
    let has_source = arguments.get("source").is_none_or(|source| there["source"] == *source);
    there["content_sha256"] == sha256
        && there["title"] == arguments["title"]
        && there["locale"] == arguments["locale"]
        && there["metadata"] == metadata
        && has_source
}

/// Between no time and [`LONGEST_PAUSE`].
fn retry_after(answer: &Response) -> Duration {
    let seconds = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(PAUSE, Duration::from_secs).min(LONGEST_PAUSE)
}

/// A refusal in words.
fn text(status: StatusCode, problem: &Value) -> String {
    let detail = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("refused");
    let first = &problem["errors"][0];
    match (first["pointer"].as_str(), first["detail"].as_str()) {
        (Some(pointer), Some(what)) => format!("{detail} ({status}): {pointer}: {what}"),
        _ => format!("{detail} ({status})"),
    }
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}
