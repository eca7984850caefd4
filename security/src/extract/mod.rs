mod accepts;
mod authenticated;
mod fault;
mod json;
mod path;
mod pointer;
mod query;
mod strict;
mod value;

pub use accepts::{Accepts, Media, media};
pub use authenticated::Authenticated;
pub(crate) use authenticated::authenticate;
pub(crate) use json::discard;
pub use json::{JsonBytes, StrictJson};
pub use path::{PathId, PathName};
pub use pointer::bounded as json_pointer;
pub use query::Query;
