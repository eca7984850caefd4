use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use toolgate_events::{Authorization, CallId, CallOptions, CallView, ToolCallRequested, canonical, tools::Contract};
use toolgate_security::{
    Accepts, Admitted, DeniedAll, FieldError, Principal, Problem, ProblemKind, RequestContext, StrictJson, media,
};
use toolgate_store::{KeyError, Scope};

use super::{BodySchema, CallSchema, data_subject, idempotency_key, own_token, prefer, refusals::Refusals, view};
use crate::{
    commands::Error,
    commands::request_tool_call::{self as command, Accepted, RequestToolCall},
    validators::Validators,
};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A call to one tool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ToolCallRequest")]
pub struct Body {
    /// The tool's name, as `GET /v1/tools` lists it.
    pub tool: String,
    /// What the tool's input schema asks for.
    arguments: Map<String, Value>,
    /// Groups the calls of one agent session, 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    session_id: Option<String>,
    #[serde(default)]
    options: Options,
}

/// What the caller may choose.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ToolCallOptions")]
pub struct Options {
    /// BCP 47 language tag.
    #[schemars(length(min = 2, max = 35))]
    locale: Option<String>,
    /// How old a cached result may be, in seconds.
    freshness_seconds: Option<u32>,
    /// How long one attempt may run, in milliseconds; the contract's own limit still holds.
    #[schemars(range(min = 1))]
    timeout_ms: Option<u32>,
}

