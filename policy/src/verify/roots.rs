// SPDX-License-Identifier: AGPL-3.0-only
//! Trust roots, made ready once: Sigstore's verifiers, keys of logs, chains of authorities. One verifier for each
//! certificate authority, so that it is known through which one a certificate was accepted.

use rustls_pki_types::TrustAnchor;
use sigstore_crypto::VerificationKey;
use sigstore_types::{DerPublicKey, TimeRange, TsaAuthority};
use sigstore_verify::Verifier;

use super::path;
use crate::refusal::Refusal;
use crate::trust::load::authority_of;
use crate::x509::Certificate;
use crate::{Error, Result, TrustRoot};

/// A root, ready.
pub(super) struct Root {
    pub(super) name: String,
    pub(super) logs: Vec<Log>,
    pub(super) issuers: Vec<Issuer>,
    pub(super) stamps: Vec<Stamp>,
    /// Without any, none can be demanded.
    pub(super) certificate_logs: Vec<CertificateLog>,
    /// For what keys signed.
    pub(super) verifier: Verifier,
}

/// A transparency log.
pub(super) struct Log {
    pub(super) id: Vec<u8>,
    pub(super) url: String,
    pub(super) key: VerificationKey,
    pub(super) window: Window,
}

/// A log of certificates.
pub(super) struct CertificateLog {
    pub(super) id: Vec<u8>,
    /// How it signs is said with each signature.
    pub(super) key: DerPublicKey,
    pub(super) window: Window,
}

/// A certificate authority.
pub(super) struct Issuer {
    pub(super) verifier: Verifier,
    pub(super) window: Window,
    /// Its chain, the one that issues first.
    pub(super) chain: Vec<Link>,
    /// The same certificates, where a path may end.
    pub(super) anchors: Vec<TrustAnchor<'static>>,
}

/// A certificate of an authority's chain.
pub(super) struct Link {
    /// In DER.
    pub(super) bytes: Vec<u8>,
    /// Whom it is of.
    pub(super) subject: Vec<u8>,
    pub(super) window: Window,
    /// How many authorities may stand below it.
    pub(super) most_below: Option<usize>,
}

/// A timestamp authority.
pub(super) struct Stamp {
    pub(super) authority: TsaAuthority,
    /// Its address, or the digest of its certificate.
    pub(super) name: String,
    /// Each of its certificates, in DER.
    pub(super) chain: Vec<Vec<u8>>,
    /// Whether its certificate is one for timestamps and nothing else.
    pub(super) proper: bool,
    pub(super) window: Window,
}

/// From when until when, both inclusive, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: i64,
    pub(super) end: Option<i64>,
}

impl Window {
    const ALWAYS: Window = Window { start: i64::MIN, end: None };

    pub(super) fn contains(self, time: i64) -> bool {
        time >= self.start && self.end.is_none_or(|end| time <= end)
    }

    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method's crate is no dependency of this one"
    )]
    fn of(range: Option<TimeRange>) -> Self {
        range.map_or(Window::ALWAYS, |range| {
            // Times here are whole seconds: a start within a second holds from the next one.
            let within = range.start.subsec_nanosecond() > 0;
            Window {
                start: range.start.as_second() + i64::from(within),
                end: range.end.map(|end| end.as_second()),
            }
        })
    }
}

impl Root {
    pub(super) fn new(root: &TrustRoot) -> Result<Self> {
        let trusted = root.trusted();
        let failed = |why: String| Error::Load(format!("{}: {why}", root.name()));
        let link = |der: &[u8]| {
            Certificate::read(der).map(|certificate| Link {
                bytes: der.to_vec(),
                subject: certificate.subject.to_vec(),
                window: Window { start: certificate.not_before, end: Some(certificate.not_after) },
                most_below: certificate.most_below(),
            })
        };
        let mut logs = Vec::new();
        for log in &trusted.tlogs {
            let key =
                VerificationKey::from_spki(&log.public_key.raw_bytes).map_err(|e| failed(e.to_string()))?;
            logs.push(Log {
                id: log.log_id.key_id.as_bytes().to_vec(),
                url: log.base_url.clone(),
                key,
                window: Window::of(log.public_key.valid_for),
            });
        }
        let certificate_logs = trusted.ctlogs.iter().map(|log| CertificateLog {
            id: log.log_id.key_id.as_bytes().to_vec(),
            key: log.public_key.raw_bytes.clone(),
            window: Window::of(log.public_key.valid_for),
        });
        let certificate_logs = certificate_logs.collect();
        let mut issuers = Vec::new();
        for authority in &trusted.certificate_authorities {
            let mut single = trusted.clone();
            single.certificate_authorities = vec![authority.clone()];
            let chain: std::result::Result<_, Refusal> = authority
                .cert_chain
                .certificates
                .iter()
                .map(|entry| link(entry.raw_bytes.as_bytes()))
                .collect();
            issuers.push(Issuer {
                verifier: Verifier::new(&single).map_err(|error| failed(error.to_string()))?,
                window: Window::of(authority.valid_for),
                chain: chain.map_err(|refusal| failed(refusal.why))?,
                anchors: path::anchors(authority).map_err(failed)?,
            });
        }
        let mut stamps = Vec::new();
        for authority in &trusted.timestamp_authorities {
            let chain: Vec<_> =
                authority.cert_chain.certificates.iter().map(|entry| &entry.raw_bytes).collect();
            let (Some((leaf, above)), Some(root)) = (chain.split_first(), chain.last()) else {
                return Err(failed("a timestamp authority without certificates".into()));
            };
            let between = above.split_last().map_or(&[][..], |(_, between)| between);
            let uri = authority.uri.as_deref().filter(|uri| !uri.is_empty());
            stamps.push(Stamp {
                name: uri.map_or_else(|| crate::Digest::of(leaf.as_bytes()).to_string(), str::to_owned),
                proper: Certificate::read(leaf.as_bytes()).is_ok_and(|leaf| leaf.is_timestamp_authority()),
                chain: chain.iter().map(|certificate| certificate.as_bytes().to_vec()).collect(),
                authority: TsaAuthority::new(
                    (*leaf).clone(),
                    between.iter().map(|certificate| (*certificate).clone()).collect(),
                    (*root).clone(),
                    authority.valid_for,
                ),
                window: Window::of(authority.valid_for),
            });
        }
        Ok(Root {
            name: root.name().to_owned(),
            logs,
            issuers,
            stamps,
            certificate_logs,
            verifier: Verifier::new(trusted).map_err(|error| failed(error.to_string()))?,
        })
    }

    pub(super) fn log(&self, id: &[u8]) -> Option<&Log> {
        self.logs.iter().find(|log| log.id == id)
    }
}

impl Log {
    /// Whether checkpoints of this origin are its own: Rekor v2 names its host, Rekor v1 its host and the tree.
    pub(super) fn is_origin(&self, origin: &str) -> bool {
        let host = origin.split_once(" - ").map_or(origin, |(host, tree)| {
            if tree.bytes().all(|byte| byte.is_ascii_digit()) { host } else { origin }
        });
        self.is_called(host)
    }

    /// Whether it signs with this name: its host, with its port or, as Rekor v2 has it, without.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let authority = authority_of(&self.url);
        let without_port = authority
            .rsplit_once(':')
            .filter(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or(authority, |(host, _)| host);
        name == authority || name == without_port
    }
}
