// SPDX-License-Identifier: AGPL-3.0-only
//! What a check tells: its faults, what repairs them, and sums.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of faults, each with a stable code. The codes are in the table of `fsck.rs`.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal,)*) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum FaultKind {
            $(
                $(#[$doc])*
                #[serde(rename = $code)]
                $kind,
            )*
        }

        impl FaultKind {
            /// Every kind.
            pub const ALL: &[FaultKind] = &[$(FaultKind::$kind),*];

            /// The kind's code, which does not change.
            pub fn code(self) -> &'static str {
                match self {
                    $(FaultKind::$kind => $code,)*
                }
            }
        }
    };
}

kinds! {
    /// The metadata engine's own check fails.
    EngineDamaged = "engine-damaged",
    /// A key in a table that this program does not know.
    TableUnknown = "table-unknown",
    /// A key that nothing could have written.
    KeyUnreadable = "key-unreadable",
    /// A row whose value cannot be decoded.
    RowUnreadable = "row-unreadable",
    /// A row of the store itself cannot be read.
    MetaUnreadable = "meta-unreadable",
    /// A name has the id of another repository.
    RepositoryIdWrong = "repository-id-wrong",
    /// The name by id is missing or another.
    RepositoryIndexWrong = "repository-index-wrong",
    /// An id has a name which does not lead back.
    RepositoryMissing = "repository-missing",
    /// An id that would be given out again.
    RepositoryIdBeyondNext = "repository-id-beyond-next",
    /// Rows of a repository that has no name.
    RepositoryUnknown = "repository-unknown",
    /// A link that leads to other content than its digest says.
    LinkWrong = "link-wrong",
    /// A link with another size than its content.
    LinkSizeWrong = "link-size-wrong",
    /// A link to content that is not there.
    LinkWithoutContent = "link-without-content",
    /// A link that its content does not know.
    LinkIndexMissing = "link-index-missing",
    /// Content knows a link that is not there.
    LinkMissing = "link-missing",
    /// Content knows a link that cannot be.
    LinkIndexStray = "link-index-stray",
    /// Content that no link leads to.
    ContentWithoutLink = "content-without-link",
    /// Content without its file.
    ContentFileMissing = "content-file-missing",
    /// The row of content has the wrong size.
    ContentSizeWrong = "content-size-wrong",
    /// A file with other bytes than its content's.
    ContentDamaged = "content-damaged",
    /// A file with more bytes than its content.
    ContentFileLong = "content-file-long",
    /// The row of content has the wrong sha512, or lacks it.
    ContentSha512Wrong = "content-sha512-wrong",
    /// Content is marked as damaged and is not.
    ContentMarkStale = "content-mark-stale",
    /// Content's other digest does not lead to it.
    AliasWrong = "alias-wrong",
    /// A digest leads to content that has another one.
    AliasStray = "alias-stray",
    /// A manifest without its bytes.
    ManifestBytesMissing = "manifest-bytes-missing",
    /// Bytes that do not have their manifest's digest.
    ManifestBytesDamaged = "manifest-bytes-damaged",
    /// Bytes of a manifest that has no row.
    ManifestRowMissing = "manifest-row-missing",
    /// Bytes that belong to no manifest.
    ManifestBytesStray = "manifest-bytes-stray",
    /// A row that does not fit its document.
    ManifestRowWrong = "manifest-row-wrong",
    /// A document that breaks the rules.
    ManifestInvalid = "manifest-invalid",
    /// References that are missing or not those of the document.
    ReferencesWrong = "references-wrong",
    /// References of no manifest.
    ReferencesStray = "references-stray",
    /// An edge that is missing, or of another kind.
    EdgeMissing = "edge-missing",
    /// An edge of a manifest that does not name its target.
    EdgeStray = "edge-stray",
    /// A referrer that its subject does not know.
    ReferrerMissing = "referrer-missing",
    /// A referrer whose descriptor is not that of its document.
    ReferrerWrong = "referrer-wrong",
    /// A referrer that is not there or has another subject.
    ReferrerStray = "referrer-stray",
    /// A tag of a manifest that is not there.
    TagDangling = "tag-dangling",
    /// A tag that only its manifest or its history knows.
    TagMissing = "tag-missing",
    /// A tag that its manifest does not know.
    TagIndexMissing = "tag-index-missing",
    /// A manifest knows a tag that points elsewhere.
    TagIndexStray = "tag-index-stray",
    /// A tag and the last move in its history differ.
    TagHistoryWrong = "tag-history-wrong",
    /// A move is missing between others.
    TagHistoryGap = "tag-history-gap",
    /// An upload that cannot go on.
    UploadDamaged = "upload-damaged",
    /// An upload whose file has fewer bytes than were acknowledged.
    UploadFileShort = "upload-file-short",
    /// An upload whose file has other bytes than were received.
    UploadBytesDamaged = "upload-bytes-damaged",
    /// A refresh token that is not found by its subject, or not when it expires.
    RefreshTokenIndexMissing = "refresh-token-index-missing",
    /// A refresh token that is not there is found by a subject, or when it expires.
    RefreshTokenIndexStray = "refresh-token-index-stray",
    /// Something unprotected that collection would never look at.
    ReviewMissing = "review-missing",
    /// Collection would look at a repository that does not exist.
    ReviewStray = "review-stray",
    /// A file that more than one row names.
    LocationNamedTwice = "location-named-twice",
    /// A file that no row names.
    FileStray = "file-stray",
    /// Something in the folder of blobs that is not ours.
    NameStray = "name-stray",
    /// A part of the folder of blobs is gone.
    FolderMissing = "folder-missing",
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What becomes of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "text", rename_all = "kebab-case")]
pub enum Repair {
    /// How a repair leaves it.
    Would(String),
    /// It was repaired: how it is now.
    Done(String),
    /// What the operator should do: it cannot be repaired from what is here.
    Manual(String),
}

