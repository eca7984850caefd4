//! Why a private service could not be started. Every message is one sentence that a person can act on.

use std::{io, path::PathBuf};

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the lock of the data directory.
    #[error("the data directory {} is in use by another toolgate{holder}; stop that one, or choose another directory with --data-dir", path.display())]
    DataDirInUse { path: PathBuf, holder: String },
    /// The directory holds files that toolgate did not put there.
    #[error("{} is not empty and is not a toolgate data directory; choose another with --data-dir", path.display())]
    NotADataDir { path: PathBuf },
    /// A file or directory could not be read, written or created.
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// No space is left where the service keeps its data.
    #[error("the disk holding {} is full; free some space and start again", path.display())]
    DiskFull { path: PathBuf },
    /// The port stayed occupied through every attempt.
    #[error("{service} cannot listen on 127.0.0.1:{port} because another process uses that port")]
    PortInUse { service: &'static str, port: u16 },
    /// Neither an installed nor a downloaded server can be used.
    #[error("{needed} is needed and {found} is installed, and downloading it failed ({download}); {advice}")]
    Unavailable { needed: &'static str, found: String, download: String, advice: &'static str },
    /// The data were written by a major version of PostgreSQL that cannot be found any more.
    #[error("{} was made by PostgreSQL {major}, which cannot be found here; install that version, or start over with --fresh", path.display())]
    DataVersion { path: PathBuf, major: u32 },
    /// The data exist but the secret that opens them does not.
    #[error("the database in {} has no matching secret file, so its password is unknown; restore the file, or start over with --fresh", path.display())]
    SecretLost { path: PathBuf },
    /// PostgreSQL does not run as root, and no other user can be used.
    #[error(
        "PostgreSQL refuses to run as root and neither the user postgres nor the user nobody exists; create one, or set DATABASE_URL"
    )]
    NoUnprivilegedUser,
    /// No directory was found that the user running PostgreSQL can reach.
    #[error("the user {user}, which runs PostgreSQL because root may not, cannot reach {}; choose another directory with --data-dir", path.display())]
    Unreachable { user: String, path: PathBuf },
    /// The service ended while it was starting.
    #[error("{service} stopped while it was starting: {detail} (its log is {})", log.display())]
    Ended { service: &'static str, detail: String, log: PathBuf },
    /// The service ended after it had started.
    #[error("{service} stopped by itself: {detail} (its log is {})", log.display())]
    Died { service: &'static str, detail: String, log: PathBuf },
    /// The service runs but did not accept connections in time.
    #[error("{service} did not accept connections within {seconds} seconds (its log is {})", log.display())]
    NotReady { service: &'static str, seconds: u64, log: PathBuf },
    /// An earlier process of the same service still uses the same data.
    #[error("an earlier {service} on the same data directory has not stopped yet; wait for it, or end it by hand")]
    StillRunning { service: &'static str },
    /// A helper command (initdb, pip, python) failed.
    #[error("{command} failed: {detail}")]
    Command { command: String, detail: String },
    /// The database answered, but the login roles could not be prepared.
    #[error("cannot prepare the private database: {0}")]
    Prepare(#[source] sqlx::Error),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
    /// An external service is configured only in part.
    #[error("{0}")]
    Connections(String),
}

impl Error {
    /// Wraps a file error, naming the action and the path; a full disk gets its own variant.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| {
            if source.kind() == io::ErrorKind::StorageFull {
                Self::DiskFull { path }
            } else {
                Self::File { action, path, source }
            }
        }
    }
}
