//! Refuses what cannot be meant: unknown names and values out of range.

use std::{
    collections::HashMap,
    fmt::{Debug, Display},
    ops::RangeInclusive,
};

use config::{Map, Value};
use secrecy::ExposeSecret;
use toolgate_security::{AllowList, Networks, WebhookSecret};

use super::{Error, KEYS, OTHER_VARIABLES, PREFIX, Settings, URLS};

/// The file must be TOML; the settings library would show its error over several lines.
pub(super) fn syntax(file: &str) -> Result<(), Error> {
    file.parse::<toml::Table>().map(drop).map_err(|error| {
        let before = error.span().and_then(|span| file.get(..span.start)).unwrap_or_default();
        Error::Syntax { line: before.matches('\n').count() + 1, message: error.message().to_owned() }
    })
}

/// Every key of the file must be a setting.
pub(super) fn keys(file: &Map<String, Value>) -> Result<(), Error> {
    let known = || KEYS.into_iter().chain(URLS.map(|(key, _)| key));
    match file.keys().find(|key| !known().any(|other| other == *key)) {
        None => Ok(()),
        Some(key) => Err(Error::UnknownKey { key: key.clone(), hint: hint(key, known().map(str::to_owned)) }),
    }
}

/// Every variable with the prefix must be a setting.
pub(super) fn variables(environment: &HashMap<String, String>) -> Result<(), Error> {
    let known = || {
        let prefixed = KEYS.map(|key| format!("{PREFIX}{}", key.to_uppercase()));
        prefixed.into_iter().chain(OTHER_VARIABLES.map(str::to_owned))
    };
    let mut names: Vec<_> = environment.keys().filter(|name| name.starts_with(PREFIX)).collect();
    names.sort();
    match names.into_iter().find(|name| !known().any(|other| other == **name)) {
        None => Ok(()),
        Some(name) => Err(Error::UnknownVariable {
            hint: hint(name, known().chain(URLS.map(|(_, variable)| variable.to_owned()))),
            variable: name.clone(),
        }),
    }
}

