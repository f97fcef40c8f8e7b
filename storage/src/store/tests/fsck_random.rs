// SPDX-License-Identifier: AGPL-3.0-only
//! Random damage: one row is removed or garbled in a store that random operations made. Either it is
//! told of, or it takes nothing from anyone; a repair leaves only what a push heals; nothing panics.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::fsck::{everything, fsck, told};
use super::invariants::{Known, perform, steps};
use super::*;

#[derive(Clone, Debug)]
enum Damage {
    Remove,
    /// A bit of the value flips.
    Flip {
        at: usize,
        bit: u8,
    },
    /// The value ends early.
    Cut {
        at: usize,
    },
    /// A byte of the key is another one.
    Key {
        at: usize,
        byte: u8,
    },
}

fn damages() -> impl Strategy<Value = Damage> {
    prop_oneof![
        2 => Just(Damage::Remove),
        3 => (any::<usize>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        1 => any::<usize>().prop_map(|at| Damage::Cut { at }),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Key { at, byte }),
    ]
}

async fn damage(lab: &Lab, (key, value): &Row, damage: &Damage) {
    let (mut key_after, mut value_after) = (key.clone(), value.clone());
    match damage {
        Damage::Remove => return lab.delete_raw(key.clone()).await,
        Damage::Flip { at, bit } => {
            let len = value.len().max(1);
            if let Some(byte) = value_after.get_mut(at % len) {
                *byte ^= 1 << bit;
            }
        }
        Damage::Cut { at } => value_after.truncate(at % value.len().max(1)),
        Damage::Key { at, byte } => {
            let len = key.len();
            key_after[at % len] = *byte;
        }
    }
    lab.delete_raw(key.clone()).await;
    lab.put_raw(key_after, value_after).await;
}

/// Every blob and manifest that can be read, by repository and digest.
async fn served(lab: &Lab) -> Vec<(String, String)> {
    let mut served = Vec::new();
    for name in ["r0", "r1"] {
        let Ok(name) = name.parse::<RepoName>() else { continue };
        let Some(row) = lab.row::<rows::Repository>(keys::repository(name.as_str())).await else { continue };
        for table in *b"lx" {
            for (key, _) in lab.rows(&[&[table][..], &row.id.0.to_be_bytes()].concat()).await {
                let digest = keys::read_digest(&key[5..]).unwrap();
                let bytes = if table == b'l' {
                    lab.read(&name, &digest).await
                } else {
                    let stored = lab.store.manifest(&name, &Reference::Digest(digest.clone())).await;
                    stored.map(|stored| stored.bytes.to_vec())
                };
                let bytes = bytes.unwrap();
                assert_eq!(digest.algorithm().unwrap().digest(&bytes), digest);
                served.push((name.to_string(), digest.to_string()));
            }
        }
    }
    served
}

async fn is_served(lab: &Lab, wanted: &[(String, String)]) -> Result<()> {
    for (name, digest) in wanted {
        let (name, digest): (RepoName, Digest) = (name.parse()?, digest.parse()?);
        let blob = lab.read(&name, &digest).await;
        let manifest = lab.store.manifest(&name, &Reference::Digest(digest.clone())).await;
        let bytes = blob.or(manifest.map(|stored| stored.bytes.to_vec()))?;
        assert_eq!(digest.algorithm().unwrap().digest(&bytes), digest);
    }
    Ok(())
}

fn damage_is_told_of_or_harmless(kind: Kind, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let strategy = (steps(), proptest::collection::vec((any::<usize>(), damages()), 1..8));
    let outcome = TestRunner::new(config).run(&strategy, |(steps, damages)| {
        runtime.block_on(async {
            let lab = Lab::new(kind).await;
            let mut known = Known::default();
            super::credentials::some(&lab).await;
            for step in &steps {
                let _refused = perform(&lab, &mut known, step).await;
            }
            let wanted = served(&lab).await;
            // One after the other: each is repaired before the next comes.
            for (number, how) in &damages {
                let rows = everything(&lab).await;
                prop_assert!(!rows.is_empty());
                let row = &rows[number % rows.len()];
                damage(&lab, row, how).await;
                let (before, _) = fsck(&lab, false).await;
                let (faults, summary) = fsck(&lab, true).await;
                let (left, _) = fsck(&lab, true).await;
                let (left_again, _) = fsck(&lab, false).await;
                let story = || {
                    let key = hex::encode(&row.0);
                    let (first, second) = (told(&faults), told(&left));
                    format!("{how:?} of {key} = {}\nfirst:\n{first}\nsecond:\n{second}", hex::encode(&row.1))
                };
                prop_assert_eq!(before.is_empty(), faults.is_empty(), "{}", story());
                // A repair leaves nothing that it could have repaired.
                prop_assert!(
                    left_again.iter().all(|fault| matches!(fault.repair, Repair::Manual(_))),
                    "{}",
                    story()
                );
                prop_assert!(left.len() as u64 <= summary.left(), "{}", story());
                if summary.left() > 0 {
                    // What a push must heal.
                    return Ok(());
                }
                if let Err(error) = is_served(&lab, &wanted).await {
                    // Under another name, at worst, which is told.
                    let renamed = faults.iter().any(|fault| fault.to_string().contains("copy"));
                    let gone = faults.iter().any(|fault| fault.to_string().contains("push"));
                    prop_assert!(renamed || gone, "{}: {}", error, story());
                    return Ok(());
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

/// How many random stores are damaged; more for a soak, by the environment.
fn cases(usual: u32) -> u32 {
    std::env::var("STELLA_FSCK_CASES").map_or(usual, |cases| cases.parse().unwrap())
}

#[test]
fn damage_is_told_of_or_harmless_in_memory() {
    damage_is_told_of_or_harmless(Kind::Memory, cases(24));
}

#[test]
fn damage_is_told_of_or_harmless_in_sqlite() {
    damage_is_told_of_or_harmless(Kind::Sqlite, cases(3));
}
