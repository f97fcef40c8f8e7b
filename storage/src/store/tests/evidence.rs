// SPDX-License-Identifier: AGPL-3.0-only
//! Evidence lives as long as its subject: referrers, and manifests under the tags of cosign.

use super::*;

const PAST_LEASE: u64 = 25;

async fn refer(lab: &Lab, repo: &RepoName, subject: &Digest, content: &[u8], tags: &[&str]) -> Digest {
    let mut document = image(&descriptor(&lab.push(repo, content).await, content.len()), &[]);
    document["subject"] = descriptor(subject, 1);
    lab.put(repo, &document, tags).await.unwrap()
}

fn signature_tag(subject: &Digest, suffix: &str) -> String {
    format!("{}.{suffix}", subject.to_string().replace(':', "-"))
}

#[tokio::test]
async fn evidence_stays_with_its_subject_and_goes_with_it() {
    on_both(async |lab| {
        let app = repo("app");
        let subject = lab.put_image(&app, b"app", &["v1"]).await;
        let sbom = refer(&lab, &app, &subject, b"sbom", &[]).await;
        let of_sbom = refer(&lab, &app, &sbom, b"signature of the sbom", &[]).await;
        let mut all = vec![sbom, of_sbom];
        for suffix in ["sig", "att", "sbom"] {
            let tag = signature_tag(&subject, suffix);
            all.push(lab.put_image(&app, tag.as_bytes(), &[&tag]).await);
        }
        lab.collect_after(1000).await;
        for digest in &all {
            assert!(lab.has_manifest(&app, digest).await, "its subject is there");
        }
        lab.store.delete_manifest(&app, &subject, &deleter("ops")).await.unwrap();
        let summary = lab.collect().await;
        assert_eq!((summary.manifests, summary.blobs), (5, 6));
        for digest in &all {
            assert!(!lab.has_manifest(&app, digest).await);
        }
        assert!(lab.store.tags(&app, None, 10).await.unwrap().is_empty());
        lab.collect_after(91 * 24).await;
        assert!(lab.files().is_empty());
        for table in [b"l", b"x", b"e", b"s", b"t", b"u", b"h", b"v", b"g"] {
            assert!(lab.rows(table).await.is_empty(), "table {}", char::from(table[0]));
        }
    })
    .await;
}

#[tokio::test]
async fn evidence_whose_subject_never_came_is_an_untagged_manifest() {
    on_both(async |lab| {
        let app = repo("app");
        let nobody = sha256(b"nobody");
        let sbom = refer(&lab, &app, &nobody, b"sbom", &[]).await;
        let signature = lab.put_image(&app, b"signature", &[&signature_tag(&nobody, "sig")]).await;
        lab.collect_after(10_000).await;
        assert!(lab.has_manifest(&app, &sbom).await && lab.has_manifest(&app, &signature).await);
    })
    .await;
    let rules = vec![RepositoryRule {
        untagged: Some(Duration::from_hours(48)),
        ..RepositoryRule::of("**".parse().unwrap())
    }];
    let lab = Lab::tuned(Kind::Memory, |options| options.rules = rules).await;
    let app = repo("app");
    let subject = lab.put_image(&app, b"app", &["v1"]).await;
    let nobody = sha256(b"nobody");
    let kept = [
        refer(&lab, &app, &subject, b"sbom", &[]).await,
        lab.put_image(&app, b"sig", &[&signature_tag(&subject, "sig")]).await,
    ];
    let lost = [
        refer(&lab, &app, &nobody, b"sbom of nobody", &[]).await,
        lab.put_image(&app, b"sig of nobody", &[&signature_tag(&nobody, "sig")]).await,
    ];
    lab.collect_after(47).await;
    assert!(lab.has_manifest(&app, &lost[0]).await && lab.has_manifest(&app, &lost[1]).await);
    lab.collect_after(2).await;
    assert!(!lab.has_manifest(&app, &lost[0]).await && !lab.has_manifest(&app, &lost[1]).await);
    assert!(lab.has_manifest(&app, &kept[0]).await && lab.has_manifest(&app, &kept[1]).await);
}

#[tokio::test]
async fn evidence_with_a_tag_of_its_own_outlives_its_subject() {
    on_both(async |lab| {
        let app = repo("app");
        let subject = lab.put_image(&app, b"app", &["v1"]).await;
        let sbom = refer(&lab, &app, &subject, b"sbom", &["the-sbom"]).await;
        lab.store.delete_manifest(&app, &subject, &deleter("ops")).await.unwrap();
        lab.collect_after(1000).await;
        assert!(lab.has_manifest(&app, &sbom).await);
        lab.store.delete_tag(&app, &tag("the-sbom"), &deleter("ops")).await.unwrap();
        lab.collect_after(89 * 24).await;
        assert!(lab.has_manifest(&app, &sbom).await, "it was released");
        lab.collect_after(24).await;
        assert!(!lab.has_manifest(&app, &sbom).await);
    })
    .await;
}

#[tokio::test]
async fn a_subject_that_comes_back_finds_its_leased_evidence() {
    on_both(async |lab| {
        let app = repo("app");
        let subject = lab.put_image(&app, b"app", &["v1"]).await;
        lab.collect_after(PAST_LEASE).await;
        let sbom = refer(&lab, &app, &subject, b"sbom", &[]).await;
        lab.store.delete_manifest(&app, &subject, &deleter("ops")).await.unwrap();
        lab.collect().await;
        assert!(lab.has_manifest(&app, &sbom).await, "leased");
        lab.put_image(&app, b"app", &["v1"]).await;
        lab.collect_after(1000).await;
        assert!(lab.has_manifest(&app, &sbom).await);
        lab.store.delete_manifest(&app, &subject, &deleter("ops")).await.unwrap();
        lab.collect().await;
        assert!(!lab.has_manifest(&app, &sbom).await);
    })
    .await;
}

#[tokio::test]
async fn a_subject_with_more_evidence_than_one_transaction_takes_leaves_none_behind() {
    let lab = Lab::new(Kind::Memory).await;
    let app = repo("app");
    let subject = lab.put_image(&app, b"app", &["v1"]).await;
    let config = lab.push(&app, b"config").await;
    for number in 0..450 {
        let mut document = image(&descriptor(&config, 6), &[]);
        document["subject"] = descriptor(&subject, 1);
        document["annotations"] = json!({ "number": number.to_string() });
        lab.put(&app, &document, &[]).await.unwrap();
    }
    lab.collect_after(PAST_LEASE).await;
    lab.store.delete_manifest(&app, &subject, &deleter("ops")).await.unwrap();
    assert_eq!(lab.collect().await.manifests, 450);
    assert!(lab.rows(b"s").await.is_empty());
}
