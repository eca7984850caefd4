mod authenticated;
mod json;
mod path;
mod query;

pub use authenticated::Authenticated;
pub use json::StrictJson;
pub use path::{PathId, PathName};
pub use query::Query;
