// SPDX-License-Identifier: AGPL-3.0-only
//! Checking a store: what all of its tests share, and what holds for every kind of fault.

use std::path::PathBuf;

use super::*;

/// Runs a check and returns what it tells.
pub(super) async fn fsck(lab: &Lab, repair: bool) -> (Vec<Fault>, FsckSummary) {
    let (sender, mut receiver) = mpsc::channel(1);
    let gather = async {
        let mut faults = Vec::new();
        while let Some(fault) = receiver.recv().await {
            faults.push(fault);
        }
        faults
    };
    let (summary, faults) = tokio::join!(lab.store.fsck(repair, sender), gather);
    let summary = summary.unwrap();
    assert_eq!(summary.found(), faults.len() as u64, "{summary}");
    (faults, summary)
}

pub(super) async fn is_clean(lab: &Lab) {
    let (faults, _) = fsck(lab, false).await;
    assert!(faults.is_empty(), "{}", told(&faults));
}

pub(super) fn told(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}

/// All rows, to see what a check changed.
pub(super) async fn everything(lab: &Lab) -> Vec<Row> {
    let mut rows = Vec::new();
    for table in 0..=u8::MAX {
        rows.extend(lab.rows(&[table]).await);
    }
    rows
}

/// Finds exactly this fault, without changing anything.
pub(super) async fn finds(lab: &Lab, kind: FaultKind) -> Fault {
    let before = everything(lab).await;
    let (faults, summary) = fsck(lab, false).await;
    assert!(faults.iter().any(|fault| fault.kind == kind), "no {kind}: {}", told(&faults));
    assert!(faults.iter().all(|fault| !matches!(fault.repair, Repair::Done(_))));
    assert_eq!(summary.repaired, 0);
    assert!(everything(lab).await == before, "a check without repair changed something");
    faults.into_iter().find(|fault| fault.kind == kind).unwrap()
}

/// Finds this fault and nothing else, repairs it, and finds nothing then.
pub(super) async fn finds_and_repairs(lab: &Lab, kind: FaultKind) -> Fault {
    let fault = finds(lab, kind).await;
    assert!(matches!(fault.repair, Repair::Would(_)), "{fault}");
    let (faults, summary) = fsck(lab, true).await;
    assert!(summary.faults.contains_key(&kind), "{}", told(&faults));
    assert_eq!(summary.left(), 0, "{}", told(&faults));
    is_clean(lab).await;
    fault
}

impl Lab {
    pub(super) async fn delete_raw(&self, key: Vec<u8>) {
        let delete = async move |tx: &mut WriteTx| tx.delete(key.clone());
        self.store.engine.write(0, delete).await.unwrap();
    }

    pub(super) async fn put_row<T: minicbor::Encode<()>>(&self, key: Vec<u8>, row: &T) {
        self.put_raw(key, rows::encode(row).unwrap()).await;
    }

    pub(super) async fn content(&self, bytes: &[u8]) -> rows::Content {
        self.row(keys::content(&raw256(bytes))).await.unwrap()
    }

    pub(super) fn file_at(&self, location: Location) -> PathBuf {
        let name = location.to_string().replace('-', "");
        self.folder.path().join("blobs").join(&name[..2]).join(&name)
    }
}

/// A repository with a tagged image of a config and a layer, which is also a referrer, and an index of it.
pub(super) struct Sample {
    pub(super) repo: RepoName,
    pub(super) id: RepoId,
    pub(super) config: Digest,
    pub(super) layer: Digest,
    pub(super) image: Digest,
    pub(super) index: Digest,
    pub(super) subject: Digest,
}

pub(super) const LAYER: &[u8] = b"layer";

pub(super) async fn sample(lab: &Lab) -> Sample {
    let repo = repo("team/app");
    let subject = lab.put_image(&repo, b"subject", &["subject"]).await;
    let (config, layer) = (lab.push(&repo, b"config").await, sha512(LAYER));
    lab.store.push_blob(&repo, &layer, None, body(LAYER), &actor("pusher")).await.unwrap();
    let mut document = image(&descriptor(&config, 6), &[descriptor(&layer, LAYER.len())]);
    document["subject"] = descriptor(&subject, 7);
    let image = lab.put(&repo, &document, &["v1"]).await.unwrap();
    let index = index(&[descriptor(&image, document.to_string().len())]);
    let index = lab.put(&repo, &index, &["v2"]).await.unwrap();
    // Moves to and fro give the tag a history.
    for number in 0..3u8 {
        let other = lab.put_image(&repo, &[number], &["v1"]).await;
        assert_ne!(other, image);
        lab.put(&repo, &document, &["v1"]).await.unwrap();
    }
    lab.store.delete_tag(&repo, &tag("subject"), &deleter("ci")).await.unwrap();
    let id = lab.id(&repo).await;
    Sample { repo, id, config, layer, image, index, subject }
}

