// SPDX-License-Identifier: AGPL-3.0-only
//! Immutable and protected tags: what moves, what stays, and that evidence is exempt by content alone.

use super::fsck::is_clean;
use super::*;
use crate::error::What;

fn patterns(texts: &[&str]) -> Vec<crate::pattern::TextPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(super) fn holding(immutable: &[&str], protected: &[&str]) -> Vec<RepositoryRule> {
    vec![RepositoryRule {
        immutable_tags: patterns(immutable),
        protected_tags: patterns(protected),
        ..RepositoryRule::of("app".parse().unwrap())
    }]
}

/// An index that names nothing, told from others by its number.
fn document(number: u8) -> Value {
    let mut document = index(&[]);
    document["annotations"] = json!({"number": number.to_string()});
    document
}

pub(super) fn manifest(number: u8, tags: &[&str]) -> NewManifest {
    new_manifest(&repo("app"), &document(number), tags)
}

fn evidence(number: u8, tags: &[&str]) -> NewManifest {
    NewManifest { evidence: true, ..manifest(number, tags) }
}

fn trusted(new: NewManifest) -> NewManifest {
    NewManifest { rights: TagRights { may_change_protected: true, ..new.rights }, ..new }
}

fn trusted_deleter() -> Deleter {
    Deleter { may_change_protected: true, ..deleter("release") }
}

impl Lab {
    pub(super) async fn named(&self, name: &str) -> Option<Digest> {
        let found = self.store.manifest(&repo("app"), &by_tag(name)).await;
        found.ok().map(|stored| stored.head.digest)
    }
}

/// What became of a change, without its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Came {
    Done,
    Immutable,
    Protected,
    Unknown,
}

