//! The database schema: the migrations compiled into this binary.

use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection, migrate::Migrator};

/// Every migration, in order.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not accept the owner's login.
    #[error("cannot connect to the database as its owner: {0}")]
    Connect(#[source] sqlx::Error),
    /// A migration failed, or an applied one was changed since.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

/// Applies the migrations that are missing. Several processes may do so at once; one works, the others wait.
///
/// # Errors
/// When the owner cannot log in, when a migration fails, or when an applied one was changed since.
pub async fn migrate(owner: &SecretString) -> Result<(), Error> {
    let mut connection = PgConnection::connect(owner.expose_secret()).await.map_err(Error::Connect)?;
    MIGRATIONS.run(&mut connection).await.map_err(Error::Migrate)?;
    connection.close().await.map_err(Error::Connect)
}
