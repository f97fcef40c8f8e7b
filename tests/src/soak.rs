// SPDX-License-Identifier: AGPL-3.0-only
//! The soak: well-behaved clients work for a long time (`load.rs`), in turns alone and beside clients that
//! disturb (`disturbers.rs`), while collection runs and the server is told to reload again and again. What
//! is measured on the way (`meter.rs`): every answer, how long it took, the server's memory and its open
//! files. Invariant: a request that a well-behaved client sends is counted as failed unless it was answered
//! exactly as the specification says.
//!
//! | variable | says |
//! | --- | --- |
//! | `STELLA_SOAK_MINUTES` | how long it lasts; 20 seconds if not set |

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod disturbers;
mod load;
mod meter;

pub use disturbers::Disturbed;
pub use meter::{Meter, Samples};

use disturbers::disturb;
use load::Client;

use crate::chaos::Rng;
use crate::server::Server;

/// Well-behaved clients that work at the same time.
const CLIENTS: usize = 4;
/// The time is cut into so many turns, alone, disturbed, alone, …, or fewer that are as long as this: a
/// server takes a while to close what is half-open.
const TURNS: u32 = 12;
const TURN: Duration = Duration::from_secs(5);
/// How often the server's memory and files are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often something is reloaded.
const RELOAD: Duration = Duration::from_secs(3);

/// How long the soak lasts.
pub fn soak_time() -> Duration {
    match env::var("STELLA_SOAK_MINUTES") {
        Err(_) => Duration::from_secs(20),
        Ok(minutes) => {
            let minutes: f64 = minutes.parse().unwrap_or_else(|_| panic!("STELLA_SOAK_MINUTES is a number"));
            Duration::from_secs_f64(minutes * 60.0)
        }
    }
}

/// The settings of a server that is soaked, as variables: periods so short that collection takes what is
/// deleted, time-outs so short that disturbing connections are seen to end.
pub const SOAK_SETTINGS: [(&str, &str); 8] = [
    ("STELLA_LOG__LEVEL", "info,access=warn"),
    ("STELLA_COLLECTION__INTERVAL", "1s"),
    ("STELLA_COLLECTION__LEASE", "10s"),
    ("STELLA_COLLECTION__UPLOADS", "20s"),
    ("STELLA_COLLECTION__GRACE", "1s"),
    ("STELLA_LIMITS__HEADER_TIMEOUT", "3s"),
    ("STELLA_LIMITS__IDLE_TIMEOUT", "6s"),
    ("STELLA_LIMITS__MEMORY", "64MiB"),
];

/// What came of a soak.
#[derive(Debug)]
pub struct Soaked {
    /// What well-behaved clients saw while they were alone, and while others disturbed.
    pub alone: Meter,
    /// As `alone`, beside disturbers.
    pub beside: Meter,
    /// What the disturbers did, and what became of them.
    pub disturbed: Disturbed,
    /// The server's resident memory and open files over time.
    pub samples: Samples,
    /// What well-behaved clients were answered otherwise than they must be; at most some.
    pub failures: Vec<String>,
    /// How many such answers there were.
    pub failed: usize,
    /// How often something was reloaded.
    pub reloads: usize,
}

/// What all threads of a soak share.
struct Shared {
    stop: AtomicBool,
    disturbing: AtomicBool,
    failed: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    fn ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fail(&self, what: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap();
        if failures.len() < SHOWN {
            failures.push(what);
        }
    }
}

/// How many failures are kept as text.
const SHOWN: usize = 20;

/// Soaks `server` for `time`. `reload` is called every few seconds with the number of the call.
pub fn soak(server: &Server, time: Duration, mut reload: impl FnMut(usize) + Send) -> Soaked {
    let shared = Shared {
        stop: AtomicBool::new(false),
        disturbing: AtomicBool::new(false),
        failed: AtomicUsize::new(0),
        failures: Mutex::default(),
    };
    let seeds = Rng::new(1);
    let mut samples = Samples::default();
    let (mut alone, mut beside) = (Meter::default(), Meter::default());
    let (mut disturbed, mut reloads) = (Disturbed::default(), 0);
    thread::scope(|scope| {
        // Also when a panic ends this: no thread may go on for ever.
        let stop = Stop(&shared);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (shared, rng) = (&shared, seeds.part(number as u64));
                scope.spawn(move || Client::new(number, server.host(), rng, shared).run())
            })
            .collect();
        let disturbers = scope.spawn(|| disturb(server.host(), &shared));
        let began = Instant::now();
        let (mut looked, mut reloaded) = (Duration::ZERO, Duration::ZERO);
        while began.elapsed() < time {
            let now = began.elapsed();
            let turn = now.as_millis() / (time / TURNS).max(TURN).as_millis();
            shared.disturbing.store(turn % 2 == 1, Ordering::Relaxed);
            if now >= looked {
                samples.look(server, now);
                looked = now + LOOK;
            }
            if now >= reloaded {
                reload(reloads);
                reloads += 1;
                reloaded = now + RELOAD;
            }
            thread::sleep(Duration::from_millis(20));
        }
        drop(stop);
        for client in clients {
            let (by_itself, with_others) = client.join().unwrap();
            alone.add(by_itself);
            beside.add(with_others);
        }
        disturbed = disturbers.join().unwrap();
    });
    let failed = shared.failed.load(Ordering::Relaxed);
    let failures = shared.failures.into_inner().unwrap();
    Soaked { alone, beside, disturbed, samples, failures, failed, reloads }
}

/// Ends all threads when it is dropped.
struct Stop<'s>(&'s Shared);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}
