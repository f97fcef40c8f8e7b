// SPDX-License-Identifier: AGPL-3.0-only
//! What the gate counts on: tags with two digests, releases by compare and set, and stamps that change with all that is
//! said of a manifest.

use super::*;

async fn push_held(lab: &Lab, repo: &RepoName, content: &[u8], tags: &[&str]) -> Digest {
    let document = image(&descriptor(&lab.push(repo, content).await, content.len()), &[]);
    let new = NewManifest { held: true, ..new_manifest(repo, &document, tags) };
    let digest = new.digest.clone();
    lab.store.put_manifest(new).await.unwrap();
    digest
}

async fn stamp(lab: &Lab, repo: &RepoName, digest: &Digest) -> u64 {
    lab.store.manifest_state(repo, digest).await.unwrap().unwrap().stamp
}

async fn release(lab: &Lab, repo: &RepoName, name: &str) -> Release {
    let state = lab.store.tag_state(repo, &tag(name)).await.unwrap();
    let digest = state.candidate.unwrap();
    let stamp = stamp(lab, repo, &digest).await;
    Release { digest, generation: state.generation, stamp, epoch: Some(0), signed_at: Some(Timestamp(7_000)) }
}

async fn seen(lab: &Lab, repo: &RepoName, name: &str, view: View) -> Result<Digest> {
    let found = lab.store.manifest_within(repo, &by_tag(name), view, 0).await;
    found.map(|(head, _)| head.digest)
}

async fn is_sound(lab: &Lab) {
    let (sender, mut faults) = mpsc::channel(64);
    let (summary, fault) = tokio::join!(lab.store.fsck(false, sender), faults.recv());
    assert!(fault.is_none(), "{fault:?}");
    summary.unwrap();
}

