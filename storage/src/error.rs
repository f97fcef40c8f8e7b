// SPDX-License-Identifier: AGPL-3.0-only
//! The errors of this crate. Each variant is something a caller can act on; none knows HTTP.
//!
//! Text in a variant may be shown to a client unless [`Error::is_internal`] says otherwise:
//! internal errors carry paths and causes that belong in the operator's log only.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::{Digest, DigestError};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A repository.
    Repository,
    /// A blob in a repository.
    Blob,
    /// A manifest or tag in a repository.
    Manifest,
    /// An upload session.
    Upload,
    /// A robot that is not revoked.
    Robot,
    /// A refresh token.
    RefreshToken,
    /// What lets something through.
    Allowance,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            What::Repository => "repository",
            What::Blob => "blob",
            What::Manifest => "manifest",
            What::Upload => "upload",
            What::Robot => "robot",
            What::RefreshToken => "refresh token",
            What::Allowance => "allowance",
        })
    }
}

/// What is wrong with the data directory as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFault {
    /// It was removed, renamed or unmounted.
    Gone,
    /// Another one lies where it was.
    Replaced,
    /// Its file system does not take writes.
    ReadOnly,
}

impl std::fmt::Display for DataFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DataFault::Gone => "is gone; put it back, or restart with the right one",
            DataFault::Replaced => "was replaced by another one; put it back, or restart",
            DataFault::ReadOnly => "is read-only; make its file system writable",
        })
    }
}

