// SPDX-License-Identifier: AGPL-3.0-only
//! The power fails at every point where something becomes durable, and what was acknowledged is there.
//!
//! A workload runs once on the simulated disk. Right before and right after each sync of a file, sync
//! of a folder and commit, pictures are taken of the machine as it may come up if the power failed
//! there: with everything lost that was not synced, with nothing lost, and with random mixes. Each is
//! opened and held against what had been acknowledged by then. The operation that was under way may
//! have happened or not, never by half.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::disk::Disk;
use crate::disk::simulated::{Machine, Unsynced};

/// Something that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Blob(RepoName, Digest),
    Manifest(RepoName, Digest),
    Tag(RepoName, Tag),
    Upload(RepoName, Location),
}

/// What is there: bytes, the manifest that a tag names, the part of an upload that has come.
type Found = Option<Vec<u8>>;

/// An operation and what it changes.
#[derive(Clone)]
struct Step {
    name: String,
    changes: Vec<(Key, Found)>,
}

/// What the client knows.
#[derive(Default)]
struct Ledger {
    steps: Mutex<Vec<Step>>,
    acknowledged: AtomicUsize,
    /// What uploads will have brought when they are whole.
    wholes: Mutex<BTreeMap<Location, Vec<u8>>>,
}

/// The machine after a power cut.
struct Picture {
    machine: Machine,
    memory: Memory,
    now: Timestamp,
    acknowledged: usize,
    what: String,
}

struct Bench {
    lab: Lab,
    ledger: Arc<Ledger>,
    pictures: Arc<Mutex<Vec<Picture>>>,
}

pub(super) async fn open(machine: &Machine, memory: Memory, clock: Arc<ManualClock>) -> Lab {
    // Whatever nothing names goes, so that everything stays under review.
    let rule = RepositoryRule {
        untagged: Some(Duration::ZERO),
        released: Duration::ZERO,
        ..RepositoryRule::of("**".parse().unwrap())
    };
    let options = StoreOptions {
        memory: Budget::of(0, 4 << 20),
        rules: vec![rule],
        ..StoreOptions::new("/data".into())
    };
    let blobs = LocalBlobs::open_on(Disk::Simulated(machine.clone()), &options.data.join("blobs")).unwrap();
    let engine = Engine::Memory(memory);
    let store =
        Store::new(engine, blobs, Arc::clone(&clock) as Arc<dyn Clock>, &options, (None, Room::default()));
    Lab { store: Arc::new(store.await.unwrap()), clock, folder: tempfile::tempdir().unwrap() }
}

impl Bench {
    async fn new() -> Bench {
        let (machine, memory) = (Machine::new(), Memory::new());
        let (ledger, pictures) = (Arc::<Ledger>::default(), Arc::<Mutex<Vec<Picture>>>::default());
        let clock = Arc::new(ManualClock::new(START));
        // What the watchers photograph is known only once the store is open.
        let lab = open(&machine, memory, Arc::clone(&clock)).await;
        let (store, paper, film) = (Arc::downgrade(&lab.store), Arc::clone(&ledger), Arc::clone(&pictures));
        let photograph = Arc::new(move || {
            let Some(store) = store.upgrade() else { return };
            let Engine::Memory(memory) = &*store.engine else { return };
            let mut film = film.lock().unwrap();
            let acknowledged = paper.acknowledged.load(Ordering::SeqCst);
            let number = film.len() as u64;
            for unsynced in
                [Unsynced::Lost, Unsynced::Kept, Unsynced::Mixed(number), Unsynced::Mixed(!number)]
            {
                film.push(Picture {
                    machine: machine.cut(unsynced),
                    memory: memory.fork(),
                    now: clock.now(),
                    acknowledged,
                    what: format!("{unsynced:?} at sync {} of the disk", machine.syncs()),
                });
            }
        });
        let Engine::Memory(memory) = &*lab.store.engine else { panic!("another engine") };
        memory.watch({
            let photograph = Arc::clone(&photograph);
            move || photograph()
        });
        let Disk::Simulated(machine) = lab.store.blobs.disk() else { panic!("another disk") };
        machine.watch(move || photograph());
        Bench { lab, ledger, pictures }
    }

