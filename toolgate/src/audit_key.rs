//! The key that audit checkpoints are signed with.
//!
//! Operators bring their own (`openssl genpkey -algorithm ed25519`); `toolgate up` makes one in its data directory, with the public key
//! beside it for whoever wants to verify.

use std::{fs, io, path::Path};

use aws_lc_rs::signature::Ed25519KeyPair;
use toolgate_events::audit::{KeyError, SigningKey};

use crate::{
    services::{self, write_private},
    settings::Settings,
};

/// The key of a data directory.
pub const KEY_FILE: &str = "audit-key.pem";
/// Its public half.
pub const PUBLIC_KEY_FILE: &str = "audit-key.pub.pem";
/// Where `up` keeps what is signed.
pub const CHECKPOINT_DIR: &str = "audit-checkpoints";

/// Errors of this module. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the audit key {path}: {source}")]
    Read { path: String, source: io::Error },
    /// It holds something else.
    #[error("the file {path} {source}")]
    Key { path: String, source: KeyError },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] services::Error),
    /// The machine has no random bytes.
    #[error("cannot make an audit key: no random bytes")]
    Random,
}

/// Reads a key.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn load(path: &Path) -> Result<SigningKey, Error> {
    let name = || path.display().to_string();
    let pem = fs::read_to_string(path).map_err(|source| Error::Read { path: name(), source })?;
    SigningKey::parse(&pem).map_err(|source| Error::Key { path: name(), source })
}

/// Settings without a key of their own mean the data directory's, and its directory of checkpoints.
pub fn settle(settings: &mut Settings, data_dir: &Path) {
    if settings.audit_key_file.is_none() {
        settings.audit_key_file = Some(data_dir.join(KEY_FILE));
        settings.audit_checkpoint_dir.get_or_insert_with(|| data_dir.join(CHECKPOINT_DIR));
    }
}

/// Makes the key of a data directory where there is none (mode 0600), and writes its public half beside it.
///
/// # Errors
/// When a file cannot be read or written, or holds something else.
pub fn ensure(data_dir: &Path) -> Result<(), Error> {
    let path = data_dir.join(KEY_FILE);
    if !path.exists() {
        let pair = Ed25519KeyPair::generate().map_err(|_| Error::Random)?;
        let document = pair.to_pkcs8v1().map_err(|_| Error::Random)?;
        let pem =
            SigningKey::to_pem(document.as_ref()).map_err(|source| Error::Key { path: path.display().to_string(), source })?;
        write_private(&path, pem.as_bytes())?;
    }
    write_private(&data_dir.join(PUBLIC_KEY_FILE), load(&path)?.public().to_pem().as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use toolgate_events::audit::PublicKey;

    use super::*;
    use crate::services::DataDir;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let directory = DataDir::temporary().unwrap();
        ensure(directory.path()).unwrap();
        let key = load(&directory.path().join(KEY_FILE)).unwrap();
        ensure(directory.path()).unwrap();
        assert_eq!(load(&directory.path().join(KEY_FILE)).unwrap().public(), key.public());
        let public = fs::read_to_string(directory.path().join(PUBLIC_KEY_FILE)).unwrap();
        assert_eq!(&PublicKey::parse(&public).unwrap()[0], key.public());
        let mode = fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(load(&directory.path().join(PUBLIC_KEY_FILE)), Err(Error::Key { .. })));
        assert!(matches!(load(Path::new("/nowhere")), Err(Error::Read { .. })));
    }
}
