//! `toolgate streams`.

use clap::{Args, Subcommand, ValueEnum};
use toolgate_store::StreamingMode;

use super::{Common, Error};

/// Choose how events are streamed; every replica follows within 5 seconds
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate streams safe-mode on")]
pub(super) struct Streams {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send events in bursts, so that streams cost the database less; none is left out
    #[command(after_help = "Example:\n  toolgate streams safe-mode auto")]
    SafeMode {
        when: When,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    /// Always
    On,
    /// Never
    Off,
    /// For a tenant whose events come late
    Auto,
}

impl Streams {
    pub async fn run(self) -> Result<(), Error> {
        let Action::SafeMode { when, common } = self.action;
        let (mode, outcome) = match when {
            When::On => (StreamingMode::On, "events are streamed in bursts"),
            When::Off => (StreamingMode::Off, "events are streamed as they come"),
            When::Auto => (StreamingMode::Auto, "events of tenants that come late are streamed in bursts"),
        };
        common.streaming().await?.choose(mode).await?;
        eprintln!("{outcome}");
        Ok(())
    }
}
