//! The client against a real server. Names are resolved by a table; nothing leaves this machine.

mod attacks;

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::Request,
    response::{IntoResponse, Response},
    routing::any,
};
use futures::{StreamExt, future::BoxFuture, stream};
use http::{HeaderValue, header};
use tokio::net::TcpListener;

use super::*;

/// Answers of a name server, one after the other; the last one again and again.
#[derive(Debug, Default)]
struct Names {
    answers: Mutex<HashMap<&'static str, VecDeque<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn of(names: &[(&'static str, &[&str])]) -> Arc<Self> {
        let own = Self::default();
        for (name, addresses) in names {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            own.answers.lock().unwrap().entry(name).or_default().push_back(addresses);
        }
        Arc::new(own)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolver for Names {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut answers = self.answers.lock().unwrap();
        let answer = answers
            .get_mut(host.as_str())
            .map(|answers| if answers.len() > 1 { answers.pop_front().unwrap_or_default() } else { answers[0].clone() });
        self.asked.lock().unwrap().push(host);
        Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn egress(allow: &[&str], private: &[&str], names: Arc<Names>, limits: EgressLimits) -> Egress {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (allow, networks) = (AllowList::parse(&texts(allow)).unwrap(), Networks::parse(&texts(private)).unwrap());
    Egress::new(allow, networks, limits, names, Violations::default()).unwrap()
}

fn refused(egress: &Egress) -> u64 {
    egress.violations.0.get_or_create(&crate::ViolationLabels { kind: "egress_blocked", tool: "test.tool" }).get()
}

fn get(url: impl Into<String>) -> EgressRequest {
    EgressRequest { method: Method::GET, url: url.into(), headers: HeaderMap::new(), body: Bytes::new() }
}

/// What a request looked like when it arrived.
type Seen = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// `/to/<status>/<location>` leads there, `/count/<n>` to itself with one less; everything else has arrived.
async fn redirecting_server() -> (u16, Seen) {
    async fn record(seen: &Seen, request: Request<Body>) {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1024).await.unwrap();
        seen.lock().unwrap().push((format!("{} {}", parts.method, parts.uri), parts.headers, body));
    }
    let seen = Seen::default();
    let router = Router::new()
        .route(
            "/to/{status}/{*location}",
            any(|State(seen): State<Seen>, Path((status, location)): Path<(u16, String)>, request| async move {
                record(&seen, request).await;
                let status = StatusCode::from_u16(status).unwrap();
                (status, [(header::LOCATION, location)]).into_response()
            }),
        )
        .route(
            "/count/{number}",
            any(|State(seen): State<Seen>, Path(number): Path<usize>, request| async move {
                record(&seen, request).await;
                let next = if number > 1 { (number - 1).to_string() } else { "/end".to_owned() };
                (StatusCode::FOUND, [(header::LOCATION, next)])
            }),
        )
        .fallback(any(|State(seen): State<Seen>, request| async move {
            record(&seen, request).await;
            "arrived"
        }))
        .with_state(Arc::clone(&seen));
    (serve(router).await, seen)
}

#[tokio::test]
async fn a_name_is_resolved_once_and_that_is_where_the_request_goes() {
    let (port, seen) = redirecting_server().await;
    // First the server, and ever after the metadata service: whoever looked twice would go there.
    let names = Names::of(&[("rebind.example", &["127.0.0.1"]), ("rebind.example", &["169.254.169.254"])]);
    let egress = egress(&[&format!("rebind.example:{port}")], &["127.0.0.1/32"], names.clone(), EgressLimits::default());
    let answer = egress.send("test.tool", get(format!("http://rebind.example:{port}/x"))).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), answer.truncated), (StatusCode::OK, b"arrived".as_slice(), false));
    assert_eq!(names.asked(), ["rebind.example"]);
    assert_eq!(seen.lock().unwrap()[0].1["host"], format!("rebind.example:{port}"));
    // The next request looks again, on no connection of the last.
    let answer = egress.send("test.tool", get(format!("http://rebind.example:{port}/x"))).await;
    assert_eq!(answer.unwrap_err(), EgressError::Blocked(Rule::Network));
    assert_eq!((names.asked().len(), seen.lock().unwrap().len(), refused(&egress)), (2, 1, 1));
}

