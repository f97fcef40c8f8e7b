// SPDX-License-Identifier: AGPL-3.0-only
//! What the store counts, which knows nothing of this format.

use stella_storage::kv::CommitStats;
use stella_storage::{CacheStats, CollectionStats, Queues, ScrubStats, UploadStats};

use super::text::{Kind, Page};

pub(super) fn scrub(page: &mut Page, stats: &ScrubStats) {
    let name = "stella_scrub_objects_total";
    page.family(name, Kind::Counter, "What was read again to learn of damage.");
    page.sample(name, &[("kind", "blob")], stats.blobs);
    page.sample(name, &[("kind", "manifest")], stats.manifests);
    page.counter("stella_scrub_bytes_total", "Bytes that were read again.", stats.bytes);
    let help = "Damaged blobs and manifests that were met, once in each pass.";
    page.counter("stella_scrub_damaged_total", help, stats.damaged);
    page.counter("stella_scrub_passes_total", "Passes through everything.", stats.passes);
    if let Some(ended) = stats.ended {
        let help = "When a pass last came to its end, in seconds since 1970.";
        page.gauge("stella_scrub_ended_seconds", help, ended.0 / 1000);
    }
}

pub(super) fn collection(page: &mut Page, stats: &CollectionStats) {
    page.counter("stella_collection_rounds_total", "Rounds of collection that began.", stats.rounds);
    page.counter(
        "stella_collection_paused_rounds_total",
        "Rounds that removed nothing, because collection is off or waits after a jump of the clock.",
        stats.paused,
    );
    page.counter("stella_collection_reviews_total", "Reviews that were judged.", stats.reviewed);
    let name = "stella_collection_removed_total";
    let help = "What was removed: manifests, blobs of repositories, abandoned uploads.";
    page.family(name, Kind::Counter, help);
    page.sample(name, &[("kind", "manifest")], stats.manifests);
    page.sample(name, &[("kind", "blob")], stats.blobs);
    page.sample(name, &[("kind", "upload")], stats.uploads);
    page.counter("stella_collection_deleted_files_total", "Files that were deleted.", stats.files);
    page.counter("stella_collection_freed_bytes_total", "Bytes of the files that were deleted.", stats.bytes);
    page.counter(
        "stella_collection_failures_total",
        "Reviews that could not be judged, and files that could not be deleted.",
        stats.failures,
    );
}

pub(super) fn queues(page: &mut Page, queues: &Queues) {
    let Queues { reviews, reviews_due, garbage, garbage_due, garbage_bytes, oldest_due } = *queues;
    let name = "stella_collection_queue_length";
    let help = "Rows that wait, counted up to 160000 a queue, at most a minute ago.";
    page.family(name, Kind::Gauge, help);
    for (queue, due, length) in [
        ("review", "true", reviews_due),
        ("review", "false", reviews - reviews_due),
        ("garbage", "true", garbage_due),
        ("garbage", "false", garbage - garbage_due),
    ] {
        page.sample(name, &[("queue", queue), ("due", due)], length);
    }
    let help = "Bytes of files that wait for their deletion.";
    page.gauge("stella_collection_garbage_bytes", help, garbage_bytes);
    let help = "For how long the oldest row that is due has been so, as of at most a minute ago.";
    page.gauge("stella_collection_oldest_due_seconds", help, oldest_due.as_secs_f64());
}

/// `expired` are those that collection ended.
pub(super) fn uploads(page: &mut Page, stats: &UploadStats, expired: u64) {
    let UploadStats { begun, finished, cancelled, mounted, received } = *stats;
    page.counter("stella_uploads_begun_total", "Uploads that were begun.", begun);
    page.counter("stella_uploads_finished_total", "Uploads that became a blob.", finished);
    let help = "Uploads that their client ended, or that came in one request which failed.";
    page.counter("stella_uploads_cancelled_total", help, cancelled);
    let help = "Uploads that collection ended, because no more bytes came.";
    page.counter("stella_uploads_expired_total", help, expired);
    let help = "Blobs that were mounted from another repository instead of being uploaded.";
    page.counter("stella_uploads_mounted_total", help, mounted);
    let help = "Bytes of uploads that were written.";
    page.counter("stella_uploads_received_bytes_total", help, received);
}

pub(super) fn commits(page: &mut Page, stats: &CommitStats) {
    page.counter("stella_commits_total", "Durable commits of metadata.", stats.commits());
    page.counter("stella_commit_failures_total", "Commits that failed.", stats.failed);
    // An engine that counts nothing has no buckets.
    if !stats.micros.bounds.is_empty() {
        let name = "stella_commit_transactions";
        page.family(name, Kind::Histogram, "Transactions that one commit held.");
        page.histogram(name, &[], &stats.transactions, 1);
        let name = "stella_commit_seconds";
        page.family(name, Kind::Histogram, "What a commit took, until it was durable.");
        page.histogram(name, &[], &stats.micros, 1_000_000);
    }
}

pub(super) fn cache(page: &mut Page, stats: &CacheStats) {
    let CacheStats { hits, misses, bytes } = *stats;
    page.counter("stella_cache_hits_total", "Small contents that were in memory when asked for.", hits);
    page.counter("stella_cache_misses_total", "Small contents that were not.", misses);
    page.gauge("stella_cache_bytes", "Memory that the cache of small contents takes, about.", bytes);
}
