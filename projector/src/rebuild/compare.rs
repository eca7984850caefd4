//! Two tables, row by row: read side by side in the order of their keys, so that memory does not grow with them.

use std::{cmp::Ordering, fmt};

use aws_lc_rs::digest::{Context, SHA256};
use futures::{Stream, TryStreamExt};
use serde_json::Value;
use sqlx::PgConnection;
use toolgate_events::canonical;

use super::{Error, schema, snapshot::Archived, tables::Table};

/// How many differences of a table are named; all are counted.
const NAMED: usize = 10;

/// What was found about one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub table: String,
    pub live: Side,
    pub rebuilt: Side,
    pub differences: u64,
    /// How many of them are rows that the live table lacks.
    pub only_rebuilt: u64,
    /// The first of them, by key.
    pub first: Vec<Difference>,
}

/// One of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    pub rows: u64,
    /// SHA-256 over the rows as JSON, a line each, in the order of their keys; lower-case hex.
    pub digest: String,
}

/// One row that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub key: Vec<String>,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The live table has a row that does not follow from the events.
    OnlyLive,
    /// The live table lacks the row.
    OnlyRebuilt,
    /// These columns differ.
    Columns(Vec<String>),
    /// The archived rows up to this one end with another hash.
    Archive,
}

impl Comparison {
    pub fn is_equal(&self) -> bool {
        self.differences == 0 && self.live == self.rebuilt
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row ({}): ", self.key.join(", "))?;
        match &self.kind {
            Kind::OnlyLive => f.write_str("no event made it"),
            Kind::OnlyRebuilt => f.write_str("it is missing"),
            Kind::Archive => f.write_str("what is archived up to here ends with another hash"),
            Kind::Columns(columns) => write!(f, "{} differs", columns.join(", ")),
        }
    }
}

type Row = (Vec<String>, String);

/// Compares one table. Each connection sees what its transaction does. Rows of the trail that left for the archive are compared by
/// the hash at its end, which holds all of them.
///
/// # Errors
/// Whatever the database says.
pub async fn compare(
    live: &mut PgConnection,
    rebuilt: &mut PgConnection,
    beside: &str,
    table: &Table,
    archived: &[Archived],
) -> Result<Comparison, Error> {
    let (live_query, rebuilt_query) = (table.select(schema::LIVE), table.select(beside));
    let tenants = || archived.iter().map(|end| end.tenant_id).collect::<Vec<_>>();
    let last = || archived.iter().map(|end| end.last_position).collect::<Vec<_>>();
    let mut comparison = {
        let live = Reader::new(sqlx::query_as(&live_query).bind(tenants()).bind(last()).fetch(live));
        let rebuilt = Reader::new(sqlx::query_as(&rebuilt_query).bind(tenants()).bind(last()).fetch(&mut *rebuilt));
        merge(live, rebuilt, table.name.clone()).await?
    };
    if table.is_the_trail() {
        for Archived { tenant_id, last_position, hash } in archived {
            let query = format!("select hash from {beside}.audit_event where tenant_id = $1 and position = $2");
            let found: Option<String> =
                sqlx::query_scalar(&query).bind(tenant_id).bind(last_position).fetch_optional(&mut *rebuilt).await?;
            if found.as_ref() != Some(hash) {
                comparison.differences += 1;
                let key = vec![tenant_id.to_string(), last_position.to_string()];
                comparison.first.push(Difference { key, kind: Kind::Archive });
            }
        }
        comparison.first.truncate(NAMED);
    }
    Ok(comparison)
}

async fn merge<L, R>(mut live: Reader<L>, mut rebuilt: Reader<R>, table: String) -> Result<Comparison, Error>
where
    L: Stream<Item = Result<Row, sqlx::Error>> + Unpin,
    R: Stream<Item = Result<Row, sqlx::Error>> + Unpin,
{
    let (mut differences, mut only_rebuilt, mut first) = (0, 0, Vec::new());
    let mut differs = |key: &[String], kind: &dyn Fn() -> Kind| {
        differences += 1;
        if first.len() < NAMED {
            first.push(Difference { key: key.to_vec(), kind: kind() });
        }
    };
    let (mut left, mut right) = (live.next().await?, rebuilt.next().await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((key, _)), Some((other, _))) => key.cmp(other),
        };
        match (order, &left, &right) {
            (Ordering::Equal, Some((key, row)), Some((_, other))) if row != other => {
                differs(key, &|| Kind::Columns(different_columns(row, other)));
            }
            (Ordering::Less, Some((key, _)), _) => differs(key, &|| Kind::OnlyLive),
            (Ordering::Greater, _, Some((key, _))) => {
                only_rebuilt += 1;
                differs(key, &|| Kind::OnlyRebuilt);
            }
            _ => {}
        }
        if order.is_le() {
            left = live.next().await?;
        }
        if order.is_ge() {
            right = rebuilt.next().await?;
        }
    }
    Ok(Comparison { table, live: live.end(), rebuilt: rebuilt.end(), differences, only_rebuilt, first })
}

