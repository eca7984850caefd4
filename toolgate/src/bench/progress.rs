//! How far the bench is: a bar on a terminal, a line per step elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// The bar. It disappears when dropped.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Bar {
    pub fn new(steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, is_terminal: std::io::stderr().is_terminal() }
    }

    /// The next step begins.
    pub fn step(&self, name: &str) {
        self.bar.inc(1);
        self.bar.set_message(name.to_owned());
        if !self.is_terminal {
            eprintln!("[{}/{}] {name}", self.bar.position(), self.bar.length().unwrap_or_default());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
