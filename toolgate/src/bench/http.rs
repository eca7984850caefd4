//! The HTTP side of the load generator: one connection per caller and as little as possible around it, the same for ours and for
//! the floor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{load::Caller, tenants::Tenant};

/// One connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot connect to {address}: {error}");
        let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let host = HeaderValue::from_str(address).map_err(|error| failed(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        // It ends with the sender; what breaks before that shows at the next request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, host })
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, request: Outgoing<'_>) -> Result<hyper::Response<Incoming>, String> {
        let Outgoing { method, path, authorization, headers, body } = request;
        let mut built = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        if let Some(authorization) = authorization {
            built = built.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            built = built.header(*name, *value);
        }
        let request = built.body(Full::new(body)).map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|error| error.to_string())?;
        self.sender.send_request(request).await.map_err(|error| error.to_string())
    }

    /// Sends a request and reads its whole answer.
    pub async fn ask(&mut self, request: Outgoing<'_>) -> Result<(StatusCode, Bytes), String> {
        let response = self.send(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    }
}

/// A request to send.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub method: Method,
    pub path: &'a str,
    pub authorization: Option<&'a HeaderValue>,
    pub headers: &'a [(&'static str, &'a str)],
    pub body: Bytes,
}

impl<'a> Outgoing<'a> {
    pub fn get(path: &'a str, tenant: Option<&'a Tenant>) -> Self {
        let authorization = tenant.map(|tenant| &tenant.authorization);
        Self { method: Method::GET, path, authorization, headers: &[], body: Bytes::new() }
    }

    pub fn post(path: &'a str, tenant: &'a Tenant, headers: &'a [(&'static str, &'a str)], body: Bytes) -> Self {
        Self { method: Method::POST, path, authorization: Some(&tenant.authorization), headers, body }
    }
}

/// Which kind of call the callers make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call that is accepted and left to others: 202.
    Intake,
    /// A call whose outcome is waited for: 200.
    Synchronous,
    /// The same, answered with an earlier result: 200.
    Cached,
}

/// Calls tools over one connection, one tenant after the other.
#[derive(Debug)]
pub struct ToolCaller {
    address: String,
    connection: Option<Connection>,
    kind: Kind,
    body: Bytes,
    tenants: Arc<[Tenant]>,
    place: usize,
}

/// Makes every key of this process another one.
static KEYS: AtomicU64 = AtomicU64::new(0);

impl ToolCaller {
    /// `count` callers, spread over the tenants.
    pub fn many(count: usize, address: &str, kind: Kind, tenants: &Arc<[Tenant]>) -> Vec<Self> {
        let caller = |place| Self {
            address: address.to_owned(),
            connection: None,
            kind,
            body: kind.body(),
            tenants: Arc::clone(tenants),
            place,
        };
        (0..count).map(caller).collect()
    }

    /// Calls, and says what the answer was.
    pub async fn status(&mut self) -> Result<StatusCode, String> {
        self.post().await.map(|(status, _)| status)
    }

    async fn post(&mut self) -> Result<(StatusCode, Bytes), String> {
        self.place = (self.place + 1) % self.tenants.len();
        let tenant = &self.tenants[self.place];
        let key = match self.kind {
            Kind::Intake => format!("{}-{}", tenant.salt, KEYS.fetch_add(1, Ordering::Relaxed)),
            Kind::Synchronous | Kind::Cached => String::new(),
        };
        let headers = match self.kind {
            Kind::Intake => [("content-type", "application/json"), ("idempotency-key", key.as_str())],
            Kind::Synchronous | Kind::Cached => [("content-type", "application/json"), ("prefer", "wait=30")],
        };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        let answer = connection.ask(Outgoing::post("/v1/tool-calls", tenant, &headers, self.body.clone())).await?;
        // Kept only when it worked; the next call gets another one otherwise.
        self.connection = Some(connection);
        Ok(answer)
    }
}

impl Caller for ToolCaller {
    async fn call(&mut self) -> Result<(), String> {
        let kind = self.kind;
        let (status, body) = self.post().await?;
        let is_good = match kind {
            Kind::Intake => status == StatusCode::ACCEPTED,
            Kind::Synchronous => status == StatusCode::OK && contains(&body, br#""status":"succeeded""#),
            Kind::Cached => status == StatusCode::OK && contains(&body, br#""cached":true"#),
        };
        if is_good { Ok(()) } else { Err(format!("{status} {}", String::from_utf8_lossy(&body))) }
    }
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

/// Waits until `GET path` is answered with success.
pub async fn wait_until_answered(address: &str, path: &str, patience: Duration) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    loop {
        let asked = async { Connection::open(address).await?.ask(Outgoing::get(path, None)).await };
        let reason = match asked.await {
            Ok((StatusCode::OK, _)) => return Ok(()),
            Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            return Err(reason);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
