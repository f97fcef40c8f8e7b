// SPDX-License-Identifier: AGPL-3.0-only
//! Referrers: which manifests have a digest as their subject, by type and in pages. Never 404.

use serde_json::{Value, json};

use crate::client::{Answer, get, head};
use crate::role::{OCI_INDEX, OCI_MANIFEST, Repo, descriptor, image, refused, sha256};
use crate::server::Server;

/// Pushes an artifact about `subject`; gives its digest.
fn attach(repo: Repo<'_>, subject: &str, artifact_type: Option<&str>, note: &str) -> String {
    let config = repo.push_blob("{}");
    let mut manifest = image((&config, 2), &[]);
    manifest["subject"] = descriptor(OCI_MANIFEST, subject, 7);
    manifest["annotations"] = json!({"note": note});
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = json!(artifact_type);
    }
    let text = manifest.to_string();
    let answer = repo.put_manifest(&sha256(&text), OCI_MANIFEST, &text).is(201);
    assert_eq!(answer.must("oci-subject"), subject);
    sha256(text)
}

#[track_caller]
fn list(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, answer.must("content-type")), (200, OCI_INDEX), "{answer}");
    let json = answer.json();
    assert_eq!((&json["schemaVersion"], &json["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
    json["manifests"].as_array().unwrap().clone()
}

fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    Some(link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
}

#[test]
fn what_nobody_refers_to_has_an_empty_list_even_where_nothing_is() {
    let server = Server::start();
    let repo = server.repo("never/was");
    let absent = sha256("absent");
    for digest in [absent.clone(), absent.replace(':', "%3A"), format!("blake3:{}", "0".repeat(64))] {
        assert_eq!(list(&get(repo.url(&format!("referrers/{digest}"))).to(&server)), [json!(null); 0]);
    }
    let answer = get(repo.url(&format!("referrers/{absent}?artifactType=a/b"))).to(&server);
    assert_eq!(answer.must("oci-filters-applied"), "artifactType");
    assert!(list(&answer).is_empty());
    for bad in ["latest", "sha256:bad", "sha256"] {
        refused(&get(repo.url(&format!("referrers/{bad}"))).to(&server), 400, "DIGEST_INVALID");
    }
}

#[test]
fn a_referrer_is_described_with_its_type_and_annotations() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let subject = repo.push_image("v1", "x").digest;
    let typed = attach(repo, &subject, Some("application/vnd.example.sbom+json"), "typed");
    let untyped = attach(repo, &subject, None, "by config");
    let mut index = crate::role::index(&[]);
    index["subject"] = descriptor(OCI_MANIFEST, &subject, 7);
    let index = index.to_string();
    repo.put_manifest(&sha256(&index), OCI_INDEX, &index).is(201);
    let answer = get(repo.url(&format!("referrers/{subject}"))).to(&server);
    assert_eq!(answer.header("oci-filters-applied"), None);
    let listed = list(&answer);
    assert_eq!(listed.len(), 3);
    let entry = |digest: &str| listed.iter().find(|entry| entry["digest"] == digest).unwrap();
    let size = head(repo.manifest(&typed)).to(&server).must("content-length").parse::<u64>().unwrap();
    assert_eq!(
        *entry(&typed),
        json!({
            "mediaType": OCI_MANIFEST, "digest": typed, "size": size,
            "artifactType": "application/vnd.example.sbom+json", "annotations": {"note": "typed"},
        })
    );
    assert_eq!(entry(&untyped)["artifactType"], crate::role::OCI_CONFIG);
    assert_eq!(entry(&sha256(&index)).get("artifactType"), None);
    let length = head(repo.url(&format!("referrers/{subject}"))).to(&server).is(200);
    assert_eq!(length.must("content-length"), answer.body.len().to_string());
}

#[test]
fn a_filter_lists_the_type_and_nothing_else() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let subject = sha256("late");
    let sbom = attach(repo, &subject, Some("application/vnd.example.sbom+json"), "1");
    let scan = attach(repo, &subject, Some("application/vnd.example.scan"), "2");
    attach(repo, &subject, Some("application/vnd.example.scan.more"), "3");
    attach(repo, &sha256("other"), Some("application/vnd.example.scan"), "4");
    for (query, expected) in [
        // A plus may come as it is.
        ("artifactType=application/vnd.example.sbom+json", vec![&sbom]),
        ("artifactType=application%2Fvnd.example.sbom%2Bjson", vec![&sbom]),
        ("artifactType=application/vnd.example.scan", vec![&scan]),
        (
            "artifactType=application/vnd.example.scan&artifactType=application/vnd.example.sbom%2Bjson",
            vec![&sbom, &scan],
        ),
        ("artifactType=application/vnd.example", vec![]),
    ] {
        let answer = get(repo.url(&format!("referrers/{subject}?{query}"))).to(&server);
        assert_eq!(answer.must("oci-filters-applied"), "artifactType");
        let listed = list(&answer);
        let digests: Vec<_> = listed.iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
        assert_eq!(digests, expected, "{query}");
    }
    let flood = "artifactType=a/b&".repeat(17);
    refused(&get(repo.url(&format!("referrers/{subject}?{flood}"))).to(&server), 400, "UNSUPPORTED");
}

