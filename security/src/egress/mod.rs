//! The one way out: every request that a tool sends to somebody else goes through [`Egress`].
//!
//! A request is sent when the operator's list names its host and port, and every address of the host is one that tools may reach.
//! The addresses that were judged are the ones connected to. A redirect is judged like a request of its own.

mod address;
mod allow;
mod body;
mod error;
mod headers;
mod redirect;
mod resolve;
mod target;
#[cfg(test)]
mod tests;

use std::{
    error::Error as _,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::timeout;
use url::{Host, Url};

pub use address::Networks;
pub use allow::AllowList;
pub use error::{EgressError, Rule};
pub use resolve::{Resolver, SystemResolver};

use self::{redirect::Hop, resolve::Judged};
use crate::Violations;

/// How often an answer may lead elsewhere.
const MAX_REDIRECTS: usize = 5;
/// Headers of an answer at the most.
const MAX_HEADERS: usize = 100;

/// What one request to the outside may cost.
#[derive(Clone, Copy, Debug)]
pub struct EgressLimits {
    /// Resolving and connecting, once per hop.
    pub connect: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// From the first look at the URL to the last byte of the answer, redirects included.
    pub total: Duration,
    /// Names and values of an answer's headers, in bytes.
    pub header_bytes: usize,
    /// The decompressed body of an answer, in bytes; what goes beyond is not read.
    pub body_bytes: usize,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            total: Duration::from_secs(25),
            header_bytes: 32 * 1024,
            body_bytes: 256 * 1024,
        }
    }
}

/// A request to the outside.
#[derive(Clone, Debug)]
pub struct EgressRequest {
    pub method: Method,
    /// As the caller wrote it.
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct EgressResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Decompressed.
    pub body: Vec<u8>,
    /// Whether the body went on beyond the limit.
    pub truncated: bool,
}

/// What came back, with a body that is still coming.
pub struct EgressStream {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Decompressed.
    pub body: BoxStream<'static, Result<Bytes, EgressError>>,
}

/// The client that all adapters share.
#[derive(Clone)]
pub struct Egress {
    allow: AllowList,
    networks: Networks,
    limits: EgressLimits,
    violations: Violations,
    /// None when nothing is allowed: a machine without root certificates need not have a client then.
    client: Option<reqwest::Client>,
}

impl Egress {
    /// # Errors
    /// When this machine cannot speak TLS, most likely because it has no root certificates.
    pub fn new(
        allow: AllowList,
        networks: Networks,
        limits: EgressLimits,
        resolver: Arc<dyn Resolver>,
        violations: Violations,
    ) -> Result<Self, String> {
        let judged = Judged { resolver, networks: networks.clone() };
        let client = if allow.is_empty() { None } else { Some(client(judged, &limits)?) };
        Ok(Self { allow, networks, limits, violations, client })
    }

    /// The same for somebody who gives up at `deadline`: what is not answered by then is [`EgressError::Timeout`].
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        let total = self.limits.total.min(deadline.saturating_duration_since(Instant::now()));
        Self { limits: EgressLimits { total, ..self.limits }, ..self.clone() }
    }

    /// Sends a request of `tool` and reads the answer.
    ///
    /// # Errors
    /// [`EgressError`]. A refusal is counted in `violations_total`.
    pub async fn send(&self, tool: &'static str, request: EgressRequest) -> Result<EgressResponse, EgressError> {
        let answer = timeout(self.limits.total, self.read(request)).await.unwrap_or(Err(EgressError::Timeout));
        self.count(tool, answer.as_ref().err());
        answer
    }

    /// Whether a request to `url` could be sent, as far as that can be said before its name is resolved.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn check(&self, url: &str) -> Result<(), Rule> {
        self.judge(&target::parse(url)?).map(drop)
    }

    /// Sends a request of `tool` and hands the answer's body on as it comes: `total` ends with the headers, `idle` holds between
    /// two pieces, and how much of the body is taken is the caller's to bound.
    ///
    /// # Errors
    /// [`EgressError`]. A refusal is counted in `violations_total`.
    pub async fn open(&self, tool: &'static str, request: EgressRequest) -> Result<EgressStream, EgressError> {
        let opened = timeout(self.limits.total, self.follow(request)).await.unwrap_or(Err(EgressError::Timeout));
        self.count(tool, opened.as_ref().err());
        let response = opened?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(EgressStream { status, headers, body: body::pieces(response, self.limits.idle) })
    }

    fn count(&self, tool: &'static str, error: Option<&EgressError>) {
        if let Some(EgressError::Blocked(rule)) = error {
            self.violations.count("egress_blocked", Some(tool));
            tracing::info!(tool, rule = rule.name(), "an outbound request was refused");
        }
    }

    async fn read(&self, request: EgressRequest) -> Result<EgressResponse, EgressError> {
        let response = self.follow(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let (body, truncated) = body::read(response, self.limits.body_bytes, self.limits.idle).await?;
        Ok(EgressResponse { status, headers, body, truncated })
    }

    /// The answer at the end of all redirects.
    async fn follow(&self, request: EgressRequest) -> Result<reqwest::Response, EgressError> {
        headers::check(&request.headers)?;
        let url = target::parse(&request.url)?;
        let mut hop = Hop { method: request.method, url, headers: request.headers, body: request.body };
        for number in 0..=MAX_REDIRECTS {
            let sent = self.judge(&hop.url)?.execute(hop.to_request()).await.map_err(|error| client_error(&error));
            let response = sent.map_err(|error| match error {
                EgressError::Connect | EgressError::Unresolvable if number > 0 => EgressError::RedirectUnreachable,
                error => error,
            })?;
            if headers::size(response.headers()) > self.limits.header_bytes {
                return Err(EgressError::HeadersTooLarge);
            }
            match hop.next(response.status(), response.headers())? {
                Some(next) => hop = next,
                None => return Ok(response),
            }
        }
        Err(EgressError::TooManyRedirects)
    }

    /// Everything that can be said before a name is resolved. An address in the URL is never resolved, so it is judged here.
    fn judge(&self, url: &Url) -> Result<&reqwest::Client, Rule> {
        let client = self.client.as_ref().filter(|_| self.allow.allows(url)).ok_or(Rule::AllowList)?;
        let is_reachable = match url.host() {
            Some(Host::Ipv4(address)) => self.networks.permits(address.into()),
            Some(Host::Ipv6(address)) => self.networks.permits(address.into()),
            Some(Host::Domain(_)) => true,
            None => false,
        };
        if is_reachable { Ok(client) } else { Err(Rule::Network) }
    }
}

impl Hop {
    fn to_request(&self) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.clone().into());
        }
        request
    }
}

/// No proxy of the environment, no redirects and no retries of the library's own; and no connection is used twice, so that each
/// request goes to addresses that were judged for it.
fn client(judged: Judged, limits: &EgressLimits) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .dns_resolver(judged)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(limits.connect)
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .user_agent("toolgate")
        .build()
        .map_err(|error| error.to_string())
}

/// The library's words may hold URLs and addresses, so they are not passed on.
fn client_error(error: &reqwest::Error) -> EgressError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(own) = cause.downcast_ref::<EgressError>() {
            return *own;
        }
        source = cause.source();
    }
    // Connecting has a timeout of its own, and nothing has been sent by then.
    if error.is_connect() {
        EgressError::Connect
    } else if error.is_timeout() {
        EgressError::Timeout
    } else {
        EgressError::Protocol
    }
}

impl fmt::Debug for EgressStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressStream").field("status", &self.status).finish_non_exhaustive()
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("allow", &self.allow).field("networks", &self.networks).finish_non_exhaustive()
    }
}
