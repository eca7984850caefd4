//! Recorded history, replayed by cqrs-es through postgres-es: what happened to a call or to a tenant, and what it amounts to.
//!
//! It reads views of the audit trail with the reader's rights. The tenant is set in the connections themselves, because postgres-es
//! reads from a task of its own, where no transaction's setting reaches.

mod fold;
mod upcaster;

use std::{collections::BTreeMap, sync::Arc};

use cqrs_es::persist::QueryReplay;
use postgres_es::PostgresEventRepository;
use serde_json::Value;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use toolgate_events::{
    CallId, TenantId, ToolCall,
    sealing::{self, Member},
};
use toolgate_store::{Archive, KeyError, Keyring};

use self::{fold::Replaying, upcaster::Upcaster};

pub(crate) use self::fold::digest;
pub use self::fold::{Folded, Replayed, ReplayedEvent};
use crate::{ArchiveError, archiver::Listed};

const OF_TENANT: &str = "tenant_event";
const OF_CALL: &str = "call_event";
/// The repository asks for the name of a table that it then never reads: a replay knows no snapshots.
const NO_SNAPSHOTS: &str = "no_snapshot";
/// Rows may be archived while they are read; not this often.
const ATTEMPTS: usize = 5;

/// Puts the content in the place of what is sealed, for whoever may read it: the one way from a replay to what somebody said. What was
/// damaged since stays sealed.
///
/// # Errors
/// [`Error::Keys`]
pub async fn open(keys: &Keyring, tenant: TenantId, replayed: &mut Replayed) -> Result<(), Error> {
    for event in &mut replayed.events {
        let version = event.event_version.parse().unwrap_or_default();
        if let (Some(data), Ok(call)) = (&mut event.data, event.call_id.parse()) {
            let members = sealing::members(&event.event_type, version);
            event.not_understood = open_members(keys, tenant, call, members, data).await?;
        }
    }
    for (call, folded) in &mut replayed.calls {
        let mut data = serde_json::json!({"result": folded.result.take(), "error": folded.error.take()});
        open_members(keys, tenant, *call, &[Member::Result, Member::ErrorDetail], &mut data).await?;
        let mut taken = |name: &str| data.get_mut(name).map(Value::take).filter(|value| !value.is_null());
        (folded.result, folded.error) = (taken("result"), taken("error"));
    }
    Ok(())
}

/// Answers with why one of them cannot be opened, if that is its own fault.
async fn open_members(
    keys: &Keyring,
    tenant: TenantId,
    call: CallId,
    members: &[Member],
    data: &mut Value,
) -> Result<Option<String>, Error> {
    let mut broken = None;
    for member in members {
        let Some(value) = data.pointer(member.pointer()).cloned() else { continue };
        match keys.open_member(tenant, call, *member, value).await {
            Ok(opened) => sealing::put_opened(data, *member, opened),
            Err(KeyError::Broken(reason)) => broken = Some(reason),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(broken)
}

/// One tenant's history.
#[derive(Debug)]
pub struct History {
    reader: PgConnectOptions,
    tenant: TenantId,
    /// Where rows are that have left the table.
    archive: Option<Archive>,
}

/// Why history could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("content cannot be opened: {0}")]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("the replay: {0}")]
    Replay(String),
    #[error("only {replayed} of {recorded} events were replayed, up to position {reached} of {last}")]
    Incomplete { replayed: u64, recorded: u64, reached: u64, last: u64 },
}

impl History {
    /// Of what the table has. `reader` is a login of the reader role.
    pub fn open(reader: PgConnectOptions, tenant: TenantId) -> Self {
        Self { reader: reader.options([("app.current_tenant", tenant.to_string())]), tenant, archive: None }
    }

    /// And of what is archived.
    #[must_use]
    pub fn and_archived(self, archive: Archive) -> Self {
        Self { archive: Some(archive), ..self }
    }

    pub fn tenant_id(&self) -> TenantId {
        self.tenant
    }

    /// Everything that happened to one call.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn call(&self, call: CallId) -> Result<Replayed, Error> {
        let pool = self.pool([("app.current_call", call.to_string())]);
        self.replay(pool, OF_CALL, Some(call), Replaying::everything).await
    }

    /// Everything that happened to all of the tenant's calls.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn tenant(&self) -> Result<Replayed, Error> {
        self.replay(self.pool([]), OF_TENANT, None, Replaying::everything).await
    }

    /// What the tenant's calls amount to, without what happened on the way.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn calls(&self) -> Result<BTreeMap<CallId, Folded>, Error> {
        Ok(self.replay(self.pool([]), OF_TENANT, None, Replaying::calls_alone).await?.calls)
    }

    /// Of this tenant's reader.
    pub(crate) fn pool<const N: usize>(&self, settings: [(&str, String); N]) -> PgPool {
        PgPoolOptions::new().max_connections(2).connect_lazy_with(self.reader.clone().options(settings))
    }

    async fn replay(
        &self,
        pool: PgPool,
        view: &str,
        call: Option<CallId>,
        replaying: impl Fn() -> Replaying,
    ) -> Result<Replayed, Error> {
        for _ in 0..ATTEMPTS {
            let replaying = Arc::new(replaying());
            let segments = self.segments(&pool).await?;
            self.replay_archived(&segments, call, &replaying).await?;
            Self::replay_table(&pool, view, call, &replaying).await?;
            // What was archived in between was seen in neither place.
            if self.segments(&pool).await? == segments {
                pool.close().await;
                return Ok(replaying.take());
            }
        }
        Err(Error::Replay("the trail is being archived; try again".to_owned()))
    }

    async fn segments(&self, pool: &PgPool) -> Result<Vec<Listed>, Error> {
        if self.archive.is_none() {
            return Ok(Vec::new());
        }
        Ok(Listed::of(self.tenant, pool).await?)
    }

    async fn replay_archived(&self, segments: &[Listed], call: Option<CallId>, replaying: &Arc<Replaying>) -> Result<(), Error> {
        let Some(archive) = &self.archive else { return Ok(()) };
        let mut last = 0;
        for segment in segments {
            for row in segment.rows(archive).await? {
                last = row.position;
                if call.is_none_or(|call| call.0 == row.aggregate_id) {
                    upcaster::replay(replaying, row);
                }
            }
        }
        replaying.go_on_after(last);
        Ok(())
    }

    async fn replay_table(pool: &PgPool, view: &str, call: Option<CallId>, replaying: &Arc<Replaying>) -> Result<(), Error> {
        // First, so that what comes meanwhile is more, never less.
        let (recorded, last): (i64, i64) = sqlx::query_as(&format!(
            "select count(*), coalesce(max(sequence), 0) from {view} where aggregate_type = 'tool_call'"
        ))
        .fetch_one(pool)
        .await?;
        let (recorded, last) = (recorded.unsigned_abs(), last.unsigned_abs());
        let repository = PostgresEventRepository::new(pool.clone()).with_tables(view, NO_SNAPSHOTS);
        let replay = QueryReplay::<_, _, ToolCall>::new(repository, Arc::clone(replaying).query())
            .with_upcasters(vec![Box::new(Upcaster(Arc::clone(replaying)))]);
        let outcome = match call {
            Some(call) => replay.replay(&call.to_string()).await,
            None => replay.replay_all().await,
        };
        outcome.map_err(|error| Error::Replay(error.to_string()))?;
        // A replay that breaks off says that it went well.
        let (replayed, reached) = replaying.counted(last);
        if (replayed, reached) != (recorded, last) {
            return Err(Error::Incomplete { replayed, recorded, reached, last });
        }
        Ok(())
    }
}
