// SPDX-License-Identifier: AGPL-3.0-only
//! Pushers that race with collectors which crash now and then: no image may be broken and nothing may
//! be left behind. Without leases the same race breaks images, which shows that it can fail.
//!
//! A lease and the grace are seconds of a clock that the test moves: as fast as it can, but never
//! beyond what a push under way was promised. So a slow machine makes the test slow, not wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

pub(super) const LEASE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(1);
const PUSHERS: u64 = 8;
const COLLECTORS: u64 = 3;
const PUSHES_A_ROUND: u64 = 10;
/// In the last of the repositories untagged manifests go at once.
const REPOSITORIES: u64 = 4;

/// Small numbers from a seed: each thread of the race has its own.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

struct Image {
    repo: RepoName,
    digest: Digest,
    blobs: Vec<Vec<u8>>,
}

pub(super) struct Race {
    lab: Lab,
    /// When each push that is under way began.
    under_way: Mutex<BTreeMap<u64, Timestamp>>,
    /// Images that were pushed and that nobody has begun to delete.
    images: Mutex<BTreeMap<u64, Image>>,
    pub(super) broken: AtomicU64,
    crashes: AtomicU64,
    numbers: AtomicU64,
    over: AtomicBool,
}

fn content(number: u64) -> Vec<u8> {
    format!("layer {number} ").repeat(1 + usize::try_from(number).unwrap()).into_bytes()
}

