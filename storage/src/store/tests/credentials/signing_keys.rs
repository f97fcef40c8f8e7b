// SPDX-License-Identifier: AGPL-3.0-only
//! Signing keys: one of several replicas that rotate at once wins, and there are never too many.

use super::*;

pub(super) fn key(kid: &str, created: Timestamp) -> SigningKey {
    SigningKey {
        kid: kid.to_owned(),
        algorithm: "ES256".to_owned(),
        private: vec![203; 5],
        created,
        signs_from: created.plus(HOUR),
        retired: None,
    }
}

async fn kids(lab: &Lab) -> Vec<String> {
    lab.store.signing_keys().await.unwrap().into_iter().map(|key| key.kid).collect()
}

#[tokio::test]
async fn a_key_is_added_only_after_the_newest_of_its_algorithm() {
    on_both(async |lab| {
        let (store, later) = (&lab.store, START.plus(HOUR));
        assert!(!store.add_signing_key(key("k1", START), Some("k0")).await.unwrap());
        assert!(store.add_signing_key(key("k1", START), None).await.unwrap());
        // An answer that was lost is given again; another key takes no name.
        assert!(store.add_signing_key(key("k1", START), None).await.unwrap());
        assert!(!store.add_signing_key(key("k1", later), Some("k1")).await.unwrap());
        assert!(!store.add_signing_key(key("a2", later), None).await.unwrap());
        assert!(store.add_signing_key(key("a2", later), Some("k1")).await.unwrap());
        assert!(!store.add_signing_key(key("k3", later), Some("k1")).await.unwrap());
        let other = SigningKey { algorithm: "EdDSA".to_owned(), ..key("e1", START) };
        assert!(store.add_signing_key(other, None).await.unwrap(), "each algorithm has its own newest");
        assert_eq!(kids(&lab).await, ["e1", "k1", "a2"], "the oldest first, then by name");
        assert!(store.remove_signing_key("k1").await.unwrap());
        assert!(!store.remove_signing_key("k1").await.unwrap());
        lab.clock.set(later);
        assert!(store.retire_signing_key("a2").await.unwrap());
        assert!(!store.retire_signing_key("a2").await.unwrap());
        assert!(!store.retire_signing_key("k1").await.unwrap());
        let keys = store.signing_keys().await.unwrap();
        assert_eq!(keys[1], SigningKey { retired: Some(later), ..key("a2", later) });
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn of_replicas_that_rotate_at_once_one_wins() {
    on_both(async |lab| {
        lab.store.add_signing_key(key("k0", START), None).await.unwrap();
        let next = START.plus(HOUR);
        let names: Vec<String> = (1..=8).map(|number| format!("r{number}")).collect();
        let adding = names.iter().map(|name| lab.store.add_signing_key(key(name, next), Some("k0")));
        let won = futures_util::future::try_join_all(adding).await.unwrap();
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let winner = names.iter().zip(won).find(|row| row.1).unwrap().0;
        assert_eq!(kids(&lab).await, ["k0", winner]);
    })
    .await;
}

#[tokio::test]
async fn names_sizes_and_the_number_of_keys_are_bounded() {
    on_both(async |lab| {
        let store = &lab.store;
        for bad in [
            key("", START),
            key(&"x".repeat(129), START),
            SigningKey { private: vec![0; 20_000], ..key("k", START) },
            SigningKey { algorithm: "x".repeat(2000), ..key("k", START) },
        ] {
            let refused = store.add_signing_key(bad, None).await;
            assert!(matches!(refused, Err(Error::TooLarge(_))), "{refused:?}");
        }
        let mut newest: Option<String> = None;
        for number in 0..64u64 {
            let kid = format!("k{number}");
            let created = Timestamp(START.0 + number);
            assert!(store.add_signing_key(key(&kid, created), newest.as_deref()).await.unwrap());
            newest = Some(kid);
        }
        let more = key("k64", START.plus(HOUR));
        let refused = store.add_signing_key(more.clone(), newest.as_deref()).await.unwrap_err();
        assert_eq!(refused.to_string(), "there are 64 signing keys; remove one that signs no more");
        store.remove_signing_key("k0").await.unwrap();
        assert!(store.add_signing_key(more, newest.as_deref()).await.unwrap());
        assert_eq!(kids(&lab).await.len(), 64);
    })
    .await;
}
