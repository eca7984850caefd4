//! Which documents match, and how well. See docs/adr/0008-full-text-under-row-level-security.md for why the search is a setting.

use std::cmp::Ordering;

use serde_json::Value;
use toolgate_events::tools::{KnowledgeFilters, MAX_RANKED};
use toolgate_security::TenantTx;

/// Common words are looked for in so many of the newest documents first: where they suffice, the others are not touched.
const WINDOW: i64 = 4_000;
/// How many bits of the positions the index's keys leave out, and how many such keys a window may need.
const KEY_BITS: [u32; 4] = [10, 14, 18, 22];
const MAX_KEYS: i64 = 17;

/// A query is read once per language configuration that the tenant's documents have, and meets the documents of that
/// configuration, so that each document is searched in its own language. A query may hold no word to look for. Beside it, the newest
/// document, and the oldest of a window.
const READ: &str = r"
    select newest.position as newest, oldest.position as oldest_of_window, config::text,
           websearch_to_tsquery(config, $1)::text as words, tsvector_to_array(to_tsvector(config, $1)) as title_words
    from (select 1) as one
    left join (select position from knowledge_document where position <= $3 order by position desc limit 1) as newest on true
    left join (select position from knowledge_document where position <= $3 order by position desc limit 1 offset $4) as oldest
        on true
    left join unnest($2::regconfig[]) as config
        on exists (select from knowledge_document where search_config = config)
        and numnode(websearch_to_tsquery(config, $1)) > 0";

/// The row policy does the search. Documents in the caller's language count double.
const CANDIDATES: &str = r"
    with query as (select * from unnest($1::text[]::regconfig[], $2::text[]::tsquery[]) as query (config, words)),
    match as materialized (
        select document_id, position, search_config, search_vector from knowledge_index
        where position <= $3
          and ($4::jsonb is null or metadata @> $4)
          and ($5::text[] is null or document_id = any($5))
          and ($6::timestamptz is null or updated_at > $6)
        order by position desc limit $7
    )
    select document_id, position,
           (ts_rank_cd(search_vector, words) * case when config = $8::text::regconfig then 2 else 1 end)::float8 as score
    from match join query on config = search_config";

/// A document that matches.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Candidate {
    pub document_id: String,
    pub position: i64,
    pub score: f64,
}

impl Candidate {
    /// The better one first; equal ones by name, so that an answer is the same each time.
    pub fn cmp_rank(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.document_id.cmp(&other.document_id))
    }
}

/// The query as one language configuration reads it.
#[derive(Debug)]
struct Reading {
    config: String,
    words: String,
    title_words: Vec<String>,
}

/// A row of [`READ`]: the newest document, the oldest of a window, and a reading.
type Row = (Option<i64>, Option<i64>, Option<String>, Option<String>, Option<Vec<String>>);

/// A search in the documents up to a position.
#[derive(Debug)]
pub struct Search<'a> {
    readings: Vec<Reading>,
    filters: &'a KnowledgeFilters,
    /// The configuration of the caller's language.
    preferred: Option<&'static str>,
    /// The newest document searched.
    pub newest: i64,
    /// The oldest document of the window; absent when there are not that many documents.
    oldest_of_window: Option<i64>,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Best first.
    pub candidates: Vec<Candidate>,
    pub is_complete: bool,
}

impl<'a> Search<'a> {
    /// Reads the query; `up_to` is the last position searched.
    pub async fn prepare(
        transaction: &mut TenantTx,
        query: &str,
        filters: &'a KnowledgeFilters,
        configs: &[&str],
        preferred: Option<&'static str>,
        up_to: Option<i64>,
    ) -> Result<Self, sqlx::Error> {
        let rows: Vec<Row> = sqlx::query_as(READ)
            .bind(query)
            .bind(configs)
            .bind(up_to.unwrap_or(i64::MAX))
            .bind(WINDOW)
            .fetch_all(&mut **transaction)
            .await?;
        let (newest, oldest_of_window) = rows.first().map_or((None, None), |row| (row.0, row.1));
        let reading =
            |(_, _, config, words, title_words): Row| Some(Reading { config: config?, words: words?, title_words: title_words? });
        let readings = rows.into_iter().filter_map(reading).collect();
        Ok(Self { readings, filters, preferred, newest: up_to.or(newest).unwrap_or(0), oldest_of_window })
    }

