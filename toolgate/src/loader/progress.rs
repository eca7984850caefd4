//! How far a load is: a bar on a terminal, a line now and then elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// Elsewhere, of the bytes.
const LINES: u64 = 10;

/// The bar. It disappears when dropped.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Bar {
    pub fn new(bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {elapsed} (left {eta})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, is_terminal: std::io::stderr().is_terminal() }
    }

    pub fn advance(&self, bytes: u64) {
        let total = self.bar.length().unwrap_or_default().max(1);
        let before = self.bar.position() * LINES / total;
        self.bar.inc(bytes);
        let after = self.bar.position() * LINES / total;
        if !self.is_terminal && after > before {
            eprintln!("{} of {total} bytes", self.bar.position());
        }
    }

    /// A line of its own.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
