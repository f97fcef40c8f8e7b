// SPDX-License-Identifier: AGPL-3.0-only
//! The engine for tests: a `BTreeMap`, deterministic, gone with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::overlay::bounds;
use super::{Base, Row, WriteTx, complete};
use crate::error::Result;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// An engine that keeps everything in memory.
#[derive(Default)]
pub struct Memory {
    map: Mutex<Arc<Map>>,
    run_twice: bool,
    #[cfg(test)]
    watcher: std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Memory {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty engine that runs every write function twice and keeps only the second run, as an
    /// engine that retries conflicts may do.
    pub fn running_twice() -> Self {
        Memory { run_twice: true, ..Self::default() }
    }

    /// Calls `watcher` right before and right after each write, once.
    #[cfg(test)]
    pub(crate) fn watch(&self, watcher: impl Fn() + Send + Sync + 'static) {
        assert!(self.watcher.set(Box::new(watcher)).is_ok(), "an engine has one watcher");
    }

    /// An engine that has what this one has now.
    #[cfg(test)]
    pub(crate) fn fork(&self) -> Memory {
        Memory { map: Mutex::new(Arc::clone(&self.lock())), ..Memory::default() }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot(Arc::clone(&self.lock()))
    }

    pub(super) fn write<T>(&self, function: &impl AsyncFn(&mut WriteTx) -> Result<T>) -> Result<T> {
        #[cfg(test)]
        let _watched = self.watcher.get().map(|watcher| Watched::new(&**watcher));
        let mut map = self.lock();
        if self.run_twice {
            let mut tx = WriteTx::new(Base::Memory(Snapshot(Arc::clone(&map))));
            let _discarded = complete(function(&mut tx));
        }
        let mut tx = WriteTx::new(Base::Memory(Snapshot(Arc::clone(&map))));
        let value = complete(function(&mut tx))?;
        let (base, overlay) = tx.into_parts();
        drop(base);
        let map = Arc::make_mut(&mut map);
        for (key, value) in overlay.into_rows() {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(value)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Map>> {
        // A panic in a test's function leaves the map as it was: it changes only after success.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a watcher of a write's begin, and in the end of its end.
#[cfg(test)]
struct Watched<'m>(&'m (dyn Fn() + Send + Sync));

#[cfg(test)]
impl<'m> Watched<'m> {
    fn new(watcher: &'m (dyn Fn() + Send + Sync)) -> Self {
        watcher();
        Watched(watcher)
    }
}

#[cfg(test)]
impl Drop for Watched<'_> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub(super) struct Snapshot(Arc<Map>);

impl Snapshot {
    pub(super) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).cloned()
    }

    pub(super) fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<Row> {
        let rows = self.0.range::<[u8], _>(bounds(from, to));
        rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(super) fn for_each(&self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|(key, value)| each(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Engine, suite};

    #[test]
    fn the_memory_engine_keeps_the_contract() {
        suite::run(&async || Engine::Memory(Memory::new()));
    }

    #[test]
    fn functions_may_run_twice() {
        suite::run(&async || Engine::Memory(Memory::running_twice()));
    }
}
