// SPDX-License-Identifier: AGPL-3.0-only
//! Integration tests of the storage crate: what a process that is killed leaves behind, and one whose writes
//! fail.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_engine;
#[cfg(test)]
mod crash_store;
#[cfg(test)]
mod io_errors;
