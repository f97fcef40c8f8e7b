// SPDX-License-Identifier: AGPL-3.0-only
//! `stella copy`: images between registries, and to and from layouts on disk.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stella_storage::{Reference, Tag};

use super::Outcome;
use super::connection::{AllVariables, Connection, Format, told};
use super::progress;
use super::table::bytes;
use crate::copy::{Copy, Place, Summary};
use crate::layout::Layout;
use crate::remote::{Error, ImageName, Options, Platform, Remote, Result};

#[derive(Args)]
#[command(after_help = "\
SOURCE and TARGET are HOST[:PORT]/NAME[:TAG][@DIGEST], or oci:DIR[:TAG] for an OCI layout on disk.
A TARGET without a tag gets that of the SOURCE.

Examples:
  stella copy registry.example/app:1.0 127.0.0.1:5000/app:1.0
  stella copy --referrers registry.example/app:1.0 127.0.0.1:5000/app
  stella copy --platform linux/arm64 alpine:3 oci:./alpine
  stella copy oci:./alpine:3 registry.example/alpine")]
pub(super) struct CopyArgs {
    /// What to copy
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to
    #[arg(value_name = "TARGET")]
    target: String,
    /// Copy the images for all platforms, the index as it is; this is the default
    #[arg(short, long, conflicts_with = "platform")]
    all: bool,
    /// Copy only the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Copy also what refers to it: signatures, SBOMs, attestations, cosign's tags
    #[arg(short, long)]
    referrers: bool,
    /// Copy so many blobs at once
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Print nothing but the result, and errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// One side of a copy, as it was named.
enum End {
    Image(ImageName),
    Layout { folder: PathBuf, reference: Option<Reference> },
}

#[derive(Serialize)]
struct Answer {
    source: String,
    target: String,
    #[serde(flatten)]
    summary: Summary,
}

pub(super) fn copy(args: CopyArgs, env: &AllVariables) -> Outcome {
    let CopyArgs { source, target, all: _, platform, referrers, jobs, quiet, format, connection } = args;
    format.run(async move {
        let options = connection.options(env);
        let (from_end, to_end) = (told(parse(&source), "SOURCE")?, told(parse(&target), "TARGET")?);
        let (from, reference) = told(open(&options, &from_end).await, &source)?;
        let tag = told(tag(&from, reference.as_ref(), &to_end), &target)?;
        let to = told(create(&options, &to_end, &from_end, &from).await, &target)?;
        let copy = Copy {
            source: from,
            from: reference,
            target: to,
            tag: tag.clone(),
            platform,
            referrers,
            jobs: jobs.into(),
            observer: progress::observer(quiet),
        };
        let summary = told(copy.run().await, format!("cannot copy {source} to {target}"))?;
        let target = to_end.with(tag.as_ref());
        format.print(&Answer { source, target, summary })?;
        Ok(0)
    })
}

fn parse(text: &str) -> Result<End> {
    let Some(rest) = text.strip_prefix("oci:") else { return Ok(End::Image(text.parse()?)) };
    let wrong = |error: stella_storage::Error| Error::Usage(format!("{text:?}: {error}"));
    let (folder, reference) = match rest.split_once('@') {
        Some((folder, digest)) => {
            let digest = digest.parse().map_err(|error| Error::Usage(format!("{text:?}: {error}")))?;
            (folder, Some(Reference::Digest(digest)))
        }
        // A colon in a folder's name is followed by a slash somewhere.
        None => match rest.rsplit_once(':') {
            Some((folder, tag)) if !tag.contains('/') => {
                (folder, Some(Reference::Tag(tag.parse().map_err(wrong)?)))
            }
            _ => (rest, None),
        },
    };
    if folder.is_empty() {
        return Err(Error::Usage(format!("{text:?} names no directory; write oci:DIR[:TAG]")));
    }
    Ok(End::Layout { folder: folder.into(), reference })
}

async fn open(options: &Options, end: &End) -> Result<(Place, Option<Reference>)> {
    Ok(match end {
        End::Image(name) => {
            let remote = Remote::connect(options, name).await?;
            (Place::Remote(remote), Some(name.reference()?))
        }
        End::Layout { folder, reference } => (Place::Layout(Layout::open(folder)?), reference.clone()),
    })
}

async fn create(options: &Options, end: &End, other: &End, from: &Place) -> Result<Place> {
    match (end, other, from) {
        (End::Layout { folder, .. }, ..) => Layout::open_or_create(folder).map(Place::Layout),
        // Of the same registry: by the same login, and blobs can be mounted.
        (End::Image(name), End::Image(source), Place::Remote(remote)) if name.host == source.host => {
            Ok(Place::Remote(remote.sibling(name.repository.clone())))
        }
        (End::Image(name), ..) => Remote::connect(options, name).await.map(Place::Remote),
    }
}

/// The tag in the target: the one that was named there, else the source's.
fn tag(source: &Place, reference: Option<&Reference>, target: &End) -> Result<Option<Tag>> {
    let named = match target {
        End::Image(ImageName { digest: Some(_), .. })
        | End::Layout { reference: Some(Reference::Digest(_)), .. } => {
            return Err(Error::Usage("a target takes a tag; its digest is that of the source".to_owned()));
        }
        End::Image(name) => name.tag.clone(),
        End::Layout { reference: Some(Reference::Tag(tag)), .. } => Some(tag.clone()),
        End::Layout { reference: None, .. } => None,
    };
    match (named, reference, source) {
        (Some(tag), ..) => Ok(Some(tag)),
        (None, Some(Reference::Tag(tag)), _) => Ok(Some(tag.clone())),
        (None, None, Place::Layout(layout)) => layout.only_tag(),
        (None, ..) => Ok(None),
    }
}

impl End {
    /// The name of what is there now.
    fn with(&self, tag: Option<&Tag>) -> String {
        let place = match self {
            End::Image(name) => name.place(),
            End::Layout { folder, .. } => format!("oci:{}", folder.display()),
        };
        tag.map_or_else(|| place.clone(), |tag| format!("{place}:{tag}"))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { target, summary, .. } = self;
        writeln!(f, "{target}@{}", summary.digest)?;
        let Summary { manifests, blobs, mounted, evidence, bytes: size, .. } = summary;
        let (manifests_copied, blobs_copied) =
            (count(manifests.copied, "manifest"), count(blobs.copied, "blob"));
        write!(f, "copied {manifests_copied} and {blobs_copied}, {} sent", bytes(*size))?;
        if *mounted > 0 {
            write!(f, ", {} mounted", count(*mounted, "blob"))?;
        }
        if manifests.existed + blobs.existed > 0 {
            let (manifests, blobs) = (count(manifests.existed, "manifest"), count(blobs.existed, "blob"));
            write!(f, "; {manifests} and {blobs} were there")?;
        }
        if *evidence > 0 {
            write!(f, "; with {} of evidence", count(*evidence, "piece"))?;
        }
        writeln!(f)
    }
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_named_by_its_directory_and_a_tag() {
        let layout = |text: &str| match parse(text) {
            Ok(End::Layout { folder, reference }) => {
                (folder.display().to_string(), reference.map(|reference| reference.to_string()))
            }
            _ => panic!("{text}"),
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(layout("oci:dir"), ("dir".into(), None));
        assert_eq!(layout("oci:/a/b:1.0"), ("/a/b".into(), some("1.0")));
        assert_eq!(layout("oci:/a:b/c"), ("/a:b/c".into(), None));
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(layout(&format!("oci:dir@{digest}")), ("dir".into(), some(&digest)));
        for wrong in ["oci:", "oci::tag", "oci:dir:", "oci:dir@x"] {
            assert!(matches!(parse(wrong), Err(Error::Usage(_))), "{wrong}");
        }
        assert!(matches!(parse("alpine"), Ok(End::Image(_))));
    }
}
