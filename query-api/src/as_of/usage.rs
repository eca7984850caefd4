use std::collections::BTreeMap;

use chrono::{Days, NaiveDate, NaiveTime};
use toolgate_events::Usage;

use super::each_event;
use crate::{
    Error, State,
    catch_up::Reading,
    queries::{
        audit::{AuditFilter, Stretch},
        usage::UsageRow,
    },
};

/// What had been used up to the reading's position, of rows that say what has been used since.
///
/// A row that nothing was added to since then is what it was; for the others, what was added up to there is added up again.
///
/// # Errors
/// [`Error::AsOfTooMuch`], [`Error::AsOfTooLong`]
pub(crate) async fn usage(state: &State, reading: Reading, rows: Vec<UsageRow>) -> Result<Vec<UsageRow>, Error> {
    let (tenant, up_to) = (reading.tenant, reading.position);
    reading.end(()).await?;
    let (whole, begun): (Vec<_>, Vec<_>) =
        rows.into_iter().filter(|row| row.first_position <= up_to).partition(|row| row.position <= up_to);
    let (Some(first), Some(from), Some(to)) = (
        begun.iter().map(|row| row.first_position).min(),
        begun.iter().map(|row| row.day).min(),
        begun.iter().map(|row| row.day).max().and_then(|day| day.checked_add_days(Days::new(1))),
    ) else {
        return Ok(whole);
    };
    let mut sums: BTreeMap<(NaiveDate, String), UsageRow> = begun
        .into_iter()
        .map(|row| ((row.day, row.tool.clone()), UsageRow { position: row.first_position, usage: Usage::default(), ..row }))
        .collect();
    let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    let filter = AuditFilter { from: Some(midnight(from)), to: Some(midnight(to)), ..AuditFilter::default() };
    each_event(state, tenant, &filter, Stretch { after: first - 1, up_to }, |past| {
        let Some((tool, usage)) = Usage::of(&past.row, &past.event) else { return };
        let key = (past.row.occurred_at.date_naive(), tool.unwrap_or_default().to_owned());
        if let Some(row) = sums.get_mut(&key) {
            row.position = past.row.position;
            row.usage.merge(&usage);
        }
    })
    .await?;
    let mut rows: Vec<_> = whole.into_iter().chain(sums.into_values()).collect();
    rows.sort_by(|one, other| (one.day, &one.tool).cmp(&(other.day, &other.tool)));
    Ok(rows)
}
