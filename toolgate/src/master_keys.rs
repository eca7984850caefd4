//! The file with the master keys, which the operator keeps apart from the log. `toolgate up` makes one in its data directory, so that a
//! fresh checkout can be used at once.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use toolgate_store::{LogError, MasterKeys};

use crate::{
    services::{self, write_private},
    settings::Settings,
};

const FILE: &str = "master-keys.json";

/// Reads the keys that the settings name.
///
/// # Errors
/// [`LogError::MasterKeys`]
pub fn load(settings: &Settings) -> Result<MasterKeys, LogError> {
    read(path(settings))
}

/// Reads the keys of a data directory.
///
/// # Errors
/// [`LogError::MasterKeys`]
pub fn of_data_dir(data_dir: &Path) -> Result<MasterKeys, LogError> {
    read(file_of(data_dir))
}

/// Where a data directory keeps them.
pub fn file_of(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

fn read(path: PathBuf) -> Result<MasterKeys, LogError> {
    let failed = |reason: String| LogError::MasterKeys { path: path.clone(), reason };
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            failed("there is no such file; set TOOLGATE_MASTER_KEY_FILE, see docs/audit/erasure.md".to_owned())
        }
        _ => failed(error.to_string()),
    })?;
    MasterKeys::parse(&text).map_err(failed)
}

/// Makes the file of a data directory on first use (mode 0600).
///
/// # Errors
/// When it cannot be made or stored.
pub fn create_if_missing(data_dir: &Path) -> Result<(), services::Error> {
    let path = file_of(data_dir);
    if path.exists() {
        return Ok(());
    }
    let text = MasterKeys::generate().map_err(|error| services::Error::Connections(error.to_string()))?;
    write_private(&path, text.as_bytes())
}

fn path(settings: &Settings) -> PathBuf {
    settings.master_key_file.clone().unwrap_or_else(|| file_of(&settings.data_dir))
}
