use super::*;

/// The beginning of a window far from zero.
const BEGAN: u64 = 29_000_000 * WINDOW;
const CURRENT: u64 = 29_000_000;

/// A share of which both windows are known.
fn known(limit: u64, previous: u64, total: u64) -> Share {
    let mut share = Share::new(limit);
    assert_eq!(share.ask(BEGAN), Ask { window: CURRENT, read_previous: true });
    share.heard_previous(CURRENT, previous);
    share.total = total;
    share
}

/// Leases one permit after the other from a counter that nobody else uses.
fn admit_one_by_one(share: &mut Share, counter: &mut u64, now: u64) -> u64 {
    let mut admitted = 0;
    loop {
        match share.take(now) {
            Take::Admitted(_) => admitted += 1,
            Take::Lease => {
                let Some(wanted) = share.wanted(now, now / WINDOW, 1) else { continue };
                *counter += wanted;
                *counter -= share.leased(now, now / WINDOW, wanted, *counter);
            }
            _ => return admitted,
        }
    }
}

#[test]
fn exactly_the_limit_is_admitted_in_a_window() {
    for limit in [1, 2, 63, 64, 65, 100, 6_000] {
        let mut counter = 0;
        assert_eq!(admit_one_by_one(&mut known(limit, 0, 0), &mut counter, BEGAN + 5), limit);
        assert_eq!(counter, limit, "what is counted is what was admitted");
    }
}

#[test]
fn what_another_replica_adds_for_a_moment_is_not_held_against_the_tenant() {
    let mut share = known(6_000, 6_000, 0);
    let now = BEGAN + 6_000;
    // 600 are allowed; another replica has added 900 and will return 300 or more.
    assert_eq!(share.wanted(now, CURRENT, 1), Some(9));
    assert_eq!(share.leased(now, CURRENT, 9, 909), 9);
    let Take::Refused(standing) = share.take(now) else { panic!("nothing is left at this moment") };
    assert_eq!((standing.remaining, standing.reset), (0, 1));
    // Ten milliseconds later one more permit has fallen due.
    assert_eq!(share.take(now + 10), Take::Lease);
    assert_eq!(share.wanted(now + 10, CURRENT, 1), Some(1));
    assert_eq!(share.leased(now + 10, CURRENT, 1, 601), 0);
}

#[test]
fn the_window_before_weighs_as_much_as_is_left_of_it() {
    // (previous, milliseconds into the window, admitted of 100)
    for (previous, elapsed, admitted) in [
        (100, 0, 0),
        (100, 599, 0),
        (100, 600, 1),
        (100, 601, 1),
        (100, 30_000, 50),
        (100, 59_999, 99),
        (50, 0, 50),
        (50, 1_199, 50),
        (50, 1_200, 51),
        (1_000, 0, 0),
        (1_000, 53_999, 0),
        (1_000, 54_060, 1),
        (0, 0, 100),
    ] {
        let mut counter = 0;
        let got = admit_one_by_one(&mut known(100, previous, 0), &mut counter, BEGAN + elapsed);
        assert_eq!(got, admitted, "{previous} before, {elapsed} ms later");
    }
}

#[test]
fn the_current_window_counts_in_full() {
    for (total, admitted) in [(0, 50), (49, 1), (50, 0), (51, 0)] {
        let mut counter = total;
        assert_eq!(admit_one_by_one(&mut known(100, 100, total), &mut counter, BEGAN + 30_000), admitted, "{total}");
    }
}

#[test]
fn a_lease_is_a_64th_of_what_is_left_but_enough_for_those_who_wait() {
    let wanted = |limit, total, waiting| known(limit, 0, total).wanted(BEGAN, CURRENT, waiting);
    assert_eq!(wanted(6_400, 0, 1), Some(100));
    assert_eq!(wanted(6_400, 3_200, 1), Some(50));
    assert_eq!(wanted(6_400, 0, 101), Some(101));
    assert_eq!(wanted(100, 0, 0), Some(1));
    assert_eq!(wanted(100, 95, 20), Some(5), "never more than is left");
    assert_eq!(wanted(100, 99, 1), Some(1));
    assert_eq!(wanted(100, 100, 1), None);
    assert_eq!(wanted(100, 101, 1), None);
    assert_eq!(known(100, 0, 0).wanted(BEGAN + WINDOW, CURRENT, 1), None, "the window has ended");
}

