//! What was erased. An erasure belongs to no call: each is an aggregate of its own, of one event, with an id that follows from what it
//! erases, so that it is recorded once however often it is asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{CallId, TenantId};

/// Content was erased. The wire form is that of [`ToolCallEvent`](crate::ToolCallEvent).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event_type", content = "data", rename_all = "snake_case")]
pub enum ErasureEvent {
    DataErased(DataErased),
}

/// The keys of some content are destroyed. Who asked for it and when is the envelope's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataErased {
    pub scope: ErasureScope,
    /// The pseudonym, where it is a data subject's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_subject: Option<String>,
}

/// Whose content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErasureScope {
    /// All of the tenant's.
    Tenant,
    /// What is about one data subject.
    DataSubject,
}

impl ErasureEvent {
    pub const ERASED: &'static str = "data_erased";
    /// The `aggregate_type` of the envelope.
    pub const AGGREGATE_TYPE: &'static str = "erasure";

    /// The `event_type` of the envelope.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DataErased(_) => Self::ERASED,
        }
    }

    /// The `event_version` this release writes.
    pub fn version(&self) -> u32 {
        1
    }

    /// The envelope's `data`.
    ///
    /// # Errors
    /// None of these types can fail to serialise; the signature is serde's.
    pub fn data(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::DataErased(data) => serde_json::to_value(data),
        }
    }
}

impl DataErased {
    /// Of a data subject by its pseudonym, or of the whole tenant.
    pub fn of(data_subject: Option<&str>) -> Self {
        let scope = if data_subject.is_some() { ErasureScope::DataSubject } else { ErasureScope::Tenant };
        Self { scope, data_subject: data_subject.map(str::to_owned) }
    }

    /// The aggregate: the same for the same tenant and scope, for ever (UUIDv5, with the tenant as its namespace).
    pub fn id(&self, tenant: TenantId) -> CallId {
        let name = format!("toolgate/erasure/{}", self.data_subject.as_deref().unwrap_or_default());
        CallId(Uuid::new_v5(&tenant.0, name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scope_is_one_erasure() {
        let tenant = |n| TenantId(Uuid::from_u128(n));
        let id = DataErased::of(Some("a")).id(tenant(1));
        assert_eq!(id, DataErased::of(Some("a")).id(tenant(1)));
        for other in
            [DataErased::of(Some("b")).id(tenant(1)), DataErased::of(None).id(tenant(1)), DataErased::of(Some("a")).id(tenant(2))]
        {
            assert_ne!(id, other);
        }
    }
}
