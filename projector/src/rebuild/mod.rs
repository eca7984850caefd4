//! Projections made anew beside the live ones: from the log, or from the audit trail. They are compared row by row, and take the
//! live ones' place when they are equal (docs/replay.md).
//!
//! Nothing here runs a tool: all that happens is that recorded events become rows.

mod commit;
mod compare;
mod folds;
mod from_audit;
mod from_log;
mod indexes;
mod progress;
mod schema;
mod snapshot;
mod switch;
mod tables;

use std::collections::BTreeSet;

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use toolgate_events::Partition;
use toolgate_store::{ConsumeError, KeyError, LoadError, LogError, crash};

use self::{snapshot::Snapshot, tables::Table};
use crate::{Environment, integrity::Mismatch};

pub(crate) use self::switch::is_not_now;
pub use self::{
    compare::{Comparison, Difference, Kind, Side},
    folds::Folds,
    progress::{Progress, Standing},
    schema::discard_all,
    switch::{Permit, Switched},
};

/// Rounds of rolling forward until the rest is left to the comparison: each is shorter than the one before, unless the live
/// projections are as fast.
const ROUNDS: usize = 5;

/// What the rebuilt projections are made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The events as they were appended.
    #[default]
    Log,
    /// The live audit trail: the read models follow from it, and so does its own chain.
    Audit,
}

/// What becomes of the rebuilt projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be compared and dropped.
    Check,
    /// To take the live ones' place. They outlive the process, so that another goes on with them.
    Replace,
}

/// How to make them.
#[derive(Clone, Copy, Debug)]
pub struct RebuildOptions {
    pub source: Source,
    pub purpose: Purpose,
    /// Events per transaction at the most.
    pub batch_size: usize,
}

/// The logins it needs.
#[derive(Clone, Debug)]
pub struct Logins {
    /// Of the schema: makes, renames and drops it.
    pub owner: PgConnectOptions,
    /// Projects and compares.
    pub projector: PgConnectOptions,
}

/// Projections beside the live ones.
#[derive(Debug)]
pub struct Rebuild {
    /// Its connections work in the schema beside.
    beside: Environment,
    live: PgPool,
    /// Holds the place for as long as this lives.
    owner: PgConnection,
    logins: Logins,
    options: RebuildOptions,
    progress: Progress,
}

