//! One file per tool. An adapter is given the call and an environment; the registry below is one line a tool.

mod graphql;
mod knowledge_reference;
mod mcp;
mod task_row;
mod template;
mod vector;

use std::time::Instant;

use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use toolgate_events::{
    CallError, CallId, CallOptions, TenantId, ToolCallRequested,
    mcp::PREFIX,
    tools::{Contract, SideEffects},
};
use toolgate_security::EgressError;

use crate::Environment;

/// A tool's implementation.
pub type Adapter = for<'a> fn(&'a Call, &'a Environment) -> BoxFuture<'a, Result<Value, ToolError>>;

/// Declares the adapters: each is a module with a function `run`.
macro_rules! registry {
    ($($name:literal => $tool:ident)*) => {
        $(mod $tool;)*

        /// The adapter of a tool.
        pub fn find(tool: &str) -> Option<Adapter> {
            Some(match tool {
                $($name => |call, environment| Box::pin($tool::run(call, environment)),)*
                name if name.starts_with(PREFIX) => |call, environment| Box::pin(mcp::run(call, environment)),
                _ => return None,
            })
        }
    };
}

// One line a tool.
registry! {
    "knowledge.upsert" => knowledge_upsert
    "knowledge.search" => knowledge_search
    "knowledge.get" => knowledge_get
    "template.upsert" => template_upsert
    "template.get" => template_get
    "document.render" => document_render
    "task.create" => task_create
    "task.update" => task_update
    "task.get" => task_get
    "http.request" => http_request
    "vector.upsert" => vector_upsert
    "vector.search" => vector_search
    "basehub.query" => basehub_query
}

/// What one call's arguments say that its tool's contract cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Particulars {
    /// Whom the call asks, by a name that makes sense within the tool; absent where the tool has one upstream or none. One that is
    /// down is no reason to leave the others alone.
    pub upstream: Option<String>,
    /// What this call does to the world, where that is less than the contract says.
    pub side_effects: Option<SideEffects>,
}

/// [`Particulars`] of a call; most tools have none.
pub fn particulars(tool: &str, arguments: &Map<String, Value>) -> Particulars {
    match tool {
        "http.request" => http_request::particulars(arguments),
        _ => Particulars::default(),
    }
}

/// Whether a successful result may answer later calls, where the contract has a cache at all.
pub fn is_reusable(tool: &str, result: &Value) -> bool {
    match tool {
        "http.request" => http_request::is_reusable(result),
        "basehub.query" => basehub_query::is_reusable(result),
        _ => true,
    }
}

/// What an adapter knows of the call it runs.
#[derive(Clone, Debug)]
pub struct Call {
    pub tenant_id: TenantId,
    pub call_id: CallId,
    pub options: CallOptions,
    /// The pseudonym of whoever it is about.
    pub data_subject: Option<String>,
    /// When this attempt is given up.
    pub deadline: Instant,
    /// Told when nobody waits for this attempt any more: what runs beside the adapter's own future must look at it.
    pub cancelled: CancellationToken,
    /// The contract that it is run by.
    pub contract: &'static Contract,
    arguments: Value,
}

