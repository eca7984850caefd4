//! One folder a resource, one file a verb.

mod agent_stream;
mod artifacts;
mod audit;
mod documents;
mod events;
mod health;
mod sessions;
mod tasks;
mod tool_calls;
mod tools;
mod usage;
pub mod webhooks;
