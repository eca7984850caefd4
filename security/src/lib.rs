//! Who may do what, and how much: tokens, policy, the tenant transaction, validated input, and what a refusal looks like.
//!
//! Tool logic and routes live elsewhere; everything that guards an entrance lives here, once.

mod admission;
mod description;
mod egress;
mod entrance;
mod event_stream;
mod extract;
mod keys;
mod limiter;
mod paths;
mod policy;
mod principal;
mod problem;
mod redact;
mod reference;
mod request_context;
mod revocations;
mod server;
mod shared_secret;
mod tenant_share;
mod tenant_tx;
mod token;
mod webhook;
mod wire;

use std::{sync::Arc, time::Duration};

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter, metrics::family::Family, registry::Registry};

pub use admission::{Admission, Admitted, OnRefused, Place, Places, RateLimits, Refused, admit_commands};
pub use description::{Described, describe, refusal};
pub use egress::{
    AllowList, Egress, EgressError, EgressLimits, EgressRequest, EgressResponse, EgressStream, Networks, Resolver,
    Rule as EgressRule, SystemResolver,
};
pub use entrance::{Entrance, EntranceLimits, OWN_ROUTES, Readiness};
pub use event_stream::{CloudEvent, EventSource, EventStreams, Lost, Standing, event_frame};
pub use extract::{Accepts, Authenticated, JsonBytes, Media, PathId, PathName, Query, StrictJson, json_pointer, media};
pub use keys::{KeySource, Keys, ReadError};
pub use limiter::{Counted, Limiter, Now, Quota, QuotaUnavailable};
pub use paths::paths_of;
pub use policy::{
    Decision, Denied, DeniedAll, Effect, Input, Policies, Policy, PolicyError, PolicyFileError, RolePolicy, Rule, RuleSource,
    TenantPolicy, Verdict, is_concrete,
};
pub use principal::Principal;
pub use problem::{FieldError, Problem, ProblemDocument, ProblemKind};
pub use redact::{Redactor, SecretForms, redact_credentials};
pub use request_context::{RequestContext, request_context};
pub use revocations::{FRESH_FOR, Revocations, TenantAccess, TokenDigest};
pub use shared_secret::SharedSecret;
pub use tenant_share::{Share, Shares};
pub use tenant_tx::{PARTITION_LOCK_CLASS, ProjectionHalt, ProjectionState, ReadPool, TenantTx};
pub use token::{LEEWAY, TokenError, TokenVerifier};
pub use webhook::WebhookSecret;

/// Everything an entrance needs to decide whether to open.
#[derive(Clone, Debug)]
pub struct Guard {
    pub verifier: Arc<TokenVerifier>,
    pub policies: Policies,
    /// Largest request body, in bytes.
    pub body_limit: usize,
    /// How long a body may take to arrive: a slow sender would hold its connection and its buffer for ever.
    pub body_timeout: Duration,
    pub violations: Violations,
}

impl Guard {
    /// Decides whether the principal holds `permission`, for whoever records both outcomes.
    ///
    /// # Errors
    /// [`Denied`], which is 403, when a rule denies it or none grants it.
    pub fn decide(&self, principal: &Principal, permission: &str) -> Result<Decision, Denied> {
        self.policies.decide(principal, permission)
    }

    /// Decides whether the principal holds `permission`.
    ///
    /// # Errors
    /// 403 when it does not. It names the permission and nothing of the policy.
    pub fn authorize(&self, principal: &Principal, permission: &str) -> Result<Decision, Problem> {
        Ok(self.decide(principal, permission)?)
    }

    /// [`Self::decide`] for whoever records nothing.
    pub fn allows(&self, principal: &Principal, permission: &str) -> bool {
        self.policies.allows(principal, permission)
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
