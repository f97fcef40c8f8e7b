// SPDX-License-Identifier: AGPL-3.0-only
//! The commands that verify, as far as they are not the engine: their flags and what of them goes together, what they
//! are about (a file, a digest, an image at a registry or in a layout, resolved once), and what they print. The engine
//! is called in one place, `engine.rs`. None of them is part of the command line before it works.

pub(super) mod arguments;
pub(super) mod engine;
pub(super) mod identity;
pub(super) mod output;
pub(super) mod target;
