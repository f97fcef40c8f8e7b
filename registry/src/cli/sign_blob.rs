// SPDX-License-Identifier: AGPL-3.0-only
//! `stella sign-blob`: signs a file.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use stella_policy::sign::{detached_signature, message_bundle, old_bundle};

use super::Outcome;
use super::connection::AllVariables;
use super::key_files::replace;
use super::note;
use super::signing::{Signing, failed, read, usage};

/// The most bytes that are signed: they are in memory at once, because Ed25519 signs the message itself.
const MOST: u64 = 2 << 30;

#[derive(Args)]
#[command(group = ArgGroup::new("result").required(true).args(["bundle", "output_signature"]))]
#[command(after_help = "\
The password of the key is taken from COSIGN_PASSWORD, else asked for.

Examples:
  stella sign-blob --key cosign.key --bundle app.tar.sigstore.json app.tar
  stella sign-blob --key cosign.key --output-signature app.tar.sig app.tar")]
pub(super) struct SignBlobArgs {
    /// The file to sign; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    signing: Signing,
    /// Write a bundle to this file
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Write the signature alone to this file, in base64
    #[arg(long, value_name = "FILE")]
    output_signature: Option<PathBuf>,
}

pub(super) fn sign_blob(args: SignBlobArgs, env: &AllVariables) -> Outcome {
    let SignBlobArgs { file, signing, bundle, output_signature } = args;
    let message = content(&file, MOST)?;
    let key = signing.key(env)?;
    let (path, bytes) = match (bundle, output_signature) {
        (Some(path), _) if signing.new_bundle_format => (path, message_bundle(&key, &message)),
        (Some(path), _) => {
            (path, detached_signature(&key, &message).and_then(|signature| old_bundle(&signature)))
        }
        (None, Some(path)) => (path, detached_signature(&key, &message).map(String::into_bytes)),
        (None, None) => return Err(usage("where to? Add --bundle or --output-signature")),
    };
    replace(&path, &bytes.map_err(|error| failed(&error))?)?;
    note(&format!("written: {}", path.display()));
    Ok(0)
}

/// A file, or stdin.
pub(super) fn content(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    if path != Path::new("-") {
        return read(path, most);
    }
    let mut bytes = Vec::new();
    let done = io::stdin().take(most + 1).read_to_end(&mut bytes);
    done.map_err(|error| usage(format!("cannot read stdin: {error}")))?;
    if bytes.len() as u64 > most {
        return Err(usage(format!("stdin has more than {most} bytes")));
    }
    Ok(bytes)
}
