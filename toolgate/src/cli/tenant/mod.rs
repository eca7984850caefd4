//! `toolgate tenant`.

mod erase;

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use toolgate_events::TenantId;
use toolgate_store::TenantEntry;
use uuid::Uuid;

use super::{Common, Error, token::tenant};

/// Shut a tenant out or let it in again; every replica follows within 5 seconds
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate tenant suspend --tenant demo")]
pub(super) struct Tenant {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Refuse every request of the tenant with 403
    #[command(after_help = "Example:\n  toolgate tenant suspend --tenant demo")]
    Suspend(Which),
    /// Let the tenant in again
    #[command(after_help = "Example:\n  toolgate tenant resume --tenant demo")]
    Resume(Which),
    /// Refuse every token of the tenant that was issued until now
    #[command(after_help = "Example:\n  toolgate tenant revoke-tokens --tenant demo")]
    RevokeTokens(Which),
    Erase(erase::Erase),
}

#[derive(Debug, Args)]
struct Which {
    /// The tenant's uuid, or `demo`
    #[arg(long, value_parser = tenant)]
    tenant: Uuid,
    #[command(flatten)]
    common: Common,
}

impl Tenant {
    pub async fn run(self) -> Result<(), Error> {
        match self.action {
            Action::Suspend(which) => which.change("is suspended", |entry| entry.is_suspended = true).await,
            Action::Erase(erase) => erase.run().await,
            Action::Resume(which) => which.resume().await,
            Action::RevokeTokens(which) => {
                #[expect(clippy::disallowed_methods, reason = "the command line is where an epoch gets its time")]
                let now = Utc::now();
                which.change("has no valid tokens but new ones", move |entry| revoke_until(entry, now)).await
            }
        }
    }
}

impl Which {
    /// What was erased stays shut out: there is nothing to come back to.
    async fn resume(self) -> Result<(), Error> {
        let is_erased = AtomicBool::new(false);
        let change = |entry: &mut TenantEntry| {
            is_erased.store(entry.is_erased, Ordering::Relaxed);
            entry.is_suspended = entry.is_erased;
        };
        self.common.revocations().await?.change_tenant(TenantId(self.tenant), change).await?;
        if is_erased.load(Ordering::Relaxed) {
            return Err(Error::Erasure(format!("the tenant {} was erased and is not let in again", self.tenant)));
        }
        eprintln!("the tenant {} is let in again", self.tenant);
        Ok(())
    }

    async fn change(self, outcome: &str, change: impl Fn(&mut TenantEntry)) -> Result<(), Error> {
        self.common.revocations().await?.change_tenant(TenantId(self.tenant), change).await?;
        eprintln!("the tenant {} {outcome}", self.tenant);
        Ok(())
    }
}

/// An epoch only ever moves forward: a slow clock must not let old tokens in again.
fn revoke_until(entry: &mut TenantEntry, now: DateTime<Utc>) {
    entry.tokens_revoked_at = entry.tokens_revoked_at.max(Some(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_only_moves_forward() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let mut entry = TenantEntry { is_suspended: true, ..TenantEntry::default() };
        for (now, epoch) in [(5, 5), (3, 5), (7, 7)] {
            revoke_until(&mut entry, at(now));
            assert_eq!(entry, TenantEntry { is_suspended: true, tokens_revoked_at: Some(at(epoch)), is_erased: false });
        }
    }
}