/// Request a tool call
///
/// The call is accepted once it is durable. `Prefer: wait=N` waits up to N seconds (60 at the most) for its outcome. Tools with
/// side effects need an `Idempotency-Key`: the same key and body always name the same call.
#[utoipa::path(
    post,
    path = "/v1/tool-calls",
    operation_id = "request_tool_call",
    tag = "tool-calls",
    request_body = BodySchema,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters, bare or quoted; scope: tenant, principal and tool"),
        ("Data-Subject" = Option<String>, Header, description = "Whom the content is about: 1 to 128 printable ASCII characters. It is sealed under a key of theirs, which can be destroyed; the id itself is not kept"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`, in seconds (RFC 7240)"),
    ),
    responses(
        (
            status = 200,
            description = "The call has an outcome; `status` says which",
            body = CallSchema,
            headers(
                ("Location" = String, description = "The call"),
                ("Idempotency-Replayed" = String, description = "`true` when the call was there before"),
                ("Preference-Applied" = String, description = "`wait=N`, in seconds"),
            ),
        ),
        (
            status = 202,
            description = "Accepted; follow `Location`",
            body = CallSchema,
            headers(
                ("Location" = String, description = "The call"),
                ("Idempotency-Replayed" = String, description = "`true` when the call was there before"),
                ("Preference-Applied" = String, description = "`wait=N`, in seconds"),
            ),
        ),
        Refusals,
    ),
    security(("bearer" = [])),
)]
pub async fn handler(
    State(state): State<crate::State>,
    admitted: Admitted,
    context: RequestContext,
    accepts: Result<Accepts<media::ApplicationJson>, Problem>,
    headers: HeaderMap,
    StrictJson(body): StrictJson<Body>,
) -> Result<Response, Problem> {
    let asked = Asked::of(&state, admitted.principal(), &body.tool)?;
    let wait = prefer::wait(&headers);
    let request = Request { context, accepts: accepts.map(drop), headers, body };
    let answer = accept(&state, &admitted, request, asked.contract, wait).await;
    let outcome = |response: &Response| if response.status() == StatusCode::OK { "finished" } else { "accepted" };
    asked.answered(&state, answer, outcome)
}

async fn accept(
    state: &crate::State,
    admitted: &Admitted,
    request: Request,
    contract: &'static Contract,
    wait: Option<Duration>,
) -> Result<Response, Problem> {
    let command = RequestToolCall { wait, ..command_of(state, admitted, request, contract).await? };
    let call_id = command.call_id;
    let accepted = command::handle(state, command).await;
    let accepted = accepted.map_err(|error| refusal(admitted, contract, error))?;
    respond(call_id, accepted, wait).ok_or_else(Problem::internal)
}

/// A request for a call, however it is answered.
pub struct Request {
    pub context: RequestContext,
    pub accepts: Result<(), Problem>,
    pub headers: HeaderMap,
    pub body: Body,
}

/// A request for a tool that there is, to be counted by what becomes of it.
pub struct Asked {
    pub contract: &'static Contract,
    began: Instant,
}

impl Asked {
    pub fn of(state: &crate::State, principal: &Principal, tool: &str) -> Result<Self, Problem> {
        let began = Instant::now();
        Ok(Self { contract: contract_for(state, principal, tool)?, began })
    }

    pub fn answered(
        &self,
        state: &crate::State,
        answer: Result<Response, Problem>,
        outcome: impl FnOnce(&Response) -> &'static str,
    ) -> Result<Response, Problem> {
        let outcome = match &answer {
            Ok(response) => outcome(response),
            Err(problem) if problem.kind() == ProblemKind::Unavailable => "unavailable",
            Err(_) => "refused",
        };
        state.metrics.command(self.contract.name, outcome, self.began.elapsed());
        answer.map_err(|problem| problem.for_tool(self.contract.name))
    }
}

/// Authorises and checks a request; what is left is to carry it out.
pub async fn command_of(
    state: &crate::State,
    admitted: &Admitted,
    request: Request,
    contract: &'static Contract,
) -> Result<RequestToolCall, Problem> {
    let Request { context, accepts, headers, body } = request;
    let principal = admitted.principal();
    let decision = state.authorize(principal, Some(contract.name), &contract.permission)?;
    accepts?;
    admitted.for_tool(contract.name).await?;
    let key = idempotency_key::parse(&headers)?;
    let about = data_subject::parse(&headers)?;
    let Body { tool, arguments, session_id, options } = body;
    let others = [
        ("/session_id", session_id.as_deref()),
        ("/options/locale", options.locale.as_deref()),
        ("Idempotency-Key", key.as_deref()),
        ("Data-Subject", about.as_deref()),
    ];
    own_token::refuse(&headers, &arguments, &others)?;
    let fingerprinted = json!({"tool": tool, "arguments": arguments, "session_id": session_id, "options": options});
    let plain_fingerprint = canonical::sha256_hex(&fingerprinted);
    let arguments = validate(&state.validators, contract, arguments, session_id.as_deref(), &options, key.is_some())?;
    let call_id = match &key {
        Some(key) => CallId::from_key(principal.tenant_id, &principal.subject, contract.name, key),
        None => CallId(state.clock.new_id()),
    };
    let (keys, tenant) = (state.log.keys(), principal.tenant_id);
    let scope = match &about {
        Some(about) => keys.scope_of(tenant, about).await.map_err(Error::from)?,
        None => Scope::tenant(),
    };
    // After an erasure nobody can say whether it is the same request: whoever has its key gets the call without its content.
    let (request_fingerprint, is_erased) = match keys.fingerprint(tenant, &scope, &fingerprinted).await {
        Ok(fingerprint) => (fingerprint, false),
        Err(KeyError::Erased) => (String::new(), true),
        Err(error) => return Err(Error::from(error).into()),
    };
    let request = Box::new(ToolCallRequested {
        tool,
        lane: contract.lane.clone(),
        arguments,
        session_id: session_id.or_else(|| principal.session_id.clone()),
        options: CallOptions {
            locale: options.locale,
            freshness_seconds: options.freshness_seconds,
            timeout_ms: options.timeout_ms,
        },
        request_fingerprint,
        authorization: Authorization {
            policy_version: decision.policy_version,
            rule: decision.rule,
            principal: principal.subject.clone(),
            roles: principal.roles.clone(),
            permissions: principal.permissions.clone(),
            tool_version: contract.version,
            contract_hash: state.validators.contract_hash(contract),
        },
        data_subject: scope.data_subject().map(str::to_owned),
        erased: false,
    });
    Ok(RequestToolCall {
        tenant_id: principal.tenant_id,
        call_id,
        request,
        plain_fingerprint,
        is_erased,
        trace_context: context.trace_context(),
        wait: None,
        is_followed: false,
        may_exist: key.is_some(),
        changes_read_models: contract.needs_idempotency_key(),
    })
}

/// The answer to a command that was not carried out. A full house is on record like every other limit.
pub fn refusal(admitted: &Admitted, contract: &'static Contract, error: Error) -> Problem {
    if let Error::TooManyOpenCalls(most) = &error {
        admitted.too_many_open_calls(contract.name, *most);
    }
    error.into()
}

/// A tool nobody could call is unknown; which tools exist is told only to those who may call some.
fn contract_for(state: &crate::State, principal: &Principal, tool: &str) -> Result<&'static Contract, Problem> {
    if let Some(contract) = state.catalog.find(tool) {
        return Ok(contract);
    }
    let permissions = state.catalog.all().into_iter().map(|contract| contract.permission.clone());
    match state.guard.policies.decide_any(principal, permissions) {
        Ok(()) => Err(Problem::new(ProblemKind::NotFound, "there is no tool of that name; GET /v1/tools lists them")),
        Err(DeniedAll { policy_version }) => {
            state.refusals.denied_any_tool(principal, &policy_version);
            Err(Problem::new(ProblemKind::Forbidden, "this token allows no tool call"))
        }
    }
}

/// Everything wrong with the request at once; the arguments are handed back.
fn validate(
    validators: &Validators,
    contract: &'static Contract,
    arguments: Map<String, Value>,
    session_id: Option<&str>,
    options: &Options,
    has_key: bool,
) -> Result<Map<String, Value>, Problem> {
    let arguments = Value::Object(arguments);
    let mut errors = validators.check(contract, &arguments);
    let mut refuse = |pointer: &str, detail: &str| {
        errors.push(FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() });
    };
    if contract.needs_idempotency_key() && !has_key {
        refuse("Idempotency-Key", "this tool has side effects: send a key, so that a retry cannot repeat them");
    }
    if session_id.is_some_and(|id| id.is_empty() || id.chars().count() > 128 || id.chars().any(char::is_control)) {
        refuse("/session_id", "must be 1 to 128 printable characters");
    }
    let is_tag =
        |tag: &str| (2..=35).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if options.locale.as_deref().is_some_and(|tag| !is_tag(tag)) {
        refuse("/options/locale", "must be a BCP 47 language tag");
    }
    if options.timeout_ms == Some(0) {
        refuse("/options/timeout_ms", "must be at least 1");
    }
    match arguments {
        Value::Object(arguments) if errors.is_empty() => Ok(arguments),
        _ => Err(Problem::invalid_all(errors)),
    }
}

fn respond(call_id: CallId, accepted: Accepted, wait: Option<Duration>) -> Option<Response> {
    let Accepted { state, replayed, position } = accepted;
    let status = if state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let view = CallView { position: position.map(|position| position.to_string()), ..view(call_id, state)? };
    let location = HeaderValue::from_str(&view.links.own).ok()?;
    let mut response = (status, Json(view)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    if replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(wait) = wait {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok()?);
    }
    Some(response)
}
