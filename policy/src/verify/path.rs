// SPDX-License-Identifier: AGPL-3.0-only
//! Certificates at a time: the path to an authority, walked as `sigstore-verify` walks it, and the signature under the
//! certificate's key.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sigstore_crypto::{SubjectAltName, WEBPKI_VERIFICATION_ALGS, parse_certificate_info};
use sigstore_trust_root::CertificateAuthority;
use sigstore_types::DerCertificate;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::roots::Issuer;
use super::subject::Subject;
use crate::refusal::Refusal;
use crate::scheme::Scheme;
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
/// authority's own certificates, which anchors do not have, are the caller's to compare. Gives the key, in DER, of who
/// issued the first certificate.
pub(super) fn holds(issuer: &Issuer, chain: &[DerCertificate], time: i64) -> Result<Vec<u8>, Refusal> {
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
    let leaf = EndEntityCert::try_from(leaf).map_err(refused)?;
    let path = leaf
        .verify_for_usage(
            WEBPKI_VERIFICATION_ALGS,
            &issuer.anchors,
            above,
            UnixTime::since_unix_epoch(Duration::from_secs(at)),
            KeyUsage::required(CODE_SIGNING),
            None,
            None,
        )
        .map_err(refused)?;
    Ok(path.issuer_spki().to_vec())
}

/// The key of the first certificate, whose owner is called `name`, and how the signature was made with it.
pub(super) fn signed(
    chain: &[DerCertificate],
    subject: &Subject<'_>,
    signature: &[u8],
    name: &str,
) -> Result<(PublicKey, Scheme), Refusal> {
    let leaf = chain.first().ok_or_else(|| Refusal::malformed("no certificate"))?;
    let leaf = parse_certificate_info(leaf).map_err(|error| Refusal::malformed(error.to_string()))?;
    if leaf.identity.as_ref().map(SubjectAltName::as_str).is_some_and(|said| said != name) {
        return Err(Refusal::malformed("it can be read in two ways"));
    }
    let key = PublicKey::from_spki(leaf.public_key.as_bytes())
        .map_err(|error| Refusal::unsupported(format!("the certificate's key: {error}")))?;
    let scheme = subject
        .signed_by(&key, signature)
        .ok_or_else(|| Refusal::new(Reason::BadSignature, "the signature is not of the certificate's key"))?;
    Ok((key, scheme))
}