pub(super) fn came<T: std::fmt::Debug>(result: Result<T>) -> Came {
    match result {
        Ok(_) => Came::Done,
        Err(Error::TagImmutable { .. }) => Came::Immutable,
        Err(Error::TagProtected { .. }) => Came::Protected,
        Err(Error::NotFound(What::Manifest)) => Came::Unknown,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_immutable_tag_stays_where_it_is_whoever_asks() {
    on_both(async |lab| {
        let store = &lab.store;
        store.set_rules(holding(&["v*"], &[]));
        let first = manifest(1, &["v1"]);
        let digest = first.digest.clone();
        store.put_manifest(first.clone()).await.unwrap();
        // The same image pushed again stays where it is.
        store.put_manifest(first).await.unwrap();
        for moved in [manifest(2, &["v1"]), trusted(manifest(2, &["v1"])), evidence(2, &["v1"])] {
            let refused = store.put_manifest(moved).await.unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!(
                    "tag v1 is immutable (repositories: immutable_tags \"v*\") and names {digest}: it can be neither \
                     moved nor deleted; push under another tag"
                )
            );
            assert!(!refused.is_internal());
        }
        for who in [deleter("ci"), trusted_deleter()] {
            assert_eq!(came(store.delete_tag(&repo("app"), &tag("v1"), &who).await), Came::Immutable);
            assert_eq!(came(store.delete_manifest(&repo("app"), &digest, &who).await), Came::Immutable);
        }
        assert_eq!(lab.named("v1").await, Some(digest));
        assert!(!lab.has_manifest(&repo("app"), &manifest(2, &[]).digest).await, "nothing of a refused push stays");
        store.put_manifest(manifest(2, &["v2", "latest"])).await.unwrap();
        store.put_manifest(manifest(3, &["latest"])).await.unwrap();
        store.delete_tag(&repo("app"), &tag("latest"), &deleter("ci")).await.unwrap();
        assert_eq!(came(store.delete_tag(&repo("app"), &tag("v9"), &deleter("ci")).await), Came::Unknown);
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_protected_tag_is_for_those_who_may_change_it() {
    on_both(async |lab| {
        let (store, app) = (&lab.store, repo("app"));
        store.set_rules(holding(&[], &["stable"]));
        let refused = store.put_manifest(manifest(1, &["stable"])).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "tag stable is protected (repositories: protected_tags \"stable\"): it can be set, moved and deleted only \
             by those who may change protected tags; push under another tag, or ask who keeps the access rules"
        );
        let digest = manifest(1, &[]).digest;
        store.put_manifest(trusted(manifest(1, &["stable"]))).await.unwrap();
        for new in [manifest(1, &["stable"]), manifest(2, &["stable"]), evidence(2, &["stable"])] {
            assert_eq!(came(store.put_manifest(new).await), Came::Protected);
        }
        assert_eq!(came(store.delete_tag(&app, &tag("stable"), &deleter("ci")).await), Came::Protected);
        assert_eq!(came(store.delete_manifest(&app, &digest, &deleter("ci")).await), Came::Protected);
        store.put_manifest(trusted(manifest(2, &["stable"]))).await.unwrap();
        // No tag names it any more.
        store.delete_manifest(&app, &digest, &deleter("ci")).await.unwrap();
        store.delete_tag(&app, &tag("stable"), &trusted_deleter()).await.unwrap();
        store.put_manifest(trusted(manifest(3, &["stable"]))).await.unwrap();
        let digest = manifest(3, &[]).digest;
        assert_eq!(store.delete_manifest(&app, &digest, &trusted_deleter()).await.unwrap(), [tag("stable")]);
    })
    .await;
}

#[tokio::test]
async fn evidence_gives_way_to_evidence_and_to_nothing_else() {
    on_both(async |lab| {
        let (store, app) = (&lab.store, repo("app"));
        store.set_rules(holding(&["*"], &["*"]));
        // Nobody needs a right to sign; a signature is added by another manifest under the same tag.
        store
            .put_manifest(evidence(
                1,
                &["sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig"],
            ))
            .await
            .unwrap();
        store
            .put_manifest(evidence(
                2,
                &["sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig"],
            ))
            .await
            .unwrap();
        assert_eq!(
            came(
                store
                    .put_manifest(manifest(
                        3,
                        &["sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig"]
                    ))
                    .await
            ),
            Came::Immutable
        );
        assert_eq!(
            came(
                store
                    .put_manifest(trusted(manifest(
                        3,
                        &["sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig"]
                    )))
                    .await
            ),
            Came::Immutable
        );
        store
            .delete_tag(
                &app,
                &tag("sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig"),
                &deleter("ci"),
            )
            .await
            .unwrap();
        store
            .put_manifest(evidence(
                1,
                &["sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig"],
            ))
            .await
            .unwrap();
        let digest = evidence(1, &[]).digest;
        assert_eq!(
            store.delete_manifest(&app, &digest, &deleter("ci")).await.unwrap(),
            [tag("sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig")]
        );
        // The name of the tag exempts nothing.
        assert_eq!(
            came(
                store
                    .put_manifest(manifest(
                        3,
                        &["sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig"]
                    ))
                    .await
            ),
            Came::Protected
        );
        store.put_manifest(trusted(manifest(3, &["v1"]))).await.unwrap();
        assert_eq!(came(store.put_manifest(trusted(evidence(1, &["v1"]))).await), Came::Immutable);
        assert_eq!(lab.named("v1").await, Some(manifest(3, &[]).digest));
    })
    .await;
}

#[tokio::test]
async fn what_was_found_to_be_evidence_stays_evidence() {
    on_both(async |lab| {
        let (store, app) = (&lab.store, repo("app"));
        store.set_rules(holding(&["*"], &[]));
        store.put_manifest(manifest(1, &["a"])).await.unwrap();
        assert_eq!(came(store.put_manifest(evidence(2, &["a"])).await), Came::Immutable);
        // Its layers could be read only later.
        store.put_manifest(evidence(1, &[])).await.unwrap();
        store.put_manifest(manifest(1, &["a"])).await.unwrap();
        let key = keys::manifest(lab.id(&app).await, &manifest(1, &[]).digest);
        let row = lab.row::<rows::Manifest>(key.clone()).await.unwrap();
        assert!(row.evidence);
        // Also when the bytes are stored anew, because they were damaged.
        lab.put_raw(keys::manifest_bytes(lab.id(&app).await, &manifest(1, &[]).digest), b"{".to_vec()).await;
        store.put_manifest(manifest(1, &["a"])).await.unwrap();
        assert!(lab.row::<rows::Manifest>(key).await.unwrap().evidence);
        store.put_manifest(evidence(2, &["a"])).await.unwrap();
        // Known evidence that is pushed by someone who says nothing of it.
        store.put_manifest(manifest(1, &["a"])).await.unwrap();
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn tags_of_one_push_all_move_or_none_does() {
    on_both(async |lab| {
        let store = &lab.store;
        store.set_rules(holding(&["v*"], &["stable"]));
        store.put_manifest(manifest(1, &["v1", "latest"])).await.unwrap();
        for (tags, refused) in [
            (["v2", "latest", "v1"], Came::Immutable),
            (["v1", "v2", "latest"], Came::Immutable),
            (["v2", "latest", "stable"], Came::Protected),
        ] {
            assert_eq!(came(store.put_manifest(manifest(2, &tags)).await), refused);
            assert_eq!(lab.named("latest").await, Some(manifest(1, &[]).digest));
            assert_eq!((lab.named("v2").await, lab.named("stable").await), (None, None));
        }
        store.put_manifest(manifest(2, &["v2", "latest", "v2"])).await.unwrap();
        assert_eq!(lab.named("v2").await, Some(manifest(2, &[]).digest));
    })
    .await;
}

#[tokio::test]
async fn an_index_that_an_immutable_tag_names_stays() {
    on_both(async |lab| {
        let (store, app) = (&lab.store, repo("app"));
        store.set_rules(holding(&["v*"], &[]));
        let child = lab.put_image(&app, b"config", &[]).await;
        let outer = lab.put(&app, &index(&[descriptor(&child, 1)]), &["v1", "latest"]).await.unwrap();
        assert_eq!(came(store.delete_manifest(&app, &outer, &deleter("ci")).await), Came::Immutable);
        assert_eq!(lab.named("latest").await, Some(outer.clone()), "nothing of a refused delete happens");
        // Without a part of it there would be no image any more.
        assert_eq!(came(store.delete_manifest(&app, &child, &deleter("ci")).await), Came::Immutable);
        store.set_rules(holding(&[], &[]));
        store.delete_manifest(&app, &child, &deleter("ci")).await.unwrap();
        assert!(lab.has_manifest(&app, &outer).await);
    })
    .await;
}

#[tokio::test]
async fn a_manifest_of_many_tags_loses_none_when_one_is_held() {
    on_both(async |lab| {
        let (store, app) = (&lab.store, repo("app"));
        let names: Vec<String> =
            (0..450).map(|number| format!("t{number:03}")).chain(["v1".to_owned()]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        store.put_manifest(manifest(1, &names)).await.unwrap();
        store.set_rules(holding(&["v*"], &[]));
        let digest = manifest(1, &[]).digest;
        assert_eq!(came(store.delete_manifest(&app, &digest, &deleter("ci")).await), Came::Immutable);
        assert_eq!(store.tags(&app, None, 1000).await.unwrap().len(), 451);
        store.set_rules(holding(&["w*"], &[]));
        assert_eq!(store.delete_manifest(&app, &digest, &deleter("ci")).await.unwrap().len(), 451);
    })
    .await;
}

#[tokio::test]
async fn rules_for_tags_hold_from_the_moment_when_they_change() {
    on_both(async |lab| {
        let store = &lab.store;
        store.put_manifest(manifest(1, &["v1"])).await.unwrap();
        store.put_manifest(manifest(2, &["v1"])).await.unwrap();
        store.set_rules(holding(&["v*"], &[]));
        assert_eq!(came(store.put_manifest(manifest(1, &["v1"])).await), Came::Immutable);
        // The first rule that matches decides, for tags too.
        let mut rules = holding(&[], &["v*"]);
        rules.extend(holding(&["v*"], &[]));
        store.set_rules(rules);
        assert_eq!(came(store.put_manifest(manifest(1, &["v1"])).await), Came::Protected);
        store.put_manifest(trusted(manifest(1, &["v1"]))).await.unwrap();
        store.set_rules(Vec::new());
        store.delete_tag(&repo("app"), &tag("v1"), &deleter("ci")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn of_many_who_create_an_immutable_tag_at_once_one_does() {
    on_both(async |lab| {
        lab.store.set_rules(holding(&["v*"], &[]));
        let pushes = (0..20u8).map(|number| lab.store.put_manifest(manifest(number, &["v1"])));
        let results = futures_util::future::join_all(pushes).await;
        let done: Vec<usize> = (0..20).filter(|&number| results[number].is_ok()).collect();
        assert_eq!(done.len(), 1, "{results:?}");
        let winner = manifest(u8::try_from(done[0]).unwrap(), &[]).digest;
        for refused in results.into_iter().filter_map(Result::err) {
            assert!(matches!(refused, Error::TagImmutable { digest, .. } if *digest == winner));
        }
        assert_eq!(lab.named("v1").await, Some(winner));
    })
    .await;
}

#[tokio::test]
async fn collection_removes_what_is_untagged_and_evidence_without_subject() {
    on_both(async |lab| {
        let (store, app) = (&lab.store, repo("app"));
        let mut rules = holding(&["*"], &["*"]);
        rules[0].untagged = Some(Duration::from_hours(1));
        store.set_rules(rules);
        let subject = lab.put_image(&app, b"config", &[]).await;
        let signature = format!("{}.sig", subject.to_string().replace(':', "-"));
        store.put_manifest(evidence(1, &[&signature])).await.unwrap();
        lab.collect_after(25).await;
        lab.collect_after(25).await;
        assert!(!lab.has_manifest(&app, &subject).await);
        assert_eq!(lab.named(&signature).await, None);
    })
    .await;
}
