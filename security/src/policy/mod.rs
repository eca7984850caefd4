//! Who may do what. `file.rs` reads the policy, `decide.rs` asks it, `record.rs` words the decision, `source.rs`
//! keeps it up to date with its file.

mod decide;
mod file;
mod permission;
mod record;
mod source;

use std::collections::BTreeMap;

use toolgate_events::TenantId;

pub use decide::{Effect, Input, Rule, RuleSource, Verdict};
pub use file::PolicyError;
pub use permission::is_concrete;
pub use record::{Decision, Denied, DeniedAll};
pub use source::{Policies, PolicyFileError};

/// Roles and what they permit. Its version is the hash of the file's bytes, so that a recorded decision names the exact policy.
#[derive(Debug)]
pub struct Policy {
    version: String,
    /// Denied to everybody.
    deny: Vec<String>,
    roles: BTreeMap<String, RolePolicy>,
    tenants: BTreeMap<TenantId, TenantPolicy>,
}

/// What one role permits and denies. Every entry is a permission: the file is checked when it is read.
#[derive(Debug, Default)]
pub struct RolePolicy {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

/// What is different in one tenant.
#[derive(Debug)]
pub struct TenantPolicy {
    /// Denied to everybody in the tenant.
    pub deny: Vec<String>,
    /// These stand in place of the general roles of the same names.
    pub roles: BTreeMap<String, RolePolicy>,
}

impl Policy {
    /// The policy that applies when no file is given.
    ///
    /// # Errors
    /// None: the built-in file is checked by a test.
    pub fn built_in() -> Result<Self, PolicyError> {
        Self::parse(include_str!("../default_policy.toml"))
    }

    /// SHA-256 over the file, in lower-case hex.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What everybody is denied.
    pub fn deny(&self) -> &[String] {
        &self.deny
    }

    /// The general roles, by name.
    pub fn roles(&self) -> &BTreeMap<String, RolePolicy> {
        &self.roles
    }

    /// The tenants with rules of their own.
    pub fn tenants(&self) -> &BTreeMap<TenantId, TenantPolicy> {
        &self.tenants
    }
}
