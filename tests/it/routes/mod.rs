//! One folder a resource, one file a verb.

mod agent_stream;
mod artifacts;
mod audit;
mod documents;
mod events;
mod health;
mod tasks;
mod tool_calls;
mod tools;
pub mod webhooks;
