//! The rebuilt projections take the live ones' place: two schemas change their names in one transaction.
//!
//! Readers are never stopped. Whoever projects is, from the comparison on: it waits for the lock on the checkpoints, finds another
//! table behind the name when it goes on, and starts again from that one.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use toolgate_store::crash;

use super::{
    Comparison, Error, Purpose, Rebuild, indexes,
    schema::{self, LIVE, RETIRED},
    snapshot::{Archived, Snapshot},
    tables::CARRIED_OVER,
};

/// How long the locks are waited for; whoever comes after waits behind, so it is short, and tried again.
const LOCK_TIMEOUT: &str = "2s";
const ATTEMPTS: usize = 30;
const PAUSE: Duration = Duration::from_millis(500);
/// "lock_not_available" and "deadlock_detected".
const NOT_NOW: [&str; 2] = ["55P03", "40P01"];

/// What may be switched to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// Although the live projections differ: they are what is broken.
    pub repair: bool,
    /// Although events are set aside that the live projections have.
    pub parked: bool,
}

/// What a switch has done.
#[derive(Clone, Debug)]
pub struct Switched {
    pub comparisons: Vec<Comparison>,
    /// Whether the old tables are gone. They stay when somebody still reads in them; the next rebuild takes them away.
    pub dropped: bool,
}

impl Rebuild {
    /// Compares once more while nothing is projected, and switches when there is no difference, or none that is not permitted.
    ///
    /// # Errors
    /// [`Error::Different`] and [`Error::Parked`] with what was found; [`Error::Foreign`]; [`Error::Busy`]. Nothing is switched then.
    pub async fn switch(&mut self, permit: Permit) -> Result<Switched, Error> {
        let name = Purpose::Replace.schema();
        let archived = Snapshot::take(&self.live, self.beside.log.partitions()).await?.archived().await?;
        // The last of each stays until it was compared.
        let mut transaction = self.owner.begin().await?;
        leave_out(&mut transaction, name, &archived, "<").await?;
        transaction.commit().await?;
        indexes::make(&mut self.owner, name).await?;
        let foreign = schema::differences(&mut self.owner, name).await?;
        if !foreign.is_empty() {
            return Err(Error::Foreign(foreign));
        }
        self.analyze().await?;
        self.empty_carried_over().await?;

        let mut locked = self.logins.owner.connect().await?;
        lock(&mut locked).await?;
        crash::point("rebuild.locked");
        let comparisons = match self.compare_for_the_last_time(permit).await {
            Ok(comparisons) => comparisons,
            Err(error) => {
                locked.execute("rollback").await?;
                return Err(error);
            }
        };
        self.carry_over().await?;
        let archived = Snapshot::take(&self.live, self.beside.log.partitions()).await?.archived().await?;
        leave_out(&mut locked, name, &archived, "<=").await?;
        let rename = format!("alter schema {LIVE} rename to {RETIRED}; alter schema {name} rename to {LIVE}");
        locked.execute(rename.as_str()).await?;
        schema::requalify(&mut locked, LIVE, name, LIVE).await?;
        crash::point("rebuild.renamed");
        locked.execute("commit").await?;
        crash::point("rebuild.switched");
        locked.close().await?;
        self.beside.database.close().await;
        let dropped = self.drop_retired().await?;
        Ok(Switched { comparisons, dropped })
    }

    async fn compare_for_the_last_time(&self, permit: Permit) -> Result<Vec<Comparison>, Error> {
        let mut snapshot = Snapshot::take(&self.live, self.beside.log.partitions()).await?;
        self.forward_to(&mut snapshot).await?;
        let tables = self.tables(&[]).await?;
        let comparisons = self.compare_with(&mut snapshot, &tables).await?;
        let is_equal = comparisons.iter().all(Comparison::is_equal);
        if !is_equal && !permit.repair {
            return Err(Error::Different(comparisons));
        }
        if !permit.parked && comparisons.iter().any(sets_more_aside) {
            return Err(Error::Parked(comparisons));
        }
        Ok(comparisons)
    }

    /// New tables have no statistics yet, and readers shall not pay for that.
    async fn analyze(&mut self) -> Result<(), Error> {
        for table in self.tables(&[]).await? {
            let statement = format!("analyze {}.{:?}", self.options.purpose.schema(), table.name);
            self.owner.execute(statement.as_str()).await?;
        }
        Ok(())
    }

