// SPDX-License-Identifier: AGPL-3.0-only
//! Referrers: pages by number and bytes, filters, and cursors that survive changes.

use super::*;

const PLENTY: usize = 4 << 20;

/// Pushes a referrer of a type and returns its digest.
async fn refer(lab: &Lab, repo: &RepoName, subject: &Digest, artifact_type: &str, number: usize) -> Digest {
    let mut document = index(&[]);
    document["subject"] = descriptor(subject, 7);
    document["artifactType"] = artifact_type.into();
    document["annotations"] = json!({"number": number.to_string()});
    lab.put(repo, &document, &[]).await.unwrap()
}

fn digests(page: &ReferrersPage) -> Vec<Digest> {
    let digest = |descriptor: &Vec<u8>| {
        let descriptor: Value = serde_json::from_slice(descriptor).unwrap();
        descriptor["digest"].as_str().unwrap().parse().unwrap()
    };
    page.descriptors.iter().map(digest).collect()
}

/// All referrers, page by page.
async fn all(
    lab: &Lab,
    subject: &Digest,
    types: &[&str],
    limit: usize,
    max_bytes: usize,
) -> Vec<Vec<Digest>> {
    let types: Vec<String> = types.iter().map(|&name| name.to_owned()).collect();
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = lab.store.referrers(&repo("a"), subject, &types, after, limit, max_bytes).await.unwrap();
        pages.push(digests(&page));
        after = page.next;
        if after.is_none() {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_descriptor_is_finished_when_stored() {
    on_both(async |lab| {
        let (repo, subject) = (repo("a"), sha256(b"not there"));
        let digest = refer(&lab, &repo, &subject, "a/b", 1).await;
        let size = lab.store.manifest(&repo, &Reference::Digest(digest.clone())).await.unwrap().bytes.len();
        let page = lab.store.referrers(&repo, &subject, &[], None, 10, PLENTY).await.unwrap();
        assert_eq!(page.next, None);
        let found: Value = serde_json::from_slice(&page.descriptors[0]).unwrap();
        assert_eq!(
            found,
            json!({
                "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(), "size": size,
                "artifactType": "a/b", "annotations": {"number": "1"},
            })
        );
        // A digest that nothing refers to, and a repository that does not exist, have none.
        for (name, other) in [("a", sha256(b"other")), ("none", subject.clone())] {
            let page = lab.store.referrers(&super::repo(name), &other, &[], None, 10, PLENTY).await.unwrap();
            assert_eq!(page, ReferrersPage::default());
        }
        lab.store.delete_manifest(&repo, &digest, &deleter("ci")).await.unwrap();
        assert_eq!(all(&lab, &subject, &[], 10, PLENTY).await, [vec![]]);
    })
    .await;
}

#[tokio::test]
async fn pages_are_bounded_in_number_and_bytes() {
    on_both(async |lab| {
        let (repo, subject) = (repo("a"), sha512(b"subject"));
        let mut expected = Vec::new();
        for number in 0..10 {
            expected.push(refer(&lab, &repo, &subject, "a/b", number).await);
        }
        expected.sort();
        for limit in [1, 3, 5, 10, 11] {
            let pages = all(&lab, &subject, &[], limit, PLENTY).await;
            assert_eq!(pages.len(), 10usize.div_ceil(limit));
            assert!(pages.iter().all(|page| page.len() <= limit));
            assert_eq!(pages.concat(), expected);
        }
        let size =
            lab.store.referrers(&repo, &subject, &[], None, 1, PLENTY).await.unwrap().descriptors[0].len();
        let pages = all(&lab, &subject, &[], 100, 3 * (size + 1)).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 1]);
        // Always one, however small the bounds.
        for (limit, max_bytes) in [(0, PLENTY), (10, 0)] {
            let pages = all(&lab, &subject, &[], limit, max_bytes).await;
            assert_eq!(pages.len(), 10);
            assert_eq!(pages.concat(), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_filter_takes_several_types_and_no_others() {
    on_both(async |lab| {
        let (repo, subject) = (repo("a"), sha256(b"subject"));
        let mut of = std::collections::BTreeMap::<&str, Vec<Digest>>::new();
        for number in 0..3 {
            for artifact_type in ["a/b", "a/bc", "b/a", "c/d"] {
                of.entry(artifact_type)
                    .or_default()
                    .push(refer(&lab, &repo, &subject, artifact_type, number).await);
            }
        }
        for digests in of.values_mut() {
            digests.sort();
        }
        for types in [vec!["a/b"], vec!["c/d", "a/b"], vec!["b/a", "a/bc", "b/a"], vec!["x/y", "b/a"]] {
            let mut sorted = types.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let expected: Vec<Digest> =
                sorted.iter().filter_map(|name| of.get(name)).flatten().cloned().collect();
            for limit in [1, 2, 4, 100] {
                assert_eq!(
                    all(&lab, &subject, &types, limit, PLENTY).await.concat(),
                    expected,
                    "{types:?} {limit}"
                );
            }
        }
        assert_eq!(all(&lab, &subject, &["x/y"], 10, PLENTY).await, [vec![]]);
        assert_eq!(all(&lab, &subject, &[], 5, PLENTY).await.concat().len(), 12);
    })
    .await;
}

#[tokio::test]
async fn a_cursor_survives_changes_between_pages() {
    on_both(async |lab| {
        let (repo, subject) = (repo("a"), sha256(b"subject"));
        let mut before = Vec::new();
        for number in 0..30 {
            before.push(refer(&lab, &repo, &subject, "a/b", number).await);
        }
        before.sort();
        let first = lab.store.referrers(&repo, &subject, &[], None, 10, PLENTY).await.unwrap();
        assert_eq!(digests(&first), before[..10]);
        // The row at the cursor goes, and so does the next; others come on both sides.
        for gone in [&before[9], &before[10]] {
            lab.store.delete_manifest(&repo, gone, &deleter("ci")).await.unwrap();
        }
        for number in 30..60 {
            refer(&lab, &repo, &subject, "a/b", number).await;
        }
        let mut seen = digests(&first);
        let mut after = first.next;
        while let Some(cursor) = after {
            let page = lab.store.referrers(&repo, &subject, &[], Some(cursor), 10, PLENTY).await.unwrap();
            seen.extend(digests(&page));
            after = page.next;
        }
        assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "nothing comes twice");
        for stayed in before.iter().filter(|digest| **digest != before[10]) {
            assert!(seen.contains(stayed), "what was there all the time is seen");
        }
    })
    .await;
}

#[tokio::test]
async fn a_cursor_from_elsewhere_is_harmless() {
    let lab = Lab::new(Kind::Memory).await;
    let (repo, subject) = (repo("a"), sha256(b"subject"));
    refer(&lab, &repo, &subject, "a/b", 1).await;
    for cursor in [vec![], vec![0], vec![0xff; 40], b"zzz".to_vec()] {
        for types in [vec![], vec!["a/b".to_owned()]] {
            let page =
                lab.store.referrers(&repo, &subject, &types, Some(cursor.clone()), 10, PLENTY).await.unwrap();
            assert!(page.descriptors.len() <= 1);
        }
    }
}
