//! `toolgate tenant erase`.

use std::time::{Duration, Instant};

use chrono::DateTime;
use clap::Args;
use futures::StreamExt;
use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};
use toolgate_events::{CallSubject, DataErased, Envelope, Lane, Partition, TenantId, sealing};
use toolgate_projector::rebuild;
use toolgate_security::TenantTx;
use toolgate_store::{AppendError, Artifacts, Clock, Expect, KEYS_FRESH, KeyError, Log, RevocationLog, Scope, User, crash};
use uuid::Uuid;

use crate::{
    cli::{Common, Error, token::tenant},
    roles::read_pool,
    services::{Connections, PostgresRole},
    settings::{Profile, Settings},
};

/// How long the log may take with the event.
const APPEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long the projection may take to come to the event.
const PROJECTION_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// How long another erasure, which does the same in a moment, is waited for. A rebuild takes longer.
const OTHERS: Duration = Duration::from_secs(10);
/// The tables that content was deleted from. Deleted rows stay in the files until the table is written anew.
const TABLES: [&str; 9] = [
    "task_change",
    "task",
    "document",
    "knowledge_index",
    "knowledge_document",
    "vector_item",
    "vector_collection",
    "template_version",
    "parked_event",
];

/// Destroy the keys of a tenant's content, or of what is about one data subject
///
/// The content cannot be read any more, wherever copies of it are; the audit trail still verifies. This cannot be undone. Run again
/// after an interruption, it goes on.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate tenant erase --tenant demo --data-subject patient-7 --yes")]
pub(super) struct Erase {
    /// The tenant's uuid, or `demo`
    #[arg(long, value_parser = tenant)]
    tenant: Uuid,
    /// Only what is about this data subject, as callers name it in the header Data-Subject
    #[arg(long, value_name = "ID")]
    data_subject: Option<String>,
    /// Yes, for good
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

impl Erase {
    pub async fn run(self) -> Result<(), Error> {
        if !self.yes {
            return Err(Error::Erasure("nothing was erased: an erasure cannot be undone, so say --yes".to_owned()));
        }
        let settings = self.common.settings(Profile::Server, vec![])?;
        let connections = Connections::for_role(&settings, User::Operator, None)?;
        let log = connections.open_log_with_keys(&settings).await?;
        let tenant = TenantId(self.tenant);
        let scope = self.scope(&log, tenant).await?;
        if scope == Scope::tenant() {
            RevocationLog::of(&log).change_tenant(tenant, |entry| (entry.is_suspended, entry.is_erased) = (true, true)).await?;
            eprintln!("the tenant {tenant} is suspended for good");
            crash::point("erase.suspended");
        }
        let sequence = record(&log, tenant, &scope).await?;
        eprintln!("the erasure is on record");
        crash::point("erase.recorded");
        destroy(&log, tenant, &scope).await?;
        crash::point("erase.destroyed");
        let erased = Artifacts::open(&log).await.map_err(failed)?.erase(tenant, &scope).await.map_err(failed)?;
        eprintln!("{erased} artifacts are deleted");
        crash::point("erase.artifacts");
        clean_up(&settings, Partition::of(tenant, log.partitions()), tenant, &scope, sequence).await?;
        let unsealed = if scope == Scope::tenant() { unsealed(&log, tenant).await? } else { 0 };
        if unsealed > 0 {
            return Err(Error::Erasure(format!(
                "{unsealed} events of the tenant were recorded before content was sealed, and can still be read in the log, in the audit \
                 trail and in exports"
            )));
        }
        eprintln!("everything is erased");
        Ok(())
    }

