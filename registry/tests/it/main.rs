// SPDX-License-Identifier: AGPL-3.0-only
//! The program `stella` as its users run it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod config;
