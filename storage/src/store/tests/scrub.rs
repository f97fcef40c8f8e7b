// SPDX-License-Identifier: AGPL-3.0-only
//! Scrubbing: everything is read, damage is counted, a restart goes on, and reading keeps to its rate.

use super::fsck::{everything, sample};
use super::*;

const FAST: u64 = u64::MAX;

async fn pass(lab: &Lab) {
    while lab.store.scrub(FAST).await.unwrap() == ScrubNext::Go {}
}

#[tokio::test]
async fn a_pass_reads_everything_and_the_next_comes_a_day_later() {
    on_both(async |lab| {
        for number in 0..100u8 {
            lab.push(&repo("many"), &[number]).await;
        }
        sample(&lab).await;
        pass(&lab).await;
        let stats = lab.store.scrub_stats();
        // One content of the sample was there already, three times.
        assert_eq!((stats.blobs, stats.manifests, stats.damaged, stats.passes), (103, 6, 0, 1));
        assert!(stats.bytes > 103);
        assert_eq!(stats.ended, Some(START));
        lab.clock.advance(Duration::from_hours(23));
        let rest = lab.store.scrub(FAST).await.unwrap();
        assert_eq!(rest, ScrubNext::Wait(Duration::from_hours(1)));
        lab.clock.advance(Duration::from_hours(1));
        pass(&lab).await;
        assert_eq!((lab.store.scrub_stats().blobs, lab.store.scrub_stats().passes), (206, 2));
        // A clock that was set back does not stop it.
        lab.clock.set(START);
        assert_eq!(lab.store.scrub(FAST).await.unwrap(), ScrubNext::Go);
    })
    .await;
}

#[tokio::test]
async fn damage_is_counted_and_nothing_is_changed() {
    on_both(async |lab| {
        let sample = sample(&lab).await;
        fs::write(lab.file_at(lab.content(b"config").await.location), b"CONFIG").unwrap();
        fs::remove_file(lab.file_at(lab.content(b"subject").await.location)).unwrap();
        lab.put_raw(keys::manifest_bytes(sample.id, &sample.image), b"{}".to_vec()).await;
        lab.put_raw(keys::content(&[0; 32]), b"\xff".to_vec()).await;
        lab.put_raw(b"c\x00".to_vec(), b"\xff".to_vec()).await;
        let before = everything(&lab).await;
        pass(&lab).await;
        assert_eq!(lab.store.scrub_stats().damaged, 3);
        lab.delete_raw(keys::SCRUB.to_vec()).await;
        assert!(everything(&lab).await == before);
    })
    .await;
}

#[tokio::test]
async fn a_restart_goes_on_near_the_place_and_a_damaged_place_costs_a_pass() {
    let lab = Lab::new(Kind::Sqlite).await;
    for number in 0..100u8 {
        lab.push(&repo("many"), &[number]).await;
    }
    assert_eq!(lab.store.scrub(FAST).await.unwrap(), ScrubNext::Go);
    lab.clock.advance(Duration::from_mins(11));
    assert_eq!(lab.store.scrub(FAST).await.unwrap(), ScrubNext::Go);
    let read = lab.store.scrub_stats().blobs;
    assert!(read > 0 && read < 100);
    for (value, left) in [(lab.raw(keys::SCRUB.to_vec()).await.unwrap(), 100 - read), (b"\xff".to_vec(), 100)]
    {
        lab.put_raw(keys::SCRUB.to_vec(), value).await;
        // As after a restart.
        *lab.store.scrubber.place() = None;
        let before = lab.store.scrub_stats().blobs;
        pass(&lab).await;
        assert_eq!(lab.store.scrub_stats().blobs - before, left);
    }
    // A finished pass is remembered too.
    *lab.store.scrubber.place() = None;
    assert!(matches!(lab.store.scrub(FAST).await.unwrap(), ScrubNext::Wait(_)));
}

#[tokio::test(start_paused = true)]
async fn reading_keeps_to_its_rate() {
    let lab = Lab::new(Kind::Memory).await;
    let size = 3 << 20;
    lab.push(&repo("a"), &vec![7; size]).await;
    for number in 0..20u8 {
        lab.push(&repo("a"), &[number; 1000]).await;
    }
    let began = tokio::time::Instant::now();
    assert_eq!(lab.store.scrub(1 << 20).await.unwrap(), ScrubNext::Go);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}
