//! Whether a failed attempt may be followed by another, and when.

use std::time::Duration;

use toolgate_events::tools::{Retry, SideEffects};
use toolgate_security::EgressError;

use crate::adapters::ToolError;

/// What a failed attempt leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass, and another attempt cannot repeat an effect. The reason goes on record.
    Again(&'static str),
    /// Another attempt would fail alike.
    Final,
    /// It may have taken effect: nobody knows, and another attempt might repeat it.
    Unknown,
}

/// Reads and what is idempotent may be tried again when the other side fails; what is effectful only when the request certainly
/// did not reach it.
pub fn verdict(side_effects: SideEffects, error: &ToolError) -> Verdict {
    let is_safe = side_effects != SideEffects::Effectful;
    match consequences(error) {
        (Some(reason), sent) if is_safe || !sent => Verdict::Again(reason),
        (_, true) if !is_safe => Verdict::Unknown,
        _ => Verdict::Final,
    }
}

/// Whether the other side failed, where an error says something about it: an answer that helps nobody is an answer.
pub fn has_failed(error: &ToolError) -> Option<bool> {
    match error {
        // Nobody was asked, or our own work failed.
        ToolError::Egress(EgressError::Blocked(_))
        | ToolError::Quarantined
        | ToolError::Busy
        | ToolError::Infrastructure(_)
        | ToolError::Internal(_) => None,
        error => Some(consequences(error).0.is_some()),
    }
}

/// Why it may pass, for what may, which are the failures of an upstream; and whether the other side may have received what was
/// sent, without an answer that is known.
fn consequences(error: &ToolError) -> (Option<&'static str>, bool) {
    match error {
        ToolError::Upstream { sent, .. } => (Some("upstream_failed"), *sent),
        ToolError::Egress(error) => match error {
            EgressError::Blocked(_) => (None, false),
            EgressError::Unresolvable | EgressError::Connect => (Some("not_connected"), false),
            EgressError::RedirectUnreachable => (Some("not_connected"), true),
            EgressError::Timeout => (Some("timeout"), true),
            EgressError::Protocol => (Some("connection_lost"), true),
            EgressError::HeadersTooLarge | EgressError::TooManyRedirects => (None, true),
        },
        ToolError::InvalidArguments(_)
        | ToolError::NotFound(_)
        | ToolError::Conflict(_)
        | ToolError::Reported(_)
        | ToolError::Quarantined
        | ToolError::Busy
        | ToolError::NotConfigured(_)
        | ToolError::Infrastructure(_)
        | ToolError::Internal(_)
        | ToolError::Answer(_) => (None, false),
    }
}

/// How long to wait after the `failed`th attempt: a random time up to a bound that doubles ("full jitter", so that callers who
/// failed together do not come back together). `dice` are 64 random bits.
pub fn pause(retry: &Retry, failed: u32, dice: u64) -> Duration {
    let doubled = u64::from(retry.first_pause_ms) << failed.saturating_sub(1).min(31);
    let bound = doubled.min(u64::from(retry.last_pause_ms));
    Duration::from_millis(dice % (bound + 1))
}

#[cfg(test)]
mod tests {
    use SideEffects::{Effectful, Idempotent, ReadOnly};
    use toolgate_security::EgressRule;

    use super::*;

    #[test]
    fn only_what_cannot_repeat_an_effect_is_tried_again() {
        let upstream = |sent| ToolError::Upstream { detail: "503".to_owned(), sent };
        for (error, safe, effectful) in [
            (upstream(true), Verdict::Again("upstream_failed"), Verdict::Unknown),
            (upstream(false), Verdict::Again("upstream_failed"), Verdict::Again("upstream_failed")),
            (EgressError::Connect.into(), Verdict::Again("not_connected"), Verdict::Again("not_connected")),
            (EgressError::Unresolvable.into(), Verdict::Again("not_connected"), Verdict::Again("not_connected")),
            (EgressError::RedirectUnreachable.into(), Verdict::Again("not_connected"), Verdict::Unknown),
            (EgressError::Timeout.into(), Verdict::Again("timeout"), Verdict::Unknown),
            (EgressError::Protocol.into(), Verdict::Again("connection_lost"), Verdict::Unknown),
            (EgressError::HeadersTooLarge.into(), Verdict::Final, Verdict::Unknown),
            (EgressError::TooManyRedirects.into(), Verdict::Final, Verdict::Unknown),
            (EgressError::Blocked(EgressRule::AllowList).into(), Verdict::Final, Verdict::Final),
            (ToolError::InvalidArguments("no".to_owned()), Verdict::Final, Verdict::Final),
            (ToolError::Busy, Verdict::Final, Verdict::Final),
            (ToolError::NotFound("nothing"), Verdict::Final, Verdict::Final),
            (ToolError::Internal("bug".to_owned()), Verdict::Final, Verdict::Final),
        ] {
            assert_eq!(verdict(ReadOnly, &error), safe, "{error}");
            assert_eq!(verdict(Idempotent, &error), safe, "{error}");
            assert_eq!(verdict(Effectful, &error), effectful, "{error}");
        }
    }

    #[test]
    fn whoever_answers_has_not_failed_and_who_was_not_asked_has_done_neither() {
        for (error, failed) in [
            (ToolError::Upstream { detail: "503".to_owned(), sent: false }, Some(true)),
            (EgressError::Connect.into(), Some(true)),
            (EgressError::Timeout.into(), Some(true)),
            (EgressError::HeadersTooLarge.into(), Some(false)),
            (EgressError::TooManyRedirects.into(), Some(false)),
            (ToolError::Reported("no".to_owned()), Some(false)),
            (ToolError::NotFound("nothing"), Some(false)),
            (ToolError::NotConfigured("not accepted"), Some(false)),
            (EgressError::Blocked(EgressRule::AllowList).into(), None),
            (ToolError::Quarantined, None),
            (ToolError::Busy, None),
            (ToolError::Internal("bug".to_owned()), None),
        ] {
            assert_eq!(has_failed(&error), failed, "{error}");
        }
    }

    #[test]
    fn pauses_are_random_up_to_a_bound_that_doubles_and_ends() {
        let retry = Retry { max_attempts: 9, first_pause_ms: 200, last_pause_ms: 1_000 };
        let longest = |failed| (0..=5_000).map(|dice| pause(&retry, failed, dice)).max().unwrap().as_millis();
        assert_eq!([1, 2, 3, 4, 5, 60].map(longest), [200, 400, 800, 1_000, 1_000, 1_000]);
        assert_eq!(pause(&retry, 3, 0), Duration::ZERO);
        assert_eq!(pause(&retry, 1, u64::MAX).max(Duration::from_millis(200)), Duration::from_millis(200));
        let none = Retry { max_attempts: 2, first_pause_ms: 0, last_pause_ms: 0 };
        assert_eq!(pause(&none, 1, 12_345), Duration::ZERO);
    }
}
