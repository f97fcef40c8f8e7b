// SPDX-License-Identifier: AGPL-3.0-only
//! Concurrent transactions against a model: whatever ran at once must have run in some order.
//!
//! Each transaction that succeeds takes the next number of a log in the transaction itself. Replaying
//! the log on a `BTreeMap` must then give every answer that the transactions got; so must every
//! snapshot that was read meanwhile, and nobody may see less than was acknowledged before they began.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::{Model, Step, apply, perform, read_count, steps};
use crate::error::Error;
use crate::kv::{Engine, MAX_PAGE_ROWS, ReadTx, Row, WriteTx};

const ROUNDS: usize = 6;
const NEXT: &[u8] = b"N";
/// The first bytes of the keys that [`steps`] makes.
const PREFIXES: [u8; 4] = [0, 1, b'k', 0xff];

#[derive(Clone, Debug)]
struct Transaction {
    steps: Vec<Step>,
    fails: bool,
}

/// A transaction that committed.
struct Committed {
    number: u64,
    steps: Vec<Step>,
    answers: Vec<Vec<Row>>,
    /// How many were acknowledged before it began.
    after: u64,
}

/// What one snapshot showed.
struct Seen {
    number: u64,
    rows: Vec<Row>,
    after: u64,
}

pub(super) fn concurrent_transactions_run_in_some_order(
    runtime: &tokio::runtime::Runtime,
    open: &impl AsyncFn() -> Engine,
) {
    let transaction =
        (steps(), proptest::bool::weighted(0.15)).prop_map(|(steps, fails)| Transaction { steps, fails });
    let tasks = proptest::collection::vec(proptest::collection::vec(transaction, 10..30), 6);
    let mut runner = TestRunner::default();
    for _ in 0..ROUNDS {
        // What happens at once differs from run to run: there is nothing to shrink or to repeat.
        let tasks = tasks.new_tree(&mut runner).unwrap().current();
        let (committed, seen) = runtime.block_on(async { run(Arc::new(open().await), tasks).await });
        check(committed, &seen);
    }
}

async fn run(engine: Arc<Engine>, tasks: Vec<Vec<Transaction>>) -> (Vec<Committed>, Vec<Seen>) {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let running: Vec<_> = tasks
        .into_iter()
        .map(|transactions| {
            let (engine, acknowledged) = (Arc::clone(&engine), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let (mut committed, mut seen) = (Vec::new(), Vec::new());
                for transaction in transactions {
                    committed.extend(write(&engine, transaction, &acknowledged).await);
                    seen.push(look(&engine, &acknowledged).await);
                }
                (committed, seen)
            })
        })
        .collect();
    let (mut committed, mut seen) = (Vec::new(), Vec::new());
    for task in running {
        let (more, looked) = task.await.unwrap();
        committed.extend(more);
        seen.extend(looked);
    }
    (committed, seen)
}

async fn write(engine: &Engine, transaction: Transaction, acknowledged: &AtomicU64) -> Option<Committed> {
    let Transaction { steps, fails } = transaction;
    let (run, got) = (steps.clone(), Arc::new(Mutex::new(Vec::new())));
    let answers = Arc::clone(&got);
    let after = acknowledged.load(Ordering::SeqCst);
    let result = engine
        .write(0, async move |tx: &mut WriteTx| {
            let number = tx.get(NEXT).await?.map_or(0, |value| read_count(&value));
            tx.put(NEXT.to_vec(), (number + 1).to_be_bytes().to_vec())?;
            let mut answers = Vec::new();
            for step in &run {
                answers.push(perform(tx, step).await?);
                // On an engine without exclusion the others come in here.
                std::thread::yield_now();
            }
            // The function may run again: the last run counts.
            *got.lock().unwrap() = answers;
            if fails { Err(Error::ConditionFailed) } else { Ok(number) }
        })
        .await;
    match result {
        Ok(number) => {
            acknowledged.fetch_max(number + 1, Ordering::SeqCst);
            let answers = std::mem::take(&mut *answers.lock().unwrap());
            Some(Committed { number, steps, answers, after })
        }
        Err(Error::ConditionFailed) if fails => None,
        Err(error) => panic!("a transaction failed: {error}"),
    }
}

async fn look(engine: &Engine, acknowledged: &AtomicU64) -> Seen {
    let after = acknowledged.load(Ordering::SeqCst);
    let scan = async |tx: &mut ReadTx| {
        let number = tx.get(NEXT).await?.map_or(0, |value| read_count(&value));
        let mut rows = Vec::new();
        for prefix in PREFIXES {
            rows.extend(tx.range(&[prefix], None, MAX_PAGE_ROWS).await?);
        }
        Ok((number, rows))
    };
    let (number, rows) = engine.scan(scan).await.unwrap();
    Seen { number, rows, after }
}

fn check(mut committed: Vec<Committed>, seen: &[Seen]) {
    committed.sort_by_key(|transaction| transaction.number);
    let mut model = Model::new();
    let mut states = vec![Vec::new()];
    for (place, transaction) in (0u64..).zip(&committed) {
        assert_eq!(transaction.number, place, "two transactions ran at the same place, or one was lost");
        assert!(transaction.number >= transaction.after, "transaction {place} ran before what it came after");
        for (step, answer) in transaction.steps.iter().zip(&transaction.answers) {
            assert_eq!(
                *answer,
                apply(&mut model, step),
                "transaction {place} did not run at its place: {step:?}"
            );
        }
        states.push(model.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<Row>>());
    }
    for Seen { number, rows, after } in seen {
        assert!(number >= after, "a snapshot showed {number} transactions after {after} were acknowledged");
        let state = usize::try_from(*number).unwrap();
        assert_eq!(*rows, states[state], "a snapshot was not the state after {number} transactions");
    }
}
