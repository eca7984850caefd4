//! `toolgate replay`.

mod history;
mod report;

use std::{future::Future, io, time::Instant};

use clap::{Args, ValueEnum};
use secrecy::ExposeSecret;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;
use toolgate_projector::rebuild::{self, Comparison, Logins, Permit, Purpose, Rebuild, RebuildOptions};
use toolgate_store::User;
use uuid::Uuid;

use super::{Common, Error, shutdown, token::tenant};
use crate::{
    migrations::MIGRATIONS,
    roles::{self, Context},
    secrets::{self, Stderr},
    services::{Connections, PostgresRole},
    settings::{Profile, Settings},
};

/// Make the projections anew beside the live ones, from recorded events, and compare them; no tool runs
///
/// Ctrl-C pauses; the same command goes on from there. With --tenant, show a tenant's history instead.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  toolgate replay --check\n  toolgate replay --switch\n  toolgate replay --tenant demo --call 0198a2f0-…"
)]
pub(super) struct Replay {
    /// Compare every live projection with a rebuilt one, print both digests, and leave nothing behind; exit with 1 when they differ
    #[arg(long, conflicts_with_all = ["switch", "fresh", "discard", "tenant"])]
    check: bool,
    /// What the projections are made from
    #[arg(long, value_enum, default_value_t)]
    from: From,
    /// Put the rebuilt projections in the live ones' place when they are equal
    #[arg(long, conflicts_with_all = ["projection", "discard", "tenant"])]
    switch: bool,
    /// Switch although they differ: the live ones are damaged, the events are the truth
    #[arg(long, requires = "switch")]
    repair: bool,
    /// Switch although rebuilding sets events aside that the live projections have
    #[arg(long, requires = "switch")]
    allow_parked: bool,
    /// Begin anew instead of going on with what is there
    #[arg(long, conflicts_with_all = ["discard", "tenant"])]
    fresh: bool,
    /// Drop what was rebuilt so far, and do nothing else
    #[arg(long, conflicts_with = "tenant")]
    discard: bool,
    /// Compare this projection only; may be repeated
    #[arg(long, value_name = "NAME")]
    projection: Vec<String>,
    /// Show this tenant's history, a uuid or the word demo
    #[arg(long, value_parser = tenant)]
    tenant: Option<Uuid>,
    /// Of this call alone
    #[arg(long, value_name = "ID", requires = "tenant")]
    call: Option<Uuid>,
    /// Events per transaction at the most
    #[arg(long, value_name = "N", default_value_t = 5_000, hide = true, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    batch: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum From {
    /// The log: everything follows from it
    #[default]
    Log,
    /// The live audit trail: when the log is gone
    Audit,
}

impl Replay {
    pub async fn run(self) -> Result<(), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        // What is set aside again is in the report, and not a new alarm.
        super::log(&settings, "warn,toolgate_projector=off,sqlx=error");
        let stop = CancellationToken::new();
        shutdown::on_signal(stop.clone())?;
        if let Some(tenant) = self.tenant {
            return history::show(&settings, reader(&settings)?, tenant, self.call).await;
        }
        let reader = reader(&settings)?;
        let mut rebuild = self.open(settings).await?;
        if self.discard {
            rebuild.discard().await?;
            eprintln!("what was rebuilt is dropped");
            return Ok(());
        }
        let outcome = stop.run_until_cancelled(self.work(&mut rebuild, &reader)).await;
        if self.check {
            rebuild.discard().await?;
        }
        match outcome {
            Some(outcome) => outcome,
            None if self.check => {
                eprintln!("interrupted; nothing is left behind");
                Ok(())
            }
            None => {
                eprintln!("paused; the same command goes on from here, --discard drops what is there");
                Ok(())
            }
        }
    }

    async fn open(&self, settings: Settings) -> Result<Rebuild, Error> {
        let owner = Connections::resolve_owner(&settings)?;
        let connections = Connections::for_role(&settings, User::Operator, Some(PostgresRole::Projector))?;
        secrets::learn_connections(Stderr::redactor(), &connections);
        let options = |url: &secrecy::SecretString| url.expose_secret().parse().map_err(rebuild::Error::Database);
        let logins = Logins { owner: options(&owner)?, projector: options(&connections.projector)? };
        let log = connections.open_log_as_operator(&settings).await?;
        let live = roles::projector_environment(&Context { settings, connections }, log)?;
        let options = RebuildOptions {
            source: match self.from {
                From::Log => rebuild::Source::Log,
                From::Audit => rebuild::Source::Audit,
            },
            purpose: if self.check { Purpose::Check } else { Purpose::Replace },
            batch_size: self.batch as usize,
        };
        Ok(Rebuild::open(live, logins, options).await?)
    }

    async fn work(&self, rebuild: &mut Rebuild, reader: &PgConnectOptions) -> Result<(), Error> {
        if !self.check && !self.fresh && rebuild.is_begun().await? {
            eprintln!("going on with what is there; --fresh begins anew");
        }
        rebuild.make(&MIGRATIONS, self.fresh).await?;
        rebuild.projections(&self.projection).await?;
        let began = Instant::now();
        let progress = rebuild.progress();
        shown(&progress, rebuild.roll_forward()).await?;
        report::rate(&progress, began.elapsed());
        let comparisons = rebuild.compare(&self.projection).await?;
        report::comparisons(&comparisons, io::stdout().lock()).map_err(Error::Output)?;
        let different: Vec<_> = comparisons.iter().filter(|it| !it.is_equal()).map(|it| it.table.clone()).collect();
        if !different.is_empty() && !self.repair {
            return Err(Error::ProjectionsDiffer(different));
        }
        if self.check && (self.projection.is_empty() || self.projection.iter().any(|name| name == "tool_call")) {
            let folds = rebuild.fold_again(reader).await?;
            report::folds(&folds, io::stdout().lock()).map_err(Error::Output)?;
            if folds.different > 0 {
                return Err(Error::ProjectionsDiffer(vec!["tool_call".to_owned()]));
            }
        }
        if self.switch { self.put_in_place(rebuild).await } else { Ok(()) }
    }

    async fn put_in_place(&self, rebuild: &mut Rebuild) -> Result<(), Error> {
        let permit = Permit { repair: self.repair, parked: self.allow_parked };
        match rebuild.switch(permit).await {
            Ok(switched) => {
                eprintln!("switched: the rebuilt projections are the live ones");
                if !switched.dropped {
                    eprintln!("the old tables are still being read; the next `toolgate replay` drops them");
                }
                Ok(())
            }
            Err(rebuild::Error::Different(comparisons)) => {
                report::comparisons(&comparisons, io::stdout().lock()).map_err(Error::Output)?;
                Err(rebuild::Error::Different(unequal(comparisons)).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The reader's login, for what is read with a tenant's rights.
fn reader(settings: &Settings) -> Result<PgConnectOptions, Error> {
    let connections = Connections::for_role(settings, User::Operator, Some(PostgresRole::Reader))?;
    secrets::learn_connections(Stderr::redactor(), &connections);
    Ok(connections.reader.expose_secret().parse().map_err(rebuild::Error::Database)?)
}

fn unequal(comparisons: Vec<Comparison>) -> Vec<Comparison> {
    comparisons.into_iter().filter(|comparison| !comparison.is_equal()).collect()
}

/// Does the work, and says every second how far it is.
async fn shown<T>(progress: &rebuild::Progress, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut shown = report::Shown::begin();
    let mut looks = tokio::time::interval(report::EVERY);
    looks.tick().await;
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = looks.tick() => shown.show(progress),
        }
    }
}
