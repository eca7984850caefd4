//! Who may do what, and how much: tokens, policy, the tenant transaction, validated input, and what a refusal looks like.
//!
//! Tool logic and routes live elsewhere; everything that guards an entrance lives here, once.

mod egress;
mod entrance;
mod extract;
mod jwks;
mod policy;
mod principal;
mod problem;
mod redact;
mod request_context;
mod tenant_tx;
mod token;

use std::sync::Arc;

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter, metrics::family::Family, registry::Registry};

pub use egress::{
    AllowList, Egress, EgressError, EgressLimits, EgressRequest, EgressResponse, Networks, Resolver, Rule, SystemResolver,
};
pub use entrance::{Entrance, Readiness, describe};
pub use extract::{Authenticated, PathId, PathName, Query, StrictJson};
pub use jwks::{JwksError, KeySet};
pub use policy::{Decision, Policy, PolicyError};
pub use principal::Principal;
pub use problem::{FieldError, Problem, ProblemDocument, ProblemKind};
pub use redact::{Redactor, SecretForms, redact_credentials};
pub use request_context::{RequestContext, request_context};
pub use tenant_tx::{ReadPool, TenantTx};
pub use token::{TokenError, TokenVerifier};

/// Everything an entrance needs to decide whether to open.
#[derive(Clone, Debug)]
pub struct Guard {
    pub verifier: Arc<TokenVerifier>,
    pub policy: Arc<Policy>,
    /// Largest request body, in bytes.
    pub body_limit: usize,
    pub violations: Violations,
}

impl Guard {
    /// Decides whether the principal holds `permission`.
    ///
    /// # Errors
    /// 403 when no rule grants it.
    pub fn authorize(&self, principal: &Principal, permission: &str) -> Result<Decision, Problem> {
        self.policy
            .decide(principal, permission)
            .ok_or_else(|| Problem::new(ProblemKind::Forbidden, format!("this needs the permission {permission}")))
    }
}

/// `violations_total{kind,tool}`: refusals, counted where they are answered.
#[derive(Clone, Debug, Default)]
pub struct Violations(Family<ViolationLabels, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ViolationLabels {
    kind: &'static str,
    tool: &'static str,
}

impl Violations {
    pub fn register(registry: &mut Registry) -> Self {
        let violations = Self::default();
        registry.register("violations", "Requests refused, by kind and tool", violations.0.clone());
        violations
    }

    fn count(&self, kind: &'static str, tool: Option<&'static str>) {
        self.0.get_or_create(&ViolationLabels { kind, tool: tool.unwrap_or("") }).inc();
    }
}
