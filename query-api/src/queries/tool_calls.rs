use std::collections::{HashMap, HashSet};

use serde::{Deserialize, de::IntoDeserializer};
use serde_json::Value;
use sqlx::{Postgres, QueryBuilder, Row, postgres::PgRow, types::Json};
use toolgate_events::{
    CallError, CallId, CallLinks, CallView, Status, TenantId,
    sealing::{Member, Opened},
};
use toolgate_security::TenantTx;
use toolgate_store::Keyring;
use uuid::Uuid;

use super::{audit::Stretch, bigint, unsigned};
use crate::Error;

const SELECT: &str = "select call_id, tool, status, session_id, result, error, cached, stale, attempts, requested_at, \
     finished_at, requested_position, position from tool_call";

/// Which calls; the default is all.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallFilter {
    pub session_id: Option<String>,
    pub tool: Option<String>,
    pub status: Option<Status>,
}

/// A call and its place in the list of calls. Its content is sealed.
#[derive(Debug)]
pub(crate) struct ListedCall {
    view: CallView,
    error: Option<Value>,
    pub requested_position: u64,
}

impl ListedCall {
    /// The call with its content.
    ///
    /// # Errors
    /// [`Error::Keys`]
    pub(crate) async fn open(self, tenant: TenantId, keys: &Keyring) -> Result<CallView, Error> {
        let Self { mut view, error, .. } = self;
        let call = view.call_id;
        if let Some(sealed) = view.result.take() {
            match keys.open_member(tenant, call, Member::Result, sealed).await? {
                Opened::Content(result) => view.result = Some(result),
                Opened::Erased => view.erased = Some(true),
            }
        }
        if let Some(mut error) = error {
            if let Some(detail) = error.get_mut("detail") {
                *detail = match keys.open_member(tenant, call, Member::ErrorDetail, detail.take()).await? {
                    Opened::Content(detail) => detail,
                    Opened::Erased => {
                        view.erased = Some(true);
                        Member::ErrorDetail.placeholder()
                    }
                };
            }
            view.error = Some(CallError::deserialize(error).map_err(|error| sqlx::Error::Decode(error.into()))?);
        }
        Ok(view)
    }
}

pub(crate) async fn find(tx: &mut TenantTx, call: CallId) -> Result<Option<ListedCall>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where call_id = ").push_bind(call.0);
    Ok(query.build().try_map(|row: PgRow| listed_call(&row)).fetch_optional(&mut **tx).await?)
}

/// The positions between which a call's events lie: after the first, up to the second. Nothing for what is no call.
pub(crate) async fn stretch(tx: &mut TenantTx, call: CallId) -> Result<Option<Stretch>, Error> {
    let found: Option<(i64, i64)> = sqlx::query_as("select requested_position, position from tool_call where call_id = $1")
        .bind(call.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.map(|(first, last)| Stretch { after: first.unsigned_abs().saturating_sub(1), up_to: last.unsigned_abs() }))
}

/// The calls of a session.
pub(crate) async fn of_session(tx: &mut TenantTx, session_id: &str) -> Result<HashSet<Uuid>, Error> {
    let calls = sqlx::query_scalar("select call_id from tool_call where session_id = $1").bind(session_id);
    Ok(calls.fetch_all(&mut **tx).await?.into_iter().collect())
}

/// The first calls of a session that were requested up to a position, `limit` of them at the most.
pub(crate) async fn of_session_up_to(
    tx: &mut TenantTx,
    session_id: &str,
    up_to: u64,
    limit: usize,
) -> Result<HashSet<Uuid>, Error> {
    let calls = sqlx::query_scalar(
        "select call_id from tool_call where session_id = $1 and requested_position <= $2 order by requested_position limit $3",
    )
    .bind(session_id)
    .bind(bigint(up_to))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    Ok(calls.fetch_all(&mut **tx).await?.into_iter().collect())
}

/// The sessions of those calls that have one.
pub(crate) async fn sessions(tx: &mut TenantTx, calls: Vec<Uuid>) -> Result<HashMap<Uuid, String>, Error> {
    let sessions: Vec<(Uuid, String)> =
        sqlx::query_as("select call_id, session_id from tool_call where call_id = any($1) and session_id is not null")
            .bind(calls)
            .fetch_all(&mut **tx)
            .await?;
    Ok(sessions.into_iter().collect())
}

/// The newest calls requested before a position.
pub(crate) async fn page(tx: &mut TenantTx, filter: &CallFilter, before: u64, limit: usize) -> Result<Vec<ListedCall>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where requested_position < ").push_bind(bigint(before));
    if let Some(session_id) = &filter.session_id {
        query.push(" and session_id = ").push_bind(session_id.clone());
    }
    if let Some(tool) = &filter.tool {
        query.push(" and tool = ").push_bind(tool.clone());
    }
    if let Some(status) = filter.status {
        query.push(" and status = ").push_bind(status.as_str());
    }
    query.push(" order by requested_position desc limit ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    Ok(query.build().try_map(|row: PgRow| listed_call(&row)).fetch_all(&mut **tx).await?)
}

fn listed_call(row: &PgRow) -> Result<ListedCall, sqlx::Error> {
    let call_id = CallId(row.try_get::<Uuid, _>("call_id")?);
    let attempts: i32 = row.try_get("attempts")?;
    let result = row.try_get::<Option<Json<Value>>, _>("result")?.map(|Json(result)| result);
    let (cached, stale): (bool, bool) = (row.try_get("cached")?, row.try_get("stale")?);
    let view = CallView {
        call_id,
        tool: row.try_get("tool")?,
        status: status(row.try_get("status")?)?,
        session_id: row.try_get("session_id")?,
        cached: result.is_some().then_some(cached),
        stale: stale.then_some(true),
        result,
        error: None,
        erased: None,
        attempts: attempts.unsigned_abs(),
        requested_at: row.try_get("requested_at")?,
        finished_at: row.try_get("finished_at")?,
        position: Some(unsigned(row, "position")?.to_string()),
        links: CallLinks::of(call_id),
    };
    let error = row.try_get::<Option<Json<Value>>, _>("error")?.map(|Json(error)| error);
    Ok(ListedCall { view, error, requested_position: unsigned(row, "requested_position")? })
}

fn status(text: &str) -> Result<Status, sqlx::Error> {
    let status = Status::deserialize(text.into_deserializer());
    status
        .map_err(|error: serde::de::value::Error| sqlx::Error::ColumnDecode { index: "status".to_owned(), source: error.into() })
}
