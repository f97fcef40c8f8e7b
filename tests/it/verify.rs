// SPDX-License-Identifier: AGPL-3.0-only
//! What the real cosign signs, versions 2 and 3, `stella` verifies, and refuses where anything about it is another; all
//! without a network. Certificates come from an authority of the tests' own, time from a real timestamp authority. What
//! stella signs and cosign verifies is in `sign.rs`.

mod attestations;
mod files;
mod images;
mod keys;
mod logs;
mod output;
mod policies;
pub(crate) mod stage;