    /// What an earlier switch copied before it died is old by now.
    async fn empty_carried_over(&mut self) -> Result<(), Error> {
        for table in self.carried_over().await? {
            let statement = format!(
                "begin; alter table {table} disable trigger user; truncate {table}; alter table {table} enable trigger user; commit"
            );
            self.owner.execute(statement.as_str()).await?;
        }
        Ok(())
    }

    /// Whoever writes to them waits for the lock, so what is copied is everything.
    async fn carry_over(&mut self) -> Result<(), Error> {
        for table in self.carried_over().await? {
            let name = table.rsplit('.').next().unwrap_or_default();
            let statement = format!("insert into {table} select * from {LIVE}.{name}");
            self.beside.database.execute(statement.as_str()).await?;
        }
        Ok(())
    }

    /// Those tables that this schema has, with its name.
    async fn carried_over(&mut self) -> Result<Vec<String>, Error> {
        let there: Vec<String> = sqlx::query_scalar(
            "select relname::text from pg_class where relnamespace = $1::regnamespace and relname = any($2) order by relname",
        )
        .bind(self.options.purpose.schema())
        .bind(CARRIED_OVER)
        .fetch_all(&mut self.owner)
        .await?;
        Ok(there.into_iter().map(|name| format!("{}.{name}", self.options.purpose.schema())).collect())
    }

    /// Who began to read before the switch reads to the end.
    async fn drop_retired(&mut self) -> Result<bool, Error> {
        self.owner.execute(format!("set lock_timeout = '{LOCK_TIMEOUT}'").as_str()).await?;
        for _ in 0..ATTEMPTS {
            match schema::drop(&mut self.owner, RETIRED).await {
                Err(Error::Database(error)) if is_not_now(&error) => tokio::time::sleep(PAUSE).await,
                outcome => return outcome.map(|()| true),
            }
        }
        Ok(false)
    }
}

/// Begins a transaction in which nobody but this one writes to a live table. Readers go on.
async fn lock(owner: &mut PgConnection) -> Result<(), Error> {
    let others: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', $1, relname) from pg_class
         where relnamespace = $1::regnamespace and relkind = 'r' and relname not in ('projection_checkpoint', '_sqlx_migrations')
         order by relname",
    )
    .bind(LIVE)
    .fetch_all(&mut *owner)
    .await?;
    // Every projector begins with the checkpoints; so does this.
    let tables = [format!("{LIVE}.projection_checkpoint")].into_iter().chain(others).collect::<Vec<_>>().join(", ");
    let statement = format!("begin; set local lock_timeout = '{LOCK_TIMEOUT}'; lock table {tables} in share row exclusive mode");
    for _ in 0..ATTEMPTS {
        match owner.execute(statement.as_str()).await {
            Ok(_) => return Ok(()),
            Err(error) if is_not_now(&error) => {
                owner.execute("rollback").await?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Busy)
}

/// Takes out of the rebuilt trail what is archived, up to the end of each archive or to before it: readers take it from there. Where the
/// archive ends otherwise than the trail, nothing is taken out.
/// `transaction` is one of the owner's, who alone can lift the protection of the trail.
async fn leave_out(transaction: &mut PgConnection, schema: &str, archived: &[Archived], which: &str) -> Result<(), Error> {
    if archived.is_empty() {
        return Ok(());
    }
    let table = format!("{schema}.audit_event");
    let lift =
        format!("alter table {table} no force row level security; alter table {table} disable trigger audit_event_append_only");
    transaction.execute(lift.as_str()).await?;
    let delete = format!(
        "delete from {table} a using unnest($1::uuid[], $2::bigint[], $3::text[]) as e (tenant_id, last, hash)
         where a.tenant_id = e.tenant_id and a.position {which} e.last
             and exists (select from {table} l where l.tenant_id = e.tenant_id and l.position = e.last and l.hash = e.hash)"
    );
    sqlx::query(&delete)
        .bind(archived.iter().map(|end| end.tenant_id).collect::<Vec<_>>())
        .bind(archived.iter().map(|end| end.last_position).collect::<Vec<_>>())
        .bind(archived.iter().map(|end| end.hash.as_str()).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
    let protect =
        format!("alter table {table} enable trigger audit_event_append_only; alter table {table} force row level security");
    transaction.execute(protect.as_str()).await?;
    Ok(())
}

/// Whether a lock could not be had in time: later it can.
pub fn is_not_now(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| NOT_NOW.contains(&code.as_ref())))
}

fn sets_more_aside(comparison: &Comparison) -> bool {
    comparison.table == "parked_event" && comparison.only_rebuilt > 0
}