/// Why a tool did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The arguments do not fit what the adapter can do: recorded, never retried.
    #[error("{0}")]
    InvalidArguments(String),
    /// What the call names does not exist: recorded, never retried.
    #[error("{0}")]
    NotFound(&'static str),
    /// What the call asks for is not allowed as things stand: recorded, never retried.
    #[error("{0}")]
    Conflict(String),
    /// The operator has not set the tool up, or not rightly: recorded, never retried.
    #[error("{0}")]
    NotConfigured(&'static str),
    /// The request to the outside was refused or not answered: tried again where that is safe. Its words are for the caller.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The other side failed, or says that it cannot serve now: tried again where that is safe. `sent` is whether the request may
    /// have taken effect there.
    #[error("{detail}")]
    Upstream { detail: String, sent: bool },
    /// The tool itself says that it failed: recorded, never retried. Its words are a stranger's, bounded, and for the caller.
    #[error("{0}")]
    Reported(String),
    /// The other side's tool is not the one that was accepted: nothing is sent until an operator accepts the change.
    #[error("the upstream server defines this tool otherwise than it did when it was accepted; an operator must look at it")]
    Quarantined,
    /// As many calls are under way as there may be, so that nothing was sent: recorded, never retried. It says nothing about the
    /// other side.
    #[error("as many calls of this server are under way as there may be")]
    Busy,
    /// toolgate's own database or log is away: the call waits for it, since nobody else could do better. An effectful tool says
    /// so only before it has sent anything.
    #[error("{0}")]
    Infrastructure(String),
    /// A fault of the adapter itself: recorded, never retried, its words only in the log.
    #[error("{0}")]
    Internal(String),
    /// The adapter's answer could not be written down.
    #[error("the answer cannot be recorded: {0}")]
    Answer(#[from] serde_json::Error),
}

impl Call {
    pub fn new(
        tenant_id: TenantId,
        call_id: CallId,
        request: &ToolCallRequested,
        deadline: Instant,
        cancelled: CancellationToken,
        contract: &'static Contract,
    ) -> Self {
        let arguments = Value::Object(request.arguments.clone());
        let (options, data_subject) = (request.options.clone(), request.data_subject.clone());
        Self { tenant_id, call_id, options, data_subject, deadline, cancelled, contract, arguments }
    }

    /// The arguments as the contract's input type.
    fn arguments<T: DeserializeOwned>(&self) -> Result<T, ToolError> {
        T::deserialize(&self.arguments).map_err(|error| ToolError::InvalidArguments(error.to_string()))
    }
}

impl ToolError {
    /// The problem object that goes on record.
    pub fn record(&self) -> CallError {
        let (kind, title) = match self {
            Self::InvalidArguments(_) => ("urn:toolgate:tool:invalid-arguments", "The tool cannot work with these arguments"),
            Self::NotFound(_) => ("urn:toolgate:tool:not-found", "The tool found nothing under that name"),
            Self::Conflict(_) => ("urn:toolgate:tool:conflict", "The tool cannot do this as things stand"),
            Self::NotConfigured(_) => ("urn:toolgate:tool:not-configured", "The operator has not set the tool up"),
            Self::Egress(EgressError::Blocked(_)) => ("urn:toolgate:tool:egress-blocked", "The request may not leave"),
            Self::Egress(EgressError::Timeout) => ("urn:toolgate:tool:timeout", "The tool did not answer in time"),
            Self::Egress(_) | Self::Upstream { .. } => {
                ("urn:toolgate:tool:upstream", "The other side did not answer as it should")
            }
            Self::Reported(_) => ("urn:toolgate:tool:reported", "The tool says that it failed"),
            Self::Quarantined => ("urn:toolgate:tool:quarantined", "The tool has changed and is not run"),
            Self::Busy => ("urn:toolgate:tool:busy", "Too many calls are under way"),
            Self::Infrastructure(_) => ("urn:toolgate:tool:unavailable", "The tool could not be run"),
            Self::Internal(_) => ("urn:toolgate:tool:internal", "The tool failed by its own fault"),
            Self::Answer(_) => ("urn:toolgate:tool:invalid-answer", "The tool's answer cannot be recorded"),
        };
        // Infrastructure's own words stay in the log.
        let detail = match self {
            Self::Infrastructure(_) => "a part of the service is away".to_owned(),
            Self::Internal(_) => "the operator's log says more".to_owned(),
            other => other.to_string(),
        };
        CallError { kind: kind.to_owned(), title: title.to_owned(), detail }
    }
}

impl From<sqlx::Error> for ToolError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|database| database.code()).unwrap_or_default().into_owned();
        match &error {
            // Data exceptions (class 22 of PostgreSQL's error codes): the same arguments would fail alike.
            sqlx::Error::Database(_) if code.starts_with("22") => {
                Self::InvalidArguments("the query failed on these arguments".to_owned())
            }
            // Connections, logins, resources, shutdowns, serialisation; and a table, column or grant that a migration has yet to bring.
            sqlx::Error::Database(_)
                if ["08", "28", "53", "57", "40", "42P01", "42703", "42501"].iter().any(|class| code.starts_with(class)) =>
            {
                Self::Infrastructure(error.to_string())
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Infrastructure(error.to_string()),
            _ => Self::Internal(error.to_string()),
        }
    }
}

/// A problem object of this crate's own.
pub fn problem(kind: &str, title: &str, detail: &str) -> CallError {
    CallError { kind: format!("urn:toolgate:tool:{kind}"), title: title.to_owned(), detail: detail.to_owned() }
}

fn answer(output: &impl Serialize) -> Result<Value, ToolError> {
    Ok(serde_json::to_value(output)?)
}

/// The database keeps no text with NUL.
fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(items) => items.iter_mut().for_each(without_nul),
        Value::Object(members) => {
            if members.keys().any(|name| name.contains('\0')) {
                let renamed = std::mem::take(members).into_iter().map(|(name, value)| (name.replace('\0', "\u{fffd}"), value));
                *members = renamed.collect();
            }
            members.values_mut().for_each(without_nul);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_nul_is_kept() {
        let mut value = json!({"a\0": ["\0b", {"c": "d\0"}]});
        without_nul(&mut value);
        assert_eq!(value, json!({"a\u{fffd}": ["\u{fffd}b", {"c": "d\u{fffd}"}]}));
    }
}