#[test]
fn pages_of_referrers_follow_each_other_by_their_links() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let subject = sha256("late");
    let types = ["a/long+type", "b/x", "b/x.y", "c/z"];
    let mut expected: Vec<_> =
        (0..12).map(|number| attach(repo, &subject, Some(types[number % 4]), &format!("{number}"))).collect();
    expected.sort();
    let every = types.map(|text| format!("&artifactType={}", text.replace('+', "%2B"))).join("");
    for filter in ["", &every] {
        for n in [1, 5, 12, 13] {
            let (mut seen, mut pages) = (Vec::new(), 0);
            let mut target = Some(repo.url(&format!("referrers/{subject}?n={n}{filter}")));
            while let Some(path) = target {
                let answer = get(path).to(&server);
                assert_eq!(answer.header("oci-filters-applied").is_some(), !filter.is_empty());
                let listed = list(&answer);
                assert!(listed.len() <= n);
                seen.extend(listed.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()));
                (target, pages) = (next(&answer), pages + 1);
            }
            seen.sort();
            assert_eq!((&seen, pages), (&expected, 12usize.div_ceil(n)), "n={n}{filter}");
        }
    }
    refused(&get(repo.url(&format!("referrers/{subject}?last=!"))).to(&server), 400, "UNSUPPORTED");
}

#[test]
fn one_answer_stays_below_what_clients_read() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let subject = sha256("late");
    // Five of nearly a mebibyte: no client reads more than four.
    for number in 0..5 {
        attach(repo, &subject, Some("a/b"), &format!("{number}{}", "x".repeat(1_000_000)));
    }
    let answer = get(repo.url(&format!("referrers/{subject}"))).to(&server);
    assert!(answer.body.len() < 4 << 20, "{}", answer.body.len());
    let rest = get(next(&answer).unwrap()).to(&server);
    assert_eq!((list(&answer).len() + list(&rest).len(), next(&rest)), (5, None));
}

#[test]
fn a_deleted_referrer_is_not_listed_and_a_deleted_subject_keeps_its_own() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let subject = repo.push_image("v1", "x").digest;
    let (first, second) =
        (attach(repo, &subject, Some("a/b"), "1"), attach(repo, &subject, Some("a/b"), "2"));
    repo.delete_manifest(&first).is(202);
    repo.delete_manifest(&subject).is(202);
    let listed = list(&get(repo.url(&format!("referrers/{subject}"))).to(&server));
    assert_eq!(listed.iter().map(|entry| &entry["digest"]).collect::<Vec<_>>(), [&json!(second)]);
}
