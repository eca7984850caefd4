//! Checks an export line by line, from its text alone. Pure: who reads the lines, and from where, is somebody else's affair.

use std::fmt;

use super::{AuditRow, Signed, genesis_hash};
use crate::canonical;

/// Bytes of a line at the most, newline included: some times more than the largest event comes to.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// Reads an export and holds nothing but the place it has come to.
#[derive(Debug)]
pub struct Verifier {
    first: u64,
    signed: Signed,
    /// The line that was read last.
    line: u64,
    /// Position of the last row that is in order, and its hash; before the first row the hash is known only to some.
    last: u64,
    hash: Option<String>,
    /// The newest position that a checkpoint has confirmed.
    attested: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading,
    /// A row is missing. Perhaps it stands further down.
    Seeking(Finding),
    Found(Finding),
}

/// The first row that is not as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where in the export, from 1.
    pub line: u64,
    pub position: u64,
    pub what: What,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its text was changed, and is no row any more.
    Unreadable(&'static str),
    /// Its content was changed.
    Changed,
    /// Rows up to `to` are missing.
    Dropped { to: u64 },
    /// The export begins later.
    BeginsLater { at: u64 },
    /// It stands on a later line.
    Moved { to_line: u64 },
    /// A row with this position was there already.
    Inserted,
    /// It is not the row that the next one follows: one of the two was rewritten, hash and all.
    Unlinked,
    /// The first row follows something else than the beginning of the tenant's chain, or the row before it.
    Foreign,
    /// Row `signed` is not the one that was signed: it, or one before it from this position on, was rewritten, hash and all.
    Rewritten { signed: u64 },
    /// Rows up to `to` are missing at the end.
    CutOff { to: u64 },
}

/// What was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub first: u64,
    /// Below `first` when there are no rows.
    pub last: u64,
    /// Of the last row.
    pub hash: Option<String>,
    /// Up to which row checkpoints have confirmed it.
    pub attested: Option<u64>,
    /// Whether it is known to begin where the tenant's chain begins, or after a row that was signed.
    pub is_anchored: bool,
}

impl Verifier {
    /// For an export that begins with row `first`, which is 1 for a whole one.
    pub fn new(first: u64, signed: Signed) -> Self {
        let last = first.saturating_sub(1);
        let hash = match last {
            0 => signed.tenant.map(genesis_hash),
            last => signed.hash_at(last).map(str::to_owned),
        };
        let attested = signed.hash_at(last).map(|_| last);
        Self { first, signed, line: 0, last, hash, attested, state: State::Reading }
    }

    /// Takes the next line, newline included; of a longer one than [`MAX_LINE`], its beginning is enough. False when no more lines are
    /// needed to say what is wrong.
    pub fn take(&mut self, line: &[u8]) -> bool {
        self.line += 1;
        match &mut self.state {
            State::Reading => match self.judge(line) {
                Ok(()) => true,
                Err(finding) if matches!(finding.what, What::Dropped { .. } | What::BeginsLater { .. }) => {
                    self.state = State::Seeking(finding);
                    true
                }
                Err(finding) => {
                    self.state = State::Found(finding);
                    false
                }
            },
            State::Seeking(finding) => {
                let is_it = read(line).is_ok_and(|row| row.position == finding.position);
                if is_it {
                    finding.what = What::Moved { to_line: self.line };
                    self.state = State::Found(finding.clone());
                }
                !is_it
            }
            State::Found(_) => false,
        }
    }

    /// What the lines come to.
    ///
    /// # Errors
    /// The [`Finding`].
    pub fn finish(self) -> Result<Summary, Finding> {
        match self.state {
            State::Seeking(finding) | State::Found(finding) => return Err(finding),
            State::Reading => {}
        }
        if let Some(to) = self.signed.newest().filter(|newest| *newest > self.last) {
            return Err(Finding { line: self.line + 1, position: self.last + 1, what: What::CutOff { to } });
        }
        let is_anchored =
            if self.first <= 1 { self.signed.tenant.is_some() } else { self.signed.hash_at(self.first - 1).is_some() };
        Ok(Summary { first: self.first, last: self.last, hash: self.hash, attested: self.attested, is_anchored })
    }

