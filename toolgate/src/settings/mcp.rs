//! `[mcp.<server>]`: the upstream MCP servers.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use toolgate_events::mcp::{MAX_SERVERS, is_server};

use super::{Error, check::impossible};

const KEY: &str = "mcp";
/// How long a call may take by default, in milliseconds.
const TIMEOUT_MS: u32 = 30_000;
const MAX_TIMEOUT_MS: u32 = 300_000;

/// One upstream server, reached over streamable HTTP when it has a `url`, and started as a child of the worker when it has a
/// `command`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpServerSettings {
    /// An http(s) address. Nothing but its own host and port is allowed; a private one must be in `egress_private_networks`.
    pub url: Option<String>,
    /// Sent with every request. The values are secrets.
    pub headers: BTreeMap<String, SecretString>,
    pub command: Option<String>,
    pub args: Vec<String>,
    /// Variables of the command, which gets no others but `PATH`. The values are secrets.
    pub env: BTreeMap<String, SecretString>,
    /// Variables whose values are none, and may be shown.
    pub plain_env: BTreeMap<String, String>,
    /// Which tools are taken, `*` for any characters; every one when empty.
    pub tools: Vec<String>,
    /// Which tools change nothing: calls need no `Idempotency-Key` and may be run again. The server's own hints are not believed.
    pub read_only: Vec<String>,
    /// Which tools have the same effect however often they run.
    pub idempotent: Vec<String>,
    /// How long a call may take, in milliseconds, 100 to 300,000; 30,000 when absent.
    pub timeout_ms: Option<u32>,
}

impl McpServerSettings {
    pub fn timeout_ms(&self) -> u32 {
        self.timeout_ms.unwrap_or(TIMEOUT_MS)
    }
}

/// A table, or JSON as the environment has it.
pub(super) fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, McpServerSettings>, D::Error> {
    let value = match Value::deserialize(deserializer)? {
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|error| D::Error::custom(format!("{KEY}: not JSON, line {}", error.line())))?
        }
        value => value,
    };
    let Value::Object(servers) = value else { return Err(D::Error::custom(format!("{KEY}: must be a table of servers"))) };
    let server = |(name, value): (String, Value)| {
        let server = McpServerSettings::deserialize(value).map_err(|error| D::Error::custom(format!("{KEY}.{name}: {error}")))?;
        Ok((name, server))
    };
    servers.into_iter().map(server).collect()
}

pub(super) fn check(servers: &BTreeMap<String, McpServerSettings>) -> Result<(), Error> {
    if servers.len() > MAX_SERVERS {
        return Err(impossible(KEY, format!("has {} servers; {MAX_SERVERS} are the most", servers.len())));
    }
    servers.iter().try_for_each(|(name, server)| {
        problem(name, server).map_or(Ok(()), |problem| Err(impossible(KEY, format!("has the server {name:?}, {problem}"))))
    })
}

fn problem(name: &str, server: &McpServerSettings) -> Option<&'static str> {
    let McpServerSettings { url, headers, command, env, plain_env, timeout_ms, .. } = server;
    if !is_server(name) {
        return Some("whose name is not 1 to 32 characters of a-z, 0-9 and -");
    }
    match (url, command) {
        (Some(url), None) if origin(url).is_none() => return Some("whose url is not http(s), or has credentials in it"),
        (Some(_), None) if !env.is_empty() || !plain_env.is_empty() || !server.args.is_empty() => {
            return Some("which has a url, so it can have no args, env or plain_env");
        }
        (None, Some(command)) if command.is_empty() => return Some("whose command is empty"),
        (None, Some(_)) if !headers.is_empty() => return Some("which has a command, so it can have no headers"),
        (Some(_), None) | (None, Some(_)) => {}
        _ => return Some("which must have either a url or a command"),
    }
    if timeout_ms.is_some_and(|timeout| !(100..=MAX_TIMEOUT_MS).contains(&timeout)) {
        return Some("whose timeout_ms is not between 100 and 300000");
    }
    if headers.iter().any(|(name, value)| header(name, value).is_none()) {
        return Some("which has a header whose name or value is not what RFC 9110 allows, or is the protocol's own");
    }
    let is_variable = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
    if !env.keys().chain(plain_env.keys()).all(is_variable) {
        return Some("which has a variable whose name cannot be one");
    }
    None
}

/// The scheme, host and port of a URL as the allow-list of what leaves has them.
pub fn origin(url: &str) -> Option<String> {
    let url: reqwest::Url = url.parse().ok()?;
    let is_plain = ["http", "https"].contains(&url.scheme()) && url.username().is_empty() && url.password().is_none();
    is_plain.then(|| Some(format!("{}://{}:{}", url.scheme(), url.host_str()?, url.port_or_known_default()?))).flatten()
}

/// A header that every request to a server carries.
pub fn header(name: &str, value: &SecretString) -> Option<(reqwest::header::HeaderName, reqwest::header::HeaderValue)> {
    use secrecy::ExposeSecret;
    const OF_THE_PROTOCOL: [&str; 5] = ["accept", "content-type", "mcp-session-id", "mcp-protocol-version", "last-event-id"];
    let name: reqwest::header::HeaderName = name.parse().ok()?;
    let mut value = reqwest::header::HeaderValue::from_str(value.expose_secret()).ok()?;
    value.set_sensitive(true);
    (!OF_THE_PROTOCOL.contains(&name.as_str())).then_some((name, value))
}
