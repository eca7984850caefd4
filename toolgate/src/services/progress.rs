//! What a person sees while services are installed and started: one line per step on stderr.

use std::{io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Where steps are shown.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Nowhere; for tests.
    Silent,
    /// One plain line per step, for logs and pipes.
    Lines,
    /// A spinner per running step, for terminals.
    Spinners(MultiProgress),
}

impl Progress {
    /// Spinners when stderr is a terminal, plain lines otherwise.
    pub fn stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Spinners(MultiProgress::new()) } else { Self::Lines }
    }

    /// Shows that a step began. Its spinner disappears when the returned value is dropped.
    pub fn step(&self, text: impl Into<String>) -> Step {
        let text = text.into();
        match self {
            Self::Silent => Step::default(),
            Self::Lines => {
                eprintln!("{text}");
                Step::default()
            }
            Self::Spinners(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(ProgressStyle::default_spinner());
                bar.set_message(text.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                Step { running: Some((bars.clone(), bar, text)) }
            }
        }
    }

    /// Shows a line that is not a step, such as where data are kept.
    pub fn note(&self, text: impl AsRef<str>) {
        match self {
            Self::Silent => {}
            Self::Lines => eprintln!("{}", text.as_ref()),
            // A terminal that went away is no reason to fail.
            Self::Spinners(bars) => drop(bars.println(text.as_ref())),
        }
    }
}

/// A running step.
#[derive(Debug, Default)]
pub struct Step {
    running: Option<(MultiProgress, ProgressBar, String)>,
}

impl Step {
    /// Marks the step as done: its line stays, without the spinner.
    pub fn done(mut self) {
        if let Some((bars, bar, text)) = self.running.take() {
            bar.finish_and_clear();
            drop(bars.println(format!("✓ {text}")));
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some((_, bar, _)) = self.running.take() {
            bar.finish_and_clear();
        }
    }
}
