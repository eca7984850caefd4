//! One random secret per data directory; every password of a private service is derived from it.
//!
//! Deriving keeps the passwords the same over restarts, so a worker in another process reconnects by itself.

use std::{fs, path::Path};

use aws_lc_rs::{hmac, rand};

use super::{Error, data_dir::write_private};

/// A name that no other process or run uses: 16 hexadecimal digits.
pub(crate) fn unique() -> Result<String, Error> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The secret of a data directory.
pub(crate) struct Secret(hmac::Key);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        let mut bytes = [0; 32];
        match fs::read(path) {
            Ok(stored) if stored.len() == bytes.len() => bytes.copy_from_slice(&stored),
            Ok(_) => {
                return Err(Error::SecretLost { path: path.to_path_buf() });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                rand::fill(&mut bytes).map_err(|_| Error::Random)?;
                write_private(path, &bytes)?;
            }
            Err(error) => return Err(Error::file("read", path)(error)),
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// A password of 64 hexadecimal digits for `purpose`.
    pub fn derive(&self, purpose: &str) -> String {
        let tag = hmac::sign(&self.0, purpose.as_bytes());
        hex(tag.as_ref())
    }
}
