//! The questions put to the read models, each through a [`TenantTx`](toolgate_security::TenantTx): row-level security, not a
//! `where`, keeps the tenants apart.

pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod documents;
pub(crate) mod parked;
pub(crate) mod positions;
pub(crate) mod sessions;
pub(crate) mod tasks;
pub(crate) mod tool_calls;
pub(crate) mod usage;

use sqlx::{Row, postgres::PgRow};

/// A non-negative `bigint`.
fn unsigned(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() })
}

/// A position as PostgreSQL compares it; what lies beyond its range lies beyond every position.
fn bigint(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}
