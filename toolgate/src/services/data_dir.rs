//! The directory that holds everything `toolgate up` keeps between runs.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    Error,
    guard::open_lock,
    janitor::Janitor,
    run_as::RunAs,
    secret::{Secret, unique},
};

const MARKER: &str = "toolgate-data";
const LOCK: &str = "lock";
/// Where PostgreSQL keeps its files when its user cannot reach the data directory.
const SYSTEM_STATE: &str = "/var/lib/toolgate";

/// An open, exclusively locked data directory. The lock ends with this value or with the process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Closing it gives the lock up.
    _lock: File,
    janitor: Option<Arc<Janitor>>,
}

impl DataDir {
    /// Opens `path`, creating it when it does not exist.
    ///
    /// # Errors
    /// When another process has it open, when it holds foreign files, or when it cannot be written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(Error::file("create", path))?;
        let path = path.canonicalize().map_err(Error::file("open", path))?;
        let marker = path.join(MARKER);
        if !marker.exists() {
            let mut entries = fs::read_dir(&path).map_err(Error::file("read", &path))?;
            if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != LOCK)) {
                return Err(Error::NotADataDir { path });
            }
            // PostgreSQL runs as another user when we are root: that user must be able to pass through.
            let mode = if RunAs::detect()?.is_some() { 0o711 } else { 0o700 };
            protect(&path, mode)?;
        }
        let lock = lock(&path)?;
        fs::write(&marker, "toolgate data directory, layout 1\n").map_err(Error::file("write", &marker))?;
        Ok(Self { path, _lock: lock, janitor: None })
    }

    /// Makes a directory that is removed when this value is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// When no directory can be created that every service's user can reach.
    pub fn temporary() -> Result<Self, Error> {
        let base = temporary_base()?;
        let path = base.join(format!("toolgate-{}", unique()?));
        let mut directory = Self::open(&path)?;
        directory.janitor = Some(Arc::new(Janitor::start(&directory.path)?));
        Ok(directory)
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory disappears at the end.
    pub fn is_temporary(&self) -> bool {
        self.janitor.is_some()
    }

    /// Whether a running toolgate holds the directory at `path`.
    pub fn is_in_use(path: &Path) -> bool {
        File::open(path.join(LOCK)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Removes everything the directory holds, for a fresh start.
    ///
    /// # Errors
    /// When a service of an earlier run still uses it, or a file cannot be removed.
    pub fn wipe(&self) -> Result<(), Error> {
        for (file, service) in [("postgres.lock", "PostgreSQL"), ("nats.lock", "nats-server")] {
            if open_lock(&self.path.join(file))?.try_lock().is_err() {
                return Err(Error::StillRunning { service });
            }
        }
        let outside = self.outside();
        if outside.exists() {
            fs::remove_dir_all(&outside).map_err(Error::file("remove", &outside))?;
        }
        for entry in fs::read_dir(&self.path).map_err(Error::file("read", &self.path))? {
            let entry = entry.map_err(Error::file("read", &self.path))?;
            if entry.file_name() == LOCK || entry.file_name() == MARKER {
                continue;
            }
            let path = entry.path();
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ => fs::remove_file(&path),
            };
            removed.map_err(Error::file("remove", &path))?;
        }
        Ok(())
    }

    /// The secret from which the passwords of private services are derived; made on first use.
    pub(crate) fn secret(&self) -> Result<Secret, Error> {
        Secret::load_or_create(&self.path.join("secret"))
    }

    pub(crate) fn has_secret(&self) -> bool {
        self.path.join("secret").exists()
    }

    /// Where PostgreSQL keeps its files if its user cannot enter the data directory: the same place every time.
    pub(crate) fn outside(&self) -> PathBuf {
        let digest = Sha256::digest(self.path.as_os_str().as_encoded_bytes());
        let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Path::new(SYSTEM_STATE).join(name)
    }

    /// What removes the directory at the end, when it is temporary.
    pub(crate) fn janitor(&self) -> Option<Arc<Janitor>> {
        self.janitor.clone()
    }
}

/// Writes a file that only this user may read, replacing an older one in one step.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension(format!("{}.tmp", unique()?));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        drop(fs::remove_file(&temporary));
        Error::file("write", path)(error)
    })
}

/// Sets the permission bits of `path`.
pub(crate) fn protect(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::file("protect", path))
}

fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK);
    let mut file = open_lock(&path)?;
    match file.try_lock() {
        Ok(()) => {
            // The number only makes the sentence for a second process more helpful.
            drop(file.set_len(0));
            drop(write!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            drop(file.read_to_string(&mut holder));
            if !holder.is_empty() {
                holder = format!(" (process {holder})");
            }
            Err(Error::DataDirInUse { path: directory.to_path_buf(), holder })
        }
        Err(TryLockError::Error(error)) => Err(Error::file("lock", &path)(error)),
    }
}

fn temporary_base() -> Result<PathBuf, Error> {
    let preferred = std::env::temp_dir();
    match RunAs::detect()? {
        Some(user) if !user.can_enter(&preferred) => {
            let state = PathBuf::from(SYSTEM_STATE);
            fs::create_dir_all(&state).map_err(Error::file("create", &state))?;
            Ok(state)
        }
        _ => Ok(preferred),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_open_is_refused_with_the_holder() {
        let first = DataDir::temporary().unwrap();
        let error = DataDir::open(first.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(DataDir::is_in_use(first.path()));
    }

    #[test]
    fn foreign_files_are_left_alone() {
        let home = DataDir::temporary().unwrap();
        let path = home.path().join("somebody");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(DataDir::open(&path), Err(Error::NotADataDir { .. })));
        assert!(path.join("thesis.txt").exists());
    }

    #[test]
    fn wiping_keeps_the_lock() {
        let directory = DataDir::temporary().unwrap();
        let first = directory.secret().unwrap();
        assert_eq!(first.derive("a"), directory.secret().unwrap().derive("a"));
        directory.wipe().unwrap();
        assert!(!directory.has_secret());
        assert!(DataDir::is_in_use(directory.path()));
        assert_ne!(first.derive("a"), directory.secret().unwrap().derive("a"));
    }

    #[test]
    fn private_files_are_private() {
        let directory = DataDir::temporary().unwrap();
        let path = directory.path().join("key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
