use std::{borrow::Cow, fmt, pin::Pin, sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use tokio::time::{Instant, Interval, Sleep, interval, sleep_until};

use crate::{Guard, Principal, TokenError};

/// How often it is asked whether a token still counts.
const RECHECK: Duration = Duration::from_secs(1);

/// Whether an answer that goes on for long may still go on.
pub struct Standing {
    principal: Arc<Principal>,
    permission: Cow<'static, str>,
    guard: Guard,
    expiry: Pin<Box<Sleep>>,
    rechecks: Interval,
}

/// Why an answer may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("the token has expired")]
    Expired,
    #[error("the token no longer allows this")]
    Denied,
    #[error("the token has been revoked")]
    Revoked,
    #[error("the tenant is suspended")]
    Suspended,
    /// Nothing is known against the token: its holder may come back as soon as that can be checked.
    #[error("revocations cannot be checked")]
    Unconfirmed,
}

impl Standing {
    /// From now until the token's end and `leeway` more, as long as it grants the permission.
    pub fn new(guard: &Guard, principal: Arc<Principal>, permission: impl Into<Cow<'static, str>>, leeway: TimeDelta) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the end of a token is a time on the clock")]
        let left = (principal.expires_at - Utc::now() + leeway).to_std().unwrap_or_default();
        let expiry = Box::pin(sleep_until(Instant::now() + left));
        Self { principal, permission: permission.into(), guard: guard.clone(), expiry, rechecks: interval(RECHECK) }
    }

    /// Returns when it is lost, a second late at the most. Whoever stops waiting may wait again.
    pub async fn lost(&mut self) -> Lost {
        loop {
            tokio::select! {
                biased;
                () = &mut self.expiry => return Lost::Expired,
                _ = self.rechecks.tick() => if let Err(lost) = self.check() { return lost },
            }
        }
    }

    /// Whether it is lost already, but for the token's end.
    ///
    /// # Errors
    /// [`Lost`]
    pub fn check(&self) -> Result<(), Lost> {
        match self.guard.verifier.recheck(&self.principal) {
            Ok(()) if self.guard.allows(&self.principal, &self.permission) => Ok(()),
            Ok(()) => Err(Lost::Denied),
            Err(TokenError::Unconfirmed) => Err(Lost::Unconfirmed),
            Err(TokenError::Suspended) => Err(Lost::Suspended),
            Err(_) => Err(Lost::Revoked),
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("permission", &self.permission).finish_non_exhaustive()
    }
}
