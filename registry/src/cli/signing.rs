// SPDX-License-Identifier: AGPL-3.0-only
//! What the commands that sign share: their flags, the private key, and what they refuse because it needs a service
//! that is not asked here. Flags are cosign's, so that its users' habits and scripts work.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use serde::Deserialize;
use stella_policy::PrivateKey;
use zeroize::Zeroizing;

use super::connection::{AllVariables, Connection};
use super::password;
use crate::admin::Failed;
use crate::exit;
use crate::remote::Options;

/// The most bytes of a signing configuration or a trusted root.
const MOST_SERVICES: u64 = 4 << 20;

/// Who signs, and what else it involves.
#[derive(Args)]
pub(super) struct Signing {
    /// The private key: a PEM file, as `generate-key-pair` writes it, or `env://VARIABLE`
    #[arg(long, value_name = "FILE")]
    pub(super) key: String,
    /// Write Sigstore bundles; with =false, signatures as cosign 2 writes them
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) new_bundle_format: bool,
    /// Upload to a transparency log: not supported yet, so =false is implied
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tlog_upload: Option<bool>,
    /// Which services take part in signing (JSON, as `cosign signing-config` writes it); only none is supported yet
    #[arg(long = "signing-config", value_name = "FILE")]
    services: Option<PathBuf>,
    /// Checked to be a trusted root; a signature by a key alone needs none
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// Accepted for cosign's sake: nothing is asked
    #[arg(short, long)]
    yes: bool,
}

/// How the registry is reached.
#[derive(Args)]
pub(super) struct AtRegistry {
    #[command(flatten)]
    connection: Connection,
    /// Speak plain HTTP with a registry that does not speak TLS, wherever it is
    #[arg(long)]
    allow_http_registry: bool,
}

impl AtRegistry {
    pub(super) fn options(&self, env: &AllVariables) -> Options {
        let mut options = self.connection.options(env);
        options.allow_http = self.allow_http_registry;
        options
    }
}

/// `-a`.
#[derive(Args)]
pub(super) struct Annotations {
    /// A name and a value that are signed too; may be given several times
    #[arg(short, long = "annotations", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = pair)]
    annotations: Vec<(String, String)>,
}

impl Annotations {
    pub(super) fn map(self) -> BTreeMap<String, String> {
        self.annotations.into_iter().collect()
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Services {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    rekor_tlog_urls: Vec<serde_json::Value>,
    #[serde(default)]
    tsa_urls: Vec<serde_json::Value>,
}

impl Signing {
    /// Refuses what would need a service, and reads the key.
    pub(super) fn key(&self, env: &AllVariables) -> anyhow::Result<PrivateKey> {
        if self.tlog_upload == Some(true) {
            return Err(usage(
                "uploading to a transparency log is not supported yet; leave --tlog-upload out",
            ));
        }
        if let Some(path) = &self.services {
            let services: Services = document(path)?;
            if !services.media_type.starts_with("application/vnd.dev.sigstore.signingconfig.") {
                return Err(usage(format!("{}: not a signing configuration", path.display())));
            }
            if !services.rekor_tlog_urls.is_empty() {
                return Err(usage(format!(
                    "{}: it asks for an upload to a transparency log (rekorTlogUrls), which is not supported yet",
                    path.display()
                )));
            }
            if !services.tsa_urls.is_empty() {
                return Err(usage(format!(
                    "{}: it asks for a timestamp (tsaUrls), which is not supported yet",
                    path.display()
                )));
            }
        }
        if let Some(path) = &self.trusted_root {
            let root: Services = document(path)?;
            if !root.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
                return Err(usage(format!("{}: not a trusted root", path.display())));
            }
        }
        private_key(&self.key, env)
    }
}

/// The key that `--key` names.
pub(super) fn private_key(name: &str, env: &AllVariables) -> anyhow::Result<PrivateKey> {
    let text = key_text(name, env)?;
    let about = |error: stella_policy::Error| usage(format!("{name}: {error}"));
    let password = if PrivateKey::needs_password(&text).map_err(about)? {
        password::known(env)?
    } else {
        Zeroizing::default()
    };
    PrivateKey::from_pem(&text, &password).map_err(about)
}

fn key_text(name: &str, env: &AllVariables) -> anyhow::Result<Zeroizing<String>> {
    if let Some((scheme, rest)) = name.split_once("://") {
        if scheme != "env" {
            return Err(usage(format!(
                "{name}: keys are read from files and env://VARIABLE; {scheme}:// is not supported"
            )));
        }
        let value = env.get(rest).ok_or_else(|| usage(format!("{name}: there is no such variable")))?;
        let value = value.to_str().ok_or_else(|| usage(format!("{name}: not a key in PEM")))?;
        return Ok(Zeroizing::new(value.to_owned()));
    }
    let bytes = Zeroizing::new(read(Path::new(name), PrivateKey::MOST)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| usage(format!("{name}: not a key in PEM")))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn document<T: for<'de> Deserialize<'de>>(path: &Path) -> anyhow::Result<T> {
    let bytes = read(path, MOST_SERVICES)?;
    serde_json::from_slice(&bytes).map_err(|error| usage(format!("{}: {error}", path.display())))
}

/// A file that a flag names, of at most so many bytes.
pub(super) fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let failed = |error: std::io::Error| usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(usage(format!("{}: it is larger than {most} bytes", path.display())));
    }
    Ok(bytes)
}

/// Wrong usage, or what was named cannot be used.
pub(super) fn usage(error: impl Into<String>) -> anyhow::Error {
    Failed { error: error.into(), exit: exit::USAGE }.into()
}

/// An error of the policy engine as one of the command line.
pub(super) fn failed(error: &stella_policy::Error) -> anyhow::Error {
    Failed { error: error.to_string(), exit: exit::of_policy(error) }.into()
}
