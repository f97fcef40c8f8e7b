// SPDX-License-Identifier: AGPL-3.0-only
//! The finished program as its users meet it: real clients, and requests that no client would send.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod benches;
mod buildah;
mod command_line;
mod containerd;
mod crane;
mod crash;
mod curl;
mod docker;
mod dying_disk;
mod gate;
mod gate_recovery;
mod helm;
mod image;
mod login;
mod memory;
mod monitoring;
mod mounts;
mod nginx;
mod oras;
mod paging;
mod podman;
mod power;
mod regctl;
mod restart;
mod resume;
mod samples;
mod sign;
mod skopeo;
mod soak;
mod systemd;
mod verify;
