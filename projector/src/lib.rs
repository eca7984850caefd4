//! The memory: every event of the log, in order, becomes rows — audit trail, read models and checkpoint in one transaction.
//!
//! The projector never appends to the log, and it acknowledges nothing to the broker: its place is its own checkpoint.

mod archiver;
mod audit_row;
mod batch;
mod checkpoint;
mod content;
mod heads;
pub mod history;
mod metrics;
mod ownership;
mod projections;
pub mod rebuild;
mod runner;

use sqlx::PgPool;
use toolgate_store::Log;

pub use archiver::{ArchiveError, Archived, Archiver};
pub use runner::Projector;

/// The name under which checkpoints are kept.
pub const PROJECTION: &str = "main";

/// What a projector is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events per transaction at the most.
    pub batch_size: usize,
}

/// Where it reads and where it writes.
#[derive(Clone, Debug)]
pub struct Environment {
    pub log: Log,
    /// Connections of the projector role.
    pub database: PgPool,
}
