// SPDX-License-Identifier: AGPL-3.0-only
//! The store: what the registry calls, one method an intent.
//!
//! Each file below holds one noun: the functions over transactions that keep its rows, and the
//! methods of [`Store`] that run them. A method is one transaction wherever it changes something;
//! files are touched before it (bytes first, then the row that names them) or after it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustix::fs::FlockOperation;
use uuid::Uuid;

use crate::budget::Budget;
use crate::cache::{CacheStats, ContentCache};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::disk::{Ballast, Room};
use crate::error::{Error, Result};
use crate::keys;
use crate::kv::{Engine, EngineOptions, ReadTx, WriteTx};
use crate::local::{LocalBlobs, create_folder};

mod allowances;
mod backup;
mod blobs;
mod collection;
mod credentials;
mod fsck;
mod gate;
mod holds;
mod lease;
mod manifests;
mod pulls;
mod referrers;
mod releases;
mod repositories;
mod rules;
mod running;
mod scrub;
mod tag_guard;
mod tags;
mod upgrade;
mod uploads;

pub use allowances::Allowance;
pub use backup::{BackupItem, BackupSummary, RestoreSummary, SnapshotName, VerifySummary, restore, verify};
pub use blobs::{Blob, Mounted};
pub use collection::{CollectionStats, GcItem, GcSummary, Queues, Why};
pub use credentials::{Grant, RefreshToken, Robot, SigningKey};
pub use fsck::{Fault, FaultKind, FsckSummary, Repair};
pub use gate::{Around, ManifestState, Stamp, View};
pub use lease::Periods;
pub use manifests::{ManifestHead, NewManifest, PutManifest, StoredManifest, TagCondition, TagRights};
pub use referrers::ReferrersPage;
pub use releases::{Release, TagMoved, TagState};
pub use rules::{RELEASED, RepositoryRule};
pub use scrub::{ScrubNext, ScrubStats};
pub use upgrade::Upgrade;
pub use uploads::{Chunk, Finished, UploadStats, UploadStatus};

use lease::Moment;
use uploads::Sessions;

/// The version of the key space and its rows that this program writes.
const SCHEMA: u32 = 2;

/// Who makes a change; recorded with what it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The subject; empty for an anonymous one.
    pub subject: String,
    /// The token session, when there is one.
    pub session: Option<String>,
}

/// Who deletes a tag or a manifest, and what may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleter {
    /// Who deletes.
    pub actor: Actor,
    /// Whether protected tags may go.
    pub may_change_protected: bool,
}

/// How to open a [`Store`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data directory; created when absent.
    pub data: PathBuf,
    /// The memory budget.
    pub memory: Budget,
    /// What keeps the metadata.
    pub engine: EngineOptions,
    /// Whether a manifest may name blobs that its repository does not have.
    pub allow_missing: bool,
    /// How long things last before collection may take them.
    pub periods: Periods,
    /// What holds for repositories; the first rule that matches one decides.
    pub rules: Vec<RepositoryRule>,
    /// Bytes of the disk that pushes leave free, so that deletes and collection can still commit; 0 is off.
    pub disk_reserve: u64,
    /// What happens with data of an older version.
    pub upgrade: Upgrade,
}

impl StoreOptions {
    /// The defaults, with everything in the directory `data`.
    pub fn new(data: PathBuf) -> Self {
        StoreOptions {
            data,
            memory: Budget::of(256 << 20, 4 << 20),
            engine: EngineOptions::default(),
            allow_missing: false,
            periods: Periods::default(),
            rules: Vec::new(),
            disk_reserve: 512 << 20,
            upgrade: Upgrade::default(),
        }
    }
}

/// Everything that a registry keeps.
pub struct Store {
    engine: Arc<Engine>,
    blobs: LocalBlobs,
    clock: Arc<dyn Clock>,
    sessions: Arc<Sessions>,
    memory: Budget,
    /// Where uploads find memory.
    intake: uploads::Intake,
    cache: ContentCache,
    uploaded: Arc<uploads::Counters>,
    pulls: pulls::Pulls,
    robot_uses: credentials::Uses,
    allow_missing: AtomicBool,
    periods: Periods,
    rules: RwLock<Arc<rules::Rules>>,
    pace: collection::Pace,
    collected: collection::Counters,
    /// What running backups keep from being swept.
    holds: holds::Holds,
    /// Whether the data directory is there and has room.
    room: Arc<Room>,
    scrubber: scrub::Scrubber,
    /// Where the stamps of new manifests stand.
    stamps: AtomicU64,
}

impl Store {
    /// Opens the data directory, or creates it, and holds it until dropped; longer only while a writer
    /// whose request has gone puts its file and the catalog in order.
    pub async fn open(options: &StoreOptions) -> Result<Self> {
        let data = &options.data;
        create_private(data)?;
        create_folder(data)?;
        let lock = lock(data)?;
        backup::refuse_unfinished(data)?;
        refuse_without_blobs(data)?;
        let blobs = LocalBlobs::open(&data.join(BLOBS))?;
        let ballast = Arc::new(Ballast::open(data)?);
        ballast.release_if_full();
        // Looked for before the engine makes new ones.
        if !options.engine.has_files(data) {
            refuse_lonely(data, &blobs)?;
        }
        let engine = open_engine(options, Some(Arc::clone(&ballast))).await?;
        let schema = engine.read(async |tx: &mut ReadTx| tx.get(keys::SCHEMA_VERSION).await).await?;
        if schema.is_none() {
            refuse_lonely(data, &blobs)?;
        }
        let room = Room::below(data.join(LOCK), blobs.root(), options.disk_reserve, Some(ballast))?;
        Self::new(engine, blobs, Arc::new(SystemClock), options, (Some(lock), room)).await
    }

