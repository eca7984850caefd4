//! Which tables are made from events, and what of them can be compared.

use sqlx::PgConnection;

use super::Error;

/// Not made from events: a switch takes their rows over as they are.
pub const CARRIED_OVER: &[&str] = &["audit_segment"];
/// Of the tables that are made from events, what the clock wrote: it is different each time.
const LEFT_OUT: &[(&str, &str)] = &[("parked_event", "parked_at")];
/// Neither: how far a projection is, is compared by number; which migrations ran, by version.
const OTHERS: &[&str] = &["projection_checkpoint", "_sqlx_migrations"];

/// One table of projections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Names and types of the primary key's columns, in its order.
    key: Vec<(String, String)>,
    /// What is compared.
    columns: Vec<String>,
}

/// The projections in a schema, in the order of their names.
///
/// # Errors
/// Whatever the database says.
pub async fn projections(connection: &mut PgConnection, schema: &str) -> Result<Vec<Table>, Error> {
    let not_compared: Vec<&str> = CARRIED_OVER.iter().chain(OTHERS).copied().collect();
    type Row = (String, Vec<String>, Vec<String>, Vec<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "select c.relname::text,
             array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                 order by a.attname),
             array(select a.attname::text from unnest(i.indkey) with ordinality k (attnum, n)
                 join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum order by n),
             array(select a.atttypid::regtype::text from unnest(i.indkey) with ordinality k (attnum, n)
                 join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum order by n)
         from pg_class c join pg_index i on i.indrelid = c.oid and i.indisprimary
         where c.relnamespace = $1::regnamespace and c.relkind = 'r' and c.relname <> all($2)
         order by c.relname",
    )
    .bind(schema)
    .bind(not_compared)
    .fetch_all(connection)
    .await?;
    let table = |(name, columns, key, types): Row| {
        let columns = columns.into_iter().filter(|column| !LEFT_OUT.contains(&(name.as_str(), column.as_str()))).collect();
        Table { key: key.into_iter().zip(types).collect(), columns, name }
    };
    Ok(rows.into_iter().map(table).collect())
}

impl Table {
    /// Whether old rows of it may have left for the archive.
    pub fn is_the_trail(&self) -> bool {
        self.name == "audit_event"
    }

    /// Selects each row as its key, spelled so that bytes sort as the rows do, and as its columns in JSON; in the order of the key.
    /// Of the trail, no row that the parameters say is archived: tenants, and the last position of each.
    pub fn select(&self, schema: &str) -> String {
        let (spelled, order): (Vec<_>, Vec<_>) = self.key.iter().map(|(column, kind)| spell(column, kind)).unzip();
        let columns: Vec<_> = self.columns.iter().map(|column| format!("{column:?}")).collect();
        let which = if self.is_the_trail() {
            " where not exists (select from unnest($1::uuid[], $2::bigint[]) as s (tenant, last)
                 where s.tenant = t.tenant_id and t.position <= s.last)"
        } else {
            " where $1::uuid[] is not null and $2::bigint[] is not null"
        };
        format!(
            "select array[{}]::text[], (select row_to_json(r)::text from (select {}) as r) from {schema}.{:?} t{which} order by {}",
            spelled.join(", "),
            columns.join(", "),
            self.name,
            order.join(", "),
        )
    }
}

/// A column of a key as text, and what to order by. Both must agree, whatever the database's collation is.
fn spell(column: &str, kind: &str) -> (String, String) {
    match kind {
        // Sorted by their bytes, and spelled in as many digits each.
        "uuid" => (format!("{column:?}::text"), format!("{column:?}")),
        // No number in a key is negative.
        "integer" | "bigint" | "smallint" => (format!("lpad({column:?}::text, 20, '0')"), format!("{column:?}")),
        // Years have four digits.
        "date" => (format!("to_char({column:?}, 'YYYY-MM-DD')"), format!("{column:?}")),
        _ => (format!("{column:?}::text"), format!("{column:?}::text collate \"C\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_key_and_its_columns_in_order() {
        let key = [("tenant_id", "uuid"), ("version", "integer"), ("name", "text")];
        let key = key.map(|(column, kind)| (column.to_owned(), kind.to_owned())).to_vec();
        let table = Table { name: "a".to_owned(), key, columns: vec!["name".to_owned(), "x".to_owned()] };
        assert_eq!(
            table.select("s"),
            "select array[\"tenant_id\"::text, lpad(\"version\"::text, 20, '0'), \"name\"::text]::text[], \
             (select row_to_json(r)::text from (select \"name\", \"x\") as r) from s.\"a\" t \
             where $1::uuid[] is not null and $2::bigint[] is not null \
             order by \"tenant_id\", \"version\", \"name\"::text collate \"C\""
        );
    }
}