    /// Once the tenant's keys are destroyed, nobody can tell a data subject's pseudonym any more; its keys are gone with them.
    async fn scope(&self, log: &Log, tenant: TenantId) -> Result<Scope, Error> {
        match &self.data_subject {
            None => Ok(Scope::tenant()),
            Some(id) => log.keys().scope_of(tenant, id.trim()).await.map_err(|error| match error {
                KeyError::Erased => {
                    Error::Erasure("the whole tenant was erased before, and every data subject with it".to_owned())
                }
                error => failed(error),
            }),
        }
    }
}

/// Appends the event, or finds it; answers with its stream sequence.
async fn record(log: &Log, tenant: TenantId, scope: &Scope) -> Result<u64, Error> {
    let erased = DataErased::of(scope.data_subject());
    let subject = CallSubject::new(log.partitions(), tenant, Lane::erasure(), erased.id(tenant));
    let stamp = Clock::system().stamp("operator", None, None);
    let envelope = Envelope::of_erasure(erased, tenant, stamp)?;
    match log.append(&subject, &envelope, Expect::NOTHING, None, APPEND_PATIENCE).await {
        Ok(sequence) => Ok(sequence),
        Err(AppendError::Conflict) => {
            let recorded = log.load(&subject).await.map_err(failed)?;
            recorded.first().map(|first| first.stream_sequence).ok_or_else(|| failed(AppendError::Conflict))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Destroys the keys, waits until no process remembers them, and then destroys what such a process may have made meanwhile.
async fn destroy(log: &Log, tenant: TenantId, scope: &Scope) -> Result<(), Error> {
    let custody = log.keys().custody().map_err(failed)?;
    custody.destroy(tenant, scope).await.map_err(failed)?;
    crash::point("erase.buried");
    tokio::time::sleep(KEYS_FRESH).await;
    custody.destroy(tenant, scope).await.map_err(failed)?;
    eprintln!("the keys are destroyed");
    Ok(())
}

/// Drops the projections that were made beside the live ones.
async fn discard_beside(owner: &mut PgConnection) -> Result<(), Error> {
    let began = tokio::time::Instant::now();
    loop {
        match rebuild::discard_all(owner).await {
            Ok(()) => return Ok(()),
            Err(rebuild::Error::Taken) if began.elapsed() < OTHERS => tokio::time::sleep(POLL).await,
            Err(rebuild::Error::Taken) => {
                let detail = "projections that are being made anew may still hold content: another `toolgate replay` is at work; run \
                              this again when it has ended";
                return Err(Error::Erasure(detail.to_owned()));
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Waits until the read models hold nothing of it, drops those that were made beside them, and writes their tables anew.
async fn clean_up(
    settings: &Settings,
    partition: Partition,
    tenant: TenantId,
    scope: &Scope,
    sequence: u64,
) -> Result<(), Error> {
    let database = || {
        let reader = Connections::for_role(settings, User::Operator, Some(PostgresRole::Reader))?.reader;
        Ok::<_, crate::services::Error>((reader, Connections::resolve_owner(settings)?))
    };
    let (reader, owner) = database().map_err(|error| {
        Error::Erasure(format!(
            "the read models may still hold content: the database is not known here ({error}); run this again where it is"
        ))
    })?;
    let reader = read_pool(&reader).map_err(failed)?;
    let deadline = Instant::now() + PROJECTION_PATIENCE;
    loop {
        // The row is written with what it deletes; the checkpoint also moves when the event is only parked.
        let mut tx = TenantTx::begin(&reader, tenant).await.map_err(failed)?;
        let (is_done, reached): (bool, Option<i64>) = sqlx::query_as(
            "select exists (select from erasure where scope = $1),
                 (select stream_sequence from projection_checkpoint where projection = $2 and partition = $3)",
        )
        .bind(scope.data_subject().unwrap_or("tenant"))
        .bind(toolgate_projector::PROJECTION)
        .bind(i32::from(partition.0))
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
        tx.end().await.map_err(failed)?;
        if is_done {
            break;
        }
        if reached.is_some_and(|reached| reached.unsigned_abs() >= sequence) {
            return Err(Error::Erasure(format!(
                "the read models may still hold content: the erasure itself is parked; project it with `toolgate parked retry --tenant \
                 {tenant}`, and run this again"
            )));
        }
        if Instant::now() > deadline {
            return Err(Error::Erasure(
                "the read models may still hold content: the projector has not come to the erasure; run this again when it has"
                    .to_owned(),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
    crash::point("erase.projected");
    let mut owner = PgConnection::connect(owner.expose_secret()).await.map_err(failed)?;
    // What was projected beside the live tables, and what a switch left there, may hold it as well. What is begun after this finds
    // no keys.
    discard_beside(&mut owner).await?;
    crash::point("erase.discarded");
    for table in TABLES {
        sqlx::raw_sql(&format!("vacuum (full) {table}")).execute(&mut owner).await.map_err(failed)?;
    }
    owner.close().await.map_err(failed)?;
    eprintln!("the read models hold nothing of it");
    Ok(())
}

/// How many events hold content that was never sealed.
async fn unsealed(log: &Log, tenant: TenantId) -> Result<usize, Error> {
    let partition = Partition::of(tenant, log.partitions());
    let mut reader = log.read_since(partition, Some(tenant), DateTime::UNIX_EPOCH).await?;
    let mut unsealed = 0;
    while let Some(message) = reader.next().await {
        let Ok(envelope) = Envelope::decode(&message?.payload) else { continue };
        let has_content = !sealing::content_of(&envelope.event_type).is_empty();
        unsealed += usize::from(has_content && envelope.sealed_members().is_empty());
    }
    Ok(unsealed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Erasure(format!("the erasure is not complete; run it again: {error}"))
}