#[tokio::test]
async fn every_hop_is_judged_like_the_first() {
    let (port, seen) = redirecting_server().await;
    let names = Names::of(&[("a.example", &["127.0.0.1"]), ("b.example", &["127.0.0.1"]), ("c.example", &["10.0.0.1"])]);
    let entries =
        [format!("a.example:{port}"), format!("b.example:{port}"), format!("c.example:{port}"), "169.254.169.254".to_owned()];
    let allow: Vec<_> = entries.iter().map(String::as_str).collect();
    let egress = egress(&allow, &["127.0.0.1/32", "169.254.0.0/16"], names, EgressLimits::default());
    let start = |status: u16, location: &str| format!("http://a.example:{port}/to/{status}/{location}");
    for (location, rule) in [
        ("http://169.254.169.254/latest/meta-data/".to_owned(), Rule::Network),
        ("http://[::ffff:169.254.169.254]/".to_owned(), Rule::AllowList),
        ("http://0xa9fea9fe/".to_owned(), Rule::Network),
        (format!("http://c.example:{port}/"), Rule::Network),
        (format!("http://a.example:{}/", port ^ 1), Rule::AllowList),
        (format!("http://127.0.0.1:{port}/"), Rule::AllowList),
        ("//evil.example/".to_owned(), Rule::AllowList),
        ("///evil.example/".to_owned(), Rule::Url),
        (format!("http://x@a.example:{port}/"), Rule::Userinfo),
        ("file:///etc/passwd".to_owned(), Rule::Scheme),
    ] {
        let answer = egress.send("test.tool", get(start(302, &location))).await;
        assert_eq!(answer.unwrap_err(), EgressError::Blocked(rule), "{location}");
    }
    assert_eq!(seen.lock().unwrap().len(), 10, "only the first hop of each was sent");
    seen.lock().unwrap().clear();

    let mut request = get(start(307, &format!("http://b.example:{port}/end")));
    request.method = Method::POST;
    request.body = Bytes::from_static(b"hello");
    for (name, value) in [("authorization", "Bearer s"), ("cookie", "s"), ("x-api-key", "s"), ("content-type", "text/x")] {
        request.headers.insert(name, value.parse().unwrap());
    }
    let answer = egress.send("test.tool", request).await.unwrap();
    assert_eq!(answer.body, b"arrived");
    let seen = seen.lock().unwrap();
    let ((_, first, _), (line, last, body)) = (&seen[0], &seen[1]);
    assert_eq!((line.as_str(), body.as_ref()), ("POST /end", b"hello".as_slice()));
    assert_eq!((first["x-api-key"].as_bytes(), last["content-type"].as_bytes()), (b"s".as_slice(), b"text/x".as_slice()));
    let names: Vec<_> = last.keys().map(http::HeaderName::as_str).collect();
    assert!(["authorization", "cookie", "x-api-key", "referer"].iter().all(|name| !names.contains(name)), "{names:?}");
}

#[tokio::test]
async fn redirects_are_counted_exactly() {
    let (port, seen) = redirecting_server().await;
    let address = format!("127.0.0.1:{port}");
    let egress = egress(&[&address], &["127.0.0.1/32"], Names::of(&[]), EgressLimits::default());
    let url = |hops: usize| if hops == 0 { format!("http://{address}/") } else { format!("http://{address}/count/{hops}") };
    for hops in [0, 1, 4, 5] {
        assert_eq!(egress.send("test.tool", get(url(hops))).await.unwrap().body, b"arrived", "{hops}");
    }
    seen.lock().unwrap().clear();
    assert_eq!(egress.send("test.tool", get(url(6))).await.unwrap_err(), EgressError::TooManyRedirects);
    assert_eq!((seen.lock().unwrap().len(), refused(&egress)), (6, 0));
}

