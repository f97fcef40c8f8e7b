// SPDX-License-Identifier: AGPL-3.0-only
//! The commands that verify: `verify` and `verify-attestation` (images), `verify-bundle` and `verify-blob` (files). Their
//! flags and what of them goes together, what they are about (a file, a digest, an image at a registry or in a layout,
//! resolved once), and what they print. The policy engine is called in one place, `engine.rs`, for all of them.

mod arguments;
mod artifact;
mod engine;
mod identity;
mod image;
mod output;
mod target;

pub(super) use arguments::{Form, VerifyArgs, VerifyAttestationArgs, VerifyBlobArgs, VerifyBundleArgs};
pub(super) use artifact::{verify_blob, verify_bundle};
pub(super) use engine::{built_in, root};
pub(super) use image::{verify, verify_attestation};
pub(super) use target::{Found, Target};
