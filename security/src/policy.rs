use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use toolgate_events::canonical;

use crate::Principal;

/// Roles and what they permit. Its version is the hash of the file's bytes, so that a recorded decision names the exact policy.
#[derive(Debug)]
pub struct Policy {
    version: String,
    roles: BTreeMap<String, Vec<Permission>>,
}

/// Why something was allowed, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub policy_version: String,
    /// `role <name>: <permission>`, or `token: <permission>` when the token itself grants it.
    pub rule: String,
}

/// Why a policy file was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("not a policy file: {0}")]
    Malformed(#[from] toml::de::Error),
    #[error("policy version {0} is not supported; this release knows version 1")]
    Version(u32),
    #[error("role {role:?} has {permission:?}, which is not of the form resource:action")]
    Permission { role: String, permission: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    roles: BTreeMap<String, Vec<String>>,
}

/// `resource:action`, the resource in dotted segments.
#[derive(Debug)]
struct Permission {
    text: String,
}

impl Policy {
    /// The policy that applies when no file is given.
    ///
    /// # Errors
    /// None: the built-in file is checked by a test.
    pub fn built_in() -> Result<Self, PolicyError> {
        Self::parse(include_str!("default_policy.toml"))
    }

    /// # Errors
    /// [`PolicyError`] naming the offending entry.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text)?;
        if file.version != 1 {
            return Err(PolicyError::Version(file.version));
        }
        let mut roles = BTreeMap::new();
        for (role, permissions) in file.roles {
            let parsed = permissions
                .into_iter()
                .map(|text| {
                    Permission::parse(&text).ok_or_else(|| PolicyError::Permission { role: role.clone(), permission: text })
                })
                .collect::<Result<_, _>>()?;
            roles.insert(role, parsed);
        }
        Ok(Self { version: canonical::hex(&Sha256::digest(text)), roles })
    }

    /// The rule that grants `permission`, if one does.
    pub fn decide(&self, principal: &Principal, permission: &str) -> Option<Decision> {
        let by_role = principal.roles.iter().find_map(|role| {
            let granting = self.roles.get(role)?.iter().find(|granted| granted.covers(permission))?;
            Some(format!("role {role}: {}", granting.text))
        });
        let by_token = || {
            let mut granted = principal.permissions.iter().filter_map(|text| Permission::parse(text));
            granted.find(|granted| granted.covers(permission)).map(|granted| format!("token: {}", granted.text))
        };
        let rule = by_role.or_else(by_token)?;
        Some(Decision { policy_version: self.version.clone(), rule })
    }
}

impl Permission {
    fn parse(text: &str) -> Option<Self> {
        let (resource, action) = text.split_once(':')?;
        let word = |part: &str| {
            part == "*"
                || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b)))
        };
        (resource.split('.').all(word) && word(action)).then(|| Self { text: text.to_owned() })
    }

    fn covers(&self, asked: &str) -> bool {
        let split = |text: &str| text.split_once(':').map(|(resource, action)| (resource.to_owned(), action.to_owned()));
        let (Some((resource, action)), Some((asked_resource, asked_action))) = (split(&self.text), split(asked)) else {
            return false;
        };
        let same = |granted: &str, asked: &str| granted == "*" || granted == asked;
        let (granted, asked): (Vec<_>, Vec<_>) = (resource.split('.').collect(), asked_resource.split('.').collect());
        granted.len() == asked.len()
            && granted.iter().zip(&asked).all(|(granted, asked)| same(granted, asked))
            && same(&action, &asked_action)
    }
}

#[cfg(test)]
mod tests {

    use toolgate_events::TenantId;
    use uuid::Uuid;

    use super::*;

    fn principal(roles: &[&str], permissions: &[&str]) -> Principal {
        let owned = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        Principal {
            tenant_id: TenantId(Uuid::nil()),
            subject: "alice".to_owned(),
            roles: owned(roles),
            permissions: owned(permissions),
            session_id: None,
            token_id: None,
            key_id: String::new(),
            issued_at: chrono::DateTime::UNIX_EPOCH,
            expires_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    fn allows(roles: &[&str], permissions: &[&str], permission: &str) -> bool {
        Policy::built_in().unwrap().decide(&principal(roles, permissions), permission).is_some()
    }

    #[test]
    fn the_built_in_roles_do_what_the_interface_says() {
        assert!(allows(&["agent"], &[], "tool.task.create:invoke"));
        assert!(allows(&["agent"], &[], "tool_call:read"));
        assert!(!allows(&["agent"], &[], "audit:read"));
        assert!(allows(&["viewer"], &[], "event:subscribe"));
        assert!(!allows(&["viewer"], &[], "tool.task.create:invoke"));
        assert!(!allows(&["viewer"], &[], "tool_call:cancel"));
        assert!(allows(&["auditor"], &[], "audit:export"));
        assert!(!allows(&["auditor"], &[], "tool.knowledge.search:invoke"));
        assert!(allows(&["admin"], &[], "tenant:admin"));
        assert!(allows(&["admin"], &[], "tool.knowledge.search:invoke"));
        assert!(!allows(&["nobody"], &[], "tool_call:read"));
        assert!(!allows(&[], &[], "tool_call:read"));
    }

    #[test]
    fn a_star_is_one_whole_segment() {
        assert!(allows(&[], &["tool.knowledge.*:invoke"], "tool.knowledge.search:invoke"));
        assert!(!allows(&[], &["tool.*:invoke"], "tool.knowledge.search:invoke"));
        assert!(!allows(&[], &["tool.know*:invoke"], "tool.knowledge.search:invoke"));
        assert!(!allows(&[], &["tool.knowledge.search"], "tool.knowledge.search:invoke"));
        assert!(!allows(&[], &["*"], "tool_call:read"));
        assert!(allows(&[], &["*:read"], "tool_call:read"));
        assert!(!allows(&[], &["*:read"], "tool_call:cancel"));
    }

    #[test]
    fn the_decision_names_the_rule_and_the_policy() {
        let policy = Policy::parse("version = 1\n[roles]\na = [\"x:y\"]\n").unwrap();
        let decision = policy.decide(&principal(&["a"], &[]), "x:y").unwrap();
        assert_eq!(decision.rule, "role a: x:y");
        assert_eq!(decision.policy_version.len(), 64);
    }

    #[test]
    fn a_broken_file_is_refused_by_name() {
        for (text, named) in [
            ("version = 2\n[roles]\n", "version 2"),
            ("version = 1\n[roles]\na = [\"x\"]\n", "\"x\""),
            ("version = 1\n[roles]\na = [\"X:y\"]\n", "\"X:y\""),
            ("version = 1\nrules = 1\n[roles]\n", "rules"),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