#[test]
fn what_others_have_taken_meanwhile_is_returned() {
    // Ten were asked for, and the counter then held so many.
    for (total, returned, admitted) in [(10, 0, 10), (100, 0, 10), (101, 1, 9), (109, 9, 1), (110, 10, 0), (200, 10, 0)] {
        let mut share = known(100, 0, 0);
        assert_eq!(share.leased(BEGAN, CURRENT, 10, total), returned, "{total}");
        let mut got = 0;
        while let Take::Admitted(_) = share.take(BEGAN) {
            got += 1;
        }
        assert_eq!(got, admitted, "{total}");
        assert_eq!(matches!(share.take(BEGAN), Take::Refused(_)), admitted == 0, "{total}");
    }
}

#[test]
fn a_lease_ends_with_its_window_and_one_that_comes_late_is_returned() {
    let mut share = known(100, 0, 0);
    assert_eq!(share.leased(BEGAN, CURRENT, 10, 10), 0);
    assert!(matches!(share.take(BEGAN + WINDOW - 1), Take::Admitted(_)));
    assert_eq!(share.take(BEGAN + WINDOW), Take::Lease);
    assert_eq!(share.ask(BEGAN + WINDOW), Ask { window: CURRENT + 1, read_previous: true });
    assert_eq!(share.leased(BEGAN + WINDOW, CURRENT, 10, 20), 10);
    share.heard_previous(CURRENT, 77);
    assert_eq!(share.previous, None, "of another window");
    share.heard_previous(CURRENT + 1, 77);
    assert_eq!(share.ask(BEGAN + WINDOW), Ask { window: CURRENT + 1, read_previous: false });
}

#[test]
fn a_clock_that_goes_backward_stays_in_its_window() {
    let mut share = known(100, 100, 0);
    assert_eq!(share.leased(BEGAN + 30_000, CURRENT, 10, 10), 0);
    assert!(matches!(share.take(BEGAN - 1), Take::Admitted(Standing { reset: 60, .. })));
    assert_eq!(share.ask(BEGAN - WINDOW).window, CURRENT);
}

