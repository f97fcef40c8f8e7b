// SPDX-License-Identifier: AGPL-3.0-only
//! What collection tells: what went or would go and why, and sums.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Why an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// No manifest of the repository names the blob.
    Unnamed,
    /// No tag points at the manifest, and the repository's rule removes such.
    Untagged,
    /// The manifest was evidence of a subject that is gone.
    SubjectGone,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Unnamed => "no manifest of the repository names it",
            Why::Untagged => "untagged for longer than the repository's rule keeps it",
            Why::SubjectGone => "its subject is gone",
        })
    }
}

/// Something that collection removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "kebab-case")]
pub enum GcItem {
    /// A blob is no longer readable in a repository.
    Blob {
        /// The repository.
        repository: String,
        /// The blob's digest.
        digest: String,
        /// Bytes.
        bytes: u64,
        /// Whether no other repository has it, so that its bytes go too.
        last: bool,
        /// Why it goes.
        why: Why,
    },
    /// A manifest.
    Manifest {
        /// The repository.
        repository: String,
        /// The manifest's digest.
        digest: String,
        /// Bytes.
        bytes: u64,
        /// Why it goes.
        why: Why,
    },
    /// An upload that its client abandoned.
    Upload {
        /// The repository.
        repository: String,
        /// The session's id.
        id: String,
        /// Bytes that it held.
        bytes: u64,
    },
    /// The moves of a tag that was deleted long ago.
    TagHistory {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
    },
    /// A file whose content nothing names any more and whose time is over.
    File {
        /// The file's name.
        location: String,
        /// Bytes.
        bytes: u64,
    },
}

impl fmt::Display for GcItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GcItem::Blob { repository, digest, bytes, last, why } => {
                let others = if *last { "" } else { "; other repositories keep its bytes" };
                write!(f, "blob {repository}@{digest}, {bytes} bytes: {why}{others}")
            }
            GcItem::Manifest { repository, digest, bytes, why } => {
                write!(f, "manifest {repository}@{digest}, {bytes} bytes: {why}")
            }
            GcItem::Upload { repository, id, bytes } => {
                write!(f, "upload {id} to {repository}, {bytes} bytes: abandoned")
            }
            GcItem::TagHistory { repository, tag } => {
                write!(f, "history of tag {repository}:{tag}: deleted long ago")
            }
            GcItem::File { location, bytes } => {
                write!(f, "file {location}, {bytes} bytes: nothing names it")
            }
        }
    }
}

/// What came of a collection, or would come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcSummary {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Why nothing was collected, if so.
    pub paused: Option<String>,
    /// Review rows that were judged.
    pub reviewed: u64,
    /// Manifests that went.
    pub manifests: u64,
    /// Blobs that went from a repository.
    pub blobs: u64,
    /// Uploads that were ended.
    pub uploads: u64,
    /// Files that were deleted.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Bytes of content that nothing names any more and whose files go when their time is over.
    pub bytes_later: u64,
    /// Files whose deletion failed; the next round tries again.
    #[serde(default)]
    pub stuck: u64,
    /// Whether there was more than a dry run can hold in memory.
    pub truncated: bool,
    /// Rows of metadata that were read.
    pub rows_read: u64,
}

impl GcSummary {
    /// Adds what an item frees.
    pub(super) fn count(&mut self, item: &GcItem) {
        match item {
            GcItem::Manifest { .. } => self.manifests += 1,
            GcItem::Blob { last, bytes, .. } => {
                self.blobs += 1;
                self.bytes_later += if *last { *bytes } else { 0 };
            }
            GcItem::Upload { bytes, .. } => {
                self.uploads += 1;
                self.bytes_later += bytes;
            }
            GcItem::TagHistory { .. } => {}
            GcItem::File { bytes, .. } => {
                self.files += 1;
                self.bytes += bytes;
            }
        }
    }
}

impl fmt::Display for GcSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.paused {
            write!(f, "nothing was collected: {reason}")?;
            if !self.dry_run {
                return Ok(());
            }
            f.write_str("\n")?;
        }
        let verb = if self.dry_run { "would remove" } else { "removed" };
        write!(
            f,
            "{verb} {} manifests, {} blobs, {} uploads; {} {} files of {} bytes",
            self.manifests,
            self.blobs,
            self.uploads,
            if self.dry_run { "would delete" } else { "deleted" },
            self.files,
            self.bytes,
        )?;
        if self.bytes_later > 0 {
            write!(f, "; {} bytes more once their grace is over", self.bytes_later)?;
        }
        if self.stuck > 0 {
            write!(f, "; {} files cannot be deleted: the log says why", self.stuck)?;
        }
        if self.truncated {
            f.write_str("; there is more, which a dry run does not look at")?;
        }
        Ok(())
    }
}

/// How long the queues of collection are. Counting stops at 160 000 rows each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Reviews, due or not.
    pub reviews: u64,
    /// Reviews that are due.
    pub reviews_due: u64,
    /// Objects to delete, due or not.
    pub garbage: u64,
    /// Objects whose deletion is due.
    pub garbage_due: u64,
    /// Bytes of those in the garbage queue.
    pub garbage_bytes: u64,
    /// For how long the oldest row of both that is due has been so; zero if none is.
    pub oldest_due: Duration,
}

impl Queues {
    /// 1 for a row that is due, else 0.
    pub(super) fn note_due(&mut self, due: Timestamp, now: Timestamp) -> u64 {
        let Some(late) = now.0.checked_sub(due.0) else { return 0 };
        self.oldest_due = self.oldest_due.max(Duration::from_millis(late));
        1
    }
}

/// What collection has done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectionStats {
    /// Rounds begun.
    pub rounds: u64,
    /// Rounds that did nothing, because collection is off or waits after a jump of the clock.
    pub paused: u64,
    /// Reviews judged.
    pub reviewed: u64,
    /// Manifests removed.
    pub manifests: u64,
    /// Blobs removed from a repository.
    pub blobs: u64,
    /// Uploads ended.
    pub uploads: u64,
    /// Files deleted.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Reviews that could not be judged, and files that could not be deleted.
    pub failures: u64,
}

/// The counters behind [`CollectionStats`].
#[derive(Default)]
pub(in crate::store) struct Counters {
    rounds: AtomicU64,
    paused: AtomicU64,
    reviewed: AtomicU64,
    manifests: AtomicU64,
    blobs: AtomicU64,
    uploads: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
}

impl Counters {
    pub(super) fn begin(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pause(&self) {
        self.paused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fail(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn review(&self, count: u64) {
        self.reviewed.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, item: &GcItem) {
        let (counter, bytes) = match item {
            GcItem::Manifest { .. } => (&self.manifests, 0),
            GcItem::Blob { .. } => (&self.blobs, 0),
            GcItem::Upload { .. } => (&self.uploads, 0),
            GcItem::File { bytes, .. } => (&self.files, *bytes),
            GcItem::TagHistory { .. } => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> CollectionStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CollectionStats {
            rounds: read(&self.rounds),
            paused: read(&self.paused),
            reviewed: read(&self.reviewed),
            manifests: read(&self.manifests),
            blobs: read(&self.blobs),
            uploads: read(&self.uploads),
            files: read(&self.files),
            bytes: read(&self.bytes),
            failures: read(&self.failures),
        }
    }
}
