// SPDX-License-Identifier: AGPL-3.0-only
//! Administration: the long operations that an operator starts, beside a running server or without one.
//!
//! A server holds its data directory, so `stella gc`, `fsck`, `backup create` and `robot` ask it through a
//! socket there (`socket.rs`); without a server they open the data themselves. Either way one
//! [`Operation`] runs on the store and tells its items one by one. On the socket all is lines of
//! JSON: the client sends one [`Request`]; the server answers with items, then one last line with
//! `summary`, or with `error` and the exit code that it means. Whoever can write to the socket may do
//! everything here: it has mode 0600. When the client goes away its operation stops.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stella_storage::{
    BackupItem, BackupSummary, Error, Fault, FsckSummary, GcItem, GcSummary, Result, Store,
};
use tokio::sync::mpsc;

use crate::app::App;
use crate::exit;

mod allowances;
pub(crate) mod client;
mod credentials;
mod impact;
mod released;
mod server;
mod socket;

pub(crate) use allowances::{Allowances, NewAllowance};
pub(crate) use credentials::{Credentials, Given, NewRobot};
pub(crate) use impact::Impact;
pub(crate) use released::Released;
pub(crate) use server::Admin;

/// Items that may wait for somebody to read them.
pub(crate) const ITEMS: usize = 64;

/// What can be asked of a server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Request {
    Gc(Gc),
    Resume(Resume),
    Fsck(Fsck),
    Backup(Backup),
    Credentials(Credentials),
    Allowances(Allowances),
    Impact(Impact),
    Released(Released),
}

/// A long operation on a store.
pub(crate) trait Operation: Sized + Send + Sync + 'static {
    /// What it is called.
    const NAME: &'static str;

    /// Something that it tells on its way.
    type Item: Serialize + DeserializeOwned + Display + Send;
    /// What came of it.
    type Summary: Serialize + DeserializeOwned + Display + Send;

    /// The request for it.
    fn request(self) -> Request;

    /// Runs it; it stops when nobody receives its items.
    fn run(
        &self,
        store: &Store,
        items: mpsc::Sender<Self::Item>,
    ) -> impl Future<Output = Result<Self::Summary>> + Send;

    /// The same in a running server, which may know more, or have to do more.
    fn serve(
        &self,
        app: &Arc<App>,
        items: mpsc::Sender<Self::Item>,
    ) -> impl Future<Output = Result<Self::Summary>> + Send {
        self.run(&app.store, items)
    }

    /// What it is called in the audit trail, if it changes something.
    fn audited(&self) -> Option<&'static str>;

    /// Whether it found faults, which is an exit code of its own.
    fn faults(summary: &Self::Summary) -> bool;
}

/// One round of collection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Gc {
    pub(crate) dry_run: bool,
}

impl Operation for Gc {
    const NAME: &'static str = "collection";

    type Item = GcItem;
    type Summary = GcSummary;

    fn request(self) -> Request {
        Request::Gc(self)
    }

    fn audited(&self) -> Option<&'static str> {
        (!self.dry_run).then_some("gc")
    }

    async fn run(&self, store: &Store, items: mpsc::Sender<GcItem>) -> Result<GcSummary> {
        store.gc(self.dry_run, items).await
    }

    fn faults(_: &GcSummary) -> bool {
        false
    }
}

/// Turns collection on again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resume {}

/// Whether collection was off.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resumed {
    was_off: bool,
}

impl Display for Resumed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.was_off {
            "collection was off and is on again"
        } else {
            "collection was on already"
        })
    }
}

impl Operation for Resume {
    const NAME: &'static str = "resumption";

    // It tells nothing.
    type Item = GcItem;
    type Summary = Resumed;

    fn request(self) -> Request {
        Request::Resume(self)
    }

    fn audited(&self) -> Option<&'static str> {
        Some("gc.resume")
    }

    async fn run(&self, store: &Store, _: mpsc::Sender<GcItem>) -> Result<Resumed> {
        Ok(Resumed { was_off: store.resume_collection().await? })
    }

    fn faults(_: &Resumed) -> bool {
        false
    }
}

/// A check of everything.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fsck {
    pub(crate) repair: bool,
}

impl Operation for Fsck {
    const NAME: &'static str = "check";

    type Item = Fault;
    type Summary = FsckSummary;

    fn request(self) -> Request {
        Request::Fsck(self)
    }

    fn audited(&self) -> Option<&'static str> {
        self.repair.then_some("fsck.repair")
    }

    async fn run(&self, store: &Store, items: mpsc::Sender<Fault>) -> Result<FsckSummary> {
        store.fsck(self.repair, items).await
    }

    fn faults(summary: &FsckSummary) -> bool {
        summary.left() > 0
    }
}

/// A backup into a folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Backup {
    /// Absolute, because the server works somewhere else.
    pub(crate) to: PathBuf,
}

impl Operation for Backup {
    const NAME: &'static str = "backup";

    type Item = BackupItem;
    type Summary = BackupSummary;

    fn request(self) -> Request {
        Request::Backup(self)
    }

    fn audited(&self) -> Option<&'static str> {
        Some("backup.create")
    }

    async fn run(&self, store: &Store, items: mpsc::Sender<BackupItem>) -> Result<BackupSummary> {
        if !self.to.is_absolute() {
            return Err(Error::Refused("the folder of the backup needs an absolute path".to_owned()));
        }
        store.backup(&self.to, items).await
    }

    fn faults(summary: &BackupSummary) -> bool {
        summary.damaged > 0
    }
}

/// The last line of an operation that came to its end.
#[derive(Serialize, Deserialize)]
pub(crate) struct Done<S> {
    pub(crate) summary: S,
}

/// The last line of an operation that failed.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Failed {
    /// Why, for a person.
    pub(crate) error: String,
    /// What the command's exit code is.
    pub(crate) exit: u8,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { error: error.to_string(), exit: exit::of(&error) }
    }
}
