use std::io::{self, Write};

use sqlx::postgres::PgConnectOptions;
use toolgate_events::{CallId, TenantId};
use toolgate_projector::history::{self, History};
use toolgate_store::{Archive, User};
use uuid::Uuid;

use crate::{cli::Error, services::Connections, settings::Settings};

/// Replays what a tenant's reader may see, and prints it: each event, and each call as its events make it.
pub(super) async fn show(settings: &Settings, reader: PgConnectOptions, tenant: Uuid, call: Option<Uuid>) -> Result<(), Error> {
    let connections = Connections::for_role(settings, User::Operator, None)?;
    let log = connections.open_log_as_operator(settings).await?;
    let archive = Archive::open(&log).await.map_err(toolgate_projector::ArchiveError::from)?;
    let history = History::open(reader, TenantId(tenant)).and_archived(archive);
    let mut replayed = match call {
        Some(call) => history.call(CallId(call)).await?,
        None => history.tenant().await?,
    };
    history::open(log.keys(), TenantId(tenant), &mut replayed).await?;
    let mut output = io::stdout().lock();
    let mut line = |value: serde_json::Value| writeln!(output, "{value}");
    for event in &replayed.events {
        line(serde_json::json!({"event": event})).map_err(Error::Output)?;
    }
    for (call, view) in &replayed.calls {
        line(serde_json::json!({"call_id": call, "call": view})).map_err(Error::Output)?;
    }
    eprintln!("replayed {} events of {} calls", replayed.events.len(), replayed.calls.len());
    Ok(())
}
