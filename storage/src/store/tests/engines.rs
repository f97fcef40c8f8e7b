// SPDX-License-Identifier: AGPL-3.0-only
//! The store's hardest tests on the engines beside SQLite: random steps, the model, and races.

use std::sync::atomic::Ordering;

use super::collection_model::the_store_agrees_with_the_model;
use super::collection_races::{LEASE, nothing_is_left, race};
use super::invariants::random_steps_keep_the_invariants;
use super::*;

fn pushes_race_with_collectors(kind: Kind) {
    let (runtime, race) = race(kind, LEASE, 300);
    assert_eq!(race.broken.load(Ordering::Relaxed), 0, "broken images");
    runtime.block_on(nothing_is_left(&race));
}

#[cfg(feature = "sled")]
#[test]
fn the_store_keeps_its_promises_on_sled() {
    random_steps_keep_the_invariants(Kind::Sled, 8);
    the_store_agrees_with_the_model(Kind::Sled, 4);
    pushes_race_with_collectors(Kind::Sled);
}

#[cfg(feature = "postgres")]
#[test]
fn the_store_keeps_its_promises_on_postgres() {
    if PostgresServer::start("the store on PostgreSQL").is_none() {
        return;
    }
    random_steps_keep_the_invariants(Kind::Postgres, 8);
    the_store_agrees_with_the_model(Kind::Postgres, 4);
    pushes_race_with_collectors(Kind::Postgres);
}