/// Something that is wrong with the stored data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The repository, if the fault is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The digest of the blob, manifest or target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The blob file, upload, or other place on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What is wrong, as a sentence.
    pub what: String,
    /// What becomes of it.
    pub repair: Repair,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(repository) = &self.repository {
            write!(f, " {repository}")?;
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match (&self.digest, self.repository.is_some() || self.tag.is_some()) {
            (Some(digest), true) => write!(f, "@{digest}")?,
            (Some(digest), false) => write!(f, " {digest}")?,
            (None, _) => {}
        }
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        write!(f, ": {}; ", self.what)?;
        match &self.repair {
            Repair::Would(how) => write!(f, "to repair: {how}"),
            Repair::Done(how) => write!(f, "repaired: {how}"),
            Repair::Manual(advice) => write!(f, "cannot be repaired here: {advice}"),
        }
    }
}

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckSummary {
    /// Whether faults were repaired.
    pub repair: bool,
    /// Rows of metadata that were checked.
    pub rows: u64,
    /// Manifests whose bytes were hashed and read.
    pub manifests: u64,
    /// Blob files that were hashed, those of uploads too.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Faults by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Faults that were repaired.
    pub repaired: u64,
}

impl FsckSummary {
    /// How many faults were found, repaired or not.
    pub fn found(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How many faults are left.
    pub fn left(&self) -> u64 {
        self.found() - self.repaired
    }

    pub(super) fn count(&mut self, fault: &Fault) {
        *self.faults.entry(fault.kind).or_default() += 1;
        self.repaired += u64::from(matches!(fault.repair, Repair::Done(_)));
    }
}

impl fmt::Display for FsckSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FsckSummary { rows, manifests, files, bytes, .. } = self;
        write!(f, "checked {rows} rows, {manifests} manifests and {files} files of {bytes} bytes: ")?;
        if self.faults.is_empty() {
            return f.write_str("no faults");
        }
        write!(f, "{} faults", self.found())?;
        for (number, (kind, count)) in self.faults.iter().enumerate() {
            write!(f, "{}{kind} {count}", if number == 0 { " (" } else { ", " })?;
        }
        write!(f, ")")?;
        if self.repair {
            write!(f, ", {} repaired, {} left", self.repaired, self.left())?;
        }
        Ok(())
    }
}
