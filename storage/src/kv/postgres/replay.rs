// SPDX-License-Identifier: AGPL-3.0-only
//! Running a reading function without holding its future while an answer is awaited.
//!
//! Such a future borrows from its caller, and the compiler cannot see that it may move between threads;
//! nor may it block one. But a function may run again: it is run until it asks something that is not
//! known yet, then forgotten, and run anew when the answer is there. Functions of point reads ask a
//! handful of times.

use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Snapshot, stopped};
use crate::error::{Error, Result};
use crate::kv::{Base, ReadTx, Row};

/// What a function has asked so far, with the answers of one snapshot.
#[derive(Default)]
pub(in crate::kv) struct Replay {
    values: HashMap<Vec<u8>, Option<Vec<u8>>>,
    pages: HashMap<Page, Vec<Row>>,
    /// What it asked last, and nobody knows yet.
    asked: Option<Question>,
}

/// From, to before, and how many.
type Page = (Vec<u8>, Option<Vec<u8>>, usize);

enum Question {
    Values(Vec<Vec<u8>>),
    Page(Page),
}

/// Runs a function on a snapshot.
pub(in crate::kv) async fn read<T, F>(mut snapshot: Snapshot, function: &F) -> Result<T>
where
    F: AsyncFn(&mut ReadTx) -> Result<T>,
{
    let mut replay = Replay::default();
    loop {
        match run(&mut replay, function)? {
            Some(value) => return Ok(value),
            None => replay.answer(&mut snapshot).await?,
        }
    }
}

/// Runs the function until it ends or asks something new.
fn run<T, F>(replay: &mut Replay, function: &F) -> Result<Option<T>>
where
    F: AsyncFn(&mut ReadTx) -> Result<T>,
{
    let mut tx = ReadTx::new(Base::Replay(std::mem::take(replay)));
    let ended = match pin!(function(&mut tx)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    };
    let Base::Replay(back) = tx.base else { return Err(stopped()) };
    *replay = back;
    ended.transpose()
}

impl Replay {
    pub(in crate::kv) async fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.values.get(key) {
            return value.clone();
        }
        self.asked = Some(Question::Values(vec![key.to_vec()]));
        std::future::pending().await
    }

    pub(in crate::kv) async fn get_many(&mut self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        let unknown: Vec<_> = keys.iter().filter(|key| !self.values.contains_key(*key)).cloned().collect();
        if unknown.is_empty() {
            return keys.iter().map(|key| self.values.get(key).cloned().flatten()).collect();
        }
        self.asked = Some(Question::Values(unknown));
        std::future::pending().await
    }

    pub(in crate::kv) async fn range(&mut self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<Row> {
        let page = (from.to_vec(), to.map(<[u8]>::to_vec), limit);
        if let Some(rows) = self.pages.get(&page) {
            return rows.clone();
        }
        self.asked = Some(Question::Page(page));
        std::future::pending().await
    }

    async fn answer(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        match self.asked.take() {
            Some(Question::Values(keys)) => {
                let values = match keys.as_slice() {
                    [key] => vec![snapshot.get(key).await?],
                    keys => snapshot.get_many(keys).await?,
                };
                self.values.extend(keys.into_iter().zip(values));
            }
            Some(Question::Page(page)) => {
                let rows = snapshot.range(&page.0, page.1.as_deref(), page.2).await?;
                self.pages.insert(page, rows);
            }
            None => {
                return Err(Error::Unavailable(
                    "a transaction function waited for something else".to_owned(),
                ));
            }
        }
        Ok(())
    }
}
