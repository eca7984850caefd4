use std::fmt;

use toolgate_events::TenantId;

use super::{
    Policy,
    permission::{covers, is_concrete},
};
use crate::Principal;

/// All that a decision is made from, besides the policy. Whoever has it recorded can decide again.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub tenant_id: TenantId,
    /// A role that the policy does not know grants and denies nothing.
    pub roles: &'a [String],
    /// Granted by the token itself.
    pub permissions: &'a [String],
}

/// One rule of a policy, or of a token, as far as it concerns an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    pub source: RuleSource<'a>,
    pub effect: Effect,
    pub permission: &'a str,
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleSource<'a> {
    Everybody,
    Tenant(TenantId),
    Role(&'a str),
    TenantRole(TenantId, &'a str),
    Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Deny,
    Allow,
}

/// What came out, and the rule that decided it: the first that covers the permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// `None` when no rule covers it, which denies.
    pub rule: Option<Rule<'a>>,
}

impl Policy {
    /// Decides whether the input's holder has a concrete permission. Nothing that is not one is ever granted.
    pub fn decide<'a>(&'a self, input: Input<'a>, permission: &str) -> Verdict<'a> {
        let rule = is_concrete(permission).then(|| self.rules(input).find(|rule| rule.covers(permission))).flatten();
        Verdict { rule }
    }

    /// Every rule that concerns an input, in the order in which they are considered: first what denies, the general before the
    /// particular, and then what allows.
    pub fn rules<'a>(&'a self, input: Input<'a>) -> impl Iterator<Item = Rule<'a>> {
        let tenant = self.tenants.get(&input.tenant_id);
        let roles = move || {
            input.roles.iter().filter_map(move |name| {
                let own = tenant.and_then(|tenant| tenant.roles.get(name));
                match own {
                    Some(role) => Some((RuleSource::TenantRole(input.tenant_id, name), role)),
                    None => Some((RuleSource::Role(name), self.roles.get(name)?)),
                }
            })
        };
        let denied = self.deny.iter().map(|permission| (RuleSource::Everybody, permission));
        let denied_in_tenant = tenant
            .into_iter()
            .flat_map(|tenant| &tenant.deny)
            .map(move |permission| (RuleSource::Tenant(input.tenant_id), permission));
        let denied_by_roles = roles().flat_map(|(source, role)| role.deny.iter().map(move |permission| (source, permission)));
        let allowed_by_roles = roles().flat_map(|(source, role)| role.allow.iter().map(move |permission| (source, permission)));
        let allowed_by_token = input.permissions.iter().map(|permission| (RuleSource::Token, permission));
        let rule = |effect| move |(source, permission): (RuleSource<'a>, &'a String)| Rule { source, effect, permission };
        let denied = denied.chain(denied_in_tenant).chain(denied_by_roles).map(rule(Effect::Deny));
        denied.chain(allowed_by_roles.chain(allowed_by_token).map(rule(Effect::Allow)))
    }
}

impl Rule<'_> {
    /// Whether the rule is about `permission`, which must be a concrete one.
    pub fn covers(&self, permission: &str) -> bool {
        covers(self.permission, permission)
    }
}

impl Verdict<'_> {
    pub fn is_allowed(&self) -> bool {
        self.rule.is_some_and(|rule| rule.effect == Effect::Allow)
    }
}

impl<'a> From<&'a Principal> for Input<'a> {
    fn from(principal: &'a Principal) -> Self {
        Self { tenant_id: principal.tenant_id, roles: &principal.roles, permissions: &principal.permissions }
    }
}

/// The wording of the record, which policies of later days are compared with.
impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            RuleSource::Everybody => {}
            RuleSource::Tenant(tenant) => write!(f, "tenant {tenant} ")?,
            RuleSource::Role(role) => write!(f, "role {role}")?,
            RuleSource::TenantRole(tenant, role) => write!(f, "tenant {tenant} role {role}")?,
            RuleSource::Token => write!(f, "token")?,
        }
        let of_a_role = matches!(self.source, RuleSource::Role(_) | RuleSource::TenantRole(..));
        match self.effect {
            Effect::Deny if of_a_role => write!(f, " denies {}", self.permission),
            Effect::Deny => write!(f, "deny: {}", self.permission),
            Effect::Allow => write!(f, ": {}", self.permission),
        }
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => rule.fmt(f),
            None => f.write_str("no rule grants it"),
        }
    }
}

#[cfg(test)]
mod tests;
