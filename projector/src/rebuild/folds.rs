//! A second opinion on the calls: cqrs-es folds each call's events, through postgres-es and the reader's rights, and the rows must say
//! the same.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use toolgate_events::{CallId, TenantId};
use uuid::Uuid;

use super::{Error, Rebuild};
use crate::history::{self, Folded, History};

/// How many calls are named.
const NAMED: usize = 10;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folds {
    pub calls: u64,
    pub different: u64,
    /// The first of those, as tenant and call.
    pub first: Vec<(Uuid, Uuid)>,
}

type Row = (Uuid, String, i32, Option<Value>, Option<Value>, bool, bool);

impl Rebuild {
    /// Folds the calls of every tenant again. `reader` is a login of the reader role.
    ///
    /// # Errors
    /// [`Error`]; that something differs is none.
    pub async fn fold_again(&self, reader: &PgConnectOptions) -> Result<Folds, Error> {
        let reader = reader.clone().options([("search_path", self.options.purpose.schema())]);
        let tenants: Vec<Uuid> =
            sqlx::query_scalar("select distinct tenant_id from tool_call order by 1").fetch_all(&self.beside.database).await?;
        let mut folds = Folds::default();
        for tenant in tenants {
            let history = History::open(reader.clone(), TenantId(tenant));
            compare(&history, &mut folds).await?;
        }
        Ok(folds)
    }
}

async fn compare(history: &History, folds: &mut Folds) -> Result<(), Error> {
    let mut calls = history.calls().await?;
    let pool = history.pool([]);
    let parked: Vec<Uuid> = sqlx::query_scalar("select aggregate_id from parked_event").fetch_all(&pool).await?;
    // What no row can hold is on record as that.
    parked.into_iter().for_each(|call| drop(calls.remove(&CallId(call))));
    let tenant = history.tenant_id().0;
    let mut differs = |call: Uuid| {
        folds.different += 1;
        if folds.first.len() < NAMED {
            folds.first.push((tenant, call));
        }
    };
    let mut rows =
        sqlx::query_as::<_, Row>("select call_id, status, attempts, result, error, cached, stale from tool_call").fetch(&pool);
    while let Some(row) = rows.try_next().await? {
        folds.calls += 1;
        if calls.remove(&CallId(row.0)).is_some_and(|folded| folded.digest != digest(&row)) {
            differs(row.0);
        }
    }
    without_row(calls).for_each(differs);
    drop(rows);
    pool.close().await;
    Ok(())
}

fn without_row(calls: BTreeMap<CallId, Folded>) -> impl Iterator<Item = Uuid> {
    calls.into_keys().map(|call| call.0)
}

fn digest((_, status, attempts, result, error, cached, stale): &Row) -> String {
    history::digest(status, i64::from(*attempts), result.as_ref(), error.as_ref(), *cached, *stale)
}