    /// Runs an operation and writes down that it was acknowledged.
    async fn run<T>(
        &self,
        name: &str,
        changes: Vec<(Key, Found)>,
        operation: impl Future<Output = Result<T>>,
    ) -> T {
        self.ledger.steps.lock().unwrap().push(Step { name: name.to_owned(), changes });
        let value = operation.await.unwrap_or_else(|error| panic!("{name}: {error}"));
        self.ledger.acknowledged.fetch_add(1, Ordering::SeqCst);
        value
    }

    async fn push(&self, repo: &RepoName, content: &[u8]) -> Digest {
        let (digest, who) = (sha256(content), actor("ci"));
        let pushing = self.lab.store.push_blob(repo, &digest, None, body(content), &who);
        self.run("push", vec![(Key::Blob(repo.clone(), digest.clone()), Some(content.to_vec()))], pushing)
            .await;
        digest
    }

    async fn begin(&self, repo: &RepoName, whole: &[u8]) -> Location {
        let begun = self.lab.store.begin_upload(repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
        self.ledger.wholes.lock().unwrap().insert(begun, whole.to_vec());
        // Its id is known only now: this writes down what was acknowledged already.
        let changes = vec![(Key::Upload(repo.clone(), begun), Some(Vec::new()))];
        self.run("begin", changes, async { Ok(()) }).await;
        begun
    }

    async fn append(&self, repo: &RepoName, id: Location, part: std::ops::Range<usize>) {
        let whole = self.ledger.wholes.lock().unwrap()[&id].clone();
        let changes = vec![(Key::Upload(repo.clone(), id), Some(whole[..part.end].to_vec()))];
        let chunk = Chunk { start: Some(part.start as u64), len: Some(part.len() as u64) };
        let appending = self.lab.store.append_upload(repo, id, chunk, body(&whole[part]));
        self.run("append", changes, appending).await;
    }

    async fn finish(&self, repo: &RepoName, id: Location, from: usize) -> Digest {
        let whole = self.ledger.wholes.lock().unwrap()[&id].clone();
        let digest = sha256(&whole);
        let changes = vec![
            (Key::Upload(repo.clone(), id), None),
            (Key::Blob(repo.clone(), digest.clone()), Some(whole.clone())),
        ];
        let chunk = Chunk { start: Some(from as u64), len: None };
        let finishing = self.lab.store.finish_upload(repo, id, chunk, body(&whole[from..]), &digest);
        self.run("finish", changes, finishing).await;
        digest
    }

    async fn put(&self, repo: &RepoName, document: &Value, name: &str) -> Digest {
        let new = new_manifest(repo, document, &[name]);
        let (digest, bytes) = (new.digest.clone(), new.bytes.to_vec());
        let changes = vec![
            (Key::Manifest(repo.clone(), digest.clone()), Some(bytes.clone())),
            (Key::Tag(repo.clone(), tag(name)), Some(bytes)),
        ];
        self.run("put", changes, self.lab.store.put_manifest(new)).await;
        digest
    }

    /// A round of collection, some hours later, that takes these.
    async fn collect(&self, hours: u64, goes: Vec<Key>) {
        let changes = goes.into_iter().map(|key| (key, None)).collect();
        let collecting = async {
            self.lab.clock.advance(Duration::from_hours(hours));
            self.lab.store.collect().await
        };
        let summary = self.run("collect", changes, collecting).await;
        assert_eq!(summary.paused, None);
    }
}

/// Content that ends inside a sector and looks like nothing else.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 7 + at / 251 + usize::from(seed) * 31) % 251).unwrap()).collect()
}