#[tokio::test]
async fn a_held_tag_shows_readers_what_was_released_and_moves_by_compare_and_set() {
    on_both(async |lab| {
        let app = repo("app");
        let first = push_held(&lab, &app, b"1", &["v"]).await;
        assert!(matches!(seen(&lab, &app, "v", View::Released).await, Err(Error::Unreleased(waits)) if waits == first));
        assert_eq!(seen(&lab, &app, "v", View::Pushed).await.unwrap(), first);
        let listed = |view| lab.store.tags_seen(&app, None, 10, view);
        assert_eq!(listed(View::Released).await.unwrap(), [("v".to_owned(), false)]);
        assert_eq!(listed(View::Pushed).await.unwrap(), [("v".to_owned(), true)]);
        let now = release(&lab, &app, "v").await;
        assert!(lab.store.release(&app, &tag("v"), &now).await.unwrap());
        assert!(lab.store.release(&app, &tag("v"), &now).await.unwrap(), "the same again changes nothing");
        assert_eq!(seen(&lab, &app, "v", View::Released).await.unwrap(), first);
        assert_eq!(lab.store.tag_state(&app, &tag("v")).await.unwrap().signed_at, Some(Timestamp(7_000)));
        assert_eq!(lab.store.manifest_state(&app, &first).await.unwrap().unwrap().released_at, Some(lab.now()));

        let second = push_held(&lab, &app, b"2", &["v"]).await;
        assert_eq!(seen(&lab, &app, "v", View::Released).await.unwrap(), first);
        let (head, _) = lab.store.manifest_within(&app, &by_tag("v"), View::Released, 0).await.unwrap();
        assert_eq!(head.candidate, Some(second.clone()));
        assert!(!lab.store.release(&app, &tag("v"), &now).await.unwrap(), "another was pushed meanwhile");
        let late = release(&lab, &app, "v").await;
        // Evidence went after it was judged.
        lab.put_image(&app, b"signature", &[&format!("{}.sig", second.to_string().replace(':', "-"))]).await;
        assert!(!lab.store.release(&app, &tag("v"), &late).await.unwrap(), "its stamp is another");
        // The same pushed again is another generation.
        let earlier = release(&lab, &app, "v").await;
        push_held(&lab, &app, b"2", &["v"]).await;
        assert!(!lab.store.release(&app, &tag("v"), &earlier).await.unwrap());
        // Other policies came.
        let now = release(&lab, &app, "v").await;
        let policies = lab.store.policy_epoch("others").await.unwrap();
        assert!(!lab.store.release(&app, &tag("v"), &now).await.unwrap());
        assert!(lab.store.release(&app, &tag("v"), &Release { epoch: Some(policies), ..now.clone() }).await.unwrap());
        assert_eq!(seen(&lab, &app, "v", View::Released).await.unwrap(), second);
        let moves = lab.store.tag_history(&app, &tag("v")).await.unwrap();
        let moves: Vec<_> = moves.into_iter().map(|moved| (moved.from, moved.to)).collect();
        assert_eq!(moves, [(Some(first.clone()), Some(second.clone())), (None, Some(first.clone()))]);

        let state = lab.store.tag_state(&app, &tag("v")).await.unwrap();
        let stamp = stamp(&lab, &app, &first).await;
        let back = Release { digest: first.clone(), generation: state.generation, stamp, epoch: None, signed_at: None };
        assert!(lab.store.roll_back(&app, &tag("v"), &back, &deleter("ops")).await.unwrap());
        assert!(!lab.store.roll_back(&app, &tag("v"), &back, &deleter("ops")).await.unwrap());
        for view in [View::Released, View::Pushed] {
            assert_eq!(seen(&lab, &app, "v", view).await.unwrap(), first);
        }
        is_sound(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_manifest_that_goes_takes_only_the_tags_that_have_nothing_else() {
    on_both(async |lab| {
        let app = repo("app");
        let released = lab.put_image(&app, b"1", &["a", "b"]).await;
        let candidate = push_held(&lab, &app, b"2", &["a"]).await;
        let gone = lab.store.delete_manifest(&app, &released, &deleter("ops")).await.unwrap();
        assert_eq!(gone, [tag("b")]);
        assert!(matches!(seen(&lab, &app, "a", View::Released).await, Err(Error::Unreleased(_))));
        assert_eq!(seen(&lab, &app, "a", View::Pushed).await.unwrap(), candidate);
        let released = lab.put_image(&app, b"3", &["a"]).await;
        let candidate = push_held(&lab, &app, b"4", &["a"]).await;
        assert!(lab.store.delete_manifest(&app, &candidate, &deleter("ops")).await.unwrap().is_empty());
        for view in [View::Released, View::Pushed] {
            assert_eq!(seen(&lab, &app, "a", view).await.unwrap(), released);
        }
        is_sound(&lab).await;
        lab.store.delete_tag(&app, &tag("a"), &deleter("ops")).await.unwrap();
        assert!(lab.store.tags_waiting_for(&app, &released).await.unwrap().is_empty());
        is_sound(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_stamp_changes_with_all_that_is_said_of_a_manifest_and_with_nothing_else() {
    for &kind in Kind::ALL {
        let lab = Lab::with(kind, true).await;
        let app = repo("app");
        let subject = lab.put_image(&app, b"app", &["v"]).await;
        let other = lab.put_image(&app, b"other", &["w"]).await;
        let mut last = stamp(&lab, &app, &subject).await;
        let others = stamp(&lab, &app, &other).await;
        let mut is_new = async |why: &str| {
            let now = stamp(&lab, &app, &subject).await;
            assert_ne!(now, last, "{why}");
            last = now;
        };
        // A referrer comes before its layer does, and goes.
        let layer = sha256(b"late");
        let mut document = image(&descriptor(&lab.push(&app, b"{}").await, 2), &[descriptor(&layer, 4)]);
        document["subject"] = descriptor(&subject, 1);
        let referrer = lab.put(&app, &document, &[]).await.unwrap();
        is_new("a referrer came").await;
        lab.push(&app, b"late").await;
        is_new("its layer came").await;
        lab.store.delete_manifest(&app, &referrer, &deleter("ops")).await.unwrap();
        is_new("it went").await;
        // A tag for signatures is set, moved and removed; their layers come late too.
        for suffix in ["", ".sig", ".att"] {
            let name = format!("{}{suffix}", subject.to_string().replace(':', "-"));
            lab.put_image(&app, name.as_bytes(), &[&name]).await;
            is_new("a tag was set").await;
            let late = format!("late {suffix}").into_bytes();
            let missing = descriptor(&sha256(&late), late.len());
            let document = image(&descriptor(&lab.push(&app, b"{}").await, 2), &[missing]);
            lab.put(&app, &document, &[&name]).await.unwrap();
            is_new("it moved").await;
            lab.push(&app, &late).await;
            is_new("a layer came").await;
            lab.store.delete_tag(&app, &tag(&name), &deleter("ops")).await.unwrap();
            is_new("it was removed").await;
        }
        // An index learns of its children.
        let child = image(&descriptor(&lab.push(&app, b"child").await, 5), &[]);
        let named = descriptor(&sha256(child.to_string().as_bytes()), child.to_string().len());
        let above = lab.put(&app, &index(&[named]), &["index"]).await.unwrap();
        let before = stamp(&lab, &app, &above).await;
        lab.put(&app, &child, &[]).await.unwrap();
        assert_ne!(stamp(&lab, &app, &above).await, before);
        // Nothing of that is about the other, nor is a push of the same or a pull.
        lab.put_image(&app, b"other", &["w", "x"]).await;
        assert_eq!(stamp(&lab, &app, &other).await, others);
        // What comes again is not what it was.
        lab.store.delete_manifest(&app, &other, &deleter("ops")).await.unwrap();
        lab.put_image(&app, b"other", &["w"]).await;
        assert!(stamp(&lab, &app, &other).await.abs_diff(others) > 1_000);
    }
}

#[tokio::test]
async fn who_may_not_delete_adds_to_signatures_and_drops_none() {
    on_both(async |lab| {
        let app = repo("app");
        let subject = lab.put_image(&app, b"app", &["v"]).await;
        let name = format!("{}.sig", subject.to_string().replace(':', "-"));
        let config = descriptor(&lab.push(&app, b"{}").await, 2);
        let [one, two] = [b"1", b"2"];
        let [one, two] =
            [descriptor(&lab.push(&app, one).await, 1), descriptor(&lab.push(&app, two).await, 1)];
        let put = async |layers: &[Value], append_only| {
            let new = new_manifest(&app, &image(&config, layers), &[&name]);
            let rights = TagRights { append_only, ..new.rights };
            lab.store.put_manifest(NewManifest { rights, ..new }).await.map(drop)
        };
        put(std::slice::from_ref(&one), true).await.unwrap();
        put(&[one.clone(), two.clone()], true).await.unwrap();
        let mut other = one.clone();
        other["annotations"] = serde_json::json!({"dev.cosignproject.cosign/signature": "wrong"});
        for dropped in [std::slice::from_ref(&two), &[], &[two.clone(), other]] {
            assert!(matches!(put(dropped, true).await, Err(Error::LayersDropped { .. })));
        }
        put(&[two, one.clone()], true).await.unwrap();
        put(&[one], false).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn evidence_takes_the_place_of_no_image_and_what_was_signed_last_is_not_forgotten() {
    on_both(async |lab| {
        let app = repo("app");
        push_held(&lab, &app, b"1", &["v"]).await;
        let first = release(&lab, &app, "v").await;
        assert!(lab.store.release(&app, &tag("v"), &first).await.unwrap());
        // Evidence under the tag of an image waits like anything else.
        let document = image(&descriptor(&lab.push(&app, b"evidence").await, 8), &[]);
        let new = NewManifest { held: true, evidence: true, ..new_manifest(&app, &document, &["v"]) };
        lab.store.put_manifest(new).await.unwrap();
        assert_eq!(seen(&lab, &app, "v", View::Released).await.unwrap(), first.digest);
        let is_kept =
            async || lab.store.tag_state(&app, &tag("v")).await.unwrap().signed_at == first.signed_at;
        assert!(is_kept().await);
        // Nor does a tag forget it that is deleted and comes again, or whose release had no time.
        lab.store.delete_tag(&app, &tag("v"), &deleter("ops")).await.unwrap();
        push_held(&lab, &app, b"2", &["v"]).await;
        assert!(is_kept().await);
        let second = Release { signed_at: None, ..release(&lab, &app, "v").await };
        assert!(lab.store.release(&app, &tag("v"), &second).await.unwrap());
        assert!(is_kept().await);
        // Under other policies than it was judged by nothing is released.
        push_held(&lab, &app, b"3", &["v"]).await;
        let third = release(&lab, &app, "v").await;
        lab.store.policy_epoch("others").await.unwrap();
        assert!(!lab.store.release(&app, &tag("v"), &third).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_signature_that_falls_back_to_an_older_one_changes_the_stamp() {
    on_both(async |lab| {
        let app = repo("app");
        let subject = lab.put_image(&app, b"app", &["v"]).await;
        let name = format!("{}.sig", subject.to_string().replace(':', "-"));
        lab.put_image(&app, b"old", &[&name]).await;
        let newer = push_held(&lab, &app, b"new", &[&name]).await;
        let before = stamp(&lab, &app, &subject).await;
        assert!(lab.store.delete_manifest(&app, &newer, &deleter("ops")).await.unwrap().is_empty());
        assert_ne!(stamp(&lab, &app, &subject).await, before);
    })
    .await;
}

#[tokio::test]
async fn policies_are_numbered_as_they_change() {
    on_both(async |lab| {
        for (hash, epoch) in [("a", 1), ("a", 1), ("b", 2), ("a", 3)] {
            assert_eq!(lab.store.policy_epoch(hash).await.unwrap(), epoch, "{hash}");
        }
    })
    .await;
}
