//! The pure domain of toolgate: what a tool call is, which events tell its story, and how they are named, ordered and hashed.
//!
//! Nothing here performs I/O or reads a clock: every rule is a function of its arguments, so that a worker, the API and a replay
//! years later decide alike.

pub mod audit;
mod call_view;
pub mod canonical;
mod catalog;
pub mod description;
mod envelope;
mod event;
mod ids;
pub mod json_schema;
pub mod mcp;
mod refusal;
pub mod sealing;
pub mod serde_text;
mod subject;
pub mod task;
pub mod tool_call;
pub mod tools;
mod upcast;

pub use call_view::{CallLinks, CallView};
pub use catalog::Catalog;
pub use envelope::{Envelope, Form, Stamp, TraceContext};
pub use event::{
    Authorization, CallError, CallOptions, Event, ToolCallCancelled, ToolCallEvent, ToolCallFailed, ToolCallRequested,
    ToolCallRetried, ToolCallStarted, ToolCallSucceeded,
};
pub use ids::{CallId, TenantId};
pub use refusal::{LimitPolicy, RateLimitExceeded, RefusalEvent, ToolCallDenied};
pub use subject::{CallSubject, Lane, Partition, SubjectError};
pub use tool_call::{Reuse, Status, ToolCall};
pub use upcast::{DecodeError, upcast};
