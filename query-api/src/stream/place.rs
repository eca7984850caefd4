/// How far a client has been served. Positions are gapless, so a position alone tells whether something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub u64);

/// What a live event is to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was served from the database already.
    Seen,
    /// The very next one.
    Next,
    /// Others come before it: the database has them.
    Gap,
}

impl Place {
    pub(super) fn judge(self, position: u64) -> Arrival {
        if position <= self.0 {
            Arrival::Seen
        } else if position == self.0 + 1 {
            Arrival::Next
        } else {
            Arrival::Gap
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves `live` to a client that has read up to `place`; the database holds everything up to the newest live event.
    fn served(mut place: Place, live: &[u64]) -> Vec<u64> {
        let mut served = Vec::new();
        for &position in live {
            match place.judge(position) {
                Arrival::Seen => continue,
                Arrival::Next => served.push(position),
                Arrival::Gap => served.extend(place.0 + 1..=position),
            }
            place = Place(position);
        }
        served
    }

    #[test]
    fn the_hand_off_neither_repeats_nor_skips() {
        assert_eq!(served(Place(5), &[3, 4, 5, 6, 7]), [6, 7]);
        assert_eq!(served(Place(5), &[6, 6, 7]), [6, 7]);
        assert_eq!(served(Place(5), &[9, 10]), [6, 7, 8, 9, 10]);
        assert_eq!(served(Place(0), &[1]), [1]);
        assert_eq!(served(Place(5), &[1, 5]), [] as [u64; 0]);
    }
}
