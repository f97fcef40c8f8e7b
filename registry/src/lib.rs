// SPDX-License-Identifier: AGPL-3.0-only
//! Stella Registry: the HTTP API and the `stella` command line. What is kept on disk lives in
//! `stella-storage`; this crate knows HTTP, configuration and the terminal, and no storage engine.

pub mod cli;
pub mod config;
pub mod logging;
pub mod server;
