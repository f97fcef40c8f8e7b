// SPDX-License-Identifier: AGPL-3.0-only
//! The store's hardest tests on the engines beside SQLite: random steps, the model, and races.

use std::sync::atomic::Ordering;
#[cfg(feature = "postgres")]
use std::sync::{Mutex, atomic::AtomicU32};

use super::collection_model::the_store_agrees_with_the_model;
use super::collection_races::{LEASE, nothing_is_left, race};
use super::invariants::random_steps_keep_the_invariants;
use super::*;
#[cfg(feature = "postgres")]
use crate::kv::postgres_server::PostgresServer;

fn the_store_keeps_its_promises(kind: Kind) {
    random_steps_keep_the_invariants(kind, 6);
    the_store_agrees_with_the_model(kind, 3);
    let (runtime, race) = race(kind, LEASE, 150);
    assert_eq!(race.broken.load(Ordering::Relaxed), 0, "broken images");
    runtime.block_on(nothing_is_left(&race));
}

#[cfg(feature = "sled")]
#[test]
fn the_store_keeps_its_promises_on_sled() {
    the_store_keeps_its_promises(Kind::Sled);
}

/// The server of the test below, while it runs.
#[cfg(feature = "postgres")]
static SERVER: Mutex<Option<PostgresServer>> = Mutex::new(None);

/// The URL of an empty database.
#[cfg(feature = "postgres")]
pub(super) fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("s{}", NEXT.fetch_add(1, Ordering::Relaxed));
    SERVER.lock().unwrap().as_ref().unwrap().schema(&name)
}

#[cfg(feature = "postgres")]
#[test]
fn the_store_keeps_its_promises_on_postgres() {
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            drop(SERVER.lock().unwrap().take());
        }
    }
    let Some(server) = PostgresServer::start("the store on PostgreSQL") else { return };
    *SERVER.lock().unwrap() = Some(server);
    let _running = Running;
    the_store_keeps_its_promises(Kind::Postgres);
}