    fn judge(&mut self, line: &[u8]) -> Result<(), Finding> {
        let due = self.last + 1;
        let finding = |position, what| Err(Finding { line: self.line, position, what });
        let row = match read(line) {
            Ok(row) => row,
            Err(what) => return finding(due, what),
        };
        if row.position > due {
            let to = row.position - 1;
            return finding(due, if self.line == 1 { What::BeginsLater { at: row.position } } else { What::Dropped { to } });
        }
        if row.position < due {
            return finding(row.position, What::Inserted);
        }
        if self.hash.as_ref().is_some_and(|hash| *hash != row.prev_hash) {
            if self.line == 1 {
                return finding(due, What::Foreign);
            }
            // Rows that were signed are as they were: then it is this one.
            let position = if self.attested == Some(self.last) { due } else { self.last };
            return Err(Finding { line: self.line - (due - position), position, what: What::Unlinked });
        }
        match self.signed.hash_at(due) {
            Some(signed) if signed != row.hash => {
                let since = self.attested.map_or(self.first, |attested| attested + 1);
                return Err(Finding { line: self.line - (due - since), position: since, what: What::Rewritten { signed: due } });
            }
            Some(_) => self.attested = Some(due),
            None => {}
        }
        self.last = due;
        self.hash = Some(row.hash);
        Ok(())
    }
}

/// A row whose hash is the one of its content.
fn read(line: &[u8]) -> Result<AuditRow, What> {
    if line.len() >= MAX_LINE {
        return Err(What::Unreadable("the line is longer than any row"));
    }
    let row = line.strip_suffix(b"\n").ok_or(What::Unreadable("the line does not end with a newline"))?;
    let text = std::str::from_utf8(row).map_err(|_| What::Unreadable("the line is not UTF-8"))?;
    let row: AuditRow = serde_json::from_str(text).map_err(|error| {
        // The library's words would repeat what the line says.
        What::Unreadable(if error.is_data() { "the line has not the members of a row" } else { "the line is not JSON" })
    })?;
    let data = canonical::to_string(&row.data);
    if row.line_over(&data).as_bytes() != line {
        return Err(What::Unreadable("the line is not spelled as rows are"));
    }
    if row.hash != row.hash_over(&data) {
        return Err(What::Changed);
    }
    Ok(row)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, position, what } = self;
        write!(f, "line {line}, row {position}: ")?;
        match what {
            What::Unreadable(why) => write!(f, "it was changed: {why}"),
            What::Changed => write!(f, "it was changed: its hash is not the one of its content"),
            What::Dropped { to } if to == position => write!(f, "it is missing"),
            What::Dropped { to } => write!(f, "rows {position} to {to} are missing"),
            What::CutOff { to } if to == position => write!(f, "it is missing at the end, and was signed"),
            What::CutOff { to } => write!(f, "rows {position} to {to} are missing at the end, and were signed"),
            What::BeginsLater { at } => {
                write!(f, "rows {position} to {} are missing; where they are kept elsewhere, say --from {at}", at - 1)
            }
            What::Moved { to_line } => write!(f, "it is out of order: it stands on line {to_line}"),
            What::Inserted => write!(f, "a row was inserted: this position has been passed already"),
            What::Unlinked => write!(f, "it was rewritten: its neighbours do not belong to it"),
            What::Foreign => write!(f, "it does not follow what it must follow: it is from another chain"),
            What::Rewritten { signed } if signed == position => write!(f, "it was rewritten: it is not the row that was signed"),
            What::Rewritten { signed } => {
                write!(f, "it, or a row up to {signed}, was rewritten: row {signed} is not the one that was signed")
            }
        }
    }
}

#[cfg(test)]
mod tests;
