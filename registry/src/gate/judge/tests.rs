// SPDX-License-Identifier: AGPL-3.0-only
//! What cannot be arranged from outside: a clock that was set back, clients that go away in the midst of a judgement, more
//! indexes than anybody pushes in a test.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use stella_storage::{Actor, Algorithm, Allowance, Deleter, Manifest, NewManifest, Store, TagRights};
use tempfile::TempDir;

use super::*;
use crate::access::Access;
use crate::audit::Audit;
use crate::config::{Config, Overrides};
use crate::gate::OfBlob;
use crate::gate::read::ASKED;
use crate::metrics::Metrics;

/// A registry without a server, with a policy that denies everything in `prod` but what is let through by hand.
struct Lab {
    app: Arc<App>,
    repo: RepoName,
    _folder: TempDir,
}

impl Lab {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prod.yaml");
        let policy = json!({
            "apiVersion": "policy.stella-ops.org/v1", "kind": "RegistryPolicy", "metadata": {"name": "prod"},
            "spec": {"repositories": ["prod/**"]},
        });
        std::fs::write(&path, policy.to_string()).unwrap();
        let env = [
            ("STELLA_DATA", folder.path().join("data").display().to_string()),
            ("STELLA_ACCESS", "[{allow: all, to: {subject: alice}}]".to_owned()),
            ("STELLA_POLICY__HOST", "r.test".to_owned()),
            ("STELLA_POLICY__PATHS", format!("[{}]", path.display())),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let config = Config::load(None, env, Overrides::default()).unwrap();
        let store = Store::open(&crate::server::store_options(&config).unwrap()).await.unwrap();
        let gate = Gate::load(&config, &store).await.unwrap();
        let (metrics, access) = (Metrics::new(config.data.clone(), None), Access::load(&config).unwrap());
        let app = App::new(store, 4 << 20, &config, metrics, Audit::open(None).unwrap(), access, gate);
        Lab { app: Arc::new(app), repo: "prod/app".parse().unwrap(), _folder: folder }
    }

    fn actor() -> Actor {
        Actor { subject: "alice".to_owned(), session: None }
    }

    async fn blob(&self, bytes: &'static [u8]) -> Digest {
        let digest = Algorithm::Sha256.digest(bytes);
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(bytes))]);
        self.app.store.push_blob(&self.repo, &digest, None, body, &Self::actor()).await.unwrap();
        digest
    }

    async fn put(&self, document: &Value) -> Digest {
        let bytes = Bytes::from(document.to_string());
        let digest = Algorithm::Sha256.digest(&bytes);
        let new = NewManifest {
            repo: self.repo.clone(),
            digest: digest.clone(),
            manifest: Manifest::parse(&bytes, None).unwrap(),
            bytes,
            tags: Vec::new(),
            condition: None,
            actor: Self::actor(),
            evidence: false,
            held: true,
            rights: TagRights::default(),
        };
        self.app.store.put_manifest(new).await.unwrap();
        digest
    }

    /// An image whose layer says to be a signature, so that it is read.
    async fn image(&self, note: &str) -> Digest {
        let (config, layer) = (self.blob(b"{}").await, self.blob(b"runs").await);
        let part = |kind: &str, digest: &Digest, size: u64| json!({"mediaType": kind, "digest": digest.to_string(), "size": size});
        let config = part("application/vnd.oci.empty.v1+json", &config, 2);
        let layer = part("application/vnd.dsse.envelope.v1+json", &layer, 4);
        self.put(
            &json!({"schemaVersion": 2, "config": config, "layers": [layer], "annotations": {"note": note}}),
        )
        .await
    }

    async fn index(&self, child: &Digest, note: usize) -> Digest {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let listed = json!([{"mediaType": kind, "digest": child.to_string(), "size": 1}]);
        self.put(&json!({"schemaVersion": 2, "manifests": listed, "annotations": {"note": note.to_string()}}))
            .await
    }

    async fn allow(&self, digest: &Digest) {
        let (reason, by, created) = ("test".to_owned(), "test".to_owned(), SystemClock.now());
        let expires = Timestamp(created.0 + 3_600_000);
        let allowance = Allowance { digest: digest.clone(), repository: None, reason, by, created, expires };
        self.app.store.allow(allowance).await.unwrap();
    }

    async fn may_read(&self, digest: &Digest) -> bool {
        let gated = self.app.gate.gated(&self.repo).unwrap();
        self.app.gate.may_read(&self.app, &gated, &self.repo, digest).await.unwrap()
    }

    /// A judgement that somebody waits for.
    fn asked(&self, digest: &Digest) -> tokio::task::JoinHandle<bool> {
        let (app, repo, digest) = (Arc::clone(&self.app), self.repo.clone(), digest.clone());
        tokio::spawn(async move {
            let gated = app.gate.gated(&repo).unwrap();
            app.gate.may_read(&app, &gated, &repo, &digest).await.unwrap()
        })
    }
}

