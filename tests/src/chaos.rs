// SPDX-License-Identifier: AGPL-3.0-only
//! Crashes of the whole program: clients work, the server is ended or its disk loses power at a random
//! moment, it is started again, and everything that it acknowledged is looked for. `journal.rs` says what
//! may be there, `worker.rs` and its neighbours do the work, `check.rs` looks, `disk.rs` is a disk whose
//! power can be cut.
//!
//! | variable | says |
//! | --- | --- |
//! | `STELLA_CRASH_ROUNDS` | how often the server is killed; 8 if not set |
//! | `STELLA_CUT_ROUNDS` | how often the power of each disk is cut; 3 if not set |
//! | `STELLA_CRASH_SEED` | repeats the choices of a run that printed this seed |

use std::collections::hash_map::RandomState;
use std::env;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod check;
mod disk;
mod images;
mod journal;
mod rng;
mod session;
mod uploads;
mod wire;
mod worker;

pub use disk::{Disk, FileSystem};
pub use rng::Rng;
pub(crate) use session::Recipe;
pub(crate) use wire::Wire;

use check::{Found, check, readiness, stray_files, wait_until_ready};
use journal::Journal;
use worker::{Round, Worker};

use crate::process::poll;
use crate::server::Server;

/// Clients that work at the same time.
const CLIENTS: usize = 6;
/// Contents that all clients of a round push.
const COMMON: usize = 3;

/// A run of rounds over the same data.
#[derive(Debug)]
pub struct Campaign {
    seed: u64,
    rng: Rng,
    journal: Journal,
    rounds: usize,
    looked_at: usize,
    fscks: usize,
    slowest: Duration,
    last: Found,
}

/// The periods of collection during a campaign: short enough that it takes something in every round.
const LEASE: Duration = Duration::from_secs(8);
const UPLOADS: Duration = Duration::from_secs(16);
const GRACE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(1);

impl Campaign {
    /// A campaign with the seed that is asked for, or a new one.
    pub fn new() -> Self {
        let asked = env::var("STELLA_CRASH_SEED").ok();
        let seed = match asked {
            Some(seed) => {
                seed.parse().unwrap_or_else(|_| panic!("STELLA_CRASH_SEED is a number, not {seed}"))
            }
            None => RandomState::new().hash_one("seed"),
        };
        eprintln!("STELLA_CRASH_SEED={seed}");
        Self {
            seed,
            rng: Rng::new(seed),
            journal: Journal::new(LEASE),
            rounds: 0,
            looked_at: 0,
            fscks: 0,
            slowest: Duration::ZERO,
            last: Found::default(),
        }
    }

    /// How often to do something: what the variable says, or else `default`.
    pub fn rounds(variable: &str, default: usize) -> usize {
        let parse = |value: String| value.parse().unwrap_or_else(|_| panic!("{variable} is a number"));
        env::var(variable).map_or(default, parse)
    }

    /// The server's settings for a campaign, as variables.
    pub fn settings() -> Vec<(&'static str, String)> {
        let seconds = |period: Duration| format!("{}s", period.as_secs());
        vec![
            // A line for each request would cost more than the request.
            ("STELLA_LOG__LEVEL", "info,access=warn".to_owned()),
            ("STELLA_COLLECTION__INTERVAL", seconds(INTERVAL)),
            ("STELLA_COLLECTION__LEASE", seconds(LEASE)),
            ("STELLA_COLLECTION__UPLOADS", seconds(UPLOADS)),
            ("STELLA_COLLECTION__GRACE", seconds(GRACE)),
        ]
    }

