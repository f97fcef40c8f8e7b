// SPDX-License-Identifier: AGPL-3.0-only
//! `/metrics`: what the registry does and how it fares, in the Prometheus text format.
//!
//! Counters are read where they are counted; on a request's way they are atomic additions and nothing
//! else. The lengths of the queues have to be counted row by row, up to a limit; that happens at most once
//! a minute, however many scrape, and never when nobody does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use stella_storage::{Clock as _, Queues, Store, SystemClock, Timestamp};
use tokio::sync::Mutex;
use tokio::time::Instant;

mod listener;
mod process;
mod requests;
mod store;
pub(crate) mod text;
mod traffic;

pub(crate) use listener::serve;
pub(crate) use requests::CLIENT_GONE;
pub(crate) use traffic::Counted as CountedConnection;

use crate::app::App;
use crate::tls::{Tls, TlsStats};
use requests::Requests;
use text::{Kind, Page};
use traffic::Traffic;

/// The version of the text format.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// How old the lengths of the queues may be.
const AGE: Duration = Duration::from_mins(1);

/// What is counted, and what is needed to tell the rest.
pub(crate) struct Metrics {
    data: PathBuf,
    tls: Option<Arc<Tls>>,
    started: Timestamp,
    counted: Mutex<Option<(Instant, Counted)>>,
    pub(crate) requests: Requests,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) reloads: Reloads,
}

/// Reloads of the configuration.
#[derive(Default)]
pub(crate) struct Reloads {
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// What has to be counted row by row.
#[derive(Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) queues: Queues,
    pub(crate) uploads: u64,
}

impl Metrics {
    /// For the data directory `data`.
    pub(crate) fn new(data: PathBuf, tls: Option<Arc<Tls>>) -> Self {
        Metrics {
            data,
            tls,
            started: SystemClock.now(),
            counted: Mutex::default(),
            requests: Requests::default(),
            traffic: Arc::default(),
            reloads: Reloads::default(),
        }
    }

    /// For how long this process has been there.
    pub(crate) fn uptime(&self) -> Duration {
        Duration::from_millis(SystemClock.now().0.saturating_sub(self.started.0))
    }

    /// Bytes that the data directory's disk has left.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.data)
            .inspect_err(|error| tracing::warn!(%error, "cannot ask how much space is left"))
            .ok()
    }

    /// What was counted not long ago; nothing while it cannot be counted.
    pub(crate) async fn counted(&self, store: &Store) -> Option<Counted> {
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

impl Counted {
    async fn now(store: &Store) -> stella_storage::Result<Self> {
        Ok(Counted { queues: store.collection_queues().await?, uploads: store.open_uploads().await? })
    }
}

/// The answer to a scrape.
pub(crate) async fn page(app: &App) -> Response<Body> {
    let (store, metrics) = (&app.store, &app.metrics);
    let mut page = Page::default();
    page.family("stella_build_info", Kind::Gauge, "The program's version.");
    page.sample("stella_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    metrics.requests.write(&mut page);
    metrics.traffic.write(&mut page);
    let collection = store.collection_stats();
    store::uploads(&mut page, &store.upload_stats(), collection.uploads);
    store::commits(&mut page, &store.commit_stats());
    store::collection(&mut page, &collection);
    store::scrub(&mut page, &store.scrub_stats());
    app.gate.metrics.write(&mut page, app.gate.kept());
    if let Some(tls) = &metrics.tls {
        certificates(&mut page, &tls.stats());
    }
    // A gauge that is not known is left out.
    if let Some(Counted { queues, uploads }) = metrics.counted(store).await {
        store::queues(&mut page, &queues);
        page.gauge("stella_uploads_open", "Upload sessions that are open, counted up to 10000.", uploads);
    }
    if let Some(free) = metrics.free_bytes() {
        page.gauge("stella_disk_free_bytes", "Bytes that the data directory's disk has left.", free);
    }
    let ready = u8::from(!app.is_draining() && store.ready().await.is_ok());
    page.gauge("stella_ready", "1 if a push can succeed, as /readyz tells, else 0.", ready);
    let help = "Bytes of the disk that pushes leave free (limits.disk_reserve).";
    page.gauge("stella_disk_reserve_bytes", help, app.live.disk_reserve());
    page.gauge("stella_memory_budget_bytes", "The memory budget (limits.memory).", store.memory().total());
    let help = "What uploads, manifests and answers hold of the budget.";
    page.gauge("stella_memory_budget_used_bytes", help, store.memory().held());
    store::cache(&mut page, &store.cache_stats());
    let name = "stella_config_reloads_total";
    page.family(name, Kind::Counter, "Reloads of the configuration on SIGHUP.");
    page.sample(name, &[("result", "success")], metrics.reloads.succeeded.load(Ordering::Relaxed));
    page.sample(name, &[("result", "failure")], metrics.reloads.failed.load(Ordering::Relaxed));
    let audit = app.audit.stats();
    page.counter("stella_audit_lines_total", "Lines of the audit trail.", audit.lines);
    let help = "Lines that could not be written to audit.file; the log has them.";
    page.counter("stella_audit_failures_total", help, audit.failures);
    process::write(&mut page, metrics.started);
    let mut response = Response::new(Body::from(page.into_text()));
    response.headers_mut().insert(CONTENT_TYPE, FORMAT);
    response
}

fn free_bytes(data: &Path) -> rustix::io::Result<u64> {
    let disk = rustix::fs::statvfs(data)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn certificates(page: &mut Page, stats: &TlsStats) {
    let TlsStats { reloaded, failed, expiries } = stats;
    let name = "stella_certificate_reloads_total";
    let help = "Certificates that were read again; after an error the one from before is served.";
    page.family(name, Kind::Counter, help);
    page.sample(name, &[("result", "success")], *reloaded);
    page.sample(name, &[("result", "failure")], *failed);
    let name = "stella_certificate_expiry_seconds";
    page.family(name, Kind::Gauge, "When a certificate expires, in seconds since 1970.");
    for (subject, expires) in expiries {
        page.sample(name, &[("name", subject)], expires.0 / 1000);
    }
}
