//! The figures as a table for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

use super::{
    Options,
    figures::{Figures, Row, Spread},
};

/// What a bench says in the end.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How it was measured.
    pub conditions: Conditions,
    pub figures: Vec<Row>,
    /// What could not be measured, and why.
    pub skipped: Vec<&'static str>,
    pub failed_requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
}

/// How it was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Conditions {
    /// `null` for a system that was running already: only its operator knows.
    pub durable: Option<bool>,
    /// Whether this program was built with optimisations; figures without are worth nothing.
    pub release: bool,
    pub runs: u32,
    pub seconds: u64,
    pub connections: usize,
    pub tenants: usize,
    pub processors: usize,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        durable: Option<bool>,
        tenants: usize,
        figures: Figures,
        skipped: Vec<&'static str>,
    ) -> Self {
        let conditions = Conditions {
            durable,
            release: !cfg!(debug_assertions),
            runs: options.runs,
            seconds: options.seconds,
            connections: options.connections,
            tenants,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
        };
        let rows = figures.rows();
        let Figures { failed_requests, first_failure, .. } = figures;
        Self { conditions, figures: rows, skipped, failed_requests, first_failure }
    }

    /// Targets that were measured and not met.
    pub fn missed(&self) -> usize {
        self.figures.iter().filter(|row| row.met == Some(false)).count()
    }
}

const HEADINGS: [&str; 7] = ["", "", "ours", "floor", "ratio", "target", ""];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions { durable, release, runs, seconds, connections, tenants, processors } = self.conditions;
        let log = match durable {
            Some(true) => "durable",
            Some(false) => "relaxed",
            None => "a running system",
        };
        writeln!(
            f,
            "{log}; {connections} connections, {tenants} tenants, {processors} processors; medians (least–most) of {runs} runs, \
             {seconds} s a measurement"
        )?;
        if !release {
            writeln!(f, "This is a debug build: the figures mean nothing. Use cargo run --release.")?;
        }
        writeln!(f)?;
        let rows: Vec<_> = self.figures.iter().map(cells).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].as_str()).chain([HEADINGS[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        line(f, &HEADINGS.map(str::to_owned), &widths)?;
        for row in &rows {
            line(f, row, &widths)?;
        }
        if self.failed_requests > 0 {
            let first = self.first_failure.as_deref().unwrap_or_default();
            writeln!(f, "\n{} requests failed; the first: {first}", self.failed_requests)?;
        }
        if !self.skipped.is_empty() {
            writeln!(f)?;
        }
        for skipped in &self.skipped {
            writeln!(f, "Skipped: {skipped}.")?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 7] {
    let met = match row.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "",
    };
    let shown = |spread: &Option<Spread>| spread.as_ref().map(show).unwrap_or_default();
    [
        row.name.to_owned(),
        row.unit.to_owned(),
        show(&row.ours),
        shown(&row.floor),
        shown(&row.ratio),
        row.target.clone().unwrap_or_default(),
        met.to_owned(),
    ]
}

fn show(spread: &Spread) -> String {
    let number = |value: f64| if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    match spread.runs.len() {
        0 | 1 => number(spread.median),
        _ => format!("{} ({}–{})", number(spread.median), number(spread.least), number(spread.most)),
    }
}

fn line(f: &mut fmt::Formatter<'_>, cells: &[String; 7], widths: &[usize; 7]) -> fmt::Result {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        // Numbers to the right, words to the left.
        let is_number = (2..=4).contains(&column);
        let padded = if is_number { format!("{padding}{cell}") } else { format!("{cell}{padding}") };
        text.push_str(&padded);
        text.push_str("  ");
    }
    writeln!(f, "{}", text.trim_end())
}