/// The names alone: values may be a tenant's content.
fn different_columns(row: &str, other: &str) -> Vec<String> {
    let parse = |row: &str| serde_json::from_str::<Value>(row).unwrap_or_default();
    let (row, other) = (parse(row), parse(other));
    let columns = row.as_object().into_iter().flatten();
    let different: Vec<_> =
        columns.filter(|(name, value)| other.get(name) != Some(value)).map(|(name, _)| name.clone()).collect();
    // The same values in another spelling are another text.
    if different.is_empty() { vec!["the spelling".to_owned()] } else { different }
}

/// Reads one side and adds it up.
struct Reader<S> {
    rows: S,
    count: u64,
    digest: Context,
}

impl<S: Stream<Item = Result<Row, sqlx::Error>> + Unpin> Reader<S> {
    fn new(rows: S) -> Self {
        Self { rows, count: 0, digest: Context::new(&SHA256) }
    }

    async fn next(&mut self) -> Result<Option<Row>, sqlx::Error> {
        let row = self.rows.try_next().await?;
        if let Some((_, text)) = &row {
            self.count += 1;
            self.digest.update(text.as_bytes());
            self.digest.update(b"\n");
        }
        Ok(row)
    }

    fn end(self) -> Side {
        Side { rows: self.count, digest: canonical::hex(self.digest.finish().as_ref()) }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn compared(live: &[(&str, &str)], rebuilt: &[(&str, &str)]) -> Comparison {
        let rows = |rows: &[(&str, &str)]| -> Vec<Result<Row, sqlx::Error>> {
            rows.iter().map(|(key, row)| Ok((vec![(*key).to_owned()], (*row).to_owned()))).collect()
        };
        merge(Reader::new(stream::iter(rows(live))), Reader::new(stream::iter(rows(rebuilt))), "t".to_owned()).await.unwrap()
    }

    #[tokio::test]
    async fn every_kind_of_difference_is_named_by_its_key() {
        let live = [("a", r#"{"x":1,"y":1}"#), ("b", "{}"), ("d", r#"{"x":1}"#)];
        let rebuilt = [("a", r#"{"x":1,"y":2}"#), ("c", "{}"), ("d", r#"{"x":1 }"#), ("e", "{}")];
        let found = compared(&live, &rebuilt).await;
        let named: Vec<_> = found.first.iter().map(ToString::to_string).collect();
        let expected = [
            "row (a): y differs",
            "row (b): no event made it",
            "row (c): it is missing",
            "row (d): the spelling differs",
            "row (e): it is missing",
        ];
        assert_eq!(named, expected);
        assert_eq!((found.differences, found.live.rows, found.rebuilt.rows, found.is_equal()), (5, 3, 4, false));
        assert_eq!(found.only_rebuilt, 2);
    }

    #[tokio::test]
    async fn the_same_rows_have_the_same_digest_and_order_matters() {
        let found = compared(&[("a", "{}"), ("b", "[]")], &[("a", "{}"), ("b", "[]")]).await;
        assert!(found.is_equal() && found.live.digest == found.rebuilt.digest);
        assert_ne!(compared(&[("a", "[]"), ("b", "{}")], &[]).await.live.digest, found.live.digest);
        assert!(compared(&[], &[]).await.is_equal());
    }

    #[tokio::test]
    async fn of_many_differences_the_first_are_named_and_all_are_counted() {
        let keys: Vec<_> = (10..=30).map(|number| number.to_string()).collect();
        let live: Vec<_> = keys.iter().map(|key| (key.as_str(), "{}")).collect();
        for (count, named) in [(9, 9), (10, 10), (11, 10)] {
            let found = compared(&live[..count], &[]).await;
            assert_eq!((found.differences, found.first.len(), found.only_rebuilt), (count as u64, named, 0));
            // One that only the rebuilt have is counted wherever it comes.
            let more: Vec<_> = [("99", "{}")].into_iter().collect();
            assert_eq!(compared(&live[..count], &more).await.only_rebuilt, 1);
        }
    }
}
