// SPDX-License-Identifier: AGPL-3.0-only
//! `stella inspect`: what an image or artifact is, and what refers to it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use stella_storage::Digest;

use super::Outcome;
use super::connection::{AllVariables, Connection, Format, told};
use super::table::{bytes, rows};
use crate::copy::{Place, pick};
use crate::remote::{Descriptor, Error, ImageName, Manifest, Platform, Remote, Result, printable};

/// The largest config that is read.
const MAX_CONFIG: u64 = 8 << 20;
/// Of how many images of an index the sizes are looked up.
const MAX_LOOKED_UP: usize = 64;
const CREATED: &str = "org.opencontainers.image.created";

#[derive(Args)]
#[command(after_help = "\
Examples:
  stella inspect registry.example/team/app:1.0
  stella inspect --platform linux/arm64 registry.example/team/app:1.0
  stella inspect --raw registry.example/team/app:1.0 | sha256sum
  stella inspect --output json alpine | jq .platforms")]
pub(super) struct InspectArgs {
    /// The image or artifact: HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The image for this platform, of those in an index
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Print the manifest itself, byte for byte, and nothing else
    #[arg(long, conflicts_with = "output")]
    raw: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Report {
    reference: String,
    digest: Digest,
    media_type: String,
    /// Of the manifest alone.
    size: u64,
    /// Of all blobs of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    platforms: Vec<Child>,
    layers: Vec<Descriptor>,
    referrers: Vec<Referrer>,
}

#[derive(Serialize)]
struct Child {
    platform: String,
    digest: Digest,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_size: Option<u64>,
}

#[derive(Serialize)]
struct Referrer {
    artifact_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    annotations: BTreeMap<String, String>,
}

/// What of an image's config is shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    created: Option<String>,
    #[serde(rename = "config")]
    inner: Option<Inner>,
    #[serde(flatten)]
    platform: Option<Platform>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Inner {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

pub(super) fn inspect(args: InspectArgs, env: &AllVariables) -> Outcome {
    let InspectArgs { image, platform, raw, format, connection } = args;
    format.run(async move {
        let name: ImageName = told(image.parse(), "image")?;
        let about = name.to_string();
        let remote = told(Remote::connect(&connection.options(env), &name).await, &about)?;
        let reference = told(name.reference(), &about)?;
        let mut manifest = told(remote.manifest(&reference).await, &about)?;
        if let Some(platform) = &platform {
            let place = Place::Remote(remote.clone());
            manifest = told(pick(&place, manifest, platform).await, &about)?;
        }
        if raw {
            let mut out = io::stdout().lock();
            out.write_all(&manifest.bytes).and_then(|()| out.flush()).context("cannot write to stdout")?;
            return Ok(0);
        }
        format.print(&told(report(&remote, &about, &manifest).await, &about)?)?;
        Ok(0)
    })
}

async fn report(remote: &Remote, reference: &str, manifest: &Manifest) -> Result<Report> {
    let document = &manifest.document;
    let config = config(remote, manifest).await?;
    let annotations = document.annotations.clone().unwrap_or_default();
    let created = config.created.or_else(|| annotations.get(CREATED).cloned());
    let referrers = remote.referrers(&manifest.digest).await.map_err(|error| error.about("referrers"))?;
    let platform = config.platform.filter(|platform| !platform.os.is_empty());
    Ok(Report {
        reference: reference.to_owned(),
        digest: manifest.digest.clone(),
        media_type: manifest.media_type.clone(),
        size: manifest.bytes.len() as u64,
        content_size: (!document.is_index()).then(|| content_size(manifest)),
        artifact_type: document.artifact_type.clone(),
        created,
        platform: platform.map(|platform| platform.to_string()),
        subject: document.subject.as_ref().map(|subject| subject.digest.clone()),
        annotations,
        labels: config.inner.and_then(|inner| inner.labels).unwrap_or_default(),
        platforms: children(remote, document.manifests()).await,
        layers: document.layers().to_vec(),
        referrers: referrers.into_iter().map(referrer).collect(),
    })
}

/// The config of an image; of an artifact it says nothing.
async fn config(remote: &Remote, manifest: &Manifest) -> Result<Config> {
    let Some(config) = &manifest.document.config else { return Ok(Config::default()) };
    if config.size > MAX_CONFIG || !config.media_type.ends_with("+json") {
        return Ok(Config::default());
    }
    match remote.blob(&config.digest, config.size).await {
        Ok(content) => Ok(serde_json::from_slice(&content.whole().await?).unwrap_or_default()),
        // A manifest can be looked at although its config is not there.
        Err(Error::NotFound(_)) => Ok(Config::default()),
        Err(error) => Err(error),
    }
}

fn content_size(manifest: &Manifest) -> u64 {
    let blobs = manifest.document.config.iter().chain(manifest.document.layers());
    blobs.fold(0, |sum, blob| sum.saturating_add(blob.size))
}

async fn children(remote: &Remote, children: &[Descriptor]) -> Vec<Child> {
    let place = Place::Remote(remote.clone());
    let look = |(place, at, child): (Place, usize, Descriptor)| async move {
        // An index may list what is not here.
        let size = if child.is_manifest() && at < MAX_LOOKED_UP {
            place.child(&child).await.ok().filter(|found| !found.document.is_index())
        } else {
            None
        };
        Child {
            platform: child.platform.map_or_else(|| "-".to_owned(), |platform| platform.to_string()),
            digest: child.digest,
            media_type: child.media_type,
            content_size: size.as_ref().map(content_size),
        }
    };
    let each = children.iter().cloned().enumerate().map(|(at, child)| (place.clone(), at, child));
    stream::iter(each).map(look).buffered(4).collect().await
}

fn referrer(descriptor: Descriptor) -> Referrer {
    let annotations = descriptor.annotations.unwrap_or_default();
    Referrer {
        artifact_type: descriptor.artifact_type.unwrap_or(descriptor.media_type),
        digest: descriptor.digest,
        size: descriptor.size,
        created: annotations.get(CREATED).cloned(),
        annotations,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| printable(text, 300);
        let mut line = |name: &str, value: &str| writeln!(f, "{name:<14} {}", text(value));
        line("Reference", &self.reference)?;
        line("Digest", &self.digest.to_string())?;
        line("Media type", &self.media_type)?;
        for (name, value) in
            [("Artifact type", &self.artifact_type), ("Platform", &self.platform), ("Created", &self.created)]
        {
            value.iter().try_for_each(|value| line(name, value))?;
        }
        self.subject.iter().try_for_each(|subject| line("Refers to", &subject.to_string()))?;
        let content = self.content_size.map(|size| format!(", with its content {}", bytes(size + self.size)));
        line("Size", &format!("{}{}", bytes(self.size), content.unwrap_or_default()))?;
        for (name, pairs) in [("Annotations", &self.annotations), ("Labels", &self.labels)] {
            if !pairs.is_empty() {
                writeln!(f, "\n{name}")?;
            }
            pairs.iter().try_for_each(|(key, value)| writeln!(f, "  {}: {}", text(key), text(value)))?;
        }
        if !self.platforms.is_empty() {
            writeln!(f, "\nPlatforms")?;
            let cells = self.platforms.iter().map(|child| {
                let size = child.content_size.map_or_else(|| "-".to_owned(), bytes);
                vec![text(&child.platform), size, child.digest.to_string(), text(&child.media_type)]
            });
            rows(f, &["PLATFORM", "SIZE", "DIGEST", "MEDIA TYPE"], &cells.collect::<Vec<_>>())?;
        }
        if !self.layers.is_empty() {
            writeln!(f, "\nLayers")?;
            let cells = self
                .layers
                .iter()
                .map(|layer| vec![bytes(layer.size), layer.digest.to_string(), text(&layer.media_type)]);
            rows(f, &["SIZE", "DIGEST", "MEDIA TYPE"], &cells.collect::<Vec<_>>())?;
        }
        if !self.referrers.is_empty() {
            writeln!(f, "\nReferrers")?;
            let mut referrers: Vec<_> = self.referrers.iter().collect();
            referrers.sort_by(|one, other| one.artifact_type.cmp(&other.artifact_type));
            let cells = referrers.into_iter().map(|referrer| {
                let created = referrer.created.as_deref().unwrap_or("-");
                vec![text(&referrer.artifact_type), referrer.digest.to_string(), text(created)]
            });
            rows(f, &["ARTIFACT TYPE", "DIGEST", "CREATED"], &cells.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
