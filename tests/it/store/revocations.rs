//! What is revoked, as it is written down and read.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures::future::{join_all, try_join};
use toolgate_store::{Revocation, RevocationLog, TenantEntry};

use crate::app::{Stack, Tenant};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_kept() {
    let log = RevocationLog::of(&Stack::new().await.log().await);
    let tenant = Tenant::new().id();
    let epochs = join_all((1..=4).map(|second| {
        let log = log.clone();
        async move {
            let later = |entry: &mut TenantEntry| entry.tokens_revoked_at = entry.tokens_revoked_at.max(Some(at(second)));
            log.change_tenant(tenant, later).await
        }
    }));
    let suspension = log.change_tenant(tenant, |entry| entry.is_suspended = true);
    let (epochs, suspension) = futures::join!(epochs, suspension);
    epochs.into_iter().chain([suspension]).collect::<Result<(), _>>().unwrap();
    let (changes, sequence) = log.read_after(0).await.unwrap();
    let entry = TenantEntry { is_suspended: true, tokens_revoked_at: Some(at(4)), is_erased: false };
    assert_eq!(changes, [Revocation::Tenant(tenant, entry)]);
    assert_eq!(sequence, 5);
}

#[tokio::test]
async fn a_reader_gets_what_is_new_to_it() {
    let log = RevocationLog::of(&Stack::new().await.log().await);
    assert_eq!(log.read_after(0).await.unwrap(), (vec![], 0));
    let (one, two) = ([1; 32], [2; 32]);
    log.revoke_token(one, Some(at(5))).await.unwrap();
    let (changes, sequence) = log.read_after(0).await.unwrap();
    assert_eq!((changes, sequence), (vec![Revocation::Token { digest: one, expires_at: Some(at(5)) }], 1));
    log.revoke_token(two, None).await.unwrap();
    assert_eq!(log.read_after(1).await.unwrap(), (vec![Revocation::Token { digest: two, expires_at: None }], 2));
    assert_eq!(log.read_after(2).await.unwrap(), (vec![], 2));
    // Whoever has read further than there is has read another stream: it begins anew.
    assert_eq!(log.read_after(9).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn many_entries_are_read_whether_replaced_or_not() {
    let log = RevocationLog::of(&Stack::new().await.log().await);
    // One entry moves on all the time, which leaves gaps between the others.
    for number in 0..150_u8 {
        log.revoke_token([number; 32], None).await.unwrap();
        log.revoke_token([255; 32], None).await.unwrap();
    }
    let (changes, sequence) = log.read_after(0).await.unwrap();
    let digests: HashSet<_> = changes.iter().map(|change| format!("{change:?}")).collect();
    assert_eq!((digests.len(), changes.len(), sequence), (151, 151, 300));
    let (changes, sequence) = log.read_after(298).await.unwrap();
    assert_eq!((changes.len(), sequence), (2, 300));
}

#[tokio::test]
async fn of_two_ends_the_later_counts_and_none_is_later_than_any() {
    let log = RevocationLog::of(&Stack::new().await.log().await);
    let token = [1; 32];
    for (given, kept) in [(Some(5), Some(5)), (Some(3), Some(5)), (Some(7), Some(7)), (None, None), (Some(9), None)] {
        log.revoke_token(token, given.map(at)).await.unwrap();
        let (changes, _) = log.read_after(0).await.unwrap();
        assert_eq!(changes, [Revocation::Token { digest: token, expires_at: kept.map(at) }], "{given:?}");
    }
    let twice = try_join(log.revoke_token([2; 32], None), log.revoke_token([2; 32], Some(at(1)))).await;
    assert!(twice.is_ok(), "{twice:?}");
}