#[tokio::test]
async fn the_callers_headers_cannot_speak_for_the_connection() {
    let egress = egress(&["8.8.8.8"], &[], Names::of(&[]), EgressLimits::default());
    for name in ["host", "transfer-encoding", "content-length", "connection", "upgrade"] {
        let mut request = get("https://8.8.8.8/");
        request.headers.insert(name, "x".parse().unwrap());
        assert_eq!(egress.send("test.tool", request).await.unwrap_err(), EgressError::Blocked(Rule::Header), "{name}");
    }
    assert_eq!(refused(&egress), 5);
}

/// Answers with what its path asks for.
async fn server_of_answers() -> String {
    let port = serve(Router::new().fallback(any(|request: Request<Body>| async move { answer(request.uri().path()) }))).await;
    format!("127.0.0.1:{port}")
}

fn answer(path: &str) -> Response {
    let (what, number) = path[1..].split_once('/').unwrap();
    let number: usize = number.parse().unwrap();
    match what {
        "plain" => vec![b'x'; number].into_response(),
        "gzip" => ([(header::CONTENT_ENCODING, "gzip")], gzip(number)).into_response(),
        // Of which 7 bytes are the name, and the other headers say 44.
        "header" => {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert("x-large", HeaderValue::from_str(&"x".repeat(number)).unwrap());
            response
        }
        "headers" => {
            let mut response = Response::new(Body::empty());
            for _ in 0..number {
                response.headers_mut().append("x", HeaderValue::from_static("y"));
            }
            response
        }
        "endless" => Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>(vec![b'x'; 1024]))).into_response(),
        "stuck" => {
            let first = stream::once(async { Ok::<_, io::Error>(vec![b'x'; 10]) });
            Body::from_stream(first.chain(stream::pending())).into_response()
        }
        other => unreachable!("{other}"),
    }
}

/// Zeros, compressed a thousandfold.
fn gzip(length: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; length]).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_body_is_read_as_far_as_the_limit_and_no_further() {
    let address = server_of_answers().await;
    let limits = EgressLimits { body_bytes: 10_000, ..EgressLimits::default() };
    let egress = egress(&[&address], &["127.0.0.1/32"], Names::of(&[]), limits);
    for (length, truncated) in [(0, false), (9_999, false), (10_000, false), (10_001, true), (20_000_000, true)] {
        for what in ["plain", "gzip"] {
            let answer = egress.send("test.tool", get(format!("http://{address}/{what}/{length}"))).await.unwrap();
            assert_eq!((answer.body.len(), answer.truncated), (length.min(10_000), truncated), "{what} {length}");
        }
    }
    let head = EgressRequest { method: Method::HEAD, ..get(format!("http://{address}/gzip/100")) };
    let answer = egress.send("test.tool", head).await.unwrap();
    assert_eq!((answer.body.len(), answer.truncated), (0, false), "no body is none to decompress");
    let answer = egress.send("test.tool", get(format!("http://{address}/endless/0"))).await.unwrap();
    assert_eq!((answer.body.len(), answer.truncated), (10_000, true));
}

#[tokio::test]
async fn headers_are_read_as_far_as_the_limit() {
    let address = server_of_answers().await;
    let plain = egress(&[&address], &["127.0.0.1/32"], Names::of(&[]), EgressLimits::default());
    let answer = plain.send("test.tool", get(format!("http://{address}/header/0"))).await.unwrap();
    let others = headers::size(&answer.headers);
    let limits = EgressLimits { header_bytes: others + 1_000, ..EgressLimits::default() };
    let egress = egress(&[&address], &["127.0.0.1/32"], Names::of(&[]), limits);
    for (length, fits) in [(999, true), (1_000, true), (1_001, false)] {
        let answer = egress.send("test.tool", get(format!("http://{address}/header/{length}"))).await;
        assert_eq!(answer.map(drop), if fits { Ok(()) } else { Err(EgressError::HeadersTooLarge) }, "{length}");
    }
    assert!(plain.send("test.tool", get(format!("http://{address}/headers/90"))).await.is_ok());
    let many = plain.send("test.tool", get(format!("http://{address}/headers/101"))).await;
    assert_eq!(many.unwrap_err(), EgressError::Protocol);
}

