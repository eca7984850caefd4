//! One folder a resource, one file a verb.

mod tool_calls;
