// SPDX-License-Identifier: AGPL-3.0-only
//! Timestamps of RFC 3161. `sigstore-tsa` checks signature, imprint, chain and window; it does not look at what else lies
//! in the token, so bits there could be changed (`signatures.md` §8, 6). Here nothing may lie in it that is not signed,
//! trusted already byte for byte, or fixed by what is.

use sigstore_types::{SignatureBytes, TimestampToken};
use sigstore_verify::tsa::verify_timestamp_for_authority;

use super::roots::{Root, Stamp};
use crate::der::{self, Element, Reader};
use crate::limits::CERTIFICATES;
use crate::refusal::Refusal;
use crate::{ProvenTime, Time, TimeSource};

/// id-signedData, 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// id-ct-TSTInfo, 1.2.840.113549.1.9.16.1.4.
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
/// id-contentType, 1.2.840.113549.1.9.3.
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
/// SHA-256, SHA-384 and SHA-512, each with ECDSA over it (RFC 5758).
const HASHES: [(&[u8], &[u8]); 3] = [
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
    ),
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
    ),
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04],
    ),
];

/// When `token` says that one of `stamped` existed, if an authority of one of the roots signed that.
pub(super) fn check(
    roots: &[&Root],
    token: &TimestampToken,
    stamped: &[&[u8]],
) -> Result<ProvenTime, Refusal> {
    let bad = |why: String| Refusal::log(format!("a timestamp: {why}"));
    let embedded = strict(token.as_bytes()).map_err(|refusal| bad(refusal.why))?;
    let mut last = "no trust root has a timestamp authority".to_owned();
    for (root, stamp) in roots.iter().flat_map(|root| root.stamps.iter().map(move |stamp| (root, stamp))) {
        for bytes in stamped {
            let signature = SignatureBytes::new(bytes.to_vec());
            match verify_timestamp_for_authority(token, &signature, &stamp.authority) {
                Ok(at) => {
                    let at = at.as_second();
                    authority(stamp, &embedded, at).map_err(|refusal| bad(refusal.why))?;
                    return Ok(ProvenTime {
                        at: Time(at),
                        source: TimeSource::Timestamp,
                        root: root.name.clone(),
                        authority: stamp.name.clone(),
                    });
                }
                Err(error) => last = error.to_string(),
            }
        }
    }
    Err(bad(last))
}

/// What the crate does not demand of the authority that signed.
fn authority(stamp: &Stamp, embedded: &[&[u8]], at: i64) -> Result<(), Refusal> {
    if !stamp.proper {
        return Err(Refusal::log(format!(
            "the certificate of {} is not one for timestamps alone (one extended key usage, critical, no CA)",
            stamp.name
        )));
    }
    if !stamp.window.contains(at) {
        return Err(Refusal::log(format!("{} was not trusted at {at}", stamp.name)));
    }
    if embedded.iter().any(|certificate| !stamp.chain.iter().any(|trusted| trusted == certificate)) {
        return Err(Refusal::log("a certificate lies in it that is not of its authority's trusted chain"));
    }
    // Anchors have no date for the crate.
    for certificate in &stamp.chain {
        let certificate = crate::x509::Certificate::read(certificate)?;
        if at < certificate.not_before || at > certificate.not_after {
            return Err(Refusal::log(format!("a certificate of {} was not valid at {at}", stamp.name)));
        }
    }
    Ok(())
}

