//! Every route with every verb as every caller. The routes come from the description, which the APIs' own tests hold to be whole,
//! and from the entrance's table of what it adds; the answers from one table here.

pub mod table;

use std::{collections::BTreeSet, fmt};

use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use toolgate_security::OWN_ROUTES;

use self::table::{Furniture, ROUTES, Route, Sight};
use crate::app::{Answer, Client, Tenant, TestApp, Token, send, wait_until};

const VERBS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
const ROLES: [&str; 4] = ["agent", "viewer", "auditor", "admin"];

/// Requests under way at once.
const CONCURRENCY: usize = 8;

/// Who asks.
#[derive(Clone)]
enum Caller {
    /// Nobody, with no token.
    Nobody,
    /// Somebody whose token does not hold.
    Refused(&'static str, String),
    /// A role within the owner's tenant.
    Role(&'static str, String),
    /// A role that no policy knows.
    UnknownRole(String),
    /// A token without a role that grants the route's permission itself.
    Granted,
    /// An administrator of another tenant.
    Stranger(String),
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Refused(what, _) => what,
            Self::Role(role, _) => role,
            Self::UnknownRole(_) => "an unknown role",
            Self::Granted => "a token that grants it itself",
            Self::Stranger(_) => "a stranger",
        })
    }
}

/// The description's routes.
fn described(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let verbs = item.as_object().unwrap().keys().map(|verb| verb.to_uppercase());
        verbs.filter(|verb| VERBS.contains(&verb.as_str())).map(|verb| (path.clone(), verb))
    });
    operations.collect()
}

#[tokio::test]
async fn every_route_has_a_row_and_every_row_a_route() {
    let app = TestApp::start().await;
    let document = app.admin().get("/openapi.json").await.json();
    let routes = described(&document);
    let rows: BTreeSet<_> = ROUTES.iter().map(|row| (row.path.to_owned(), row.verb.to_owned())).collect();
    let without_row: Vec<_> = routes.difference(&rows).collect();
    assert!(without_row.is_empty(), "add a row to ROUTES in tests/it/census/table.rs that says who may use {without_row:?}");
    let without_route: Vec<_> = rows.difference(&routes).collect();
    assert!(without_route.is_empty(), "these rows of tests/it/census/table.rs have no route: {without_route:?}");
    assert_eq!(rows.len(), ROUTES.len(), "a route has two rows");
    for path in OWN_ROUTES {
        assert!(!routes.iter().any(|(described, _)| described == path), "{path} is both described and the entrance's own");
    }
}

fn callers(app: &TestApp, owner: &Client) -> Vec<Caller> {
    let issuer = app.stack.issuer();
    let token = |role| Token::of(owner.tenant, role);
    let mut callers = vec![
        Caller::Nobody,
        Caller::Refused("garbage", "garbage".to_owned()),
        Caller::Refused("expired", token("admin").expires_in(-60).sign(issuer)),
        Caller::Refused("for another audience", token("admin").claim("aud", json!("another")).sign(issuer)),
        Caller::Refused("without a tenant", token("admin").claim("tenant_id", Value::Null).sign(issuer)),
        Caller::UnknownRole(token("nobody").sign(issuer)),
        Caller::Granted,
        Caller::Stranger(Token::of(Tenant::new(), "admin").sign(issuer)),
    ];
    callers.extend(ROLES.map(|role| Caller::Role(role, token(role).sign(issuer))));
    callers
}

/// The status that the table gives, for a verb that the route has.
fn expected(route: &Route, caller: &Caller) -> u16 {
    match caller {
        _ if route.sight == Sight::Signed => route.allowed,
        Caller::Nobody | Caller::Refused(..) => 401,
        Caller::UnknownRole(_) => 403,
        Caller::Role(role, _) if !route.roles.contains(role) => 403,
        Caller::Role(..) | Caller::Granted => route.allowed,
        Caller::Stranger(_) => route.stranger,
    }
}

/// What the caller's token is on a route; none for nobody.
fn token(app: &TestApp, owner: &Client, route: Option<&Route>, caller: &Caller) -> Option<String> {
    match caller {
        Caller::Nobody => None,
        Caller::Refused(_, token) | Caller::Role(_, token) | Caller::UnknownRole(token) | Caller::Stranger(token) => {
            Some(token.clone())
        }
        Caller::Granted => {
            let permissions = json!(route.map_or("tool_call:read", |route| route.permission).split(' ').collect::<Vec<_>>());
            let token = Token::of(owner.tenant, "x").claim("roles", json!([])).claim("permissions", permissions);
            Some(token.sign(app.stack.issuer()))
        }
    }
}

/// The answer's head, and its body where that ends.
async fn ask(client: &Client, verb: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Answer {
    let mut request = client.anonymous(Method::from_bytes(verb.as_bytes()).unwrap(), path);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.header("idempotency-key", toolgate_store::Clock::system().new_id().to_string()).json(body);
    }
    let response = request.send().await.unwrap();
    if response.status().is_success() {
        return Answer { status: response.status().as_u16(), headers: response.headers().clone(), body: Vec::new() };
    }
    Answer::of(response).await
}

