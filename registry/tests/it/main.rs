// SPDX-License-Identifier: AGPL-3.0-only
//! The program `stella` as its users run it. `client.rs` speaks HTTP byte by byte, `server.rs` runs the
//! program, `role.rs` holds what pushers and pullers do; every other file is one theme.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod client;
mod role;
mod server;

mod access;
mod administration;
mod audit;
mod backup;
mod collection;
mod commands;
mod concurrency;
mod conditions;
mod config;
mod cut_off;
mod deletes;
mod direct;
mod disk;
#[cfg(any(feature = "sled", feature = "postgres"))]
mod engines;
mod errors;
mod gate;
mod health;
mod hostile;
mod http2;
mod init;

mod logs;
mod manifests;
mod metrics;
mod mount;
mod mounted;
mod notify;
#[cfg(feature = "otlp")]
mod otlp;
mod paths;
mod proxies;
mod pull;
mod push;
mod ranges;
mod references;
mod referrers;
mod reload;
mod resume;
mod shutdown;
mod slow;
mod smuggling;
mod tags;
mod tls;
mod upgrade;
mod verify;
