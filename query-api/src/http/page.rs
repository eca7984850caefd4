use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Error;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; null when this is the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A list that is never split.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// The first `limit` of `rows`, of which one more was asked for to see whether it exists.
    pub(crate) fn cut<R>(mut rows: Vec<R>, limit: usize, show: impl FnMut(R) -> T, cursor: impl FnOnce(&R) -> String) -> Self {
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(cursor);
        Self { items: rows.into_iter().map(show).collect(), next_cursor }
    }
}

/// The one parameter that every read takes.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct MinPosition {
    /// Wait, for up to ten seconds, until the tenant is projected up to this position.
    #[param(value_type = Option<String>)]
    pub min_position: Option<u64>,
}

/// No parameters at all: any is one too many.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

/// How many items a page may hold.
pub(crate) fn limit(asked: Option<u32>) -> Result<usize, Error> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) { usize::try_from(limit).map_err(|_| Error::Limit) } else { Err(Error::Limit) }
}

/// Refuses what PostgreSQL's text cannot hold, by the parameter's name.
pub(crate) fn check_text<const N: usize>(parameters: [(&'static str, Option<&str>); N]) -> Result<(), Error> {
    match parameters.iter().find(|(_, value)| value.is_some_and(|value| value.contains('\0'))) {
        Some((name, _)) => Err(Error::Text(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_from_1_to_500() {
        assert_eq!(limit(None).unwrap(), 50);
        assert_eq!(limit(Some(1)).unwrap(), 1);
        assert_eq!(limit(Some(500)).unwrap(), 500);
        assert!(limit(Some(0)).is_err() && limit(Some(501)).is_err());
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let page = |rows: Vec<u64>| Page::cut(rows, 2, |row| row, u64::to_string);
        assert_eq!(page(vec![]).next_cursor, None);
        assert_eq!(page(vec![9, 8]).next_cursor, None);
        let full = page(vec![9, 8, 7]);
        assert_eq!((full.items, full.next_cursor.as_deref()), (vec![9, 8], Some("8")));
    }
}
