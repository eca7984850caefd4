//! Before a command is read: who sends it, and whether the tenant may send one more.

mod fields;
mod places;

use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header, request::Parts};
use toolgate_events::LimitPolicy;

use self::fields::Fields;
use crate::{
    Guard, Principal, Problem, ProblemKind,
    extract::{authenticate, discard},
    limiter::{Counted, Limiter, Refusal, Standing},
};

pub use self::places::{Place, Places, hold_a_place};

/// Commands per sliding minute.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// Of one tenant.
    pub per_tenant: u64,
    /// Of one tenant with one tool, on top.
    pub per_tool: BTreeMap<&'static str, u64>,
}

/// A refusal, for whoever records them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub policy: LimitPolicy,
    /// Where it is known: the limit of a tenant is checked before the body is read.
    pub tool: Option<&'static str>,
    pub limit: u64,
}

/// Hears of every refusal for reaching a limit. It is called on the request's own path, so it must not block.
pub type OnRefused = Arc<dyn Fn(&Principal, Refused) + Send + Sync>;

/// Who may send commands, and how many.
#[derive(Clone)]
pub struct Admission {
    guard: Guard,
    limiter: Limiter,
    limits: Arc<RateLimits>,
    fields: Arc<Fields>,
    on_refused: OnRefused,
}

impl Admission {
    pub fn new(guard: Guard, limiter: Limiter, limits: RateLimits) -> Self {
        let fields = Arc::new(Fields::new(&limits));
        Self { guard, limiter, limits: Arc::new(limits), fields, on_refused: Arc::new(|_, _| ()) }
    }

    /// Lets `on_refused` hear of refusals.
    #[must_use]
    pub fn with_on_refused(self, on_refused: OnRefused) -> Self {
        Self { on_refused, ..self }
    }

    async fn admit(
        &self,
        principal: &Principal,
        tool: Option<&'static str>,
        limit: u64,
    ) -> Result<Standing, (Standing, Problem)> {
        let refusal = match self.limiter.admit(Counted { tenant: principal.tenant_id, tool }, limit).await {
            Ok(standing) => return Ok(standing),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::Limited(standing) => {
                let policy = if tool.is_some() { LimitPolicy::Tool } else { LimitPolicy::Tenant };
                (self.on_refused)(principal, Refused { policy, tool, limit });
                let of = tool.map_or_else(String::new, |tool| format!(" for {tool}"));
                let detail = format!("this tenant may send {limit} commands{of} a minute; see Retry-After");
                Err((standing, Problem::rate_limited(detail, standing.reset)))
            }
            Refusal::Unavailable => {
                Err((unknown(limit), Problem::unavailable("commands cannot be counted at the moment; nothing was accepted")))
            }
        }
    }
}

/// Where a tenant stands when nothing was counted.
fn unknown(limit: u64) -> Standing {
    Standing { limit, remaining: 0, reset: 1 }
}

/// The layer around command routes. It authenticates, counts the command before its body is read, and says on every answer where
/// the tenant stands (draft-ietf-httpapi-ratelimit-headers).
pub async fn admit_commands(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let principal = match authenticate(&mut parts, &admission.guard).await {
        Ok(principal) => principal,
        Err(problem) if problem.kind() == ProblemKind::RateLimited => {
            // Known, but with too many requests under way.
            let mut response = problem.into_response();
            admission.fields.write(response.headers_mut(), unknown(admission.limits.per_tenant), None);
            return response;
        }
        Err(problem) => return problem.into_response(),
    };
    match admission.admit(&principal, None, admission.limits.per_tenant).await {
        Ok(standing) => {
            let fields = Arc::clone(&admission.fields);
            let admitted = Admitted(Arc::new(Command { admission, principal, tool: Default::default() }));
            parts.extensions.insert(admitted.clone());
            let mut response = next.run(Request::from_parts(parts, body)).await;
            fields.write(response.headers_mut(), standing, admitted.0.tool.get().copied());
            response
        }
        Err((standing, problem)) => {
            leave_unread(&parts.headers, body).await;
            let mut response = problem.into_response();
            admission.fields.write(response.headers_mut(), standing, None);
            response
        }
    }
}

/// A client that is still sending would lose the answer with its connection; one that asks first has sent nothing.
async fn leave_unread(headers: &HeaderMap, mut body: Body) {
    if !headers.contains_key(header::EXPECT) {
        discard(&mut body).await;
    }
}

/// A command that was counted.
#[derive(Clone)]
pub struct Admitted(Arc<Command>);

struct Command {
    admission: Admission,
    principal: Arc<Principal>,
    tool: std::sync::OnceLock<(&'static str, Standing)>,
}

impl Admitted {
    /// Who sent it.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// The same, for an answer that outlives the request.
    pub fn shared_principal(&self) -> Arc<Principal> {
        Arc::clone(&self.0.principal)
    }

    /// Counts the command against the limit of its tool, if it has one. Only once the principal is known to be allowed to call it.
    ///
    /// # Errors
    /// 429, or 503 when commands cannot be counted.
    pub async fn for_tool(&self, tool: &'static str) -> Result<(), Problem> {
        let Command { admission, principal, tool: standing } = self.0.as_ref();
        let Some(&limit) = admission.limits.per_tool.get(tool) else { return Ok(()) };
        let (stands, outcome) = match admission.admit(principal, Some(tool), limit).await {
            Ok(stands) => (stands, Ok(())),
            Err((stands, problem)) => (stands, Err(problem)),
        };
        // A command has one tool.
        let _first = standing.set((tool, stands));
        outcome
    }

    /// Tells of a call that was refused because the tenant has `limit` calls without an outcome.
    pub fn too_many_open_calls(&self, tool: &'static str, limit: u64) {
        let Command { admission, principal, .. } = self.0.as_ref();
        (admission.on_refused)(principal, Refused { policy: LimitPolicy::OpenCalls, tool: Some(tool), limit });
    }
}

impl<S: Sync> FromRequestParts<S> for Admitted {
    type Rejection = Problem;

    /// 500 outside of the layer.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::internal)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("tool", &self.0.tool).finish_non_exhaustive()
    }
}
