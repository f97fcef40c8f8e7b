// SPDX-License-Identifier: AGPL-3.0-only
//! Refresh tokens: how long one lives, how many a subject has, and what removes them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

pub(super) fn token(subject: &str, created: Timestamp) -> RefreshToken {
    RefreshToken {
        subject: subject.to_owned(),
        proof: "a-proof".to_owned(),
        stamp: vec![202; 3],
        client: "docker".to_owned(),
        service: "registry.example".to_owned(),
        created,
        expires: created.plus(HOUR),
    }
}

fn id(number: u32) -> [u8; 32] {
    raw256(&number.to_be_bytes())
}

/// How many rows there are of tokens, by subject, and by expiry.
async fn counts(lab: &Lab) -> [usize; 3] {
    [lab.rows(b"y").await.len(), lab.rows(b"j").await.len(), lab.rows(b"d").await.len()]
}

#[tokio::test]
async fn a_token_lives_until_it_expires_or_is_revoked() {
    on_both(async |lab| {
        let store = &lab.store;
        assert_eq!(store.refresh_token(&id(1)).await.unwrap(), None);
        assert!(!store.revoke_refresh_token(&id(1)).await.unwrap());
        for number in 1..=2 {
            store.add_refresh_token(id(number), token("alice", START)).await.unwrap();
        }
        // Adding it again, after an answer was lost.
        store.add_refresh_token(id(1), token("alice", START)).await.unwrap();
        assert_eq!(counts(&lab).await, [2, 2, 2]);
        assert_eq!(store.refresh_token(&id(1)).await.unwrap(), Some(token("alice", START)));
        assert!(store.revoke_refresh_token(&id(1)).await.unwrap());
        assert_eq!(store.refresh_token(&id(1)).await.unwrap(), None);
        assert_eq!(counts(&lab).await, [1, 1, 1]);
        lab.clock.set(Timestamp(START.0 + 3_599_999));
        assert!(store.refresh_token(&id(2)).await.unwrap().is_some());
        lab.clock.advance(Duration::from_millis(1));
        assert_eq!(store.refresh_token(&id(2)).await.unwrap(), None);
        is_clean(&lab).await;
        assert_eq!(store.sweep_refresh_tokens().await.unwrap(), 1);
        assert_eq!(store.sweep_refresh_tokens().await.unwrap(), 0);
        assert_eq!(counts(&lab).await, [0, 0, 0]);
    })
    .await;
}

