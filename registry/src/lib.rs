// SPDX-License-Identifier: AGPL-3.0-only
//! Stella Registry: the HTTP API and the `stella` command line. What is kept on disk lives in
//! `stella-storage`; this crate knows HTTP, configuration and the terminal, and no storage engine.
//!
//! A request's way: [`server`] accepts the connection (`tls.rs` shakes hands, `connection.rs` guards it), `request.rs` gives
//! it an id and a line in the log, `route.rs` says what its path means, one file of `api/`
//! answers it, and whatever fails on the way becomes a body in `error.rs`.
//!
//! Apart from the server, and used by the command line alone: `remote.rs` is a client of any registry,
//! `layout.rs` an OCI layout on disk, `copy.rs` carries images between them; `signer.rs` puts signatures beside
//! images, and `source.rs` shows a registry to the policy engine.

pub mod access;
mod admin;
mod api;
mod app;
mod audit;
mod background;
mod body;
pub mod cli;
mod conditional;
pub mod config;
mod connection;
mod content_range;
mod copy;
mod direct;
mod error;
mod evidence;
mod exit;
mod gate;
mod headers;
mod health;
mod in_use;
mod layout;
mod live;
pub mod logging;
mod memo;
mod metrics;
mod notify;
mod proxy;
mod query;
mod range;
mod reload;
mod remote;
mod request;
mod route;
pub mod server;
mod signals;
mod signer;
mod source;
mod tls;
mod unseen;
