mod authenticated;
mod json;
mod query;

pub use authenticated::Authenticated;
pub use json::StrictJson;
pub use query::Query;
