// SPDX-License-Identifier: AGPL-3.0-only
//! The suite that every metadata engine must pass.
//!
//! An engine's tests call [`run`] with a function that makes an empty engine, and [`reopens`] with
//! one that opens the same engine again. Failures panic with what was expected.

#![expect(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "test code behind a feature")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{Engine, MAX_PAGE_ROWS, MAX_WRITE_BYTES, MAX_WRITE_ROWS, ReadTx, WriteTx};
use crate::error::{Error, Result, What};

mod serial;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Checks an engine against the whole contract, but for what needs reopening.
///
/// # Panics
///
/// When the engine breaks the contract.
pub fn run(open: &impl AsyncFn() -> Engine) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        a_transaction_reads_its_own_writes(&open().await).await;
        a_failed_function_leaves_nothing_and_hurts_no_neighbour(open().await).await;
        concurrent_increments_are_all_counted(open().await).await;
        a_snapshot_does_not_move(&open().await).await;
        invariants_over_two_keys_hold_in_every_snapshot(open().await).await;
        what_a_function_read_still_holds_when_it_commits(open().await).await;
        a_dump_is_one_snapshot_in_order(open().await).await;
        limits_are_errors(&open().await).await;
    });
    random_transactions_match_a_model(&runtime, open);
    serial::concurrent_transactions_run_in_some_order(&runtime, open);
}

/// Checks that commits are there after the engine is closed and opened again.
///
/// # Panics
///
/// When the engine breaks the contract.
pub fn reopens(open: &impl AsyncFn() -> Engine) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..3u32 {
        let engine = runtime.block_on(open());
        runtime.block_on(async {
            for earlier in 0..round {
                let key = earlier.to_be_bytes().to_vec();
                let found = engine.read(async move |tx: &mut ReadTx| tx.get(&key).await).await.unwrap();
                assert_eq!(found, Some(vec![7]), "round {earlier} was lost");
            }
            engine
                .write(0, async move |tx: &mut WriteTx| tx.put(round.to_be_bytes().to_vec(), vec![7]))
                .await
                .unwrap();
        });
    }
}

async fn a_transaction_reads_its_own_writes(engine: &Engine) {
    let rows = engine
        .write(0, async |tx: &mut WriteTx| {
            for key in [b"pa", b"pb", b"pc", b"qa"] {
                tx.put(key.to_vec(), key.to_vec())?;
            }
            tx.delete(b"pb".to_vec())?;
            assert_eq!(tx.get(b"pb").await?, None);
            assert_eq!(tx.get(b"pa").await?, Some(b"pa".to_vec()));
            tx.range(b"p", None, 10).await
        })
        .await
        .unwrap();
    assert_eq!(names(&rows), ["pa", "pc"]);
    // The same over rows that are committed: one hidden, one replaced, one added.
    let (all, page) = engine
        .write(0, async |tx: &mut WriteTx| {
            tx.delete(b"pa".to_vec())?;
            tx.put(b"pb".to_vec(), b"new".to_vec())?;
            tx.put(b"pc".to_vec(), b"new".to_vec())?;
            Ok((tx.range(b"p", None, 10).await?, tx.range(b"p", Some(b"pa"), 1).await?))
        })
        .await
        .unwrap();
    assert_eq!(names(&all), ["pb", "pc"]);
    assert_eq!(all[1].1, b"new");
    assert_eq!(names(&page), ["pb"]);
    let rows = engine.scan(async |tx: &mut ReadTx| tx.range(b"p", Some(b"pb"), 10).await).await.unwrap();
    assert_eq!(names(&rows), ["pc"]);
}

