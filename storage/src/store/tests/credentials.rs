// SPDX-License-Identifier: AGPL-3.0-only
//! What clients prove themselves with: that no secret is shown, that a backup brings all of it, and that
//! a check knows every row.

use super::fsck::{finds_and_repairs, is_clean};
use super::*;

mod refresh;
mod robots;
mod signing_keys;

use refresh::token;
use robots::robot;
use signing_keys::key;

const HOUR: Duration = Duration::from_hours(1);

/// A robot that was used, a refresh token, and a signing key.
pub(super) async fn some(lab: &Lab) {
    lab.store.create_robot(robot("ci")).await.unwrap();
    lab.store.note_robot_use("ci");
    lab.store.flush_robot_uses().await.unwrap();
    lab.store.add_refresh_token([7; 32], token("alice", START)).await.unwrap();
    assert!(lab.store.add_signing_key(key("k1", START), None).await.unwrap());
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?} {:?} {:?}", robot("ci"), token("alice", START), key("k1", START));
    for name in ["ci", "alice", "k1"] {
        assert!(shown.contains(name), "{shown}");
    }
    // The bytes of the secrets, and what stands in for a password.
    for secret in ["201", "202", "203", "a-proof"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_backup_brings_what_clients_prove_themselves_with() {
    let lab = Lab::new(Kind::Sqlite).await;
    some(&lab).await;
    let (backup, data) = (lab.folder.path().join("backup"), lab.folder.path().join("new"));
    super::backup::gather(async |items| lab.store.backup(&backup, items).await).await.0.unwrap();
    let options = StoreOptions { memory: Budget::of(1 << 20, 4 << 20), ..StoreOptions::new(data) };
    super::backup::gather(async |items| restore(&backup, None, &options, items).await).await.0.unwrap();
    let restored = Store::open(&options).await.unwrap();
    assert_eq!(restored.robot("ci").await.unwrap(), lab.store.robot("ci").await.unwrap());
    assert_eq!(restored.signing_keys().await.unwrap(), [key("k1", START)]);
    // The machine's clock is later than the test's: the token is there and has expired.
    assert_eq!(restored.refresh_token(&[7; 32]).await.unwrap(), None);
    assert_eq!(restored.sweep_refresh_tokens().await.unwrap(), 1);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_a_fault_and_is_removed() {
    let keys =
        [keys::robot("ci"), keys::robot_use("ci"), keys::signing_key("k1"), keys::refresh_token(&[7; 32])];
    for damaged in keys {
        on_both(async |lab| {
            some(&lab).await;
            is_clean(&lab).await;
            lab.put_raw(damaged.clone(), b"\xff\x00".to_vec()).await;
            finds_and_repairs(&lab, FaultKind::RowUnreadable).await;
            assert_eq!(lab.raw(damaged.clone()).await, None);
            lab.store.robot("ci").await.unwrap();
            lab.store.signing_keys().await.unwrap();
            assert_eq!(lab.store.refresh_tokens(None, 10).await.unwrap().len(), lab.rows(b"y").await.len());
        })
        .await;
    }
}

#[tokio::test]
async fn a_refresh_token_is_found_again_by_its_subject_and_its_expiry() {
    for table in [b"j", b"d"] {
        on_both(async |lab| {
            some(&lab).await;
            let rows = lab.rows(table).await;
            assert_eq!(rows.len(), 1);
            lab.delete_raw(rows[0].0.clone()).await;
            finds_and_repairs(&lab, FaultKind::RefreshTokenIndexMissing).await;
            assert_eq!(lab.rows(table).await, rows);
        })
        .await;
    }
    for stray in [
        keys::refresh_token_of(&[1; 32], START, &[7; 32]),
        keys::refresh_token_of(&keys::subject_sha256("alice"), Timestamp(1), &[7; 32]),
        keys::refresh_token_of(&keys::subject_sha256("alice"), START, &[8; 32]),
        keys::refresh_token_expiry(Timestamp(1), &[7; 32]),
        keys::refresh_token_expiry(START, &[8; 32]),
    ] {
        on_both(async |lab| {
            some(&lab).await;
            lab.put_raw(stray.clone(), Vec::new()).await;
            finds_and_repairs(&lab, FaultKind::RefreshTokenIndexStray).await;
            assert!(lab.store.refresh_token(&[7; 32]).await.unwrap().is_some());
        })
        .await;
    }
}
