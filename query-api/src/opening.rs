use toolgate_events::{TenantId, audit::AuditRow};
use toolgate_store::{KeyError, Keyring};

use crate::Error;

/// Opens the content of rows that are shown as they were said.
///
/// # Errors
/// [`Error::Keys`]
pub(crate) async fn open_rows(keys: &Keyring, tenant: TenantId, rows: &mut [AuditRow]) -> Result<(), Error> {
    for row in rows {
        open_row(keys, tenant, row).await?;
    }
    Ok(())
}

/// What was erased shows that it was; what was changed in the log or in the table stays as it is there, because one such row must not
/// hide all the others.
///
/// # Errors
/// [`Error::Keys`]
pub(crate) async fn open_row(keys: &Keyring, tenant: TenantId, row: &mut AuditRow) -> Result<(), Error> {
    match keys.open_row(tenant, row).await {
        Err(KeyError::Broken(reason)) => {
            tracing::error!(reason, position = row.position, "content is shown as it is recorded, because it cannot be opened");
            Ok(())
        }
        opened => Ok(opened?),
    }
}
