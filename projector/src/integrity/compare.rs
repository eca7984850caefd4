//! Pure: one event of the log and the row that was made of it.

use std::collections::HashMap;

use toolgate_events::TenantId;
use toolgate_store::Received;

use super::Mismatch;
use crate::{
    audit_row::SpelledRow,
    batch::{self, Head},
};

/// Where a tenant's chain is at a place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub position: u64,
    pub hash: String,
}

impl Link {
    pub fn genesis(tenant: TenantId) -> Self {
        let Head { position, hash, .. } = Head::genesis(tenant);
        Self { position, hash }
    }
}

/// Compares the event with the row after `before`, and answers with the link that the row is. `None` for what belongs to no tenant.
///
/// # Errors
/// [`Mismatch`]
pub fn compare(message: &Received, partitions: u16, before: &Link, row: Option<&SpelledRow>) -> Result<Option<Link>, Mismatch> {
    if batch::tenant_of(message, partitions).is_none() {
        return Ok(None);
    }
    let (stream_sequence, position) = (message.stream_sequence, before.position + 1);
    let Some(SpelledRow { row, data }) = row else { return Err(Mismatch::NoRow { stream_sequence, position }) };
    if row.position != position || row.stream_sequence > stream_sequence {
        return Err(Mismatch::NoRow { stream_sequence, position });
    }
    if row.stream_sequence < stream_sequence {
        return Err(Mismatch::Extra { stream_sequence: row.stream_sequence, position });
    }
    // First its own content: a row that was changed says so whatever the log holds.
    if row.hash_over(data) != row.hash {
        return Err(Mismatch::RowChanged { stream_sequence, position });
    }
    if row.prev_hash != before.hash {
        return Err(Mismatch::Unlinked { stream_sequence, position });
    }
    match follow(message, partitions, before) {
        Some(next) if next.hash == row.hash => Ok(Some(next)),
        _ => Err(Mismatch::Differs { stream_sequence, position }),
    }
}

/// The link that the event makes of the one before it. The chain is over what is stored, sealed or not, so nothing is opened.
/// `None` for what belongs to no tenant.
pub fn follow(message: &Received, partitions: u16, before: &Link) -> Option<Link> {
    let tenant = batch::tenant_of(message, partitions)?;
    let head = Head { position: before.position, hash: before.hash.clone(), ..Head::genesis(tenant) };
    let again = batch::number(message, None, partitions, &mut HashMap::from([(tenant, head)]))?;
    Some(Link { position: again.row.position, hash: again.row.hash })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use toolgate_events::Partition;
    use uuid::Uuid;

    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(1));

    fn message(stream_sequence: u64, payload: &'static [u8]) -> Received {
        Received {
            partition: Partition(0),
            stream_sequence,
            subject: format!("ev.00.{}.task.{}", TENANT.0, Uuid::from_u128(9)),
            payload: Bytes::from_static(payload),
        }
    }

    /// The rows that were made of the messages.
    fn rows(messages: &[Received]) -> Vec<SpelledRow> {
        let mut heads = HashMap::new();
        let numbered = messages.iter().map(|message| batch::number(message, None, 1, &mut heads).unwrap());
        numbered.map(|numbered| SpelledRow { row: numbered.row, data: numbered.data }).collect()
    }

    #[test]
    fn what_was_projected_agrees_and_whatever_was_changed_is_named() {
        let messages = [message(3, b"one"), message(5, b"two")];
        let rows = rows(&messages);
        let first = compare(&messages[0], 1, &Link::genesis(TENANT), Some(&rows[0])).unwrap().unwrap();
        assert_eq!(first, Link { position: 1, hash: rows[0].row.hash.clone() });
        assert!(compare(&messages[1], 1, &first, Some(&rows[1])).unwrap().is_some());

        let found = |message: &Received, row: Option<&SpelledRow>| compare(message, 1, &first, row).unwrap_err();
        let (stream_sequence, position) = (5, 2);
        assert_eq!(found(&message(5, b"twO"), Some(&rows[1])), Mismatch::Differs { stream_sequence, position });
        assert_eq!(found(&messages[1], None), Mismatch::NoRow { stream_sequence, position });
        let changed = |change: fn(&mut SpelledRow)| {
            let mut row = rows[1].clone();
            change(&mut row);
            found(&messages[1], Some(&row))
        };
        let row_changed = Mismatch::RowChanged { stream_sequence, position };
        assert_eq!(changed(|stored| stored.row.actor.push('x')), row_changed);
        assert_eq!(changed(|stored| stored.data.push(' ')), row_changed);
        assert_eq!(changed(|stored| stored.row.hash.push('0')), row_changed);
        assert_eq!(changed(|stored| stored.row.position = 3), Mismatch::NoRow { stream_sequence, position });
        assert_eq!(changed(|stored| stored.row.stream_sequence = 6), Mismatch::NoRow { stream_sequence, position });
        assert_eq!(changed(|stored| stored.row.stream_sequence = 4), Mismatch::Extra { stream_sequence: 4, position });
        // One who rewrites the row and its hash alike still has to answer to the log, and to the row before.
        assert_eq!(
            changed(|stored| {
                stored.row.actor.push('x');
                stored.row.hash = stored.row.hash_over(&stored.data);
            }),
            Mismatch::Differs { stream_sequence, position }
        );
        assert_eq!(
            changed(|stored| {
                stored.row.prev_hash = "00".to_owned();
                stored.row.hash = stored.row.hash_over(&stored.data);
            }),
            Mismatch::Unlinked { stream_sequence, position }
        );
    }

    #[test]
    fn what_belongs_to_no_tenant_has_no_row() {
        let stray = Received { subject: "ev.00.x".to_owned(), ..message(1, b"x") };
        assert_eq!(compare(&stray, 1, &Link::genesis(TENANT), None), Ok(None));
    }
}
