//! The tenant's templates, as far as they are projected.

use sqlx::FromRow;
use toolgate_security::TenantTx;

use super::{Call, ToolError};
use crate::Environment;

/// One version of a template.
#[derive(FromRow)]
pub struct Template {
    version: i32,
    pub markdown: String,
    pub description: Option<String>,
    pub sha256: String,
}

impl Template {
    /// A version of a template; the latest when none is named.
    pub async fn find(call: &Call, environment: &Environment, id: &str, version: Option<u32>) -> Result<Self, ToolError> {
        let mut transaction = TenantTx::begin(&environment.database, call.tenant_id).await?;
        let found: Option<Self> = sqlx::query_as(
            "select version, markdown, description, sha256 from template_version
             where template_id = $1 and ($2::bigint is null or version = $2) order by version desc limit 1",
        )
        .bind(id)
        .bind(version.map(i64::from))
        .fetch_optional(&mut *transaction)
        .await?;
        found.ok_or(ToolError::NotFound("there is no such template, or no such version of it"))
    }

    /// From 1.
    pub fn version(&self) -> u32 {
        self.version.unsigned_abs()
    }
}