    /// A store with its metadata in the given engine, for tests of what is above the engine.
    #[cfg(test)]
    async fn with_engine(engine: Engine, clock: Arc<dyn Clock>, options: &StoreOptions) -> Result<Self> {
        let blobs = LocalBlobs::open(&options.data.join(BLOBS))?;
        Self::new(engine, blobs, clock, options, (None, Room::default())).await
    }

    async fn new(
        engine: Engine,
        blobs: LocalBlobs,
        clock: Arc<dyn Clock>,
        options: &StoreOptions,
        (lock, room): (Option<File>, Room),
    ) -> Result<Self> {
        upgrade::bring_up(&engine, options.upgrade).await?;
        Ok(Store {
            engine: Arc::new(engine),
            blobs,
            clock,
            room: Arc::new(room),
            sessions: Arc::new(Sessions::new(lock)),
            memory: options.memory.clone(),
            intake: uploads::Intake::new(options.memory.uploads()),
            cache: ContentCache::new(options.memory.cache()),
            uploaded: Arc::default(),
            pulls: pulls::Pulls::default(),
            robot_uses: credentials::Uses::default(),
            allow_missing: options.allow_missing.into(),
            periods: options.periods,
            rules: RwLock::new(Arc::new(rules::Rules::new(options.rules.clone()))),
            pace: collection::Pace::default(),
            collected: collection::Counters::default(),
            holds: holds::Holds::default(),
            scrubber: scrub::Scrubber::default(),
            stamps: Uuid::new_v4().as_u64_pair().1.into(),
        })
    }

    /// Whether the store can take writes; the reason when it cannot. After a failure it tries one, so
    /// that a registry which gets no traffic because it is not ready notices when it is again.
    pub async fn ready(&self) -> Result<()> {
        self.room.ready()?;
        if self.engine.health().is_ok() {
            return Ok(());
        }
        self.engine.write(0, async |tx: &mut WriteTx| tx.put(keys::PROBE.to_vec(), Vec::new())).await
    }

    /// The memory budget.
    pub fn memory(&self) -> &Budget {
        &self.memory
    }

    /// What the cache of small contents has done so far.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Gives memory back that uploads have not wanted since this was called last.
    pub fn trim_memory(&self) {
        self.intake.trim();
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now(), periods: self.periods }
    }
}

/// How long a deleted tag's moves are kept.
const TAG_HISTORY: Duration = Duration::from_hours(90 * 24);

/// What is kept is for nobody else on the machine. A folder that is there keeps its mode: its maker may have reasons.
fn create_private(data: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(data) {
        // Folders above are made with it, later.
        Err(error) if [ErrorKind::AlreadyExists, ErrorKind::NotFound].contains(&error.kind()) => Ok(()),
        created => created.map_err(|error| Error::io("create", data, error)),
    }
}

/// A folder of blobs that is gone, or the empty place where its disk belongs, must not become a new one.
fn refuse_without_blobs(data: &Path) -> Result<()> {
    let folder = data.join(BLOBS);
    let parts = |part: u8| folder.join(format!("{part:02x}")).is_dir();
    if !EngineOptions::is_claimed(data) || (0..=u8::MAX).any(parts) {
        return Ok(());
    }
    Err(Error::Corrupt(format!(
        "{} is gone or empty, and the metadata beside it are there: bring it back (is its disk mounted?), or \
         restore a backup into another directory",
        folder.display()
    )))
}

/// Blobs without metadata are what is left of a store, and no new one.
fn refuse_lonely(data: &Path, blobs: &LocalBlobs) -> Result<()> {
    for part in 0..=u8::MAX {
        if !blobs.list(part)?.is_empty() {
            return Err(Error::Corrupt(format!(
                "the metadata of {} are gone, and blobs are there: bring the metadata back, or restore a backup \
                 into another directory",
                data.display()
            )));
        }
    }
    Ok(())
}

/// Opens the metadata, or creates it.
async fn open_engine(options: &StoreOptions, ballast: Option<Arc<Ballast>>) -> Result<Engine> {
    options.engine.open(&options.data, options.memory.engine(), ballast).await
}

/// The folder of blob files.
const BLOBS: &str = "blobs";

/// The file by which a process holds a data directory.
const LOCK: &str = "lock";

/// Takes the data directory for this process, or says who has it.
fn lock(data: &Path) -> Result<File> {
    let path = data.join(LOCK);
    let failed = |error: std::io::Error| Error::io("lock", &path, error);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(failed(error.into()));
        }
        let mut holder = String::new();
        // The holder's name is a courtesy: without it the refusal is the same.
        let _unreadable = file.read_to_string(&mut holder);
        let holder =
            if holder.trim().is_empty() { "another process".to_owned() } else { holder.trim().to_owned() };
        return Err(Error::Locked { path: data.to_owned(), holder });
    }
    file.set_len(0).map_err(failed)?;
    match file.write_all(format!("process {}\n", std::process::id()).as_bytes()) {
        // Also on a full disk a server starts.
        Err(error) if error.kind() != ErrorKind::StorageFull => Err(failed(error)),
        _ => Ok(file),
    }
}

#[cfg(test)]
mod tests;
