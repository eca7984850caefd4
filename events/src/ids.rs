use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::canonical;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// A tenant, as a trusted issuer names it in the `tenant_id` claim.
    TenantId
}

uuid_id! {
    /// One tool call: the aggregate.
    CallId
}

impl CallId {
    /// The id that an `Idempotency-Key` stands for: the same tenant, principal, tool and key give the same call, on every
    /// replica and for ever (UUIDv5, RFC 9562, with the tenant as its namespace).
    pub fn from_key(tenant: TenantId, principal: &str, tool: &str, key: &str) -> Self {
        // A JSON array keeps the parts apart whatever characters they hold.
        let name = canonical::to_string(&serde_json::json!([principal, tool, key]));
        Self(Uuid::new_v5(&tenant.0, name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_one_call_per_tenant_principal_and_tool() {
        let tenant = |n| TenantId(Uuid::from_u128(n));
        let id = CallId::from_key(tenant(1), "alice", "task.create", "k");
        assert_eq!(id, CallId::from_key(tenant(1), "alice", "task.create", "k"));
        for other in [
            CallId::from_key(tenant(2), "alice", "task.create", "k"),
            CallId::from_key(tenant(1), "bob", "task.create", "k"),
            CallId::from_key(tenant(1), "alice", "task.update", "k"),
            CallId::from_key(tenant(1), "alice", "task.create", "l"),
            CallId::from_key(tenant(1), "alice\",\"task.create", "", "k"),
        ] {
            assert_ne!(id, other);
        }
    }
}
