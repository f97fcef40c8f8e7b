// SPDX-License-Identifier: AGPL-3.0-only
//! Certificates at a time that `sigstore-verify` is not asked about, because it takes no timestamps of whole envelopes:
//! the path to an authority, walked as that crate walks it, and the signature of an envelope under the certificate's key.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sigstore_crypto::{SubjectAltName, WEBPKI_VERIFICATION_ALGS, parse_certificate_info};
use sigstore_trust_root::CertificateAuthority;
use sigstore_types::DerCertificate;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::roots::Issuer;
use super::subject::{Signed, Subject};
use crate::refusal::Refusal;
use crate::{PublicKey, Reason};

/// id-kp-codeSigning, 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// Where paths to an authority may end: at each of its certificates.
pub(super) fn anchors(authority: &CertificateAuthority) -> Result<Vec<TrustAnchor<'static>>, String> {
    let anchor = |der: &DerCertificate| {
        let der = CertificateDer::from(der.as_bytes());
        anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned()).map_err(|error| error.to_string())
    };
    authority.cert_chain.certificates.iter().map(|entry| anchor(&entry.raw_bytes)).collect()
}

/// Whether the first certificate is one for code signing, with a path to the authority, at that time. The dates of the
/// authority's own certificates, which anchors do not have, are the caller's to compare.
pub(super) fn holds(issuer: &Issuer, chain: &[DerCertificate], time: i64) -> Result<(), Refusal> {
    let refused = |error: webpki::Error| match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => Refusal::new(
            Reason::Expired,
            format!("the certificate was not valid at {time}, when this was signed"),
        ),
        error => Refusal::new(Reason::BadSignature, format!("the certificate's path: {error}")),
    };
    let ders: Vec<CertificateDer<'_>> =
        chain.iter().map(|certificate| CertificateDer::from(certificate.as_bytes())).collect();
    let (leaf, above) = ders.split_first().ok_or_else(|| Refusal::malformed("no certificate"))?;
    let at = u64::try_from(time).map_err(|_| Refusal::log("a timestamp of before 1970"))?;
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| {
            leaf.verify_for_usage(
                WEBPKI_VERIFICATION_ALGS,
                &issuer.anchors,
                above,
                UnixTime::since_unix_epoch(Duration::from_secs(at)),
                KeyUsage::required(CODE_SIGNING),
                None,
                None,
            )
            .map(|_| ())
        })
        .map_err(refused)
}

/// Whether the envelope is signed by the owner of the first certificate, who is called `name`.
pub(super) fn signed(
    chain: &[DerCertificate],
    subject: &Subject<'_>,
    signature: &[u8],
    name: &str,
) -> Result<(), Refusal> {
    let Signed::Envelope(envelope, _) = &subject.signed else {
        return Err(Refusal::malformed("a timestamp of an envelope beside what is none"));
    };
    let leaf = chain.first().ok_or_else(|| Refusal::malformed("no certificate"))?;
    let leaf = parse_certificate_info(leaf).map_err(|error| Refusal::malformed(error.to_string()))?;
    if leaf.identity.as_ref().map(SubjectAltName::as_str).is_some_and(|said| said != name) {
        return Err(Refusal::malformed("it can be read in two ways"));
    }
    let key = PublicKey::from_spki(leaf.public_key.as_bytes())
        .map_err(|error| Refusal::unsupported(format!("the certificate's key: {error}")))?;
    if key.verifies(&envelope.pae(), signature) {
        Ok(())
    } else {
        Err(Refusal::new(Reason::BadSignature, "the signature is not of the certificate's key"))
    }
}