async fn workload(bench: &Bench) {
    let store = &bench.lab.store;
    let (app, other) = (repo("app"), repo("other"));
    let who = actor("ci");
    // Whole, the same again, empty, and in another repository without a copy.
    let config = bench.push(&app, &noise(1, 7001)).await;
    bench.push(&app, &noise(1, 7001)).await;
    bench.push(&app, b"").await;
    let mounted = vec![(Key::Blob(other.clone(), config.clone()), Some(noise(1, 7001)))];
    bench.run("mount", mounted, store.mount(&other, Some(&app), &config, &who)).await;
    // In chunks, resumed after a chunk that broke and one that was refused.
    let layer = noise(2, 12_345);
    let upload = bench.begin(&app, &layer).await;
    bench.append(&app, upload, 0..4000).await;
    bench.append(&app, upload, 4000..4001).await;
    let chunk = Chunk { start: Some(4001), len: Some(900) };
    let refused = store.append_upload(&app, upload, chunk, body(&noise(9, 901))).await;
    assert!(matches!(refused, Err(Error::SizeMismatch { .. })), "{refused:?}");
    let broken = vec![(Key::Upload(app.clone(), upload), Some(layer[..6001].to_vec()))];
    let breaking = async {
        let chunk = Chunk { start: Some(4001), len: None };
        let broken = store.append_upload(&app, upload, chunk, broken_body(&layer[4001..6001])).await;
        assert!(matches!(broken, Err(Error::Body(_))), "{broken:?}");
        Ok(())
    };
    bench.run("append by half", broken, breaking).await;
    let wrong = store.finish_upload(&app, upload, Chunk::default(), body(b"x"), &sha256(b"wrong")).await;
    assert!(matches!(wrong, Err(Error::DigestMismatch { .. })), "{wrong:?}");
    let layer = bench.finish(&app, upload, 6001).await;
    // One that stays open, one that is cancelled.
    let open = bench.begin(&app, &noise(3, 9000)).await;
    bench.append(&app, open, 0..5000).await;
    let cancelled = bench.begin(&app, &noise(4, 3000)).await;
    bench.append(&app, cancelled, 0..2500).await;
    let gone = vec![(Key::Upload(app.clone(), cancelled), None)];
    bench.run("cancel", gone, store.cancel_upload(&app, cancelled)).await;
    // Images; a tag moves and is deleted.
    let first =
        bench.put(&app, &image(&descriptor(&config, 7001), &[descriptor(&layer, 12_345)]), "v1").await;
    bench.push(&app, &noise(5, 2000)).await;
    let second = bench.put(&app, &image(&descriptor(&sha256(&noise(5, 2000)), 2000), &[]), "v1").await;
    let old = bench.put(&app, &image(&descriptor(&config, 7001), &[]), "old").await;
    let untagged = vec![(Key::Tag(app.clone(), tag("old")), None)];
    bench.run("delete tag", untagged, store.delete_tag(&app, &tag("old"), &deleter("ci"))).await;
    let deleted = vec![(Key::Manifest(app.clone(), first.clone()), None)];
    bench.run("delete manifest", deleted, store.delete_manifest(&app, &first, &deleter("ci"))).await;
    let unlinked = vec![(Key::Blob(app.clone(), layer.clone()), None)];
    bench.run("delete blob", unlinked, store.delete_blob(&app, &layer)).await;
    // Bytes whose file waits for its deletion are pushed again.
    bench.push(&app, &noise(2, 12_345)).await;
    bench.collect(2, Vec::new()).await;
    // Leases and sessions are over: what nothing names goes, and later its file.
    let blob = |repo: &RepoName, content: &[u8]| Key::Blob(repo.clone(), sha256(content));
    let goes = vec![
        Key::Upload(app.clone(), open),
        Key::Manifest(app.clone(), old),
        Key::Blob(app.clone(), config),
        blob(&app, b""),
        blob(&app, &noise(2, 12_345)),
        blob(&other, &noise(1, 7001)),
    ];
    bench.collect(30, goes).await;
    bench.collect(2, Vec::new()).await;
    let deleted =
        vec![(Key::Manifest(app.clone(), second.clone()), None), (Key::Tag(app.clone(), tag("v1")), None)];
    bench.run("delete tagged manifest", deleted, store.delete_manifest(&app, &second, &deleter("ci"))).await;
    bench.push(&other, &noise(6, 600)).await;
    bench.collect(1, vec![blob(&app, &noise(5, 2000))]).await;
    bench.collect(2, Vec::new()).await;
    bench.push(&other, &noise(7, 700)).await;
}

/// What a client finds.
async fn look(lab: &Lab, wholes: &BTreeMap<Location, Vec<u8>>, key: &Key) -> Found {
    let found = match key {
        Key::Blob(repo, digest) => lab.read(repo, digest).await,
        Key::Manifest(repo, digest) => lab
            .store
            .manifest(repo, &Reference::Digest(digest.clone()))
            .await
            .map(|stored| stored.bytes.to_vec()),
        Key::Tag(repo, tag) => {
            lab.store.manifest(repo, &Reference::Tag(tag.clone())).await.map(|stored| stored.bytes.to_vec())
        }
        Key::Upload(repo, id) => {
            let status = lab.store.upload_status(repo, *id).await;
            status.map(|status| wholes[id][..usize::try_from(status.offset).unwrap()].to_vec())
        }
    };
    match found {
        Ok(found) => Some(found),
        Err(Error::NotFound(_)) => None,
        Err(error) => panic!("{key:?}: {error}"),
    }
}

