// SPDX-License-Identifier: AGPL-3.0-only
//! The audit trail: one JSON line for every change, and for every attempt that was refused.
//!
//! A line is handed over once the outcome is known and before the answer is sent, in order. With
//! `audit.file` a thread writes it (`audit/file.rs`) from a bounded queue: when the disk is slow and the
//! queue full, changes wait, reads do not. Without the file it goes to the log. Whatever a client may
//! have made up is clipped, and JSON keeps it on its line.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use stella_storage::{Clock as _, Digest, GcSummary, SystemClock, Tag};

use crate::unseen::{visible, visible_json};

mod file;
mod request;

pub(crate) use request::of_request;

use file::AuditFile;

/// How long the end of the program waits for lines to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Where lines go.
pub(crate) struct Audit {
    file: Option<AuditFile>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    lines: AtomicU64,
    failures: AtomicU64,
}

/// How the trail fares.
pub(crate) struct AuditStats {
    /// Lines so far.
    pub(crate) lines: u64,
    /// Those that could not be written to the file, and went to the log instead.
    pub(crate) failures: u64,
}

/// One line, less its time.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Entry {
    /// What was done, or tried.
    pub(crate) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// The client's address, or `admin.sock`, or `server` for what the server does by itself.
    pub(crate) client: String,
    /// Who it was; empty for an anonymous one.
    pub(crate) actor: String,
    /// The name of who tried to log in, and could not prove it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) claimed: Option<String>,
    /// How that was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<&'static str>,
    /// The access rule that refused it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<TagChange>,
    /// Tags beyond those that are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) more_tags: Option<usize>,
    /// Where a blob was mounted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upload: Option<String>,
    /// The status of the answer; 499 if the client went away first, and then the change may have happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// What the policy gate decided, where it denied it, or showed what is not released to who may see that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<serde_json::Value>,
    /// What came of something that is no request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<serde_json::Value>,
}

/// A tag that was set or removed.
#[derive(Debug, Serialize)]
pub(crate) struct TagChange {
    pub(crate) tag: String,
    /// The digest that it pointed at before, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<String>,
}

/// What a handler knows of its change; it travels with the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    pub(crate) digest: Option<Digest>,
    pub(crate) tags: Vec<(Tag, Option<Digest>)>,
}

impl Audit {
    /// Opens `file`; without one, lines go to the log.
    pub(crate) fn open(file: Option<&Path>) -> io::Result<Self> {
        let counters = Arc::<Counters>::default();
        let failed = Arc::clone(&counters);
        let on_failure = move |lines: u64| {
            failed.failures.fetch_add(lines, Ordering::Relaxed);
        };
        let file = file.map(|path| AuditFile::open(path.to_owned(), on_failure)).transpose()?;
        Ok(Audit { file, counters })
    }

    /// Whether a file could be opened for the trail. It is not made.
    pub(crate) fn can_open(file: &Path) -> io::Result<()> {
        match fs::OpenOptions::new().append(true).open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
                fs::read_dir(folder.unwrap_or(Path::new("."))).map(drop)
            }
            opened => opened.map(drop),
        }
    }

    /// Writes a line down; waits while too many wait already.
    pub(crate) async fn record(&self, entry: Entry) {
        if let Some((file, line)) = self.begin(&entry) {
            file.push(line).await;
        }
    }

    /// As [`Audit::record`], for who cannot wait: a task does it where it must.
    pub(crate) fn record_now(self: &Arc<Self>, entry: &Entry) {
        let Some((file, line)) = self.begin(entry) else { return };
        let Err(line) = file.try_push(line) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::error!(line, "the program ended before this audit line could be written");
            return;
        };
        let audit = Arc::clone(self);
        runtime.spawn(async move {
            if let Some(file) = &audit.file {
                file.push(line).await;
            }
        });
    }

    /// Counts a line; gives it back if it belongs in the file.
    fn begin(&self, entry: &Entry) -> Option<(&AuditFile, String)> {
        self.counters.lines.fetch_add(1, Ordering::Relaxed);
        if let Some(file) = &self.file {
            return Some((file, line(entry)));
        }
        // The request's id is on the line anyway.
        let Entry { action, client, claimed, proof, rule, repository, digest, from, upload, status, .. } =
            entry;
        let (actor, claimed) = (&*visible(&entry.actor), claimed.as_deref());
        let (repository, digest) = (repository.as_deref(), digest.as_deref());
        let (from, upload) = (from.as_deref(), upload.as_deref());
        let decision = entry.decision.as_ref().map(json);
        let decision = decision.as_deref();
        let tags = (!entry.tags.is_empty()).then(|| json(&entry.tags));
        let (tags, outcome) = (tags.as_deref(), entry.outcome.as_ref().map(json));
        let outcome = outcome.as_deref();
        tracing::info!(
            target: "audit",
            action, client, actor, claimed, proof, rule, repository, digest, tags, from, upload, status, decision, outcome,
            "audit"
        );
        None
    }

    /// One line for all that a round of collection removed.
    pub(crate) async fn collected(&self, summary: &GcSummary) {
        let outcome = serde_json::to_value(summary).ok();
        let client = "server".to_owned();
        self.record(Entry { action: "collection", client, outcome, ..Entry::default() }).await;
    }

    /// Opens the file anew: it may have been renamed, to begin another one.
    pub(crate) async fn reopen(&self) {
        if let Some(file) = &self.file {
            file.reopen().await;
        }
    }

    /// Returns once all lines so far are written, or after a while.
    pub(crate) async fn flush(&self) {
        if let Some(file) = &self.file
            && tokio::time::timeout(LAST_WORDS, file.flush()).await.is_err()
        {
            tracing::error!("the last audit lines could not be written in time");
        }
    }

    pub(crate) fn stats(&self) -> AuditStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AuditStats { lines: read(&self.counters.lines), failures: read(&self.counters.failures) }
    }
}

fn line(entry: &Entry) -> String {
    #[derive(Serialize)]
    struct Line<'e> {
        time: String,
        #[serde(flatten)]
        entry: &'e Entry,
    }
    let mut line = json(&Line { time: SystemClock.now().rfc3339(), entry });
    line.push('\n');
    line
}

fn json(value: &impl Serialize) -> String {
    // Nothing here has keys that are no text, the one thing that JSON cannot say.
    visible_json(serde_json::to_string(value).unwrap_or_default())
}
