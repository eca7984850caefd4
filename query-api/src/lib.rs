//! The query side: answers what happened, from the read models, to whom it may concern.
//!
//! It reads through [`TenantTx`](toolgate_security::TenantTx) and never writes: no read model, no event.

mod asyncapi;
mod catch_up;
mod cursor;
mod error;
mod health;
mod http;
mod opening;
mod queries;
mod state;
mod stream;

pub use asyncapi::asyncapi;
pub use error::Error;
pub use health::Health;
pub use http::{openapi, router, schemas};
pub use state::{Options, State};
