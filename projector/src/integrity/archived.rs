//! Pure: what of a tenant's trail is in the archive, as its list and the table say. The list alone is not believed: one line in it
//! must not take rows out of the check.

use std::collections::BTreeMap;

use super::Mismatch;

/// The segments of a tenant, and where its rows in the table begin and end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// By first position: the last one, and the hash there.
    pub segments: BTreeMap<u64, (u64, String)>,
    /// Position and stream sequence of the oldest row in the table.
    pub oldest: Option<(u64, u64)>,
    /// Position of the newest one.
    pub newest: Option<u64>,
}

impl Archived {
    /// The last position whose row is to be had from the archive alone, 0 for none: what is in the table still is compared there.
    pub fn upto(&self) -> u64 {
        let listed = self.segments.last_key_value().map_or(0, |(_, (last, _))| *last);
        self.oldest.map_or(listed, |(oldest, _)| listed.min(oldest.saturating_sub(1)))
    }

    /// The hash that a segment has at its end, where one ends at this position.
    pub fn hash_at(&self, position: u64) -> Option<&str> {
        let (_, (last, hash)) = self.segments.range(..=position).next_back()?;
        (*last == position).then_some(hash)
    }

    /// Segments follow each other from the first position on without a gap, and the newest row is in none of them.
    ///
    /// # Errors
    /// [`Mismatch::Archive`] naming the position from which on that does not hold. `stream_sequence` is where the check was.
    pub fn check(&self, stream_sequence: u64) -> Result<(), Mismatch> {
        let mut end = 0;
        for (first, (last, _)) in &self.segments {
            if *first != end + 1 || last < first || self.newest.is_none_or(|newest| *last >= newest) {
                return Err(Mismatch::Archive { stream_sequence, position: *first });
            }
            end = *last;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archived(segments: &[(u64, u64)], oldest: Option<u64>, newest: Option<u64>) -> Archived {
        let segments = segments.iter().map(|(first, last)| (*first, (*last, format!("hash {last}")))).collect();
        Archived { segments, oldest: oldest.map(|position| (position, position * 10)), newest }
    }

    #[test]
    fn what_is_in_the_table_is_not_taken_from_the_archive() {
        assert_eq!(archived(&[], Some(1), Some(9)).upto(), 0);
        let segments = [(1, 4), (5, 8)];
        for (oldest, upto) in [(1, 0), (5, 4), (8, 7), (9, 8), (10, 8)] {
            assert_eq!(archived(&segments, Some(oldest), Some(20)).upto(), upto, "{oldest}");
        }
        let archived = archived(&segments, Some(9), Some(9));
        assert_eq!((archived.hash_at(4), archived.hash_at(8)), (Some("hash 4"), Some("hash 8")));
        assert_eq!((archived.hash_at(3), archived.hash_at(5), archived.hash_at(9)), (None, None, None));
    }

    #[test]
    fn segments_have_no_gap_and_leave_the_newest_row() {
        let check = |segments: &[_], newest| archived(segments, Some(1), newest).check(7);
        let wrong = |position| Err(Mismatch::Archive { stream_sequence: 7, position });
        assert_eq!(check(&[(1, 4), (5, 8)], Some(9)), Ok(()));
        assert_eq!(check(&[(1, 4), (5, 8)], Some(8)), wrong(5));
        assert_eq!(check(&[(1, 4), (5, 8)], Some(7)), wrong(5));
        assert_eq!(check(&[(1, 4)], None), wrong(1));
        assert_eq!(check(&[(2, 4)], Some(9)), wrong(2));
        assert_eq!(check(&[(1, 4), (6, 8)], Some(9)), wrong(6));
        assert_eq!(check(&[(1, 4), (4, 8)], Some(9)), wrong(4));
    }
}