/// Why projections cannot be made anew, compared or switched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("cannot make the schema beside the live one: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the log: {0}")]
    Log(#[from] LogError),
    #[error("the log: {0}")]
    Consume(#[from] ConsumeError),
    #[error("the log: {0}")]
    Load(#[from] LoadError),
    #[error("content cannot be opened: {0}")]
    Keys(#[from] KeyError),
    #[error("another `toolgate replay` is at work on this database")]
    Taken,
    #[error("the live schema has other migrations than this release; run `toolgate migrate` first")]
    NotMigrated,
    #[error("partition {partition}: {mismatch}")]
    Mismatch { partition: Partition, mismatch: Mismatch },
    #[error("partition {partition}: the rebuilt projections are ahead of the live ones; begin anew with --fresh")]
    Ahead { partition: Partition },
    #[error("there is no projection {name:?}; there are {there}")]
    UnknownProjection { name: String, there: String },
    #[error("the schema public is not as the migrations make it, and a switch would lose that: {}", .0.join("; "))]
    Foreign(Vec<String>),
    #[error("the audit trail of tenant {tenant} has no row {position}")]
    AuditGap { tenant: uuid::Uuid, position: u64 },
    #[error("the live projections are not equal to the rebuilt ones")]
    Different(Vec<Comparison>),
    #[error("the rebuilt projections set events aside that the live ones project; add --allow-parked to switch all the same")]
    Parked(Vec<Comparison>),
    #[error(transparent)]
    Archive(#[from] crate::ArchiveError),
    #[error(transparent)]
    History(#[from] crate::history::Error),
    #[error("the live projections are in use by a long transaction; nothing was switched, try again")]
    Busy,
}

impl Purpose {
    fn schema(self) -> &'static str {
        match self {
            Self::Check => "toolgate_check",
            Self::Replace => "toolgate_rebuild",
        }
    }
}

impl Rebuild {
    /// Takes the place of whoever rebuilds; of one database it can be only one. `live` is what the live projector works with.
    ///
    /// # Errors
    /// [`Error::Taken`], or whatever the database says.
    pub async fn open(live: Environment, logins: Logins, options: RebuildOptions) -> Result<Self, Error> {
        let mut owner = logins.owner.connect().await?;
        schema::take_place(&mut owner).await?;
        // A commit that a power cut takes is made again: its checkpoint is gone with it.
        let settings = [("search_path", options.purpose.schema()), ("synchronous_commit", "off")];
        let projector = logins.projector.clone().application_name("toolgate replay").options(settings);
        let beside = PgPoolOptions::new().max_connections(6).connect_lazy_with(projector);
        let database = live.database.clone();
        Ok(Self {
            beside: Environment { database: beside, ..live },
            live: database,
            owner,
            logins,
            options,
            progress: Progress::default(),
        })
    }

    /// How far it is; may be asked at any time.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Makes the tables, unless there are some from before to go on with.
    ///
    /// # Errors
    /// [`Error::NotMigrated`], or whatever the database says.
    pub async fn make(&mut self, migrations: &Migrator, fresh: bool) -> Result<(), Error> {
        if fresh || self.options.purpose == Purpose::Check {
            self.discard().await?;
        }
        let name = self.options.purpose.schema();
        let mut beside = self.logins.owner.clone().options([("search_path", name)]).connect().await?;
        schema::make(&mut beside, name, migrations).await?;
        indexes::leave_for_later(&mut beside, name).await?;
        if self.options.purpose == Purpose::Check {
            schema::make_unlogged(&mut beside, name).await?;
        }
        beside.close().await?;
        crash::point("rebuild.made");
        Ok(())
    }

    /// Drops what was made.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn discard(&mut self) -> Result<(), Error> {
        schema::drop(&mut self.owner, self.options.purpose.schema()).await
    }

    /// Whether there is something to go on with.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn is_begun(&mut self) -> Result<bool, Error> {
        schema::exists(&mut self.owner, self.options.purpose.schema()).await
    }

    /// The names of the projections.
    ///
    /// # Errors
    /// [`Error::UnknownProjection`] when one of `only` is none of them.
    pub async fn projections(&self, only: &[String]) -> Result<Vec<String>, Error> {
        Ok(self.tables(only).await?.into_iter().map(|table| table.name).collect())
    }

    /// Projects until the live projections are as good as reached; they move on meanwhile.
    ///
    /// # Errors
    /// [`Error`]; calling it again goes on from where it was.
    pub async fn roll_forward(&self) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            let mut snapshot = Snapshot::take(&self.live, self.beside.log.partitions()).await?;
            if self.forward_to(&mut snapshot).await? < self.options.batch_size as u64 {
                break;
            }
        }
        Ok(())
    }

    /// Rolls forward to exactly where the live projections are at one moment, and compares them as they were at that moment, while
    /// they move on. `only` names the projections to compare; empty for all.
    ///
    /// # Errors
    /// [`Error`]; that they differ is none.
    pub async fn compare(&self, only: &[String]) -> Result<Vec<Comparison>, Error> {
        let tables = self.tables(only).await?;
        let mut snapshot = Snapshot::take(&self.live, self.beside.log.partitions()).await?;
        self.forward_to(&mut snapshot).await?;
        self.compare_with(&mut snapshot, &tables).await
    }

    async fn tables(&self, only: &[String]) -> Result<Vec<Table>, Error> {
        let mut connection = self.beside.database.acquire().await?;
        let tables = tables::projections(&mut connection, self.options.purpose.schema()).await?;
        let names: BTreeSet<_> = tables.iter().map(|table| table.name.as_str()).collect();
        if let Some(name) = only.iter().find(|name| !names.contains(name.as_str())) {
            let there = names.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::UnknownProjection { name: name.clone(), there });
        }
        Ok(tables.into_iter().filter(|table| only.is_empty() || only.contains(&table.name)).collect())
    }

    /// Answers with how many events that took.
    async fn forward_to(&self, snapshot: &mut Snapshot) -> Result<u64, Error> {
        let batch_size = self.options.batch_size;
        match self.options.source {
            Source::Log => from_log::forward(&self.beside, snapshot.checkpoints(), batch_size, &self.progress).await,
            Source::Audit => from_audit::forward(&self.beside, snapshot, batch_size, &self.progress).await,
        }
    }

    async fn compare_with(&self, snapshot: &mut Snapshot, tables: &[Table]) -> Result<Vec<Comparison>, Error> {
        let mut rebuilt = self.beside.database.acquire().await?;
        let archived = snapshot.archived().await?;
        let beside = self.options.purpose.schema();
        let mut found = Vec::with_capacity(tables.len());
        for table in tables {
            found.push(compare::compare(snapshot.connection(), &mut rebuilt, beside, table, &archived).await?);
        }
        Ok(found)
    }
}