/// Uploads go on where they were acknowledged, and blobs can be pushed.
async fn go_on(lab: &Lab, wholes: &BTreeMap<Location, Vec<u8>>, known: &BTreeMap<Key, Found>) {
    for key in known.keys() {
        let Key::Upload(repo, id) = key else { continue };
        let Some(held) = look(lab, wholes, key).await else { continue };
        let (chunk, whole) = (Chunk { start: Some(held.len() as u64), len: None }, &wholes[id]);
        let digest = sha256(whole);
        lab.store.finish_upload(repo, *id, chunk, body(&whole[held.len()..]), &digest).await.unwrap();
        assert_eq!(&lab.read(repo, &digest).await.unwrap(), whole);
    }
    lab.push(&repo("new"), b"new").await;
    invariants::check(lab).await;
}

async fn develop(picture: Picture, steps: &[Step], wholes: &BTreeMap<Location, Vec<u8>>) {
    let lab = open(&picture.machine, picture.memory, Arc::new(ManualClock::new(picture.now))).await;
    invariants::check(&lab).await;
    let (past, future) = steps.split_at(picture.acknowledged);
    let mut known = BTreeMap::new();
    for (key, found) in past.iter().flat_map(|step| &step.changes) {
        known.insert(key.clone(), found.clone());
    }
    let under_way = future.first().map(|step| step.changes.as_slice()).unwrap_or_default();
    for (key, expected) in &known {
        let found = look(&lab, wholes, key).await;
        let maybe = under_way.iter().find(|(changed, _)| changed == key);
        let right = found == *expected || maybe.is_some_and(|(_, changed)| found == *changed);
        assert!(right, "{key:?} has {:?} bytes", found.map(|found| found.len()));
    }
    go_on(&lab, wholes, &known).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_at_every_sync() {
    let bench = Bench::new().await;
    workload(&bench).await;
    let pictures = std::mem::take(&mut *bench.pictures.lock().unwrap());
    let steps = bench.ledger.steps.lock().unwrap().clone();
    let wholes = bench.ledger.wholes.lock().unwrap().clone();
    let disk_syncs = match bench.lab.store.blobs.disk() {
        Disk::Simulated(machine) => machine.syncs(),
        Disk::Real => 0,
    };
    println!(
        "{} pictures at {disk_syncs} syncs of the disk and the commits of {} operations",
        pictures.len(),
        steps.len()
    );
    let count = pictures.len();
    for picture in pictures {
        let step = steps.get(picture.acknowledged).map_or("the end", |step| &step.name);
        let what = format!("{}, in step {}: {step}", picture.what, picture.acknowledged);
        let developing = std::panic::AssertUnwindSafe(develop(picture, &steps, &wholes));
        if let Err(cause) = futures_util::FutureExt::catch_unwind(developing).await {
            println!("power cut: {what}");
            std::panic::resume_unwind(cause);
        }
    }
    assert!(disk_syncs > 30 && count > 700, "{disk_syncs} syncs, {count} pictures");
}

#[tokio::test]
async fn a_store_whose_making_was_cut_off_is_made_to_its_end() {
    let machine = Machine::new();
    let film = Arc::<Mutex<Vec<Machine>>>::default();
    let watched = machine.clone();
    let (weak, other) = (Arc::downgrade(&film), machine.clone());
    machine.watch(move || {
        let Some(film) = weak.upgrade() else { return };
        let mut film = film.lock().unwrap();
        let seed = film.len() as u64;
        film.extend([Unsynced::Lost, Unsynced::Mixed(seed)].map(|unsynced| other.cut(unsynced)));
    });
    open(&watched, Memory::new(), Arc::new(ManualClock::new(START))).await;
    let film = std::mem::take(&mut *film.lock().unwrap());
    let count = film.len();
    for machine in film {
        let lab = open(&machine, Memory::new(), Arc::new(ManualClock::new(START))).await;
        let digest = lab.push(&repo("app"), b"new").await;
        let after = machine.cut(Unsynced::Lost);
        let Engine::Memory(memory) = &*lab.store.engine else { panic!("another engine") };
        let lab = open(&after, memory.fork(), Arc::new(ManualClock::new(START))).await;
        assert_eq!(lab.read(&repo("app"), &digest).await.unwrap(), b"new");
    }
    assert!(count >= 12, "{count} pictures");
}
