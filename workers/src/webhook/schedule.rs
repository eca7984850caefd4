//! When a message is tried again. Pure.

use std::time::Duration;

use http::{HeaderMap, header};
use uuid::Uuid;

/// The longest time between two attempts, also when the receiver asks for more.
const LAST_PAUSE: Duration = Duration::from_secs(3_600);
/// With a first pause of 5 seconds the last attempt is about a day after the first.
const MAX_ATTEMPTS: u64 = 33;

/// Of a pause, what chance may take from it or add to it.
const JITTER: f64 = 0.2;

/// How long to wait after an attempt that failed, 1 being the first; `None` when it was the last. The time doubles, and differs by up to
/// a fifth from message to message and from attempt to attempt, so that what failed together does not come back together.
///
/// `attempt` counts deliveries, and some of these came to no attempt, since the log was away or a worker stopped: so the last one is
/// only where the outcome is as old (`age`) as all attempts take.
pub fn pause(first: Duration, attempt: u64, age: Duration, message: Uuid, asked: Option<Duration>) -> Option<Duration> {
    if attempt >= MAX_ATTEMPTS && age >= least_total(first) {
        return None;
    }
    let pause = planned(first, attempt);
    // Not random, and as good: the bytes of the id's end are.
    let dice = Uuid::new_v5(&message, &attempt.to_be_bytes()).as_bytes()[0];
    let jittered = pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * f64::from(dice) / 255.0);
    Some(asked.map_or(jittered, |asked| asked.min(LAST_PAUSE).max(jittered)))
}

fn planned(first: Duration, attempt: u64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(2u32.saturating_pow(doublings)).min(LAST_PAUSE)
}

/// What all pauses together take at the least.
fn least_total(first: Duration) -> Duration {
    (1..MAX_ATTEMPTS).map(|attempt| planned(first, attempt)).sum::<Duration>().mul_f64(1.0 - JITTER)
}

/// The seconds of `Retry-After` (RFC 9110, section 10.2.3); a date is not read.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(5);
    /// Older than any message that is still tried.
    const DAYS: Duration = Duration::from_secs(3 * 86_400);

    #[test]
    fn pauses_double_to_an_hour_and_end_after_about_a_day() {
        let pauses: Vec<_> = (1..).map_while(|attempt| pause(FIRST, attempt, DAYS, Uuid::from_u128(7), None)).collect();
        assert_eq!(pauses.len() + 1, 33);
        for (pause, seconds) in
            pauses.iter().zip([5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 3600.0, 3600.0])
        {
            assert!((0.8..=1.2).contains(&(pause.as_secs_f64() / seconds)), "{pause:?} {seconds}");
        }
        let total: Duration = pauses.iter().sum();
        assert!((Duration::from_secs(20 * 3_600)..Duration::from_secs(27 * 3_600)).contains(&total), "{total:?}");
        assert!(pause(FIRST, u64::MAX, DAYS, Uuid::nil(), None).is_none() && pause(FIRST, 0, DAYS, Uuid::nil(), None).is_some());
    }

    #[test]
    fn deliveries_that_came_to_no_attempt_give_nothing_up_early() {
        let day = least_total(FIRST);
        assert!((Duration::from_secs(18 * 3_600)..Duration::from_secs(24 * 3_600)).contains(&day), "{day:?}");
        let second = Duration::from_secs(1);
        for (attempt, age, is_last) in [
            (MAX_ATTEMPTS, day - second, false),
            (MAX_ATTEMPTS, day, true),
            (MAX_ATTEMPTS, day + second, true),
            (MAX_ATTEMPTS - 1, DAYS, false),
            (MAX_ATTEMPTS + 1, Duration::ZERO, false),
            (u64::MAX, day, true),
        ] {
            assert_eq!(pause(FIRST, attempt, age, Uuid::nil(), None).is_none(), is_last, "{attempt} {age:?}");
        }
    }

    #[test]
    fn messages_that_failed_together_come_back_apart() {
        let pauses: std::collections::BTreeSet<_> =
            (0..64).map(|message| pause(FIRST, 4, DAYS, Uuid::from_u128(message), None).unwrap()).collect();
        assert!(pauses.len() > 40, "{pauses:?}");
        assert_eq!(pause(FIRST, 4, DAYS, Uuid::from_u128(1), None), pause(FIRST, 4, DAYS, Uuid::from_u128(1), None));
    }

    #[test]
    fn what_the_receiver_asks_for_is_the_least_and_an_hour_the_most() {
        let asked = |seconds| pause(FIRST, 1, DAYS, Uuid::nil(), Some(Duration::from_secs(seconds))).unwrap();
        assert!(asked(1) >= Duration::from_secs(4));
        assert_eq!(asked(60), Duration::from_secs(60));
        for seconds in [3_599, 3_600] {
            assert_eq!(asked(seconds), Duration::from_secs(seconds));
        }
        assert_eq!(asked(3_601), LAST_PAUSE);
        let header = |value: &'static str| retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]));
        assert_eq!(header("120"), Some(Duration::from_secs(120)));
        for unread in ["-1", "soon", "", "Fri, 31 Dec 2030 23:59:59 GMT"] {
            assert_eq!(header(unread), None, "{unread}");
        }
    }
}
