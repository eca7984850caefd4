use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use toolgate_security::{KeySource, Keys, Revocations, TenantAccess, TokenVerifier};
use toolgate_store::{Clock, Log, Revocation, RevocationError, RevocationLog};

use super::{Context, Error, parts::jwks_document};
use crate::dev_issuer::DevIssuer;

/// How often a replica asks what has been revoked.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the APIs of a process check tokens with, and the tasks that keep it up to date for as long as this lives.
#[derive(Debug)]
pub struct Access {
    pub verifier: Arc<TokenVerifier>,
    _keys: AbortOnDropHandle<()>,
    _revocations: AbortOnDropHandle<()>,
}

/// One replica's reading of the revocations.
struct Reading {
    log: RevocationLog,
    clock: Clock,
    revocations: Arc<Revocations>,
    /// Up to where it has come.
    sequence: u64,
}

impl Access {
    /// Reads keys and revocations for the first time.
    pub async fn open(
        context: &Context,
        dev_issuer: Option<&DevIssuer>,
        log: &Log,
        clock: Clock,
        registry: &mut Registry,
    ) -> Result<Self, Error> {
        let settings = &context.settings;
        let (name, source) = key_source(context, dev_issuer)?;
        let keys = Keys::open(source, registry).await.map_err(|source| Error::Keys { name, source })?;
        let revocations = Arc::new(Revocations::default());
        let mut reading = Reading { log: RevocationLog::of(log), clock, revocations: Arc::clone(&revocations), sequence: 0 };
        reading.read().await?;
        Ok(Self {
            verifier: Arc::new(TokenVerifier::new(keys.clone(), revocations, &settings.issuer, &settings.audience)),
            _keys: AbortOnDropHandle::new(tokio::spawn(keys.follow())),
            _revocations: AbortOnDropHandle::new(tokio::spawn(reading.follow())),
        })
    }
}

impl Reading {
    /// Asks again and again. An answer that comes proves that nothing is missing; a subscription's silence would prove nothing.
    async fn follow(mut self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_read = true;
        loop {
            ticks.tick().await;
            let read = self.read().await;
            // Only the change is news.
            match &read {
                Err(error) if was_read => tracing::warn!(error = %error, "cannot read what has been revoked; trying again"),
                Ok(()) if !was_read => tracing::info!("what has been revoked can be read again"),
                _ => {}
            }
            was_read = read.is_ok();
        }
    }

    async fn read(&mut self) -> Result<(), RevocationError> {
        // What is revoked after this moment may be missing from the answer.
        let as_of = Instant::now();
        let (changes, sequence) = self.log.read_after(self.sequence).await?;
        if !changes.is_empty() {
            tracing::info!(changes = changes.len(), "revocations have changed");
            changes.into_iter().for_each(|change| self.note(change));
            self.revocations.forget_expired(self.clock.now());
        }
        self.sequence = sequence;
        self.revocations.confirm(as_of);
        Ok(())
    }

    fn note(&self, change: Revocation) {
        match change {
            Revocation::Token { digest, expires_at } => self.revocations.revoke_token(digest, expires_at),
            Revocation::Tenant(tenant, entry) => {
                let access = TenantAccess { is_suspended: entry.is_suspended, tokens_revoked_at: entry.tokens_revoked_at };
                self.revocations.set_tenant(tenant, access);
            }
        }
    }
}

/// Where the keys come from, and what to call that in an error. Falling back from a source that was named to the development key
/// would trust somebody the operator did not name.
fn key_source(context: &Context, dev_issuer: Option<&DevIssuer>) -> Result<(String, KeySource), Error> {
    let settings = &context.settings;
    match (&settings.jwks_file, &settings.jwks_url, dev_issuer) {
        (Some(path), _, _) => Ok((path.display().to_string(), KeySource::File(path.clone()))),
        (None, Some(url), _) => {
            let every = Duration::from_secs(settings.jwks_refresh_seconds);
            Ok(("jwks_url".to_owned(), KeySource::Url { url: url.clone(), every }))
        }
        (None, None, Some(dev_issuer)) => Ok(("the development key".to_owned(), KeySource::Fixed(jwks_document(dev_issuer)?))),
        (None, None, None) => Err(Error::NoKeys),
    }
}