    /// A random time up to `most`.
    pub fn some_time(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.below(micros))
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.rng.chance(percent)
    }

    /// Lets clients work until a random moment within `most`, then does what interrupts them. With
    /// `survives`, they go on until that has returned, and the server must be there all the time.
    pub fn work(&mut self, host: &str, most: Duration, survives: bool, interrupt: impl FnOnce()) {
        self.rounds += 1;
        let time = self.some_time(most);
        let common: Vec<_> = (0..COMMON)
            .map(|_| Recipe::new(self.rng.next(), 1 + usize::try_from(self.rng.below(300_000)).unwrap()).0)
            .collect();
        for recipe in &common {
            self.journal.remember(recipe);
        }
        let (interrupted, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let round = Round {
            host,
            journal: &self.journal,
            uploads: UPLOADS,
            common: &common,
            interrupted: &interrupted,
            stop: &stop,
            survives,
        };
        let seeds = Rng::new(self.rng.next());
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let rng = seeds.part(number as u64);
                let round = &round;
                scope.spawn(move || Worker::new(number, round, rng).run());
            }
            // Also when a panic ends this: the clients must not go on for ever.
            let _stop = Stop(&stop);
            thread::sleep(time);
            interrupted.store(true, Ordering::SeqCst);
            interrupt();
        });
    }

    /// Starts the server again, waits until it is ready and checks everything.
    pub fn recover(&mut self, server: &mut Server) {
        let began = Instant::now();
        server.start_again();
        let took = wait_until_ready(server.host(), began);
        self.slowest = self.slowest.max(took);
        self.check(server, false);
        if self.rounds.is_multiple_of(FSCK) {
            self.fsck(server);
            let (rounds, slowest, there) = (self.rounds, self.slowest, self.last.present);
            eprintln!("round {rounds}: {there} there, slowest start until ready {slowest:.0?}");
        }
    }

    /// Has the program itself check its data, through the server if that runs.
    pub fn fsck(&mut self, server: &Server) {
        let output = server.run(&["fsck"]);
        let (said, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let (seed, rounds) = (self.seed, self.rounds);
        assert!(
            output.status.success(),
            "stella fsck: {} in round {rounds}, STELLA_CRASH_SEED={seed}:\n{said}\n{complaint}",
            output.status
        );
        self.fscks += 1;
    }

    /// Checks everything; panics if something is not as it was acknowledged.
    fn check(&mut self, server: &Server, all: bool) {
        let checked = check(server.host(), &self.journal, UPLOADS, all);
        self.judge();
        self.last = checked.unwrap_or_else(|error| panic!("the server does not answer a check: {error}"));
        self.looked_at += self.last.looked_at;
    }

    fn judge(&self) {
        let faults = self.journal.faults();
        let (seed, rounds) = (self.seed, self.rounds);
        assert!(
            faults.is_empty(),
            "{} faults in round {rounds}, STELLA_CRASH_SEED={seed}:\n{}",
            faults.len(),
            faults.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n")
        );
    }

    /// Waits until the server says that it is not ready, and why.
    pub fn must_become_unready(server: &mut Server) -> String {
        poll("the server not to be ready", Duration::from_mins(1), || {
            assert!(server.is_running(), "the server ended when its disk failed");
            let answer = readiness(server.host());
            answer.ok().filter(|(status, _)| *status == 503).map(|(_, reason)| reason)
        })
    }

    /// Waits until collection has taken all that it may, and that nothing of it is left on the disk.
    pub fn settle(&mut self, server: &Server) {
        let patience = LEASE + UPLOADS + GRACE + Duration::from_mins(1);
        let deadline = Instant::now() + patience;
        loop {
            self.check(server, false);
            let (collectable, sessions) = (self.last.collectable, self.last.sessions);
            let stray = stray_files(server.data(), &self.last).unwrap();
            if collectable == 0 && sessions == 0 && stray.is_none() {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "after {patience:?} there are {collectable} objects and {sessions} uploads that collection \
                 should have taken; {stray:?}"
            );
            thread::sleep(INTERVAL);
        }
        self.check(server, true);
        self.fsck(server);
        let collected = self.journal.counts().collected;
        assert!(collected > 0, "collection took nothing in {} rounds", self.rounds);
    }
}

/// Ends the clients' work when it is dropped.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Campaign {
    fn default() -> Self {
        Self::new()
    }
}

/// After how many rounds the program checks its data itself.
const FSCK: usize = 10;

/// How many faults are shown.
const SHOWN: usize = 20;

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.journal.counts();
        writeln!(f, "rounds                        {}", self.rounds)?;
        writeln!(f, "writes acknowledged           {}", counts.writes)?;
        writeln!(f, "deletes acknowledged          {}", counts.deletes)?;
        writeln!(f, "looked at in all checks       {}", self.looked_at)?;
        writeln!(f, "clean runs of stella fsck     {}", self.fscks)?;
        writeln!(f, "there at the end              {}", self.last.present)?;
        writeln!(f, "cut off, found done           {}", counts.in_flight_done)?;
        writeln!(f, "cut off, found not done       {}", counts.in_flight_not_done)?;
        writeln!(f, "cut off, cannot be told       {}", counts.in_flight_unknown)?;
        writeln!(f, "blobs seen collected          {}", counts.collected)?;
        write!(f, "slowest start until ready     {:.0?}", self.slowest)
    }
}