/// Why an operation of the store failed. Cheap to clone: one failed commit answers many callers.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A repository name breaks the grammar.
    #[error("{text:?} is not a repository name: {why}")]
    InvalidName {
        /// What the client sent, shortened.
        text: String,
        /// The rule that it breaks.
        why: String,
    },
    /// A tag breaks the grammar.
    #[error(
        "{0:?} is not a tag: tags have at most 128 letters, digits, '_', '.' and '-', and start with neither '.' nor '-'"
    )]
    InvalidTag(String),
    /// A digest breaks the grammar, or its algorithm cannot be computed here.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A manifest breaks the image specification or a limit.
    #[error("{0}")]
    InvalidManifest(String),
    /// A manifest names blobs that its repository does not have.
    #[error("the manifest names {} blobs that the repository does not have", .0.len())]
    MissingBlobs(Vec<Digest>),
    /// The object does not exist, or is not visible in this repository.
    #[error("{0} unknown")]
    NotFound(What),
    /// Content does not have the digest that was claimed for it.
    #[error("the content has the digest {actual}, not {expected}")]
    DigestMismatch {
        /// What the client claimed.
        expected: Box<Digest>,
        /// What was received.
        actual: Box<Digest>,
    },
    /// Content does not have the size that was claimed for it.
    #[error("the request announced {expected} bytes and carried {actual}")]
    SizeMismatch {
        /// Bytes announced.
        expected: u64,
        /// Bytes received (or received so far, when there were too many).
        actual: u64,
    },
    /// A chunk does not start where the upload stands, or another request is writing to it.
    #[error("the upload stands at byte {have}")]
    OffsetMismatch {
        /// Bytes that the upload holds.
        have: u64,
    },
    /// Another request has taken over the upload session.
    #[error("another request has taken over this upload")]
    UploadTaken,
    /// A blob cannot be deleted while a manifest of its repository names it.
    #[error("the blob is part of manifest {manifest}; delete that first")]
    Referenced {
        /// One such manifest.
        manifest: Digest,
    },
    /// A tag names something and its repository's rule holds it there.
    #[error(
        "tag {tag} is immutable (repositories: immutable_tags {pattern:?}) and names {digest}: it can be neither \
         moved nor deleted; push under another tag"
    )]
    TagImmutable {
        /// The tag.
        tag: String,
        /// The pattern that it matches.
        pattern: String,
        /// What it names.
        digest: Box<Digest>,
    },
    /// A tag that readers cannot see yet.
    #[error("nothing was released under this tag yet; what was pushed to it, {0}, waits for the policy gate")]
    Unreleased(Digest),
    /// A tag for evidence was to lose some.
    #[error(
        "tag {tag} has signatures that this manifest lacks: read the tag again, and push what has both; who may delete may drop them"
    )]
    LayersDropped {
        /// The tag.
        tag: String,
    },
    /// A tag that only some may set, move or delete.
    #[error(
        "tag {tag} is protected (repositories: protected_tags {pattern:?}): it can be set, moved and deleted only \
         by those who may change protected tags; push under another tag, or ask who keeps the access rules"
    )]
    TagProtected {
        /// The tag.
        tag: String,
        /// The pattern that it matches.
        pattern: String,
    },
    /// A robot of this name exists and is not revoked.
    #[error("the robot {0} exists: revoke it first, or choose another name")]
    RobotExists(String),
    /// A tag that names an image, for one who may push evidence alone.
    #[error(
        "tag {tag} is not one of signatures, or names something else; who may only sign sets tags such as sha256-HEX.sig"
    )]
    TagNotEvidence {
        /// The tag.
        tag: String,
    },
    /// A condition of the request (`If-Match`, `If-None-Match`) does not hold.
    #[error("the tag is not as the request's condition demands")]
    ConditionFailed,
    /// The sender's stream failed before its end.
    #[error("the request body ended early: {0}")]
    Body(String),
    /// A limit of the store would be exceeded.
    #[error("{0}")]
    TooLarge(String),
    /// No space is left for data or metadata.
    #[error("no space is left on the registry's disk")]
    Full,
    /// Less space is left than is kept for deletes and collection.
    #[error(
        "no space for more: the registry's disk has {free} bytes free, and {reserve} stay free for deletes \
         and collection"
    )]
    Reserve {
        /// Bytes free.
        free: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// The data directory as a whole cannot be used at present.
    #[error("the registry's data directory {0}")]
    Data(DataFault),
    /// The store cannot write at present; a later try may succeed.
    #[error("the metadata engine is not available: {0}")]
    Unavailable(String),
    /// A commit failed in such a way that it may or may not have happened. Repeating is safe.
    #[error("it is unknown whether the change was committed: {0}")]
    CommitUnknown(String),
    /// Stored data contradicts itself.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// The data was written by a newer version of this program.
    #[error(
        "the data has schema version {found}, this program knows {supported}: start the newer program that wrote it"
    )]
    NewerSchema {
        /// Version found.
        found: u32,
        /// Newest version known.
        supported: u32,
    },
    /// The data was written by an older version of this program, which was not told to upgrade it.
    #[error(
        "the data has schema version {found} and this program writes {current}, but was not told to change it. \
         The upgrade {}; then older programs refuse the data. Make a backup with the older program, then run \
         `stella upgrade`, or serve with `upgrade: auto`",
        .changes.join(", and ")
    )]
    OlderSchema {
        /// Version found.
        found: u32,
        /// The version that this program writes.
        current: u32,
        /// What an upgrade does, each as the end of a sentence.
        changes: Vec<String>,
    },
    /// Another process serves this data.
    #[error(
        "{path} is in use by {holder}; stop that process, or choose another data directory \
         (while it serves, `stella gc`, `fsck` and `backup` work through it)",
        path = path.display()
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// A restore into this data directory was begun and did not end.
    #[error(
        "{path} is an unfinished restore: wait for it, or if it failed remove the directory and restore again",
        path = .0.display()
    )]
    Restoring(PathBuf),
    /// There is no such folder of backups, or no such snapshot in it.
    #[error("{0}")]
    NoBackup(String),
    /// Files of a backup are damaged.
    #[error("{0}")]
    DamagedBackup(String),
    /// What was asked for cannot be done like this; the text says why.
    #[error("{0}")]
    Refused(String),
    /// Such an operation runs already.
    #[error("{0}")]
    Busy(String),
    /// Whoever asked for a long operation is gone.
    #[error("nobody listens to the operation any more: it was stopped")]
    Abandoned,
    /// Another process serves this database.
    #[error("{database} is in use by {holder}; stop that process, or choose another database")]
    DatabaseLocked {
        /// The database, without user and password.
        database: String,
        /// Who holds it.
        holder: String,
    },
    /// An operation on a file failed.
    #[error("cannot {doing} {path}: {cause}", path = path.display())]
    Io {
        /// What was tried, such as `open`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: Arc<io::Error>,
    },
}

impl Error {
    /// Wraps a file error; a full disk gets its own variant.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, cause: io::Error) -> Self {
        if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Error::Full;
        }
        Error::Io { doing, path: path.into(), cause: Arc::new(cause) }
    }

    /// Whether the text is for the operator's log only.
    pub fn is_internal(&self) -> bool {
        matches!(
            self,
            Error::Unavailable(_)
                | Error::CommitUnknown(_)
                | Error::Corrupt(_)
                | Error::NewerSchema { .. }
                | Error::OlderSchema { .. }
                | Error::Locked { .. }
                | Error::DatabaseLocked { .. }
                | Error::Restoring(_)
                | Error::NoBackup(_)
                | Error::DamagedBackup(_)
                | Error::Refused(_)
                | Error::Busy(_)
                | Error::Abandoned
                | Error::Io { .. }
        )
    }
}