#[tokio::test]
async fn nobody_keeps_a_request_waiting() {
    let address = server_of_answers().await;
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(60));
    let stuck = format!("http://{address}/stuck/0");
    let idle = EgressLimits { idle: short, total: long, ..EgressLimits::default() };
    let total = EgressLimits { idle: long, total: short, ..EgressLimits::default() };
    for limits in [idle, total] {
        let egress = egress(&[&address], &["127.0.0.1/32"], Names::of(&[]), limits);
        let answer = timeout(long / 2, egress.send("test.tool", get(&stuck))).await.expect("the shorter limit was to end it");
        assert_eq!(answer.unwrap_err(), EgressError::Timeout);
    }

    #[derive(Debug)]
    struct Silent;
    impl Resolver for Silent {
        fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            Box::pin(std::future::pending())
        }
    }
    let limits = EgressLimits { connect: short, total: long, ..EgressLimits::default() };
    let allow = AllowList::parse(&texts(&["a.example"])).unwrap();
    let egress = Egress::new(allow, Networks::default(), limits, Arc::new(Silent), Violations::default()).unwrap();
    let answer =
        timeout(long / 2, egress.send("test.tool", get("https://a.example/"))).await.expect("the shorter limit was to end it");
    // Nothing was sent, and whoever might send it again must know.
    assert_eq!(answer.unwrap_err(), EgressError::Connect);
}

#[tokio::test]
async fn a_caller_may_shorten_the_time_and_not_lengthen_it() {
    let address = server_of_answers().await;
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(60));
    let stuck = format!("http://{address}/stuck/0");
    for (total, deadline) in [(long, short), (short, long), (long, Duration::ZERO)] {
        let limits = EgressLimits { idle: long, total, ..EgressLimits::default() };
        let egress = egress(&[&address], &["127.0.0.1/32"], Names::of(&[]), limits).until(Instant::now() + deadline);
        let answer = timeout(long / 2, egress.send("test.tool", get(&stuck))).await.expect("the shorter time was to end it");
        assert_eq!(answer.unwrap_err(), EgressError::Timeout);
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_from_whom_the_answer_leads_to() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let leading = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = leading.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = leading.accept().await {
            let _head = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await;
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{closed}/\r\nContent-Length: 0\r\n\r\n");
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await);
        }
    });
    let allowed = [closed.to_string(), address.to_string()];
    let egress = egress(&[&allowed[0], &allowed[1]], &["127.0.0.1/32"], Names::of(&[]), EgressLimits::default());
    for (asked, expected) in [(closed, EgressError::Connect), (address, EgressError::RedirectUnreachable)] {
        assert_eq!(egress.send("test.tool", get(format!("http://{asked}/"))).await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn errors_hold_neither_addresses_nor_urls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let talker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_http = talker.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = talker.accept().await {
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail.example ESMTP\r\n").await);
        }
    });
    let names = Names::of(&[("inside.example", &["127.0.0.1"])]);
    let entries = [format!("inside.example:{}", closed.port()), format!("inside.example:{}", no_http.port())];
    let egress = egress(&[&entries[0], &entries[1]], &["127.0.0.1/32"], names, EgressLimits::default());
    for (address, expected) in [(closed, EgressError::Connect), (no_http, EgressError::Protocol)] {
        let url = format!("http://inside.example:{}/?token=hunter2hunter2", address.port());
        let error = egress.send("test.tool", get(url)).await.unwrap_err();
        assert_eq!(error, expected);
        let text = format!("{error} {error:?} {egress:?}");
        assert!(!text.contains("hunter2") && !error.to_string().contains("127.0.0.1"), "{text}");
    }
}