async fn a_failed_function_leaves_nothing_and_hurts_no_neighbour(engine: Engine) {
    let engine = Arc::new(engine);
    let tasks: Vec<_> = (0..64u8)
        .map(|number| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                engine
                    .write(0, async move |tx: &mut WriteTx| {
                        tx.put(vec![b'n', number], vec![number])?;
                        if number % 3 == 0 { Err(Error::NotFound(What::Blob)) } else { Ok(number) }
                    })
                    .await
            })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let result = task.await.unwrap();
        assert_eq!(result.is_err(), number % 3 == 0, "transaction {number}: {result:?}");
    }
    let rows = engine.scan(async |tx: &mut ReadTx| tx.range(b"n", None, 100).await).await.unwrap();
    let expected: Vec<_> = (0..64u8).filter(|number| number % 3 != 0).collect();
    assert_eq!(rows.iter().map(|row| row.1[0]).collect::<Vec<_>>(), expected);
}

async fn concurrent_increments_are_all_counted(engine: Engine) {
    let engine = Arc::new(engine);
    let runs = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (engine, runs) = (Arc::clone(&engine), Arc::clone(&runs));
        tasks.push(tokio::spawn(async move {
            for _ in 0..25 {
                let runs = Arc::clone(&runs);
                engine
                    .write(0, async move |tx: &mut WriteTx| {
                        runs.fetch_add(1, Ordering::SeqCst);
                        let count = tx.get(b"count").await?.map_or(0, |value| read_count(&value));
                        tx.put(b"count".to_vec(), (count + 1).to_be_bytes().to_vec())
                    })
                    .await
                    .unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let count = engine.read(async |tx: &mut ReadTx| tx.get(b"count").await).await.unwrap();
    assert_eq!(read_count(&count.unwrap()), 200);
    assert!(runs.load(Ordering::SeqCst) >= 200);
}

async fn a_snapshot_does_not_move(engine: &Engine) {
    let set = async |value: u8| {
        engine.write(0, async move |tx: &mut WriteTx| tx.put(b"s".to_vec(), vec![value])).await.unwrap();
    };
    set(1).await;
    let mut snapshot = engine.snapshot().unwrap();
    assert_eq!(snapshot.get(b"s").await.unwrap(), Some(vec![1]));
    set(2).await;
    assert_eq!(snapshot.get(b"s").await.unwrap(), Some(vec![1]));
    assert_eq!(snapshot.range(b"s", None, 5).await.unwrap()[0].1, vec![1]);
    drop(snapshot);
    assert_eq!(engine.read(async |tx: &mut ReadTx| tx.get(b"s").await).await.unwrap(), Some(vec![2]));
}

/// Transfers between two accounts: no reader may ever see a sum other than the first.
async fn invariants_over_two_keys_hold_in_every_snapshot(engine: Engine) {
    let engine = Arc::new(engine);
    engine
        .write(0, async |tx: &mut WriteTx| {
            tx.put(b"a".to_vec(), 1000u64.to_be_bytes().to_vec())?;
            tx.put(b"b".to_vec(), 1000u64.to_be_bytes().to_vec())
        })
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for number in 0..4u64 {
        let engine = Arc::clone(&engine);
        tasks.push(tokio::spawn(async move {
            for step in 0..20u64 {
                let amount = (number * 7 + step) % 13;
                engine
                    .write(0, async move |tx: &mut WriteTx| {
                        let (a, b) = both(tx).await?;
                        tx.put(b"a".to_vec(), (a - amount).to_be_bytes().to_vec())?;
                        tx.put(b"b".to_vec(), (b + amount).to_be_bytes().to_vec())
                    })
                    .await
                    .unwrap();
                let (a, b) = engine.read(async |tx: &mut ReadTx| both(tx).await).await.unwrap();
                assert_eq!(a + b, 2000);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Of several that each write only where nobody has written yet, one may: also when they write different
/// keys, which snapshots alone would let all of them do.
async fn what_a_function_read_still_holds_when_it_commits(engine: Engine) {
    const TASKS: u8 = 6;
    const ROUNDS: u8 = 20;
    let engine = Arc::new(engine);
    let start = Arc::new(tokio::sync::Barrier::new(usize::from(TASKS)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (engine, start) = (Arc::clone(&engine), Arc::clone(&start));
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    start.wait().await;
                    let first = async move |tx: &mut WriteTx| {
                        // By a range in one round, by the keys in the next.
                        let free = if round % 2 == 0 {
                            tx.range(&[b'w', round], None, 1).await?.is_empty()
                        } else {
                            let keys: Vec<_> = (0..TASKS).map(|other| vec![b'w', round, other]).collect();
                            tx.get_many(&keys).await?.iter().all(Option::is_none)
                        };
                        if free { tx.put(vec![b'w', round, task], Vec::new()) } else { Ok(()) }
                    };
                    engine.write(0, first).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for round in 0..ROUNDS {
        let written = async move |tx: &mut ReadTx| tx.range(&[b'w', round], None, 10).await;
        let count = engine.scan(written).await.unwrap().len();
        assert_eq!(count, 1, "in round {round} {count} found that they were the first");
    }
}

/// Numbers move between the first and the last of many rows while the rows are dumped.
async fn a_dump_is_one_snapshot_in_order(engine: Engine) {
    const ROWS: u16 = 2500;
    let key = |number: u16| [b"d", number.to_be_bytes().as_slice()].concat();
    engine
        .write(0, async move |tx: &mut WriteTx| {
            (0..ROWS).try_for_each(|number| tx.put(key(number), 1000u64.to_be_bytes().to_vec()))
        })
        .await
        .unwrap();
    let engine = Arc::new(engine);
    let writing = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move {
            for step in 0..200u16 {
                let (from, to) = (key(step), key(ROWS - 1 - step));
                let transfer = async move |tx: &mut WriteTx| {
                    let (a, b) = (tx.get(&from).await?.unwrap(), tx.get(&to).await?.unwrap());
                    tx.put(from.clone(), (read_count(&a) - 1).to_be_bytes().to_vec())?;
                    tx.put(to.clone(), (read_count(&b) + 1).to_be_bytes().to_vec())
                };
                engine.write(0, transfer).await.unwrap();
            }
        }
    });
    for _ in 0..5 {
        let gather = |rows: &mut Vec<(Vec<u8>, u64)>, key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), read_count(value)));
            Ok(())
        };
        let rows = engine.dump(Vec::new(), gather).await.unwrap();
        assert_eq!(rows.len(), usize::from(ROWS));
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "rows out of order");
        assert_eq!(rows.iter().map(|row| row.1).sum::<u64>(), u64::from(ROWS) * 1000, "not one snapshot");
    }
    writing.await.unwrap();
    // An error of the function ends the dump at once.
    let stop = |seen: &mut u32, _: &[u8], _: &[u8]| {
        *seen += 1;
        assert_eq!(*seen, 1);
        Err(Error::NotFound(What::Blob))
    };
    assert!(matches!(engine.dump(0, stop).await, Err(Error::NotFound(What::Blob))));
}

async fn both(tx: &mut ReadTx) -> Result<(u64, u64)> {
    let values = tx.get_many(&[b"a".to_vec(), b"b".to_vec()]).await?;
    Ok((read_count(values[0].as_ref().unwrap()), read_count(values[1].as_ref().unwrap())))
}

async fn limits_are_errors(engine: &Engine) {
    let rows = engine
        .write(0, async |tx: &mut WriteTx| {
            for number in 0..=MAX_WRITE_ROWS {
                tx.put(format!("r{number}").into_bytes(), Vec::new())?;
            }
            Ok(())
        })
        .await;
    assert!(matches!(rows, Err(Error::TooLarge(_))), "{rows:?}");
    let bytes =
        engine.write(0, async |tx: &mut WriteTx| tx.put(b"r".to_vec(), vec![0; MAX_WRITE_BYTES])).await;
    assert!(matches!(bytes, Err(Error::TooLarge(_))), "{bytes:?}");
    let left = engine.scan(async |tx: &mut ReadTx| tx.range(b"r", None, 10).await).await.unwrap();
    assert!(left.is_empty());
    engine
        .write(0, async |tx: &mut WriteTx| {
            (0..=MAX_PAGE_ROWS).try_for_each(|n| tx.put(format!("l{n:05}").into_bytes(), vec![1]))
        })
        .await
        .unwrap();
    let page = engine.scan(async |tx: &mut ReadTx| tx.range(b"l", None, usize::MAX).await).await.unwrap();
    assert_eq!(page.len(), MAX_PAGE_ROWS);
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Get(Vec<u8>),
    Range(Vec<u8>, Option<Vec<u8>>, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'k'), Just(0xff)], 1..4);
    let step = prop_oneof![
        4 => (key(), proptest::collection::vec(any::<u8>(), 0..6)).prop_map(|(k, v)| Step::Put(k, v)),
        2 => key().prop_map(Step::Delete),
        1 => key().prop_map(Step::Get),
        3 => (key(), proptest::option::of(key()), 0usize..6).prop_map(|(p, a, l)| Step::Range(p, a, l)),
    ];
    proptest::collection::vec(step, 1..12)
}

/// Random transactions, some of which fail at their end, compared step by step with a model.
fn random_transactions_match_a_model(runtime: &tokio::runtime::Runtime, open: &impl AsyncFn() -> Engine) {
    let transaction = (steps(), proptest::bool::weighted(0.2));
    let transactions = proptest::collection::vec(transaction, 1..10);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() });
    let outcome = runner.run(&transactions, |transactions| {
        let engine = runtime.block_on(open());
        let mut model = Model::new();
        for (steps, fails) in transactions {
            let mut after = model.clone();
            let expected: Vec<_> = steps.iter().map(|step| apply(&mut after, step)).collect();
            let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
            let (run, seen_inside) = (steps.clone(), Arc::clone(&seen));
            let result = runtime.block_on(engine.write(0, async move |tx: &mut WriteTx| {
                let mut answers = Vec::new();
                for step in &run {
                    answers.push(perform(tx, step).await?);
                }
                *seen_inside.lock().unwrap() = answers;
                if fails { Err(Error::ConditionFailed) } else { Ok(()) }
            }));
            prop_assert_eq!(result.is_err(), fails);
            prop_assert_eq!(&*seen.lock().unwrap(), &expected);
            if !fails {
                model = after;
            }
        }
        for prefix in
            [b"\0".to_vec(), b"\x01".to_vec(), b"k".to_vec(), b"\xff".to_vec(), b"\xff\xff".to_vec()]
        {
            let step = Step::Range(prefix.clone(), None, 100);
            let expected = apply(&mut model, &step);
            let found = runtime
                .block_on(engine.scan(async move |tx: &mut ReadTx| tx.range(&prefix, None, 100).await));
            prop_assert_eq!(found.unwrap(), expected);
        }
        Ok(())
    });
    outcome.expect("an engine differs from the model");
}

fn apply(model: &mut Model, step: &Step) -> Vec<(Vec<u8>, Vec<u8>)> {
    match step {
        Step::Put(key, value) => {
            model.insert(key.clone(), value.clone());
            Vec::new()
        }
        Step::Delete(key) => {
            model.remove(key);
            Vec::new()
        }
        Step::Get(key) => model.get(key).map(|value| (key.clone(), value.clone())).into_iter().collect(),
        Step::Range(prefix, after, limit) => model
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.as_ref().is_none_or(|after| *key > after))
            .take(*limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}

async fn perform(tx: &mut WriteTx, step: &Step) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    match step {
        Step::Put(key, value) => tx.put(key.clone(), value.clone()).map(|()| Vec::new()),
        Step::Delete(key) => tx.delete(key.clone()).map(|()| Vec::new()),
        Step::Get(key) => Ok(tx.get(key).await?.map(|value| (key.clone(), value)).into_iter().collect()),
        Step::Range(prefix, after, limit) => tx.range(prefix, after.as_deref(), *limit).await,
    }
}

fn read_count(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap_or_else(|_| panic!("a counter has {} bytes", value.len())))
}

fn names(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<&str> {
    rows.iter().map(|row| std::str::from_utf8(&row.0).unwrap()).collect()
}
