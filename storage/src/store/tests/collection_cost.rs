// SPDX-License-Identifier: AGPL-3.0-only
//! The cost of a collection follows the garbage, not the store: rows read are counted.

use super::*;
use crate::store::manifests::Stored;

const DELETED: usize = 1_000;

/// A store with this many images in a hundred repositories, as their pushes leave it once every lease is
/// over and collection has seen them. The rows are written at once: that many pushes take too long.
async fn store_with(images: usize) -> (Lab, Vec<(RepoName, Digest)>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(START));
    let options =
        StoreOptions { memory: Budget::of(0, 4 << 20), ..StoreOptions::new(folder.path().to_owned()) };
    let engine = Engine::Memory(Memory::new());
    let store = Store::with_engine(engine, Arc::clone(&clock) as Arc<dyn Clock>, &options).await.unwrap();
    let lab = Lab { store: Arc::new(store), clock, folder };
    let mut pushed = Vec::new();
    for batch in (0..images).collect::<Vec<_>>().chunks(200) {
        let mut rows: Vec<(RepoName, Vec<u8>, NewManifest)> = Vec::new();
        for number in batch {
            let repo = repo(&format!("team/app-{}", number % 100));
            let config = number.to_be_bytes().to_vec();
            let document = image(&descriptor(&sha256(&config), config.len()), &[]);
            let new = new_manifest(&repo, &document, &[&format!("v{number}")]);
            pushed.push((repo.clone(), new.digest.clone()));
            rows.push((repo, config, new));
        }
        let moment = Moment { now: lab.now(), periods: Periods::default() };
        let write = async move |tx: &mut WriteTx| {
            for (name, config, new) in &rows {
                let repo = repositories::intern(tx, name, moment.now).await?;
                let content = rows::Content {
                    location: Location::new(),
                    size: config.len() as u64,
                    sha512: None,
                    created: moment.now,
                    damaged: None,
                };
                tx.put(keys::content(&raw256(config)), rows::encode(&content)?)?;
                let named = (raw256(config), config.len() as u64);
                crate::store::blobs::link(tx, repo, &sha256(config), named, &new.actor, moment).await?;
                let sha256 = raw256(&new.bytes);
                let stored = Stored {
                    sha256,
                    size: new.bytes.len() as u64,
                    evidence: false,
                    stamp: 1,
                    released_at: None,
                };
                crate::store::manifests::store(tx, repo, new, stored, None, moment)?;
                let target = (&new.digest, crate::store::tags::Release::Now);
                crate::store::tags::set(tx, repo, &new.tags[0], target, &new.actor, moment.now).await?;
            }
            Ok(())
        };
        lab.store.engine.write(0, write).await.unwrap();
    }
    lab.collect_after(25).await;
    assert!(lab.reviews().await.is_empty());
    (lab, pushed)
}

/// Rows read to collect what a thousand deletions left, files included.
async fn rows_read(images: usize) -> u64 {
    let (lab, pushed) = store_with(images).await;
    let step = pushed.len() / DELETED;
    for (repo, digest) in pushed.iter().step_by(step).take(DELETED) {
        lab.store.delete_manifest(repo, digest, &deleter("ops")).await.unwrap();
    }
    let first = lab.collect().await;
    assert_eq!(first.blobs, DELETED as u64);
    let second = lab.collect_after(2).await;
    assert_eq!(second.files, DELETED as u64);
    first.rows_read + second.rows_read
}

#[test]
fn a_thousand_deletions_cost_the_same_in_a_small_and_in_a_large_store() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let small = runtime.block_on(rows_read(10_000));
    let large = runtime.block_on(rows_read(300_000));
    println!("rows read to collect 1 000 deletions: {small} of 10 000 manifests, {large} of 300 000");
    assert!(small.abs_diff(large) * 50 <= small, "{small} rows in the small store, {large} in the large one");
    assert!(small < 30 * DELETED as u64, "{small} rows");
}
