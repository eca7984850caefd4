//! The memory: every event of the log, in order, becomes rows — audit trail, read models and checkpoint in one transaction.
//!
//! The projector never appends to the log, and it acknowledges nothing to the broker: its place is its own checkpoint.

mod archiver;
pub mod audit_checkpoints;
mod audit_row;
mod batch;
mod checkpoint;
mod content;
mod heads;
pub mod history;
mod integrity;
mod metrics;
mod ownership;
pub mod parked;
mod projections;
pub mod rebuild;
mod recover;
mod runner;

use sqlx::PgPool;
use toolgate_store::Log;

pub use archiver::{ArchiveError, Archived, Archiver};
pub use recover::{RecoverError, Recovery};
pub use runner::Projector;

/// The name under which checkpoints are kept.
pub const PROJECTION: &str = "main";

/// What a projector is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events per transaction at the most.
    pub batch_size: usize,
    /// Events a second that the running check compares with the audit trail; 0 turns it off.
    pub verify_events_per_second: u32,
}

/// Where it reads and where it writes.
#[derive(Clone, Debug)]
pub struct Environment {
    pub log: Log,
    /// Connections of the projector role.
    pub database: PgPool,
}