    /// Ranks what matches: all of it up to [`MAX_RANKED`], else those with all the words in the title, then the newest.
    pub async fn run(&self, transaction: &mut TenantTx) -> Result<Found, sqlx::Error> {
        let newest_first = match self.window() {
            Some(window) => self.matches(transaction, &window, false).await?,
            None => Vec::new(),
        };
        let newest_first = if is_more(&newest_first) { newest_first } else { self.matches(transaction, "", false).await? };
        let is_complete = !is_more(&newest_first);
        let mut candidates = if is_complete { Vec::new() } else { self.matches(transaction, "", true).await? };
        for candidate in newest_first {
            if !candidates.iter().any(|known| known.position == candidate.position) {
                candidates.push(candidate);
            }
        }
        candidates.truncate(MAX_RANKED as usize);
        candidates.sort_by(Candidate::cmp_rank);
        Ok(Found { candidates, is_complete })
    }

    /// One more than are ranked, newest first.
    async fn matches(&self, transaction: &mut TenantTx, window: &str, in_title: bool) -> Result<Vec<Candidate>, sqlx::Error> {
        let query = self.index_query(window, in_title);
        if query.is_empty() {
            return Ok(Vec::new());
        }
        transaction.look_for(&query).await?;
        let column = |of: fn(&Reading) -> &str| self.readings.iter().map(of).collect::<Vec<_>>();
        let mut candidates: Vec<Candidate> = sqlx::query_as(CANDIDATES)
            .bind(column(|reading| &reading.config))
            .bind(column(|reading| &reading.words))
            .bind(self.newest)
            .bind(self.filters.metadata.clone().map(Value::Object))
            .bind(&self.filters.document_ids)
            .bind(self.filters.updated_after)
            .bind(i64::from(MAX_RANKED) + 1)
            .bind(self.preferred)
            .fetch_all(&mut **transaction)
            .await?;
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.position));
        Ok(candidates)
    }

    /// What the index is asked (a tsquery): the words in each configuration, and the keys of migrations/0008_knowledge_index.sql.
    fn index_query(&self, window: &str, in_title: bool) -> String {
        let readings: Vec<_> = self
            .readings
            .iter()
            .map(|Reading { config, words, title_words }| {
                let mut reading = format!("{} & ({words})", key(2, config));
                for word in title_words.iter().filter(|_| in_title) {
                    reading.push_str(" & ");
                    reading.push_str(&key(3, word));
                }
                format!("({reading})")
            })
            .collect();
        if readings.is_empty() {
            return String::new();
        }
        let locale = self.filters.locale.as_deref().map(|locale| format!(" & {}", key(4, &locale.to_lowercase())));
        format!("({}){}{window}", readings.join(" | "), locale.unwrap_or_default())
    }

    /// The keys of the newest documents.
    fn window(&self) -> Option<String> {
        let oldest = self.oldest_of_window?;
        let bits = KEY_BITS.into_iter().find(|bits| (self.newest >> bits) - (oldest >> bits) < MAX_KEYS)?;
        let keys: Vec<_> = (oldest >> bits..=self.newest >> bits).map(|rest| key(5, &format!("{bits}:{rest}"))).collect();
        Some(format!(" & ({})", keys.join(" | ")))
    }
}

fn is_more(candidates: &[Candidate]) -> bool {
    candidates.len() > MAX_RANKED as usize
}

/// A key of the index as a lexeme of a tsquery.
fn key(mark: u8, text: &str) -> String {
    format!("'{}{}'", char::from(mark), text.replace('\\', r"\\").replace('\'', "''"))
}
