// SPDX-License-Identifier: AGPL-3.0-only
//! Allowances: what they are about, which of two counts, and the stamps that they change.

use super::*;
use crate::store::Allowance;

fn allowance(digest: &Digest, repository: Option<&RepoName>, expires: u64) -> Allowance {
    Allowance {
        digest: digest.clone(),
        repository: repository.cloned(),
        reason: "why".to_owned(),
        by: "olga".to_owned(),
        created: START,
        expires: START.plus(Duration::from_secs(expires)),
    }
}

#[tokio::test]
async fn an_allowance_changes_stamps_where_it_counts_and_nowhere_else() {
    on_both(async |lab| {
        let store = &lab.store;
        let (a, b) = (repo("a"), repo("b"));
        let digest = lab.put_image(&a, b"1", &["1"]).await;
        assert_eq!(lab.put_image(&b, b"1", &["1"]).await, digest);
        let stamps = async || {
            let of = async |repo| store.manifest_state(repo, &digest).await.unwrap().unwrap().stamp;
            (of(&a).await, of(&b).await)
        };
        let before = stamps().await;
        assert_eq!(store.allow(allowance(&digest, Some(&a), 60)).await.unwrap(), std::slice::from_ref(&a));
        let after = stamps().await;
        assert!(before.0 != after.0 && before.1 == after.1);
        assert_eq!(store.allowance(&a, &digest).await.unwrap(), Some(allowance(&digest, Some(&a), 60)));
        assert_eq!(store.allowance(&b, &digest).await.unwrap(), None);
        // Of two, what lasts longer.
        assert_eq!(store.allow(allowance(&digest, None, 90)).await.unwrap(), [a.clone(), b.clone()]);
        let everywhere = stamps().await;
        assert!(after.0 != everywhere.0 && after.1 != everywhere.1);
        for repo in [&a, &b] {
            assert_eq!(store.allowance(repo, &digest).await.unwrap(), Some(allowance(&digest, None, 90)));
        }
        let all = store.allowances(None, 10).await.unwrap();
        assert_eq!(all, [allowance(&digest, None, 90), allowance(&digest, Some(&a), 60)]);
        let rest = store.allowances(Some((digest.clone(), None)), 10).await.unwrap();
        assert_eq!(rest, [allowance(&digest, Some(&a), 60)]);
        // Taken back once.
        assert_eq!(store.disallow(&digest, None).await.unwrap(), Some(vec![a.clone(), b.clone()]));
        assert_ne!(stamps().await, everywhere);
        // Who tries again after that failed halfway finishes it.
        let halfway = stamps().await;
        assert_eq!(store.disallow(&digest, None).await.unwrap(), None);
        let whole = stamps().await;
        assert!(halfway.0 != whole.0 && halfway.1 != whole.1);
        assert_eq!(store.allowance(&b, &digest).await.unwrap(), None);
        // What is not here yet is allowed too; what is too long is not taken.
        let other = Digest::Sha256([7; 32]);
        assert!(store.allow(allowance(&other, Some(&repo("c")), 60)).await.unwrap().is_empty());
        assert!(store.allowance(&repo("c"), &other).await.unwrap().is_some());
        let long = Allowance { reason: "x".repeat(1025), ..allowance(&other, None, 60) };
        assert!(matches!(store.allow(long).await, Err(Error::TooLarge(_))));
    })
    .await;
}