/// Every value must make sense.
pub(super) fn values(settings: &Settings) -> Result<(), Error> {
    within("partitions", settings.partitions, 1..=64)?;
    within("body_limit_bytes", settings.body_limit_bytes, 1024..=640 * 1024)?;
    within("lane_concurrency", settings.lane_concurrency, 1..=10_000)?;
    for (lane, concurrency) in &settings.lane_concurrency_by_lane {
        if !toolgate_events::tools::lanes().iter().any(|known| known.as_str() == lane) {
            return Err(impossible("lane_concurrency_by_lane", format!("has {lane:?}, which is no lane")));
        }
        within("lane_concurrency_by_lane", *concurrency, 1..=10_000)?;
    }
    within("result_cache_bytes", settings.result_cache_bytes, 0..=64 * 1024 * 1024 * 1024)?;
    within("circuit_open_ms", settings.circuit_open_ms, 100..=600_000)?;
    within("ack_wait_ms", settings.ack_wait_ms, 300..=3_600_000)?;
    within("max_open_calls", settings.max_open_calls, 1..=u64::MAX)?;
    within("rate_limit_per_minute", settings.rate_limit_per_minute, 1..=u32::MAX)?;
    within("jwks_refresh_seconds", settings.jwks_refresh_seconds, 1..=86_400)?;
    within("max_concurrent_requests", settings.max_concurrent_requests, 1..=100_000)?;
    within("max_connections", settings.max_connections, 1..=100_000)?;
    within("header_timeout_ms", settings.header_timeout_ms, 100..=3_600_000)?;
    within("vector_max_components", settings.vector_max_components, 1..=1_000_000_000)?;
    within("body_timeout_ms", settings.body_timeout_ms, 100..=3_600_000)?;
    for (tool, limit) in &settings.tool_rate_limits {
        if toolgate_events::tools::find(tool).is_none() {
            return Err(impossible("tool_rate_limits", format!("names {tool:?}, which is no tool")));
        }
        within("tool_rate_limits", *limit, 1..=u32::MAX)?;
    }
    if settings.nats_cert_file.is_some() != settings.nats_key_file.is_some() {
        return Err(impossible("nats_cert_file", "needs `nats_key_file` beside it, and the other way round"));
    }
    AllowList::parse(&settings.egress_allow)
        .map_err(|entry| impossible("egress_allow", format!("has {entry:?}, which is no host")))?;
    Networks::parse(&settings.egress_private_networks)
        .map_err(|entry| impossible("egress_private_networks", format!("has {entry:?}, which is no network in CIDR notation")))?;
    if settings.task_webhook_url.is_some() != settings.task_webhook_secret.is_some() {
        return Err(impossible("task_webhook_url", "needs `task_webhook_secret` beside it, and the other way round"));
    }
    if settings.task_webhook_secret.as_ref().is_some_and(|secret| WebhookSecret::parse(secret.expose_secret()).is_none()) {
        return Err(impossible("task_webhook_secret", "must be `whsec_` and 24 to 64 bytes in base64"));
    }
    within("task_webhook_first_pause_ms", settings.task_webhook_first_pause_ms, 10..=3_600_000)?;
    super::mcp::check(&settings.mcp)?;
    within("mcp_refresh_seconds", settings.mcp_refresh_seconds, 1..=86_400)?;
    within("projector_batch", settings.projector_batch, 1..=1_000)?;
    if let Some(bytes) = settings.log_max_bytes {
        within("log_max_bytes", bytes, 1024 * 1024..=i64::MAX as u64)?;
    }
    for (key, value) in [("issuer", &settings.issuer), ("audience", &settings.audience)] {
        if value.trim().is_empty() {
            return Err(impossible(key, "must not be empty"));
        }
    }
    if settings.jwks_file.is_some() && settings.jwks_url.is_some() {
        return Err(impossible("jwks_url", "cannot be combined with `jwks_file`"));
    }
    if let Some(url) = &settings.jwks_url {
        let is_http = url.starts_with("https://") || url.starts_with("http://");
        if !is_http {
            return Err(impossible("jwks_url", "must begin with https:// or http://"));
        }
    }
    if settings.basehub_url.is_some() != settings.basehub_token.is_some() {
        return Err(impossible("basehub_url", "needs `basehub_token` beside it, and the other way round"));
    }
    if settings.basehub_url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        return Err(impossible("basehub_url", "must begin with https:// or http://"));
    }
    if settings.basehub_webhook_secret.as_ref().is_some_and(|secret| webhook_secret(secret.expose_secret()).len() < 16) {
        return Err(impossible("basehub_webhook_secret", "must have at least 16 characters"));
    }
    for lane in &settings.lanes {
        toolgate_events::Lane::new(lane).map_err(|error| impossible("lanes", format!("is wrong: {error}")))?;
    }
    Ok(())
}

/// What signatures are made with: BaseHub shows the name of the workflow and a colon in front of it.
pub fn webhook_secret(shown: &str) -> &str {
    shown.rsplit_once(':').map_or(shown, |(_, secret)| secret)
}

fn within<T: PartialOrd + Display + Debug>(key: &'static str, value: T, range: RangeInclusive<T>) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(impossible(key, format!("is {value}; it must be between {least} and {most}")))
}

pub(super) fn impossible(key: &'static str, problem: impl Into<String>) -> Error {
    Error::Impossible { key, problem: problem.into() }
}

/// The known name that looks most like a mistyped one, when any does.
fn hint(name: &str, known: impl Iterator<Item = String>) -> String {
    let bare = |name: &str| name.trim_start_matches(PREFIX).replace(['_', '-', '.'], "").to_lowercase();
    let wanted = bare(name);
    known
        .filter(|other| {
            let other = bare(other);
            other == wanted || differs_by_one(&wanted, &other) || (wanted.len() > 3 && other.starts_with(&wanted))
        })
        .min()
        .map_or_else(String::new, |other| format!("; did you mean `{other}`?"))
}

/// Whether one letter was left out, added or mistaken.
fn differs_by_one(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (rest_a, rest_b) = (&a[start..], &b[start..]);
    let tail = |rest: &[u8], by: usize| rest.get(by..).map(<[u8]>::to_vec);
    tail(rest_a, 1) == tail(rest_b, 1) || tail(rest_a, 1).as_deref() == Some(rest_b) || tail(rest_b, 1).as_deref() == Some(rest_a)
}