/// Checks status and form of an answer.
fn check(answer: &Answer, verb: &str, status: u16, allow: &[&str], what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert!(!answer.header("x-request-id").is_empty(), "{what}: no request id");
    if status < 400 {
        return;
    }
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    if verb != "HEAD" {
        assert_eq!(answer.json()["status"], status, "{what}");
    }
    assert_eq!(status == 401, answer.headers.contains_key("www-authenticate"), "{what}");
    assert_eq!(status == 405, answer.headers.contains_key("allow"), "{what}");
    if status == 405 {
        let mut allowed: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, allow, "{what}");
    }
}

/// The verbs that a path has, HEAD included.
fn verbs_of(path: &str) -> Vec<&'static str> {
    let mut verbs: Vec<_> = ROUTES.iter().filter(|row| row.path == path).map(|row| row.verb).collect();
    if verbs.contains(&"GET") {
        verbs.push("HEAD");
    }
    verbs.sort_unstable();
    verbs
}

#[tokio::test]
async fn every_route_answers_every_caller_as_the_table_says() {
    let app = TestApp::start().await;
    let owner = app.admin();
    let furniture = Furniture::make(&owner).await;
    let paths: BTreeSet<_> = ROUTES.iter().map(|row| row.path).collect();
    let callers = callers(&app, &owner);
    let mut questions = Vec::new();
    for path in &paths {
        questions.extend(VERBS.iter().flat_map(|verb| callers.iter().map(|caller| (*path, *verb, caller))));
    }
    let asked = stream::iter(questions).map(async |(path, verb, caller)| {
        let looked_up = if verb == "HEAD" { "GET" } else { verb };
        let route = ROUTES.iter().find(|row| row.path == path && row.verb == looked_up);
        let token = token(&app, &owner, route, caller);
        let body = route.and_then(|route| route.body.map(|body| body()));
        let answer = ask(&owner, verb, &furniture.fill(path), token.as_deref(), body.as_ref()).await;
        let status = route.map_or(405, |route| expected(route, caller));
        check(&answer, verb, status, &verbs_of(path), &format!("{verb} {path} as {caller:?}"));
        if status == 401 {
            let is_told_why = answer.header("www-authenticate").contains(r#"error="invalid_token""#);
            assert_eq!(is_told_why, !matches!(caller, Caller::Nobody), "{verb} {path} as {caller:?}");
        }
    });
    let answers = asked.buffer_unordered(CONCURRENCY).count().await;
    assert_eq!(answers, paths.len() * VERBS.len() * callers.len());
}

/// The entrance's own routes ask nobody who he is.
async fn check_own(app: &TestApp, owner: &Client, url: &str, paths: &[&str], is_there: bool) {
    let client = owner.at(url.to_owned());
    for path in paths {
        for verb in VERBS {
            for caller in callers(app, owner) {
                let token = token(app, owner, None, &caller);
                let answer = ask(&client, verb, path, token.as_deref(), None).await;
                let status = match verb {
                    _ if !is_there => 404,
                    "GET" | "HEAD" => 200,
                    _ => 405,
                };
                check(&answer, verb, status, &["GET", "HEAD"], &format!("{verb} {path} at {url} as {caller:?}"));
            }
        }
    }
}

async fn until_ready(owner: &Client) {
    wait_until("the gateway is ready", async || send(owner.anonymous(Method::GET, "/readyz")).await.status == 200).await;
}

#[tokio::test]
async fn the_entrances_own_routes_are_open_and_nothing_else_is_there() {
    let app = TestApp::start().await;
    let owner = app.admin();
    until_ready(&owner).await;
    check_own(&app, &owner, &owner.url, &OWN_ROUTES, true).await;
    check_own(&app, &owner, &owner.url, &["/", "/v1", "/no-such-path", "/docs/../metrics2", "/admin"], false).await;
}

#[tokio::test]
async fn with_an_admin_listener_each_has_its_own_routes_and_no_others() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let app = TestApp::start_with(|settings| settings.admin_addr = Some(port)).await;
    let owner = app.admin();
    let admin = format!("http://{port}");
    until_ready(&owner).await;
    check_own(&app, &owner, &owner.url, &OWN_ROUTES[..3], true).await;
    check_own(&app, &owner, &owner.url, &OWN_ROUTES[3..], false).await;
    check_own(&app, &owner, &admin, &OWN_ROUTES[3..], true).await;
    check_own(&app, &owner, &admin, &OWN_ROUTES[..3], false).await;
    check_own(&app, &owner, &admin, &["/v1/tool-calls", "/v1/events", "/tool-call"], false).await;
    assert_eq!(described(&owner.at(admin).get("/openapi.json").await.json()).len(), ROUTES.len());
}
