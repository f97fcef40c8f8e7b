// SPDX-License-Identifier: AGPL-3.0-only
//! What a server does beside answering: collection, the scrub, and noting when tags were last pulled.

use std::sync::Arc;
use std::time::Duration;

use stella_storage::{GcSummary, ScrubNext};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::app::App;

/// How long memory stays with uploads that do not want it; a burst of them comes again sooner.
const TRIM: Duration = Duration::from_secs(1);
const FLUSH_PULLS: Duration = Duration::from_mins(1);
/// How long the scrub waits at most, so that a clock that is set is noticed.
const SCRUB_AGAIN: Duration = Duration::from_mins(10);

/// Begins all of it; it goes on until it is aborted.
pub(crate) fn begin(app: &Arc<App>) -> [JoinHandle<()>; 4] {
    [
        tokio::spawn(flush_pulls(Arc::clone(app))),
        tokio::spawn(collect(Arc::clone(app))),
        tokio::spawn(scrub(Arc::clone(app))),
        tokio::spawn(trim_memory(Arc::clone(app))),
    ]
}

async fn trim_memory(app: Arc<App>) {
    loop {
        tokio::time::sleep(TRIM).await;
        app.store.trim_memory();
    }
}

/// Writes down what was gathered in memory, and drops refresh tokens that have expired.
async fn flush_pulls(app: Arc<App>) {
    loop {
        tokio::time::sleep(FLUSH_PULLS).await;
        if let Err(error) = app.store.flush_pulls().await {
            tracing::warn!(%error, "cannot record the last pulls");
        }
        if let Err(error) = app.store.flush_robot_uses().await {
            tracing::warn!(%error, "cannot record the last uses of robots");
        }
        if let Err(error) = app.store.sweep_refresh_tokens().await {
            tracing::warn!(%error, "cannot remove refresh tokens that have expired");
        }
    }
}

/// Removes what nothing names any more, round after round.
async fn collect(app: Arc<App>) {
    let mut last = Instant::now();
    loop {
        app.live.collection_due(last).await;
        // A round in a task of its own: should it ever panic, the next one comes all the same.
        let round = tokio::spawn({
            let app = Arc::clone(&app);
            async move { app.store.collect().await }
        });
        let round = round.await;
        last = Instant::now();
        let Ok(round) = round else {
            tracing::error!("a round of collection ended abnormally; the next one goes on");
            continue;
        };
        match round {
            Ok(GcSummary { paused: Some(reason), .. }) => tracing::debug!(reason, "nothing was collected"),
            Ok(summary) if summary.manifests + summary.blobs + summary.uploads + summary.files > 0 => {
                tracing::info!(
                    manifests = summary.manifests,
                    blobs = summary.blobs,
                    uploads = summary.uploads,
                    files = summary.files,
                    bytes = summary.bytes,
                    "collected"
                );
                app.audit.collected(&summary).await;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a round of collection failed; the next one goes on"),
        }
    }
}

/// Reads everything again and again, at most so many bytes a second.
async fn scrub(app: Arc<App>) {
    loop {
        let rate = app.live.scrub_rate();
        if rate == 0 {
            app.live.changed_within(SCRUB_AGAIN).await;
            continue;
        }
        let pause = match app.store.scrub(rate).await {
            Ok(ScrubNext::Go) => continue,
            Ok(ScrubNext::Wait(pause)) => pause.min(SCRUB_AGAIN),
            Err(error) => {
                tracing::warn!(%error, "cannot read everything for damage; it goes on in a while");
                SCRUB_AGAIN
            }
        };
        app.live.changed_within(pause).await;
    }
}
