use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Cache, Contract, FIRST_VERSION, Retry, SideEffects, lane};

/// Arguments of `http.request`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRequestInput {
    pub method: HttpMethod,
    /// http or https, without credentials; the host must be one that the operator allows.
    #[schemars(length(min = 1, max = 8_192))]
    pub url: String,
    /// Names and values. They are recorded with the call, as every argument is.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 50, "additionalProperties" = {"type": "string", "maxLength": 8_192}))]
    pub headers: BTreeMap<String, String>,
    /// The body as text; at most one of this and `json`, and neither with GET and HEAD.
    #[schemars(length(max = 200_000))]
    pub body: Option<String>,
    /// The body as JSON, sent as application/json unless `headers` say otherwise.
    pub json: Option<Value>,
}

/// RFC 9110, section 9, and RFC 5789.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// Result of `http.request`. Any status is a result: whether 404 is a failure is the caller's to say.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct HttpRequestOutput {
    pub status: u16,
    /// In lower case; several of one name are joined by commas. Cookies are left out.
    pub headers: BTreeMap<String, String>,
    /// Text, or base64 when `base64` is true.
    pub body: String,
    /// Whether the body is no text and was encoded.
    pub base64: bool,
    /// Whether the body went on beyond the limit of 256 KiB.
    pub truncated: bool,
}

pub(super) fn define() -> Contract {
    Contract {
        description: "Sends an HTTP request to a host that the operator allows. The call's id goes along as Idempotency-Key. GET and \
                      HEAD are tried again when the host fails; of any other method, what may have been sent is never sent again.",
        side_effects: SideEffects::Effectful,
        lane: lane("http"),
        timeout_ms: 30_000,
        retry: Retry::up_to(3),
        // GET and HEAD alone, and only for who names a freshness: most answers do not say how long they hold.
        cache: Some(Cache { default_freshness_seconds: 0, max_freshness_seconds: 3_600, stale_seconds: 600 }),
        examples: vec![
            json!({"method": "GET", "url": "https://api.example.com/v1/rates?base=IDR", "headers": {"accept": "application/json"}}),
            json!({"method": "POST", "url": "https://api.example.com/v1/orders", "json": {"item": "tea", "count": 2}}),
        ],
        ..Contract::of::<HttpRequestInput, HttpRequestOutput>("http.request", FIRST_VERSION)
    }
}