async fn until(mut happens: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !happens() {
        assert!(std::time::Instant::now() < deadline, "not in time");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_abandons_keeps_its_turn_until_it_is_done_and_is_of_use() {
    let lab = Lab::new().await;
    let judgements = &lab.app.gate.judgements;
    let image = lab.image("one").await;
    // Nobody can read now what might be evidence, so that no judgement ends.
    let readers = lab.app.evidence.all().await;
    let client = lab.asked(&image);
    until(|| judgements.turns.available_permits() == AT_ONCE - 1).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    assert_eq!(judgements.turns.available_permits(), AT_ONCE - 1, "the work goes on");
    drop(readers);
    until(|| judgements.last(&lab.repo, &image).is_some()).await;
    until(|| judgements.turns.available_permits() == AT_ONCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_took_long_takes_no_turn_from_anything_else() {
    let lab = Lab::new().await;
    let judgements = &lab.app.gate.judgements;
    let image = lab.image("one").await;
    assert!(!lab.may_read(&image).await);
    let last = judgements.last(&lab.repo, &image).unwrap();
    let long = Judgement { cost: SLOW * 2, ..Judgement::clone(&last) };
    judgements.kept.insert((lab.repo.clone(), image.clone()), Arc::new(long));
    lab.allow(&image).await;
    let _all = judgements.turns.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
    assert!(lab.may_read(&image).await);
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_nothing_valid_again() {
    let lab = Lab::new().await;
    let judgements = &lab.app.gate.judgements;
    // It was two hours ahead before.
    let ahead = Time(judgements.now().0 + 7_200);
    judgements.latest.store(ahead.0, Ordering::Relaxed);
    assert_eq!(judgements.now(), ahead);
    // What ended meanwhile has ended.
    let image = lab.image("one").await;
    lab.allow(&image).await;
    assert!(!lab.may_read(&image).await);
}

#[tokio::test]
async fn a_blob_whose_manifest_went_is_found_by_another_and_then_known_by_that() {
    let lab = Lab::new().await;
    let images = [lab.image("one").await, lab.image("two").await];
    let layer = Algorithm::Sha256.digest(b"runs");
    let gated = lab.app.gate.gated(&lab.repo).unwrap();
    let readable =
        async || matches!(lab.app.gate.blob(&lab.app, &gated, &lab.repo, &layer).await, Ok((_, OfBlob::Yes)));
    assert!(!readable().await);
    for image in &images {
        lab.allow(image).await;
    }
    let known = || gated.local.known_namer(&layer).unwrap();
    let mut left = images.len();
    while left > 0 {
        // The first time it is looked for, the second time it is known, the third time nothing is asked.
        for is_known in [false, true, true] {
            assert!(readable().await);
            assert_eq!(known().allowed.is_some(), is_known, "{left} left");
        }
        let deleter = Deleter { actor: Lab::actor(), may_change_protected: true };
        lab.app.store.delete_manifest(&lab.repo, &known().manifest, &deleter).await.unwrap();
        left -= 1;
    }
    assert!(!readable().await, "nothing names it any more");
}

#[tokio::test]
async fn time_is_seen_though_nobody_asks() {
    let lab = Lab::new().await;
    let watch = tokio::spawn(Gate::watch(Arc::clone(&lab.app)));
    until(|| lab.app.gate.judgements.latest.load(Ordering::Relaxed) > 0).await;
    watch.abort();
}

#[tokio::test]
async fn indexes_without_end_are_asked_up_to_a_limit() {
    let lab = Lab::new().await;
    let image = lab.image("one").await;
    let mut indexes = Vec::new();
    for number in 0..ASKED + 2 {
        indexes.push(lab.index(&image, number).await);
    }
    // In the order in which they are asked.
    indexes.sort();
    assert!(!lab.may_read(&image).await);
    lab.allow(&indexes[ASKED + 1]).await;
    assert!(!lab.may_read(&image).await, "it comes after the last that is asked");
    lab.allow(&indexes[0]).await;
    assert!(lab.may_read(&image).await);
}

#[tokio::test]
async fn manifests_without_end_are_asked_for_a_blob_up_to_a_limit() {
    let lab = Lab::new().await;
    let mut images = Vec::new();
    // One page of them is asked whole.
    for number in 0..=1_000 {
        images.push(lab.image(&number.to_string()).await);
    }
    images.sort();
    let layer = Algorithm::Sha256.digest(b"runs");
    let gated = lab.app.gate.gated(&lab.repo).unwrap();
    let may_read = async || {
        let found = lab.app.gate.blob(&lab.app, &gated, &lab.repo, &layer).await;
        matches!(found, Ok((_, OfBlob::Yes)))
    };
    assert!(!may_read().await);
    lab.allow(&images[1_000]).await;
    assert!(!may_read().await, "it comes after the last that is asked");
    lab.allow(&images[0]).await;
    assert!(may_read().await);
}