/// Walks a `TimeStampResp` (or the token alone) in its one canonical form. Returns the embedded certificates.
fn strict(bytes: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    let outer = der::only(bytes, der::SEQUENCE)?;
    let token = if outer.inside().peek() == Some(der::OID) { outer } else { granted(outer)? };
    let mut content = token.inside();
    is(content.expect(der::OID)?, SIGNED_DATA, "content type")?;
    let data = content.expect(der::context(0))?;
    content.end()?;
    let mut data = der::only(data.content, der::SEQUENCE)?.inside();
    is(data.expect(der::INTEGER)?, &[3], "version")?;
    let digests = data.expect(der::SET)?;
    let mut info = data.expect(der::SEQUENCE)?.inside();
    is(info.expect(der::OID)?, TST_INFO, "content type")?;
    let octets = info.expect(der::context(0))?;
    info.end()?;
    der::only(octets.content, der::OCTETS)?;
    let mut certificates = Vec::new();
    if let Some(list) = data.optional(der::context(0))? {
        let mut list = list.inside();
        while !list.is_empty() {
            certificates.push(list.expect(der::SEQUENCE)?.whole);
            if certificates.len() > CERTIFICATES {
                return Err(Refusal::over(format!("more than {CERTIFICATES} certificates")));
            }
        }
    }
    let signers = data.expect(der::SET)?;
    data.end()?;
    let signer = der::only(signers.content, der::SEQUENCE)?;
    let hash = one_signer(signer)?;
    let digest = der::only(digests.content, der::SEQUENCE)?;
    is(algorithm(digest)?, hash.content, "digest algorithm")?;
    Ok(certificates)
}

/// The token in an answer that grants it. The status is not signed, so there is but one way to write it.
fn granted(response: Element<'_>) -> Result<Element<'_>, Refusal> {
    let mut response = response.inside();
    let mut status = response.expect(der::SEQUENCE)?.inside();
    is(status.expect(der::INTEGER)?, &[0], "status")?;
    status.end()?;
    let token = response.expect(der::SEQUENCE)?;
    response.end()?;
    Ok(token)
}

/// A `SignerInfo`; returns the hash that it names.
fn one_signer(signer: Element<'_>) -> Result<Element<'_>, Refusal> {
    let mut signer = signer.inside();
    let version = signer.expect(der::INTEGER)?;
    let named = signer.next()?;
    let expected: &[u8] = match named.tag {
        der::SEQUENCE => &[1],
        // [0] IMPLICIT SubjectKeyIdentifier.
        0x80 => &[3],
        _ => return Err(Refusal::malformed("a signer that is named in no known way")),
    };
    is(version, expected, "the signer's version")?;
    let hash = algorithm(signer.expect(der::SEQUENCE)?)?;
    let attributes = signer.expect(der::context(0))?;
    signed_attributes(attributes.inside())?;
    let signature = algorithm(signer.expect(der::SEQUENCE)?)?;
    let (_, ecdsa) = HASHES
        .iter()
        .find(|(oid, _)| *oid == hash.content)
        .ok_or_else(|| Refusal::unsupported("a hash that is not SHA-256, SHA-384 or SHA-512"))?;
    is(signature, ecdsa, "signature algorithm")?;
    signer.expect(der::OCTETS)?;
    // Unsigned attributes would follow.
    signer.end()?;
    Ok(hash)
}

/// In the order of DER, each once, with the content type that it must name.
fn signed_attributes(mut attributes: Reader<'_>) -> Result<(), Refusal> {
    let mut last: &[u8] = &[];
    let mut names: Vec<&[u8]> = Vec::new();
    let mut typed = false;
    while !attributes.is_empty() {
        let attribute = attributes.expect(der::SEQUENCE)?;
        let mut parts = attribute.inside();
        let name = parts.expect(der::OID)?.content;
        let values = parts.expect(der::SET)?;
        parts.end()?;
        if attribute.whole <= last || names.contains(&name) {
            return Err(Refusal::malformed("signed attributes that are not in order, or one twice"));
        }
        if name == CONTENT_TYPE {
            is(der::only(values.content, der::OID)?, TST_INFO, "signed content type")?;
            typed = true;
        }
        last = attribute.whole;
        names.push(name);
    }
    if typed { Ok(()) } else { Err(Refusal::malformed("no signed content type")) }
}

/// The name of an algorithm whose parameters are absent or NULL.
fn algorithm(element: Element<'_>) -> Result<Element<'_>, Refusal> {
    let mut parts = element.inside();
    let name = parts.expect(der::OID)?;
    if let Some(null) = parts.optional(der::NULL)?
        && !null.content.is_empty()
    {
        return Err(Refusal::malformed("a NULL with content"));
    }
    parts.end()?;
    Ok(name)
}

fn is(element: Element<'_>, expected: &[u8], what: &str) -> Result<(), Refusal> {
    if element.content == expected {
        Ok(())
    } else {
        Err(Refusal::malformed(format!("{what}: not what a timestamp has there")))
    }
}
