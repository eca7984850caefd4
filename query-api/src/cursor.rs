//! Page cursors: opaque, and of use only to the tenant, the list and the filters they were made for.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use toolgate_events::{TenantId, canonical};

use crate::Error;

const PURPOSE: &[u8] = b"toolgate/query-api/cursor/v1";

/// Seals cursors. Replicas with the same secret open each other's.
pub(crate) struct CursorKey(hmac::Key);

/// What a cursor is bound to.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    pub tenant: TenantId,
    pub list: &'static str,
    /// The list's filters, in any form that tells different ones apart.
    pub filters: &'a Value,
}

impl CursorKey {
    pub(crate) fn derive(secret: &SecretString) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, PURPOSE).as_ref()))
    }

    /// The cursor of the page that begins below `position`.
    pub(crate) fn seal(&self, scope: &Scope<'_>, position: u64) -> String {
        let mut bytes = position.to_be_bytes().to_vec();
        bytes.extend_from_slice(hmac::sign(&self.0, &message(scope, position)).as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position in a cursor.
    ///
    /// # Errors
    /// [`Error::Cursor`] for any cursor that was not sealed for this scope.
    pub(crate) fn open(&self, scope: &Scope<'_>, cursor: &str) -> Result<u64, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Error::Cursor)?;
        let (position, tag) = bytes.split_first_chunk().ok_or(Error::Cursor)?;
        let position = u64::from_be_bytes(*position);
        hmac::verify(&self.0, &message(scope, position), tag).map_err(|_| Error::Cursor)?;
        Ok(position)
    }
}

fn message(scope: &Scope<'_>, position: u64) -> Vec<u8> {
    let parts = serde_json::json!([scope.list, scope.tenant, scope.filters, position.to_string()]);
    canonical::to_string(&parts).into_bytes()
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn key(secret: &str) -> CursorKey {
        CursorKey::derive(&SecretString::from(secret))
    }

    fn tenant(n: u128) -> TenantId {
        TenantId(Uuid::from_u128(n))
    }

    #[test]
    fn another_process_with_the_same_secret_opens_it() {
        let filters = json!({"tool": "task.create"});
        let scope = Scope { tenant: tenant(1), list: "tool-calls", filters: &filters };
        for position in [0, 1, u64::MAX] {
            let cursor = key("s").seal(&scope, position);
            assert_eq!(key("s").open(&scope, &cursor).unwrap(), position);
            assert!(key("t").open(&scope, &cursor).is_err());
        }
    }

    #[test]
    fn it_serves_no_other_tenant_list_or_filter() {
        let (filters, others) = (json!({"tool": "a"}), json!({"tool": "b"}));
        let key = key("s");
        let cursor = key.seal(&Scope { tenant: tenant(1), list: "tasks", filters: &filters }, 9);
        for scope in [
            Scope { tenant: tenant(2), list: "tasks", filters: &filters },
            Scope { tenant: tenant(1), list: "documents", filters: &filters },
            Scope { tenant: tenant(1), list: "tasks", filters: &others },
        ] {
            assert!(key.open(&scope, &cursor).is_err(), "{scope:?}");
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let filters = json!({});
        let scope = Scope { tenant: tenant(1), list: "tasks", filters: &filters };
        let key = key("s");
        let cursor = key.seal(&scope, 9);
        let sealed = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(key.open(&scope, &URL_SAFE_NO_PAD.encode(changed)).is_err(), "byte {index}");
        }
        for bad in ["", "?", "AAAA", &cursor[..cursor.len() - 4], &format!("{cursor}AAAA")] {
            assert!(key.open(&scope, bad).is_err(), "{bad:?}");
        }
    }
}
