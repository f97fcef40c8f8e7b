// SPDX-License-Identifier: AGPL-3.0-only
//! Who holds the database: one process, by an advisory lock of a connection that does nothing else.
//!
//! When the connection ends the lock is free, and nothing is written here any more until it is taken
//! again. What makes that safe is not the lock but the epoch: whoever takes the lock begins a new one,
//! and transactions of an earlier one can no longer begin; those that had begun are waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::session::{Failure, PostgresOptions, answered, open};
use super::{Shared, lock, pause};
use crate::error::{Error, Result};

/// "STEL": the upper half of our lock's number; the lower one is the schema's.
const LOCK: i64 = 0x5354_454c;
/// The version of our tables.
const FORMAT: i32 = 1;
/// The longest pause between tries to regain the lock.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connection that holds the lock.
pub(super) struct Hold {
    /// Asked nothing more once it has the lock.
    client: Client,
    connection: JoinHandle<String>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Takes hold of the database, makes its tables, and begins an epoch; or says who holds it.
pub(super) async fn take(options: &PostgresOptions) -> Result<(Hold, i64)> {
    let (client, connection) = open(options).await.map_err(|failure| unreachable(options, &failure))?;
    let hold = Hold { client, connection };
    let client = &hold.client;
    let failed = |failure: Failure| unreachable(options, &failure);
    let schema = "SELECT oid::bigint, current_setting('fsync'), current_setting('full_page_writes') \
                  FROM pg_namespace WHERE nspname = current_schema()";
    let Some(schema) = answered(client.query_opt(schema, &[])).await.map_err(failed)? else {
        return Err(Error::Refused(format!(
            "{} has no schema to create tables in: check `search_path` and the user's rights",
            options.database
        )));
    };
    let read = |error: tokio_postgres::Error| failed(Failure::of(&error));
    let oid: i64 = schema.try_get(0).map_err(read)?;
    for (column, setting) in [(1, "fsync"), (2, "full_page_writes")] {
        if schema.try_get::<_, &str>(column).map_err(read)? != "on" {
            tracing::warn!(setting, "is off in PostgreSQL: a power cut can destroy what was acknowledged");
        }
    }
    // One who has just ended may not have been noticed by the server yet.
    answered(client.batch_execute("SET lock_timeout = '3s'")).await.map_err(failed)?;
    match client.query_one("SELECT pg_advisory_lock($1)", &[&(LOCK << 32 | oid)]).await {
        Ok(_) => {}
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let holder = holder(client, oid).await.map_err(failed)?;
            return Err(Error::DatabaseLocked { database: options.database.clone(), holder });
        }
        Err(error) => return Err(failed(Failure::of(&error))),
    }
    // Longer than a transaction of the epoch before may stand still.
    let tables = "SET lock_timeout = '35s';
        SET statement_timeout = '40s';
        CREATE TABLE IF NOT EXISTS stella_rows (key bytea PRIMARY KEY, value bytea NOT NULL);
        CREATE TABLE IF NOT EXISTS stella_holder (
            one boolean PRIMARY KEY DEFAULT true CHECK (one), format integer NOT NULL, epoch bigint NOT NULL)";
    answered(client.batch_execute(tables)).await.map_err(failed)?;
    let begin = "INSERT INTO stella_holder (format, epoch) VALUES ($1, 1) \
                 ON CONFLICT (one) DO UPDATE SET epoch = stella_holder.epoch + 1 \
                 WHERE stella_holder.format = excluded.format RETURNING epoch";
    if let Some(row) = answered(client.query_opt(begin, &[&FORMAT])).await.map_err(failed)? {
        return Ok((hold, row.try_get(0).map_err(read)?));
    }
    let row = answered(client.query_one("SELECT format FROM stella_holder", &[])).await.map_err(failed)?;
    let found: i32 = row.try_get(0).map_err(read)?;
    Err(Error::NewerSchema {
        found: u32::try_from(found).unwrap_or(u32::MAX),
        supported: FORMAT.unsigned_abs(),
    })
}

/// Waits for the loss of the hold, and regains it, as long as the engine lives.
pub(super) async fn keep(shared: Arc<Shared>, mut hold: Hold) {
    loop {
        let reason = tokio::select! {
            ended = &mut hold.connection => ended.unwrap_or_else(|error| error.to_string()),
            () = shared.fenced.notified() => "another process has taken it over".to_owned(),
        };
        drop(hold);
        tracing::error!(reason, "the hold on the metadata database is lost, nothing is written");
        *lock(&shared.epoch) = Err(reason);
        let mut tries = 0;
        hold = loop {
            match take(&shared.options).await {
                Ok((hold, epoch)) => {
                    *lock(&shared.epoch) = Ok(epoch);
                    tracing::info!(epoch, "the metadata database is held again");
                    break hold;
                }
                Err(error) => *lock(&shared.epoch) = Err(error.to_string()),
            }
            tries += 1;
            tokio::time::sleep(pause(tries + 5).min(PATIENCE)).await;
        };
    }
}

/// Who holds the lock, in words.
async fn holder(client: &Client, oid: i64) -> Result<String, Failure> {
    let who = "SELECT pid, application_name, host(client_addr) \
               FROM pg_locks JOIN pg_stat_activity USING (pid) \
               WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND classid::bigint = $1 AND objid::bigint = $2";
    let Some(row) = answered(client.query_opt(who, &[&LOCK, &oid])).await? else {
        return Ok("a process that has just ended (try again)".to_owned());
    };
    let read = |error: tokio_postgres::Error| Failure::of(&error);
    let backend: i32 = row.try_get(0).map_err(read)?;
    // Other users' sessions show nothing but their number.
    let name: Option<String> = row.try_get(1).map_err(read)?;
    let address: Option<String> = row.try_get(2).map_err(read)?;
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "another program".to_owned());
    let address = address.unwrap_or_else(|| "a unix socket".to_owned());
    Ok(format!("{name} (from {address}, PostgreSQL's process {backend})"))
}

fn unreachable(options: &PostgresOptions, failure: &Failure) -> Error {
    Error::Unavailable(format!("cannot use {}: {failure}", options.database))
}
