// SPDX-License-Identifier: AGPL-3.0-only
//! Checks beside pushes, deletions and collection: nothing that is on its way is taken for a fault, and
//! a repair takes nothing from anyone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fsck::{fsck, is_clean, told};
use super::*;

/// Pushes, moves, mounts and deletes until told to stop; counts what it has done, and tells when it began the last of it.
async fn busy(lab: &Lab, who: usize, stop: &AtomicBool, done: &AtomicU64, began: &AtomicU64) {
    let (mine, shared) = (repo(&format!("mine-{who}")), repo("shared"));
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        began.store(lab.clock.now().0, Ordering::SeqCst);
        number += 1;
        let unique = format!("{who} {number}");
        let bytes = [unique.as_bytes(), &vec![7; usize::try_from(number % 5).unwrap() * 1000]].concat();
        let config = lab.push(&mine, &bytes).await;
        let common = lab.push(&shared, &[u8::try_from(number % 3).unwrap()]).await;
        let long = sha512(&bytes);
        lab.store.push_blob(&mine, &long, None, body(&bytes), &actor("ci")).await.unwrap();
        lab.store.mount(&mine, Some(&shared), &common, &actor("ci")).await.unwrap();
        let layers = [descriptor(&long, bytes.len())];
        let mut document = image(&descriptor(&config, bytes.len()), &layers);
        if number.is_multiple_of(3) {
            document["subject"] = descriptor(&sha256(b"subject"), 7);
        }
        let manifest = lab.put(&mine, &document, &["latest", &format!("v{}", number % 4)]).await.unwrap();
        assert_eq!(lab.read(&mine, &config).await.unwrap(), bytes);
        match number % 4 {
            0 => drop(lab.store.delete_manifest(&mine, &manifest, &deleter("ci")).await.unwrap()),
            1 => {
                // Another writer may have been faster.
                let _gone = lab.store.delete_blob(&shared, &common).await;
            }
            2 => drop(lab.store.delete_tag(&mine, &tag("latest"), &deleter("ci")).await.unwrap()),
            _ => {}
        }
        let id = lab.store.begin_upload(&mine, Algorithm::Sha512, &actor("ci")).await.unwrap();
        lab.store.append_upload(&mine, id, Chunk::default(), body(&bytes)).await.unwrap();
        match number % 3 {
            0 => lab.store.cancel_upload(&mine, id).await.unwrap(),
            1 => {
                let digest = sha256(&[bytes.as_slice(), b"!"].concat());
                lab.store
                    .finish_upload(&mine, id, Chunk::default(), body(b"!"), &digest)
                    .await
                    .map(|_| ())
                    .unwrap();
            }
            _ => {
                let wrong = sha256(b"wrong");
                let refused = lab.store.finish_upload(&mine, id, Chunk::default(), body(b"!"), &wrong).await;
                assert!(refused.is_err());
            }
        }
        if number.is_multiple_of(5) {
            let fresh = repo(&format!("fresh-{who}-{number}"));
            lab.put_image(&fresh, unique.as_bytes(), &["v1"]).await;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn race(kind: Kind, repair: bool, checks: usize) {
    // No grace, and a minute passes with each thing that is done, though not so many at once that anybody's lease ends
    // while he is at it: collection has work all the time.
    let hour = Duration::from_hours(1);
    let periods = Periods { lease: hour, grace: Duration::ZERO, uploads: hour };
    let lab = Arc::new(Lab::tuned(kind, |options| options.periods = periods).await);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began: Arc<[AtomicU64; 3]> = Arc::new([(); 3].map(|()| AtomicU64::new(lab.clock.now().0)));
    let mut tasks = Vec::new();
    for who in 0..began.len() {
        let (lab, stop, done) = (Arc::clone(&lab), Arc::clone(&stop), Arc::clone(&done));
        let began = Arc::clone(&began);
        tasks.push(tokio::spawn(async move { busy(&lab, who, &stop, &done, &began[who]).await }));
    }
    let (collected, stopped, counted) = (Arc::clone(&lab), Arc::clone(&stop), Arc::clone(&done));
    tasks.push(tokio::spawn(async move {
        let mut passed = Duration::ZERO;
        while !stopped.load(Ordering::Relaxed) {
            let owed = Duration::from_mins(counted.load(Ordering::Relaxed)).saturating_sub(passed);
            // What is promised holds for half a lease at least.
            let oldest = began.iter().map(|at| at.load(Ordering::SeqCst)).min().unwrap();
            let latest = Timestamp(oldest).plus(hour / 2).0;
            let now = owed.min(Duration::from_millis(latest.saturating_sub(collected.clock.now().0)));
            collected.clock.advance(now);
            passed += now;
            collected.collect().await;
            tokio::task::yield_now().await;
        }
    }));
    for _ in 0..checks {
        let before = done.load(Ordering::Relaxed);
        let (faults, summary) = fsck(&lab, repair).await;
        assert!(faults.is_empty(), "{}", told(&faults));
        assert!(summary.rows > 0);
        // Every check really raced with something.
        until(async || done.load(Ordering::Relaxed) > before).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    is_clean(&lab).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_on_its_way_is_no_fault_in_memory() {
    race(Kind::Memory, false, checks(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_on_its_way_is_no_fault_in_sqlite() {
    race(Kind::Sqlite, false, checks(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_repair_takes_nothing_from_those_who_are_at_work() {
    race(Kind::Sqlite, true, checks(6)).await;
}

/// How many checks race; more for a soak, by the environment.
fn checks(usual: usize) -> usize {
    std::env::var("STELLA_FSCK_CHECKS").map_or(usual, |checks| checks.parse().unwrap())
}
