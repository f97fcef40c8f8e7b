// SPDX-License-Identifier: AGPL-3.0-only
//! The harness of the end-to-end tests: it starts the real `stella` program, finds the real clients, runs
//! them in a scratch directory of the test's own and compares contents byte for byte. The tests are in
//! `tests/it`. Invariants: a test speaks to loopback only, and to network namespaces of its own, ends only processes that it started, says on
//! stderr when it was skipped, and keeps its files in its scratch directory, but for what a client that
//! runs as root keeps elsewhere whatever it is told (skopeo's and buildah's cache of blob digests in
//! `/var/lib/containers/cache`, docker's `/etc/docker/key.json`; a test's CA may be in `/etc/docker/certs.d` while that runs).
//!
//! | variable | says |
//! | --- | --- |
//! | `STELLA_BIN` | the program to test, instead of the one that cargo builds from here |
//! | `STELLA_CLIENTS` | where `tests/clients/install.sh` put what it built |
//! | `STELLA_REQUIRE_CLIENTS` | `1`: a client that is missing, or a disk that cannot be mounted, is a failure, not a skip |
//! | `STELLA_CRASH_ROUNDS`, `STELLA_CUT_ROUNDS`, `STELLA_CRASH_SEED` | see `chaos.rs` |
//! | `STELLA_SOAK_MINUTES` | see `soak.rs` |
//! | `STELLA_IMAGE` | the archive that `deploy/image/build.sh` made; without it the image is not tested |
//! | `STELLA_TEST_BIG_BLOB` | the size in MiB of the blob that must not cost memory; 512 if not set |

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test harness fails by panicking")]
#![expect(clippy::missing_panics_doc, reason = "every function here panics on the first surprise")]

mod authority;
mod bench;
mod channel;
mod chaos;
mod client;
mod clock;
mod content;
mod fulcio;
mod guard;
mod host;
mod http;
mod issuer;
mod layout;
mod network;
mod nginx;
mod noise;
mod peer;
mod process;
mod program;
mod rekor;
mod repository;
mod server;
mod soak;
mod tar;
mod tokens;
mod tool;
mod transport;
mod workshop;

pub use authority::{Authority, Issued};
pub use bench::Bench;
pub use channel::Channel;
pub use chaos::{Campaign, Disk, FileSystem, Rng};
pub use client::{Client, find};
pub use clock::Clock;
pub use content::{Artifact, Content, Image, media_type};
pub use fulcio::Fulcio;
pub use guard::{Credentials, Guard, Login, Who};
pub use host::Host;
pub use http::{Connection, Request, Response};
pub use issuer::{Algorithm, Issuer};
pub use network::Network;
pub use noise::{Noise, digest, digest_of, noise};
pub use peer::Peer;
pub use process::{Process, poll};
pub use program::{benches, stella};
pub use rekor::Rekor;
pub use repository::{Repository, Upload};
pub use server::Server;
pub use soak::{Disturbed, Meter, SOAK_SETTINGS, Samples, Soaked, soak, soak_time};
pub use tool::{Outcome, Tool};
pub use transport::Transport;
pub use workshop::Workshop;