fn refusal(limit: u64, previous: u64, total: u64, now: u64) -> Standing {
    let mut share = known(limit, previous, total);
    assert_eq!(share.wanted(now, CURRENT, 1), None);
    match share.take(now) {
        Take::Refused(standing) => standing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_says_exactly_when_the_next_permit_is_due() {
    // (limit, previous, total, milliseconds into the window, seconds)
    for (limit, previous, total, elapsed, seconds) in [
        // One of the hundred before falls out after 600 ms.
        (100, 100, 0, 0, 1),
        // All but 10 of the thousand before must have fallen out for one of 11.
        (11, 1_000, 0, 0, 60),
        (11, 1_000, 0, 30_000, 30),
        // 50 before weigh 49 after 1,200 ms.
        (100, 50, 50, 0, 2),
        (100, 50, 50, 201, 1),
        // The window is full: it has to end, and one of 100 has to fall out of it.
        (100, 0, 100, 0, 61),
        (100, 0, 100, 59_000, 2),
        (60, 0, 60, 0, 61),
        (60, 0, 60, 59_001, 2),
        (1, 0, 1, 0, 120),
        (2, 0, 2, 0, 90),
        (10, 0, 20, 0, 93),
    ] {
        let standing = refusal(limit, previous, total, BEGAN + elapsed);
        let expected = Standing { limit, remaining: 0, reset: seconds };
        assert_eq!(standing, expected, "{limit} {previous} {total} {elapsed}");
        // At that time there is one; a second earlier there was none.
        let at = |later: u64| {
            let now = BEGAN + elapsed + later * 1000;
            let mut share = if now / WINDOW == CURRENT { known(limit, previous, total) } else { known(limit, total, 0) };
            let now = if now / WINDOW == CURRENT { now } else { now - WINDOW };
            share.wanted(now, CURRENT, 1).is_some()
        };
        assert!(at(seconds) || seconds >= 120, "{limit} {previous} {total} {elapsed}: nothing after {seconds} s");
        assert!(!at(seconds - 1), "{limit} {previous} {total} {elapsed}: already after {} s", seconds - 1);
    }
}

#[test]
fn after_a_refusal_nothing_is_asked_until_a_permit_is_due() {
    let closed_for = |limit, previous, total, elapsed| {
        let mut share = known(limit, previous, total);
        assert_eq!(share.wanted(BEGAN + elapsed, CURRENT, 1), None);
        (0..).find(|later| share.take(BEGAN + elapsed + later) == Take::Lease).unwrap()
    };
    assert_eq!(closed_for(100, 100, 0, 0), 600);
    assert_eq!(closed_for(100, 100, 0, 595), 10, "not more often than every 10 ms");
    assert_eq!(closed_for(100, 0, 100, 0), 1_000, "others may have returned permits");
    assert_eq!(closed_for(6_000, 6_000, 0, 0), 10);
}

#[test]
fn an_answer_says_what_is_left_and_when_the_window_ends() {
    let mut share = known(100, 0, 0);
    assert_eq!(share.leased(BEGAN + 1, CURRENT, 10, 30), 0);
    assert_eq!(share.take(BEGAN + 1), Take::Admitted(Standing { limit: 100, remaining: 79, reset: 60 }));
    assert_eq!(share.take(BEGAN + 59_000), Take::Admitted(Standing { limit: 100, remaining: 78, reset: 1 }));
    let mut last = known(100, 0, 99);
    assert_eq!(last.leased(BEGAN, CURRENT, 1, 100), 0);
    assert_eq!(last.take(BEGAN), Take::Admitted(Standing { limit: 100, remaining: 0, reset: 60 }));
    assert_eq!(last.take(BEGAN), Take::Lease);
}

#[test]
fn counters_that_do_not_answer_are_left_alone_for_a_moment() {
    let mut share = known(100, 0, 0);
    share.failed(BEGAN);
    assert_eq!(share.take(BEGAN), Take::Unavailable);
    assert_eq!(share.take(BEGAN + 249), Take::Unavailable);
    assert_eq!(share.take(BEGAN + 250), Take::Lease);
    assert_eq!(share.leased(BEGAN, CURRENT, 1, 1), 0);
    assert!(matches!(share.take(BEGAN), Take::Admitted(_)), "what was leased before holds");
}

/// Replicas that take turns in every order a small generator comes up with, each with callers that wait.
#[test]
fn replicas_never_exceed_the_limit_together_and_refuse_only_within_the_bound() {
    for (seed, replicas, limit, previous) in
        [(1_u64, 2, 100, 0), (2, 3, 6_000, 0), (3, 5, 1_000, 600), (4, 2, 7, 0), (5, 8, 640, 64)]
    {
        let now = BEGAN + 20_000;
        let allowed = known(limit, previous, 0).allowed(now);
        let mut shares = vec![known(limit, previous, 0); replicas];
        let (mut counter, mut admitted, mut first_refusal, mut state) = (0, 0, None, seed);
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let share = &mut shares[(state >> 33) as usize % replicas];
            match share.take(now) {
                Take::Admitted(_) => admitted += 1,
                Take::Refused(_) => first_refusal = first_refusal.or(Some(admitted)),
                Take::Unavailable => unreachable!(),
                Take::Lease => {
                    if let Some(wanted) = share.wanted(now, CURRENT, 1) {
                        counter += wanted;
                        counter -= share.leased(now, CURRENT, wanted, counter);
                    }
                }
            }
            assert!(admitted <= allowed, "{admitted} of {allowed}");
        }
        let unused = (replicas as u64 - 1) * (allowed / LEASES).max(1);
        let first_refusal = first_refusal.unwrap();
        assert!(first_refusal + unused >= allowed, "refused after {first_refusal} of {allowed}");
        assert_eq!(counter, allowed, "what is leased is all there is");
        assert_eq!(admitted, allowed, "once every replica has used its lease");
    }
}
