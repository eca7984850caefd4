//! What `toolgate replay` says: how far it is on stderr, what it found on stdout.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use toolgate_projector::rebuild::{Comparison, Folds, Progress, Standing};

/// How often it says how far it is.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// What was shown last.
pub(super) struct Shown {
    at: Instant,
    events: u64,
}

impl Shown {
    pub fn begin() -> Self {
        Self { at: Instant::now(), events: 0 }
    }

    pub fn show(&mut self, progress: &Progress) {
        let events = progress.events();
        let rate = per_second(events - self.events, self.at.elapsed());
        (self.at, self.events) = (Instant::now(), events);
        let partitions = progress.partitions();
        let all = partitions.values().fold(Standing::default(), |sum, standing| Standing {
            reached: sum.reached + standing.reached,
            target: sum.target + standing.target,
        });
        // A partition that is done is not worth a place on the line.
        let each: String = partitions
            .iter()
            .filter(|(_, standing)| standing.reached < standing.target)
            .map(|(partition, standing)| format!("  {partition}: {}%", percent(*standing)))
            .collect();
        eprintln!("{:>3}%  {events} events, {rate}/s{each}", percent(all));
    }
}

/// The sum of it.
pub(super) fn rate(progress: &Progress, took: Duration) {
    let events = progress.events();
    eprintln!("replayed {events} events in {:.1} s: {} events/s", took.as_secs_f64(), per_second(events, took));
}

/// A line for each projection, and under it what differs.
pub(super) fn comparisons(comparisons: &[Comparison], mut output: impl Write) -> io::Result<()> {
    for comparison in comparisons {
        let Comparison { table, live, rebuilt, differences, first, .. } = comparison;
        let verdict = if comparison.is_equal() { "equal" } else { "DIFFERENT" };
        writeln!(output, "{table}: {verdict}")?;
        writeln!(output, "  live    {} {:>9} rows", live.digest, live.rows)?;
        writeln!(output, "  rebuilt {} {:>9} rows", rebuilt.digest, rebuilt.rows)?;
        for difference in first {
            writeln!(output, "  {table}, {difference}")?;
        }
        let unnamed = differences - first.len() as u64;
        if unnamed > 0 {
            writeln!(output, "  and {unnamed} rows more")?;
        }
    }
    output.flush()
}

/// What the second opinion on the calls is.
pub(super) fn folds(folds: &Folds, mut output: impl Write) -> io::Result<()> {
    let verdict = if folds.different == 0 { "equal" } else { "DIFFERENT" };
    writeln!(output, "{} calls folded again by cqrs-es from their events: {verdict}", folds.calls)?;
    for (tenant, call) in &folds.first {
        writeln!(output, "  tool_call, row ({tenant}, {call}): its events make another call")?;
    }
    output.flush()
}

fn percent(standing: Standing) -> u64 {
    (standing.reached * 100).checked_div(standing.target).unwrap_or(100)
}

fn per_second(events: u64, took: Duration) -> u64 {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    events * 1_000 / milliseconds
}

#[cfg(test)]
mod tests {
    use toolgate_projector::rebuild::{Difference, Kind, Side};

    use super::*;

    #[test]
    fn a_difference_is_shown_under_its_projection() {
        let side = |rows, digest: &str| Side { rows, digest: digest.to_owned() };
        let first = vec![Difference { key: vec!["t".to_owned(), "7".to_owned()], kind: Kind::Columns(vec!["title".to_owned()]) }];
        let found = Comparison {
            table: "task".to_owned(),
            live: side(1, "aa"),
            rebuilt: side(2, "bb"),
            differences: 3,
            only_rebuilt: 1,
            first,
        };
        let mut shown = Vec::new();
        comparisons(&[found], &mut shown).unwrap();
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            "task: DIFFERENT\n  live    aa         1 rows\n  rebuilt bb         2 rows\n  task, row (t, 7): title differs\n  \
             and 2 rows more\n"
        );
    }

    #[test]
    fn rates_and_shares_survive_nothing_to_do() {
        assert_eq!(percent(Standing::default()), 100);
        assert_eq!(percent(Standing { reached: 1, target: 3 }), 33);
        assert_eq!(per_second(5, Duration::ZERO), 5_000);
    }
}