impl Race {
    async fn new(kind: Kind, lease: Duration) -> Arc<Race> {
        let lab = Lab::tuned(kind, |options| {
            options.periods = Periods { lease, grace: GRACE, uploads: LEASE };
            options.rules = vec![RepositoryRule {
                untagged: Some(Duration::ZERO),
                released: Duration::ZERO,
                ..RepositoryRule::of(format!("r{}", REPOSITORIES - 1).parse().unwrap())
            }];
        })
        .await;
        Arc::new(Race {
            lab,
            under_way: Mutex::default(),
            images: Mutex::default(),
            broken: AtomicU64::new(0),
            crashes: AtomicU64::new(0),
            numbers: AtomicU64::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// Moves the clock on, as far as no push under way has used up half a lease.
    fn tick(&self, dice: &mut Dice) {
        let under_way = self.under_way.lock().unwrap();
        let now = self.lab.now();
        let wish = now.plus(Duration::from_millis(dice.roll(400)));
        let most = under_way
            .values()
            .min()
            .map_or(wish, |begun| begun.plus(LEASE / 2).minus(Duration::from_millis(1)));
        self.lab.clock.advance(Duration::from_millis(wish.min(most).0.saturating_sub(now.0)));
    }

    fn begin(&self) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut under_way = self.under_way.lock().unwrap();
        under_way.insert(number, self.lab.now());
        number
    }

    fn end(&self, number: u64) {
        self.under_way.lock().unwrap().remove(&number);
    }

    /// Pushes one image as clients do: ask, then mount or upload what is not there, then the manifest.
    async fn push(&self, dice: &mut Dice) -> Result<()> {
        let (store, who) = (&self.lab.store, actor("pusher"));
        let repo = repo(&format!("r{}", dice.roll(REPOSITORIES)));
        let blobs: Vec<Vec<u8>> = (0..2 + dice.roll(3)).map(|_| content(dice.roll(24))).collect();
        let number = self.begin();
        for blob in &blobs {
            let digest = sha256(blob);
            match store.blob_for_push(&repo, &digest).await {
                Ok(_) => {}
                Err(Error::NotFound(_)) => {
                    let mounted =
                        dice.roll(2) == 0 && store.mount(&repo, None, &digest, &who).await? == Mounted::Yes;
                    if !mounted {
                        store.push_blob(&repo, &digest, None, body(blob), &who).await?;
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::task::yield_now().await;
        }
        let layers: Vec<Value> = blobs.iter().map(|blob| descriptor(&sha256(blob), blob.len())).collect();
        let mut document = image(&layers[0], &layers[1..]);
        document["annotations"] = json!({ "number": number.to_string() });
        let digest = self.lab.put(&repo, &document, &[&format!("t{}", dice.roll(10))]).await;
        self.end(number);
        match digest {
            Ok(digest) => {
                self.images.lock().unwrap().insert(number, Image { repo, digest, blobs });
                Ok(())
            }
            // What the client was told to be there was not.
            Err(Error::MissingBlobs(_)) => {
                self.broken.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Pulls an image that nobody has begun to delete; counts it when it is not whole.
    async fn pull(&self, number: u64) {
        let Some((repo, digest, blobs)) = self.look_up(number) else { return };
        let mut whole = self.lab.has_manifest(&repo, &digest).await;
        // Where untagged manifests go at once, it may have lost its tag.
        if !whole && self.lab.store.tags(&repo, None, 100).await.is_ok() && repo.as_str().ends_with('3') {
            self.images.lock().unwrap().remove(&number);
            return;
        }
        for blob in &blobs {
            whole &= self.lab.read(&repo, &sha256(blob)).await.is_ok_and(|bytes| bytes == *blob);
        }
        let still_there = repo.as_str() != "r3" || self.lab.has_manifest(&repo, &digest).await;
        if !whole && still_there && self.images.lock().unwrap().remove(&number).is_some() {
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn look_up(&self, number: u64) -> Option<(RepoName, Digest, Vec<Vec<u8>>)> {
        let images = self.images.lock().unwrap();
        let image = images.get(&number)?;
        Some((image.repo.clone(), image.digest.clone(), image.blobs.clone()))
    }

    async fn delete(&self, number: u64) -> Result<()> {
        let Some(image) = self.images.lock().unwrap().remove(&number) else { return Ok(()) };
        match self.lab.store.delete_manifest(&image.repo, &image.digest, &deleter("ops")).await {
            Err(Error::NotFound(_)) if image.repo.as_str() == "r3" => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    fn some_image(&self, dice: &mut Dice) -> Option<u64> {
        let images = self.images.lock().unwrap();
        let at = usize::try_from(dice.roll(images.len().max(1) as u64)).unwrap();
        images.keys().nth(at).copied()
    }

    async fn pusher(self: Arc<Self>, seed: u64, pushes: u64) {
        let mut dice = Dice(seed);
        for _ in 0..pushes {
            self.tick(&mut dice);
            self.wait_for_collectors().await;
            self.push(&mut dice).await.unwrap();
            if let Some(number) = self.some_image(&mut dice) {
                self.pull(number).await;
            }
            // As many go as come, so that most of what is asked for is about to go.
            if let Some(number) = self.some_image(&mut dice)
                && self.images.lock().unwrap().len() > 20
            {
                self.delete(number).await.unwrap();
            }
        }
    }

    /// Lets no more than a few pushes go by for each round, so that there is a race at all.
    async fn wait_for_collectors(&self) {
        let enough = || {
            let pushes = self.numbers.load(Ordering::Relaxed);
            self.lab.store.collection_stats().rounds * PUSHES_A_ROUND >= pushes
        };
        while !enough() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    async fn collector(self: Arc<Self>, seed: u64) {
        let mut dice = Dice(seed);
        while !self.over.load(Ordering::Relaxed) {
            self.tick(&mut dice);
            let patience = if dice.roll(3) == 0 { dice.roll(200) } else { u64::MAX };
            let crash = async {
                for _ in 0..patience {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = crash => {
                    self.crashes.fetch_add(1, Ordering::Relaxed);
                }
                collected = self.lab.store.collect() => assert_eq!(collected.unwrap().paused, None),
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Runs the race and returns it; afterwards every image that is said to be there was pulled.
pub(super) fn race(kind: Kind, lease: Duration, pushes: u64) -> (tokio::runtime::Runtime, Arc<Race>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let race = runtime.block_on(async {
        let race = Race::new(kind, lease).await;
        let seed = std::env::var("STELLA_SEED").map_or(0x5eed, |seed| seed.parse().unwrap());
        let collectors: Vec<_> = (0..COLLECTORS)
            .map(|number| tokio::spawn(Arc::clone(&race).collector(seed * 1_000 + number + 1)))
            .collect();
        let pushing: Vec<_> = (0..PUSHERS)
            .map(|number| {
                let seed = seed * 7_919 + number + 1;
                tokio::spawn(Arc::clone(&race).pusher(seed, pushes.div_ceil(PUSHERS)))
            })
            .collect();
        for pusher in pushing {
            pusher.await.unwrap();
        }
        race.over.store(true, Ordering::Relaxed);
        for collector in collectors {
            collector.await.unwrap();
        }
        let images: Vec<u64> = race.images.lock().unwrap().keys().copied().collect();
        for number in images {
            race.pull(number).await;
        }
        race
    });
    (runtime, race)
}

/// Deletes every image, lets the time pass, and looks at what is left.
pub(super) async fn nothing_is_left(race: &Race) {
    let images: Vec<u64> = race.images.lock().unwrap().keys().copied().collect();
    for number in images {
        race.delete(number).await.unwrap();
    }
    // In r3 a manifest may be there that lost its place in the list with its tag.
    for name in ["r0", "r1", "r2", "r3"] {
        let Ok(tags) = race.lab.store.tags(&repo(name), None, 1000).await else { continue };
        for name_of_tag in tags {
            race.lab.store.delete_tag(&repo(name), &tag(&name_of_tag), &deleter("ops")).await.unwrap();
        }
    }
    for _ in 0..3 {
        race.lab.clock.advance(LEASE * 2);
        race.lab.collect().await;
    }
    let count = race.broken.load(Ordering::Relaxed);
    assert_eq!(race.lab.files(), [], "files leaked; {count} broken");
    for table in [b"l", b"k", b"c", b"a", b"x", b"b", b"f", b"e", b"s", b"u", b"p", b"g"] {
        let rows = race.lab.rows(table).await.len();
        assert_eq!(rows, 0, "rows of table {} leaked", char::from(table[0]));
    }
}

#[test]
fn five_thousand_pushes_race_with_three_collectors_and_none_breaks() {
    let (runtime, race) = race(Kind::Memory, LEASE, 5_000);
    assert_eq!(race.broken.load(Ordering::Relaxed), 0, "broken images");
    let stats = race.lab.store.collection_stats();
    let crashes = race.crashes.load(Ordering::Relaxed);
    println!(
        "{} pushes, {} blobs and {} files collected in {} rounds of which {crashes} crashed; 0 broken",
        race.numbers.load(Ordering::Relaxed),
        stats.blobs,
        stats.files,
        stats.rounds,
    );
    assert!(stats.blobs > 500 && stats.files > 100 && crashes > 50, "collection did little: {stats:?}");
    runtime.block_on(nothing_is_left(&race));
}

#[test]
fn pushes_race_with_collectors_in_sqlite_too() {
    let (runtime, race) = race(Kind::Sqlite, LEASE, 400);
    assert_eq!(race.broken.load(Ordering::Relaxed), 0, "broken images");
    runtime.block_on(nothing_is_left(&race));
}

#[test]
fn without_leases_the_same_race_breaks_images() {
    let (_runtime, race) = race(Kind::Memory, Duration::ZERO, 5_000);
    let broken = race.broken.load(Ordering::Relaxed);
    println!("{broken} of {} pushes broken without leases", race.numbers.load(Ordering::Relaxed));
    assert!(broken > 0, "the race is too tame to prove anything");
}
