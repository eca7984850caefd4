//! Tools of upstream MCP servers: what a server says of one, what of it is trusted, and the contract that follows.
//!
//! A server's words are data from a stranger. A definition is pinned by its hash, and a tool that is defined otherwise later is
//! not run until an operator accepts the change.

mod contract;
mod definition;
mod entry;
mod known;
mod name;
mod schema;
mod text;

pub use contract::Rules;
pub use definition::{Definition, DefinitionError, MAX_DEFINITION_BYTES};
pub use entry::{Acceptance, Entry, Sighting, State};
pub use known::{Change, Known};
pub use name::{PREFIX, ToolName, is_server};
pub use text::clean;

/// Servers that one deployment may configure.
pub const MAX_SERVERS: usize = 32;
/// Tools of one server that are known at once, those that it has withdrawn included.
pub const MAX_TOOLS: usize = 128;