impl Sample {
    /// Everything that was acknowledged is still served.
    pub(super) async fn is_served(&self, lab: &Lab) {
        assert_eq!(lab.read(&self.repo, &self.config).await.unwrap(), b"config");
        assert_eq!(lab.read(&self.repo, &self.layer).await.unwrap(), LAYER);
        for digest in [&self.image, &self.index, &self.subject] {
            let stored = lab.store.manifest(&self.repo, &Reference::Digest(digest.clone())).await.unwrap();
            assert_eq!(sha256(&stored.bytes), *digest);
        }
        let stored = lab.store.manifest(&self.repo, &by_tag("v1")).await.unwrap();
        assert_eq!(stored.head.digest, self.image);
        assert_eq!(lab.store.tags(&self.repo, None, 9).await.unwrap(), ["v1", "v2"]);
        let page = lab.store.referrers(&self.repo, &self.subject, &[], None, 9, usize::MAX).await.unwrap();
        assert_eq!(page.descriptors.len(), 1);
    }
}

#[tokio::test]
async fn a_sound_store_has_no_faults_now_and_after_years() {
    on_both(async |lab| {
        is_clean(&lab).await;
        let sample = sample(&lab).await;
        let upload = lab.store.begin_upload(&sample.repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        lab.store.append_upload(&sample.repo, upload, Chunk::default(), body(b"part")).await.unwrap();
        let (faults, summary) = fsck(&lab, true).await;
        assert!(faults.is_empty(), "{}", told(&faults));
        assert_eq!((summary.manifests, summary.files), (6, 7));
        assert_eq!(summary.bytes, 7 + 6 + 5 + 3 + 4);
        assert!(summary.rows > 50);
        assert!(summary.to_string().ends_with("no faults"), "{summary}");
        for hours in [1, 24, 24 * 100, 24 * 1000] {
            lab.collect_after(hours).await;
            is_clean(&lab).await;
        }
        sample.is_served(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn a_check_ends_when_nobody_listens() {
    let lab = Lab::new(Kind::Memory).await;
    lab.put_raw(b"\x01".to_vec(), b"x".to_vec()).await;
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    assert!(lab.store.fsck(true, sender).await.is_err());
}

#[tokio::test]
async fn rules_that_collection_has_not_seen_yet_make_no_leaks() {
    let lab = Lab::new(Kind::Sqlite).await;
    let untagged = lab.put_image(&repo("a"), b"1", &[]).await;
    lab.collect_after(48).await;
    assert!(lab.reviews().await.is_empty());
    let Lab { store, clock, folder } = lab;
    let Ok(store) = Arc::try_unwrap(store) else { panic!("the store is shared") };
    let rule = RepositoryRule {
        untagged: Some(Duration::from_hours(1000)),
        ..RepositoryRule::of("**".parse().unwrap())
    };
    let options = StoreOptions { rules: vec![rule], ..StoreOptions::new(folder.path().to_owned()) };
    let Ok(engine) = Arc::try_unwrap(store.engine) else { panic!("the engine is shared") };
    let store = Store::with_engine(engine, Arc::clone(&clock) as Arc<dyn Clock>, &options).await.unwrap();
    let lab = Lab { store: Arc::new(store), clock, folder };
    is_clean(&lab).await;
    lab.collect().await;
    let id = lab.id(&repo("a")).await;
    assert!(lab.reviews().await.iter().any(|(_, review)| *review == Review::Object(id, untagged.clone())));
    is_clean(&lab).await;
    // From now on a manifest without a review row is a leak.
    for (key, _) in lab.rows(b"v").await {
        lab.delete_raw(key).await;
    }
    finds_and_repairs(&lab, FaultKind::ReviewMissing).await;
}

#[test]
fn every_kind_of_fault_is_in_the_table_and_tested() {
    let table = include_str!("../fsck.rs");
    let tests =
        [include_str!("fsck_rows.rs"), include_str!("fsck_manifests.rs"), include_str!("fsck_files.rs")];
    let tests = tests.concat() + include_str!("fsck.rs") + include_str!("credentials.rs");
    for kind in FaultKind::ALL {
        assert!(table.contains(&format!("//! | `{kind}` |")), "{kind} is not explained");
        assert!(tests.contains(&format!("FaultKind::{kind:?}")), "{kind} is not tested");
        let json = serde_json::to_string(kind).unwrap();
        assert_eq!(json, format!("\"{kind}\""));
        assert_eq!(serde_json::from_str::<FaultKind>(&json).unwrap(), *kind);
    }
}

#[test]
fn faults_and_sums_survive_json_and_read_well() {
    let fault = Fault {
        kind: FaultKind::LinkMissing,
        repository: Some("team/app".to_owned()),
        digest: Some("sha256:00".to_owned()),
        tag: None,
        location: None,
        what: "it is gone".to_owned(),
        repair: Repair::Would("it is back".to_owned()),
    };
    assert_eq!(fault.to_string(), "link-missing team/app@sha256:00: it is gone; to repair: it is back");
    let json = serde_json::to_string(&fault).unwrap();
    assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), fault);
    let summary = FsckSummary { faults: [(FaultKind::LinkMissing, 2)].into(), ..FsckSummary::default() };
    let json = serde_json::to_string(&summary).unwrap();
    assert!(json.contains("\"link-missing\":2"), "{json}");
    assert_eq!(serde_json::from_str::<FsckSummary>(&json).unwrap(), summary);
    assert!(summary.to_string().ends_with("2 faults (link-missing 2)"), "{summary}");
}
