// SPDX-License-Identifier: AGPL-3.0-only
//! `stella generate-key-pair`: a new key under a password, and its public half. The files are cosign's.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use stella_policy::PrivateKey;

use super::connection::AllVariables;
use super::key_files::{Readers, write_key};
use super::signing::{failed, usage};
use super::{Outcome, note, password};

#[derive(Args)]
#[command(after_help = "\
The password is taken from COSIGN_PASSWORD, else asked for; it may be empty. What is there is not replaced unasked.

Examples:
  stella generate-key-pair
  stella generate-key-pair --output-key-prefix release")]
pub(super) struct GenerateKeyPairArgs {
    /// Write PREFIX.key and PREFIX.pub
    #[arg(long, value_name = "PREFIX", default_value = "cosign")]
    output_key_prefix: String,
}

pub(super) fn generate_key_pair(args: &GenerateKeyPairArgs, env: &AllVariables) -> Outcome {
    let [private, public] =
        ["key", "pub"].map(|end| PathBuf::from(format!("{}.{end}", args.output_key_prefix)));
    let existing: Vec<&Path> = [&private, &public]
        .into_iter()
        .map(PathBuf::as_path)
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    let may_replace = !existing.is_empty();
    if may_replace && !agreed(&existing)? {
        return Err(usage("nothing was written"));
    }
    let password = password::new(env)?;
    let key = PrivateKey::generate().map_err(|error| failed(&error))?;
    let sealed = zeroize::Zeroizing::new(key.to_encrypted_pem(&password).map_err(|error| failed(&error))?);
    write_key(&private, sealed.as_bytes(), Readers::Owner, may_replace)?;
    note(&format!("private key written to {}", private.display()));
    write_key(&public, key.public_pem().as_bytes(), Readers::Everybody, may_replace)?;
    note(&format!("public key written to {}", public.display()));
    Ok(0)
}

/// Whether a person agrees that files are replaced. Without one they stay.
fn agreed(existing: &[&Path]) -> anyhow::Result<bool> {
    let names: Vec<_> = existing.iter().map(|path| path.display().to_string()).collect();
    let names = names.join(" and ");
    if !io::stdin().is_terminal() {
        return Err(usage(format!(
            "{names} would be replaced; remove it first, or take another --output-key-prefix"
        )));
    }
    let mut err = io::stderr().lock();
    write!(err, "{names} would be replaced, and what was signed with that key can then not be signed so again. Replace? [y/N] ")
        .and_then(|()| err.flush())
        .context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
