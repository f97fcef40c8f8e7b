// SPDX-License-Identifier: AGPL-3.0-only
//! Whose signature is wanted, and what is trusted to tell: the flags that all verifying commands share. A key or an
//! identity, never both and never neither; of an identity both the subject and the issuer, each said once.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::cli::signing::usage;

#[derive(Args)]
pub(crate) struct IdentityArgs {
    /// Signed by this public key, a PEM file
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Signed by whom a certificate names so
    #[arg(long, value_name = "SUBJECT")]
    certificate_identity: Option<String>,
    /// Signed by whom a certificate names so; matches the whole name
    #[arg(long, value_name = "REGEX")]
    certificate_identity_regexp: Option<String>,
    /// Who vouched for that name: an OIDC issuer
    #[arg(long, value_name = "URL")]
    certificate_oidc_issuer: Option<String>,
    /// Who vouched for that name; matches the whole URL
    #[arg(long, value_name = "REGEX")]
    certificate_oidc_issuer_regexp: Option<String>,
    /// Trust the certificate authorities, logs and clocks in this file (`trusted_root.json`)
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// The file with roots is that of Sigstore's staging
    #[arg(long)]
    staging: bool,
    /// Do without a transparency log
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_ignore_tlog: bool,
    /// Demand a signed timestamp (RFC 3161)
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_signed_timestamps: bool,
}

/// What is demanded of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) who: Who,
    pub(crate) root: Root,
    pub(crate) ignore_log: bool,
    pub(crate) timestamps: bool,
}

/// Who must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Who has the private key to this public one.
    Key(PathBuf),
    /// Whom a certificate names.
    Certificate { subject: Wanted, issuer: Wanted },
}

/// How a name must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This one.
    Exactly(String),
    /// All of it matches.
    Matching(String),
}

/// Where trust comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// From a file.
    File(PathBuf),
    /// From the public root that is built in, for this command only.
    BuiltIn,
    /// From nowhere: a key alone decides.
    None,
}

impl IdentityArgs {
    /// What they mean together, or why they do not.
    pub(crate) fn demand(self) -> anyhow::Result<Demand> {
        if self.staging && self.trusted_root.is_none() {
            return Err(usage(
                "--staging needs --trusted-root: the root of Sigstore's staging is not built in",
            ));
        }
        let subject = one(
            ("--certificate-identity", self.certificate_identity),
            ("--certificate-identity-regexp", self.certificate_identity_regexp),
        )?;
        let issuer = one(
            ("--certificate-oidc-issuer", self.certificate_oidc_issuer),
            ("--certificate-oidc-issuer-regexp", self.certificate_oidc_issuer_regexp),
        )?;
        let who = match (self.key, subject, issuer) {
            (Some(key), None, None) => Who::Key(key),
            (Some(_), ..) => {
                return Err(usage("a key or an identity: --key does not go with --certificate-…"));
            }
            (None, Some(subject), Some(issuer)) => Who::Certificate { subject, issuer },
            (None, Some(_), None) => {
                return Err(usage(
                    "whoever names an identity must name who vouches for it: add --certificate-oidc-issuer",
                ));
            }
            (None, None, Some(_)) => {
                return Err(usage("an issuer vouches for many: add --certificate-identity"));
            }
            (None, None, None) => {
                return Err(usage(
                    "whose signature? Add --key, or --certificate-identity and --certificate-oidc-issuer",
                ));
            }
        };
        let alone = matches!(who, Who::Key(_)) && self.insecure_ignore_tlog && !self.use_signed_timestamps;
        let root = match self.trusted_root {
            Some(file) => Root::File(file),
            None if alone => Root::None,
            None => Root::BuiltIn,
        };
        Ok(Demand {
            who,
            root,
            ignore_log: self.insecure_ignore_tlog,
            timestamps: self.use_signed_timestamps,
        })
    }
}

fn one(exactly: (&str, Option<String>), matching: (&str, Option<String>)) -> anyhow::Result<Option<Wanted>> {
    let wanted = match (exactly.1, matching.1) {
        (Some(_), Some(_)) => return Err(usage(format!("{} or {}, not both", exactly.0, matching.0))),
        (Some(text), None) => Some((exactly.0, text.is_empty(), Wanted::Exactly(text))),
        (None, Some(text)) => Some((matching.0, text.is_empty(), Wanted::Matching(text))),
        (None, None) => None,
    };
    match wanted {
        Some((flag, true, _)) => Err(usage(format!("{flag} is empty"))),
        wanted => Ok(wanted.map(|(_, _, wanted)| wanted)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::Failed;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        identity: IdentityArgs,
    }

    fn demand(flags: &str) -> Result<Demand, String> {
        let flags = std::iter::once("x").chain(flags.split_whitespace());
        let command = Command::try_parse_from(flags).map_err(|error| error.to_string())?;
        command.identity.demand().map_err(|error| {
            assert_eq!(error.downcast_ref::<Failed>().map(|failed| failed.exit), Some(crate::exit::USAGE));
            error.to_string()
        })
    }

    #[test]
    fn a_key_or_both_halves_of_an_identity_and_nothing_else() {
        let exactly = |text: &str| Wanted::Exactly(text.to_owned());
        let key = demand("--key k.pub").unwrap();
        assert_eq!((key.who, key.root), (Who::Key("k.pub".into()), Root::BuiltIn));
        let named = "--certificate-identity a@b --certificate-oidc-issuer-regexp https://.*";
        let issuer = Wanted::Matching("https://.*".to_owned());
        assert_eq!(demand(named).unwrap().who, Who::Certificate { subject: exactly("a@b"), issuer });
        for wrong in [
            "",
            "--certificate-identity a",
            "--certificate-identity-regexp a",
            "--certificate-oidc-issuer a",
            "--key k --certificate-identity a --certificate-oidc-issuer b",
            "--key k --certificate-oidc-issuer-regexp b",
            "--certificate-identity a --certificate-identity-regexp a --certificate-oidc-issuer b",
            "--certificate-identity a --certificate-oidc-issuer b --certificate-oidc-issuer-regexp b",
            "--certificate-identity= --certificate-oidc-issuer b",
            "--certificate-identity a --certificate-oidc-issuer-regexp=",
            "--key k --staging",
        ] {
            assert!(demand(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_root_is_only_done_without_where_a_key_alone_decides() {
        let root = |flags: &str| demand(&format!("--key k {flags}")).unwrap().root;
        assert_eq!(root("--insecure-ignore-tlog"), Root::None);
        assert_eq!(root("--insecure-ignore-tlog=true"), Root::None);
        assert_eq!(root("--insecure-ignore-tlog=false"), Root::BuiltIn);
        assert_eq!(root("--insecure-ignore-tlog --use-signed-timestamps"), Root::BuiltIn);
        assert_eq!(root("--insecure-ignore-tlog --trusted-root r --staging"), Root::File("r".into()));
    }
}
