//! Many clients who come and go while events come in: each gets everything it asked for, once and in order.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use toolgate_events::{CallId, CallSubject, Envelope, Lane, ToolCallEvent};
use toolgate_store::{Clock, Expect, Log};

use crate::app::{Child, Client, Role, Stack, Tenant, Token, request};

const CLIENTS: u64 = 60;
const SESSIONS: u64 = 20;
const EVENTS: u64 = 3_000;

/// A small generator (SplitMix64), so that a failed run can be run again from its printed seed.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

fn session(number: u64) -> String {
    format!("session-{}", number % SESSIONS)
}

async fn append(log: &Log, tenant: Tenant, number: u64) {
    let lane = Lane::new("task").unwrap();
    let subject = CallSubject::new(log.partitions(), tenant.id(), lane, CallId(Clock::system().new_id()));
    let mut request = request(&number.to_string());
    request.session_id = Some(session(number));
    let stamp = Clock::system().stamp("tester", None, None);
    let event = Envelope::seal(&ToolCallEvent::ToolCallRequested(request), tenant.id(), subject.call_id, 1, stamp).unwrap();
    log.append(&subject, &event, Expect::NOTHING, None, Duration::from_secs(20)).await.unwrap();
}

/// Follows one session, or every one, and hangs up at random; answers with the numbers of the events by their positions.
async fn follow(client: Client, own_session: Option<u64>, mut dice: Dice) -> BTreeMap<u64, u64> {
    let query = own_session.map_or_else(|| "?after=0".to_owned(), |own| format!("?after=0&session_id={}", session(own)));
    let expected = if own_session.is_some() { EVENTS / SESSIONS } else { EVENTS };
    let mut seen = BTreeMap::new();
    let mut last: Option<String> = None;
    while (seen.len() as u64) < expected {
        let mut stream = client.events(&query, last.as_deref()).await;
        let patience = 1 + dice.roll(expected / 4);
        for _ in 0..patience {
            let frame = stream.event().await.expect("the stream ended early");
            let before = seen.last_key_value().map_or(0, |(position, _)| *position);
            assert!(frame.position() > before, "{} after {before}", frame.position());
            let number: u64 = frame.json()["data"]["request_fingerprint"].as_str().unwrap().parse().unwrap();
            seen.insert(frame.position(), number);
            last = frame.id;
            if seen.len() as u64 == expected {
                break;
            }
        }
    }
    seen
}

#[tokio::test]
async fn nobody_misses_anything_and_nobody_gets_anything_twice() {
    let seed = Clock::system().now().timestamp_micros().unsigned_abs();
    // Shown when the test fails.
    println!("seed {seed}");
    let stack = Stack::new().await;
    let (api, _projector) = tokio::join!(Child::start(&stack, Role::QueryApi, &[]), Child::start(&stack, Role::Projector, &[]));
    let tenant = Tenant::new();
    let client = Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let log = stack.log().await;
    let appending = stream::iter(0..EVENTS).for_each_concurrent(32, |number| append(&log, tenant, number));
    let mut dice = Dice(seed);
    let following: Vec<_> = (0..CLIENTS)
        .map(|number| {
            // Every tenth follows everything.
            let own_session = (number % 10 != 0).then_some(number);
            let dice = Dice(dice.roll(u64::MAX));
            let (client, followed) = (client.clone(), own_session);
            tokio::spawn(async move { (followed, follow(client, own_session, dice).await) })
        })
        .collect();
    appending.await;
    for follower in following {
        let (own_session, seen) = follower.await.unwrap();
        let mut numbers: Vec<_> = seen.values().copied().collect();
        numbers.sort_unstable();
        let expected: Vec<_> =
            (0..EVENTS).filter(|number| own_session.is_none_or(|own| session(own) == session(*number))).collect();
        assert_eq!(numbers, expected, "{own_session:?}");
        if own_session.is_none() {
            assert!(seen.keys().copied().eq(1..=EVENTS));
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn idle_clients_cost_little_memory() {
    const IDLE: usize = 500;
    let stack = Stack::new().await;
    let api = Child::start(&stack, Role::QueryApi, &[]).await;
    let tenant = Tenant::new();
    let client = Client::new(api.url(), tenant, Token::of(tenant, "admin").sign(stack.issuer()));
    let open = async || {
        let mut stream = client.events("", None).await;
        stream.frame().await.unwrap();
        stream
    };
    // What the process needs once.
    let mut held = stream::iter(0..50).map(|_| open()).buffer_unordered(10).collect::<Vec<_>>().await;
    let before = api.resident_bytes();
    held.extend(stream::iter(0..IDLE).map(|_| open()).buffer_unordered(10).collect::<Vec<_>>().await);
    let each = api.resident_bytes().saturating_sub(before) / IDLE as u64;
    println!("{each} bytes a client");
    assert!(each < 40 * 1024, "{each} bytes a client");
    drop(held);
}