#[tokio::test]
async fn a_subject_has_a_hundred_live_tokens_and_loses_the_oldest() {
    on_both(async |lab| {
        let store = &lab.store;
        store.add_refresh_token(id(500), token("bob", START)).await.unwrap();
        for number in 0..100 {
            store.add_refresh_token(id(number), token("alice", lab.now())).await.unwrap();
            lab.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(counts(&lab).await, [101, 101, 101]);
        store.add_refresh_token(id(100), token("alice", lab.now())).await.unwrap();
        assert_eq!(store.refresh_token(&id(0)).await.unwrap(), None);
        assert!(store.refresh_token(&id(1)).await.unwrap().is_some());
        assert!(store.refresh_token(&id(500)).await.unwrap().is_some(), "another subject has its own");
        // Those that have expired make room before one that lives does.
        lab.clock.set(START.plus(HOUR).plus(Duration::from_secs(50)));
        store.add_refresh_token(id(101), token("alice", lab.now())).await.unwrap();
        assert!(store.refresh_token(&id(51)).await.unwrap().is_some());
        assert_eq!(counts(&lab).await, [52, 52, 52]);
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn revoking_a_subject_takes_all_of_its_tokens_and_no_others() {
    on_both(async |lab| {
        let store = &lab.store;
        for number in 0..60 {
            let subject = if number % 2 == 0 { "alice" } else { "alice2" };
            store.add_refresh_token(id(number), token(subject, START)).await.unwrap();
        }
        assert_eq!(store.revoke_refresh_tokens_of("alice").await.unwrap(), 30);
        assert_eq!(store.revoke_refresh_tokens_of("alice").await.unwrap(), 0);
        assert_eq!(counts(&lab).await, [30, 30, 30]);
        let page = store.refresh_tokens(None, 1000).await.unwrap();
        assert!(page.iter().all(|(_, token)| token.subject == "alice2"));
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn pages_of_tokens_go_on_where_they_ended_and_show_no_expired_ones() {
    on_both(async |lab| {
        for number in 0..50 {
            let made = if number < 25 { START } else { START.plus(HOUR) };
            lab.store.add_refresh_token(id(number), token("alice", made)).await.unwrap();
        }
        lab.clock.advance(HOUR);
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = lab.store.refresh_tokens(after, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.0);
            seen.extend(page.into_iter().map(|(sha256, _)| sha256));
        }
        let mut expected: Vec<_> = (25..50).map(id).collect();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    })
    .await;
}

#[tokio::test]
async fn what_a_token_says_is_bounded() {
    on_both(async |lab| {
        let right = token("alice", START);
        let long = "x".repeat(1025);
        for bad in [
            RefreshToken { subject: long.clone(), ..right.clone() },
            RefreshToken { proof: long.clone(), ..right.clone() },
            RefreshToken { stamp: vec![0; 1025], ..right.clone() },
            RefreshToken { client: long.clone(), ..right.clone() },
            RefreshToken { service: long.clone(), ..right.clone() },
        ] {
            let refused = lab.store.add_refresh_token(id(1), bad).await;
            assert!(matches!(refused, Err(Error::TooLarge(_))), "{refused:?}");
        }
        let subject = "\0".repeat(1024);
        lab.store.add_refresh_token(id(1), RefreshToken { subject, ..right }).await.unwrap();
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_sweep_takes_what_has_expired_and_leaves_the_rest() {
    let lab = Lab::new(Kind::Memory).await;
    // More in one part of the queue than one transaction removes, and some in each.
    let crowded = |sha256: &[u8; 32]| keys::refresh_token_expiry(START, sha256)[1] == 3;
    let tokens: Vec<_> =
        (0..20_000).map(id).filter(crowded).take(700).chain((30_000..30_200).map(id)).collect();
    assert_eq!(tokens.len(), 900);
    for (number, sha256) in tokens.iter().chain(&(40_000..40_100).map(id).collect::<Vec<_>>()).enumerate() {
        let made = if number < 900 { START } else { START.plus(HOUR) };
        lab.store.add_refresh_token(*sha256, token(&format!("s{}", number / 50), made)).await.unwrap();
    }
    lab.clock.advance(HOUR);
    assert_eq!(lab.store.sweep_refresh_tokens().await.unwrap(), 900);
    assert_eq!(counts(&lab).await, [100; 3]);
    is_clean(&lab).await;
}

#[derive(Clone, Debug)]
enum Step {
    Add { number: u32, subject: u8, minutes: u64 },
    Revoke { number: u32 },
    RevokeAll { subject: u8 },
    Sweep,
    Wait { minutes: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0u32..20, 0u8..3, 0u64..90)
            .prop_map(|(number, subject, minutes)| Step::Add { number, subject, minutes }),
        1 => (0u32..20).prop_map(|number| Step::Revoke { number }),
        1 => (0u8..3).prop_map(|subject| Step::RevokeAll { subject }),
        1 => Just(Step::Sweep),
        2 => (0u64..60).prop_map(|minutes| Step::Wait { minutes }),
    ];
    proptest::collection::vec(step, 1..40)
}

#[test]
fn random_changes_leave_the_tokens_that_a_map_has() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let lab = Lab::new(Kind::Memory).await;
            let (store, mut model) = (&lab.store, BTreeMap::new());
            for step in &steps {
                match step {
                    Step::Add { number, subject, minutes } => {
                        let expires = lab.now().plus(Duration::from_mins(*minutes));
                        let added = RefreshToken { expires, ..token(&format!("s{subject}"), lab.now()) };
                        store.add_refresh_token(id(*number), added.clone()).await.unwrap();
                        model.insert(id(*number), added);
                    }
                    Step::Revoke { number } => {
                        let revoked = store.revoke_refresh_token(&id(*number)).await.unwrap();
                        prop_assert_eq!(revoked, model.remove(&id(*number)).is_some());
                    }
                    Step::RevokeAll { subject } => {
                        let (subject, before) = (format!("s{subject}"), model.len());
                        model.retain(|_, token| token.subject != subject);
                        let revoked = store.revoke_refresh_tokens_of(&subject).await.unwrap();
                        prop_assert_eq!(revoked, (before - model.len()) as u64);
                    }
                    Step::Sweep => {
                        let before = model.len();
                        model.retain(|_, token| token.expires > lab.now());
                        let swept = store.sweep_refresh_tokens().await.unwrap();
                        prop_assert_eq!(swept, (before - model.len()) as u64);
                    }
                    Step::Wait { minutes } => lab.clock.advance(Duration::from_mins(*minutes)),
                }
                let mut live = model.clone();
                live.retain(|_, token| token.expires > lab.now());
                let live: Vec<_> = live.into_iter().collect();
                prop_assert_eq!(store.refresh_tokens(None, 100).await.unwrap(), live);
                prop_assert_eq!(counts(&lab).await, [model.len(); 3]);
            }
            is_clean(&lab).await;
            Ok(())
        })
    });
    outcome.unwrap();
}
