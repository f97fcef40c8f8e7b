// SPDX-License-Identifier: AGPL-3.0-only
//! What a token of `/token` is compared with: signing as many bytes with a key of the same kind (ES256), and nothing
//! else. Each core signs by itself, with a key of its own. The bare server is told to by a `GET`, so that it is started,
//! stopped, pinned and counted as every server is.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::rounds::Tally;
use crate::wire::{Talk, broken};

/// Has the bare server sign messages of `length` bytes for a while.
pub(crate) fn sign(host: &str, length: usize, time: Duration) -> anyhow::Result<Tally> {
    let target = Order { length, time }.target();
    let body = Talk::open(host)?.ask("GET", &target, &[], &[])?.must_be(200)?.body;
    let requests = str::from_utf8(&body)?.parse().context("the bare server did not sign")?;
    Ok(Tally { seconds: time.as_secs_f64(), requests, ..Tally::default() })
}

/// What the bare server is told: `/sign/LENGTH/MICROSECONDS`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    length: usize,
    time: Duration,
}

const PATH: &str = "/sign/";

impl Order {
    fn target(self) -> String {
        format!("{PATH}{}/{}", self.length, self.time.as_micros())
    }

    pub(crate) fn of(target: &str) -> Option<Self> {
        let (length, micros) = target.strip_prefix(PATH)?.split_once('/')?;
        Some(Self { length: length.parse().ok()?, time: Duration::from_micros(micros.parse().ok()?) })
    }

    /// Signs on all cores, and gives how many signatures there were.
    pub(crate) fn carry_out(self) -> io::Result<u64> {
        let cores = thread::available_parallelism()?.get();
        let keys = (0..cores).map(|_| key()).collect::<io::Result<Vec<_>>>()?;
        let message = vec![b'.'; self.length];
        let deadline = Instant::now() + self.time;
        thread::scope(|scope| {
            let start = |key| {
                let message = message.as_slice();
                scope.spawn(move || sign_until(deadline, &key, message))
            };
            let threads: Vec<_> = keys.into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| broken("a thread failed"))?).sum()
        })
    }
}

fn key() -> io::Result<EcdsaKeyPair> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).map_err(io::Error::other)?;
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).map_err(io::Error::other)
}

fn sign_until(deadline: Instant, key: &EcdsaKeyPair, message: &[u8]) -> io::Result<u64> {
    let random = SystemRandom::new();
    let mut count = 0;
    while Instant::now() < deadline {
        key.sign(&random, message).map_err(io::Error::other)?;
        count += 1;
    }
    Ok(count)
}
