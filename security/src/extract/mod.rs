mod authenticated;
mod json;
mod path;
mod query;

pub use authenticated::Authenticated;
pub(crate) use authenticated::authenticate;
pub use json::StrictJson;
pub(crate) use json::discard;
pub use path::{PathId, PathName};
pub use query::Query;
