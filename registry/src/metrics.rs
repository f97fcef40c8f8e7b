// SPDX-License-Identifier: AGPL-3.0-only
//! `/metrics`: what collection and the scrub do and how much there is to do, in the Prometheus text format.
//!
//! Counters are read where they are counted. The lengths of the queues have to be counted row by row, up
//! to a limit; that happens at most once a minute, however many scrape, and never when nobody does.

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use stella_storage::{CollectionStats, Queues, ScrubStats, Store};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::tls::{Tls, TlsStats};

/// The version of the text format.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// How old the lengths of the queues may be.
const AGE: Duration = Duration::from_mins(1);

/// What metrics need beside the store.
pub(crate) struct Metrics {
    data: PathBuf,
    tls: Option<Arc<Tls>>,
    counted: Mutex<Option<(Instant, Counted)>>,
}

impl Metrics {
    pub(crate) fn new(data: PathBuf, tls: Option<Arc<Tls>>) -> Self {
        Metrics { data, tls, counted: Mutex::default() }
    }

    /// What was counted not long ago; nothing while it cannot be counted.
    async fn counted(&self, store: &Store) -> Option<Counted> {
        // Whoever comes meanwhile waits and gets the same.
        let mut counted = self.counted.lock().await;
        if let Some((at, before)) = *counted
            && at.elapsed() < AGE
        {
            return Some(before);
        }
        match Counted::now(store).await {
            Ok(now) => {
                *counted = Some((Instant::now(), now));
                Some(now)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot count the queues of collection");
                None
            }
        }
    }
}

/// What has to be counted row by row.
#[derive(Clone, Copy)]
struct Counted {
    queues: Queues,
    uploads: u64,
}

impl Counted {
    async fn now(store: &Store) -> stella_storage::Result<Self> {
        Ok(Counted { queues: store.collection_queues().await?, uploads: store.open_uploads().await? })
    }
}

/// The answer to a scrape.
pub(crate) async fn page(store: &Store, metrics: &Metrics) -> Response<Body> {
    let mut page = Page::default();
    page.collection(&store.collection_stats());
    page.scrub(&store.scrub_stats());
    if let Some(tls) = &metrics.tls {
        page.certificates(&tls.stats());
    }
    // A gauge that is not known is left out.
    if let Some(Counted { queues, uploads }) = metrics.counted(store).await {
        page.queues(&queues);
        page.gauge("stella_uploads_open", "Upload sessions that are open, counted up to 10000.", uploads);
    }
    let help = "Bytes that the data directory's disk has left.";
    match free_bytes(&metrics.data) {
        Ok(free) => page.gauge("stella_disk_free_bytes", help, free),
        Err(error) => tracing::warn!(%error, "cannot ask how much space is left"),
    }
    let mut response = Response::new(Body::from(page.0));
    response.headers_mut().insert(CONTENT_TYPE, FORMAT);
    response
}

fn free_bytes(data: &Path) -> rustix::io::Result<u64> {
    let disk = rustix::fs::statvfs(data)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The text of an answer.
#[derive(Default)]
struct Page(String);

impl Page {
    fn certificates(&mut self, stats: &TlsStats) {
        let TlsStats { reloaded, failed, expiries } = stats;
        let results = [("{result=\"ok\"}", *reloaded), ("{result=\"error\"}", *failed)];
        let help = "Certificates that were read again; after an error the one from before is served.";
        self.family("stella_certificate_reloads_total", "counter", help, &results);
        // No name has a quote or a backslash in it.
        let labels: Vec<_> = expiries
            .iter()
            .map(|(name, expires)| (format!("{{name=\"{name}\"}}"), expires.0 / 1000))
            .collect();
        let samples: Vec<_> = labels.iter().map(|(label, expires)| (label.as_str(), *expires)).collect();
        let help = "When a certificate expires, in seconds since 1970.";
        self.family("stella_certificate_expiry_seconds", "gauge", help, &samples);
    }

    fn scrub(&mut self, stats: &ScrubStats) {
        let objects = [("{kind=\"blob\"}", stats.blobs), ("{kind=\"manifest\"}", stats.manifests)];
        let help = "What was read again to learn of damage.";
        self.family("stella_scrub_objects_total", "counter", help, &objects);
        self.counter("stella_scrub_bytes_total", "Bytes that were read again.", stats.bytes);
        let help = "Damaged blobs and manifests that were met, once in each pass.";
        self.counter("stella_scrub_damaged_total", help, stats.damaged);
        self.counter("stella_scrub_passes_total", "Passes through everything.", stats.passes);
        if let Some(ended) = stats.ended {
            let help = "When a pass last came to its end, in seconds since 1970.";
            self.gauge("stella_scrub_ended_seconds", help, ended.0 / 1000);
        }
    }

    fn collection(&mut self, stats: &CollectionStats) {
        self.counter("stella_collection_rounds_total", "Rounds of collection that began.", stats.rounds);
        self.counter(
            "stella_collection_paused_rounds_total",
            "Rounds that removed nothing, because collection is off or waits after a jump of the clock.",
            stats.paused,
        );
        self.counter("stella_collection_reviews_total", "Reviews that were judged.", stats.reviewed);
        self.family(
            "stella_collection_removed_total",
            "counter",
            "What was removed: manifests, blobs of repositories, abandoned uploads.",
            &[
                ("{kind=\"manifest\"}", stats.manifests),
                ("{kind=\"blob\"}", stats.blobs),
                ("{kind=\"upload\"}", stats.uploads),
            ],
        );
        self.counter("stella_collection_deleted_files_total", "Files that were deleted.", stats.files);
        self.counter(
            "stella_collection_freed_bytes_total",
            "Bytes of the files that were deleted.",
            stats.bytes,
        );
        self.counter(
            "stella_collection_failures_total",
            "Reviews that could not be judged, and files that could not be deleted.",
            stats.failures,
        );
    }

    fn queues(&mut self, queues: &Queues) {
        let Queues { reviews, reviews_due, garbage, garbage_due, garbage_bytes } = *queues;
        self.family(
            "stella_collection_queue_length",
            "gauge",
            "Rows that wait, counted up to 160000 a queue, at most a minute ago.",
            &[
                ("{queue=\"review\",due=\"true\"}", reviews_due),
                ("{queue=\"review\",due=\"false\"}", reviews - reviews_due),
                ("{queue=\"garbage\",due=\"true\"}", garbage_due),
                ("{queue=\"garbage\",due=\"false\"}", garbage - garbage_due),
            ],
        );
        self.gauge(
            "stella_collection_garbage_bytes",
            "Bytes of files that wait for their deletion.",
            garbage_bytes,
        );
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help, &[("", value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help, &[("", value)]);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(&str, u64)]) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        for (labels, value) in samples {
            self.line(format_args!("{name}{labels} {value}"));
        }
    }

    fn line(&mut self, line: impl Display) {
        // Text grows without fail.
        let _always = writeln!(self.0, "{line}");
    }
}
