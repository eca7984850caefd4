use super::Policies;
use crate::{Principal, Problem, ProblemKind};

/// A decision, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub policy_version: String,
    /// What decided it, as [`Verdict`](super::Verdict) words it: `role <name>: <permission>`, `role <name> denies <permission>`,
    /// `deny: <permission>`, the same after `tenant <uuid>`, `token: <permission>`, or `no rule grants it`.
    pub rule: String,
}

/// A decision against the principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What was asked for.
    pub permission: String,
    pub decision: Decision,
}

/// A decision against the principal, whichever of several permissions it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedAll {
    pub policy_version: String,
}

impl Policies {
    /// Decides by the policy in force whether the principal holds `permission`.
    ///
    /// # Errors
    /// [`Denied`] when a rule denies it or none grants it.
    pub fn decide(&self, principal: &Principal, permission: &str) -> Result<Decision, Denied> {
        let policy = self.current();
        let verdict = policy.decide(principal.into(), permission);
        let decision = Decision { policy_version: policy.version().to_owned(), rule: verdict.to_string() };
        if verdict.is_allowed() { Ok(decision) } else { Err(Denied { permission: permission.to_owned(), decision }) }
    }

    /// Decides by one policy whether the principal holds any of `permissions`.
    ///
    /// # Errors
    /// [`DeniedAll`] when it holds none.
    pub fn decide_any(&self, principal: &Principal, permissions: impl IntoIterator<Item = String>) -> Result<(), DeniedAll> {
        let policy = self.current();
        let is_any_allowed = permissions.into_iter().any(|permission| policy.decide(principal.into(), &permission).is_allowed());
        if is_any_allowed { Ok(()) } else { Err(DeniedAll { policy_version: policy.version().to_owned() }) }
    }

    /// [`Self::decide`] for whoever records nothing.
    pub fn allows(&self, principal: &Principal, permission: &str) -> bool {
        self.current().decide(principal.into(), permission).is_allowed()
    }
}

/// 403, naming the permission and nothing of the policy.
impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self::new(ProblemKind::Forbidden, format!("this needs the permission {}", denied.permission))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use toolgate_events::TenantId;
    use uuid::Uuid;

    use super::*;
    use crate::Policy;

    fn alice() -> Principal {
        Principal {
            tenant_id: TenantId(Uuid::nil()),
            subject: "alice".to_owned(),
            roles: vec!["a".to_owned()],
            permissions: vec!["token:grant".to_owned()],
            session_id: None,
            token_id: None,
            key_id: String::new(),
            issued_at: chrono::DateTime::UNIX_EPOCH,
            expires_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_decision_names_its_policy_and_rule_and_a_refusal_tells_the_caller_neither() {
        let policy = Policy::parse("version = 1\ndeny = [\"x:secret\"]\n[roles]\na = [\"x:*\"]\n").unwrap();
        let policy_version = policy.version().to_owned();
        let policies = Policies::fixed(policy);
        let principal = alice();
        let decision = |rule: &str| Decision { policy_version: policy_version.clone(), rule: rule.to_owned() };
        assert_eq!(policies.decide(&principal, "x:y"), Ok(decision("role a: x:*")));
        assert_eq!(policies.decide(&principal, "token:grant"), Ok(decision("token: token:grant")));
        let denied = policies.decide(&principal, "x:secret").unwrap_err();
        assert_eq!(denied, Denied { permission: "x:secret".to_owned(), decision: decision("deny: x:secret") });
        assert!(policies.allows(&principal, "x:y") && !policies.allows(&principal, "x:secret"));
        let problem = Problem::from(denied);
        assert_eq!(problem.kind(), ProblemKind::Forbidden);
        let body = String::from_utf8(problem.body(None)).unwrap();
        assert!(body.contains("\"this needs the permission x:secret\""), "{body}");
        assert!(!body.contains("deny") && !body.contains(&policy_version), "{body}");
    }

    #[test]
    fn one_of_several_permissions_is_enough_and_a_change_on_the_way_does_not_count() {
        let policy = |allow: &str| Arc::new(Policy::parse(&format!("version = 1\n[roles]\na = [\"{allow}\"]\n")).unwrap());
        let (before, after) = (policy("x:y"), policy("x:z"));
        let denied = Err(DeniedAll { policy_version: before.version().to_owned() });
        let decide_any = |permissions: [&str; 2]| {
            let (sender, policies) = Policies::changing(Arc::clone(&before));
            let permissions = permissions.into_iter().map(|permission| {
                sender.send_replace(Arc::clone(&after));
                permission.to_owned()
            });
            policies.decide_any(&alice(), permissions)
        };
        assert_eq!(decide_any(["x:other", "x:y"]), Ok(()));
        assert_eq!(decide_any(["x:y", "x:other"]), Ok(()));
        assert_eq!(decide_any(["x:other", "x:z"]), denied);
    }
}
