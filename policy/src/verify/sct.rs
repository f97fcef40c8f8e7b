// SPDX-License-Identifier: AGPL-3.0-only
//! That a log of certificates vouches for one: its signed timestamp in the certificate (RFC 6962, 3.2 and 3.3) is of the
//! certificate without it, by a log of the root whose key was valid then. Exactly one is taken, as `sigstore-verify` does.

use sha2::{Digest as _, Sha256};
use sigstore_crypto::{SigningScheme, VerificationKey};
use sigstore_types::SignatureBytes;

use super::roots::Root;
use crate::der;
use crate::refusal::Refusal;
use crate::x509::{Certificate, without_timestamps};

/// What is read of a signed certificate timestamp.
struct Timestamp<'a> {
    log: &'a [u8],
    /// Milliseconds since 1970, as they were signed.
    at: [u8; 8],
    extensions: &'a [u8],
    scheme: SigningScheme,
    signature: &'a [u8],
}

/// Checks a certificate, in DER, that was issued with the key `issuer`, in DER.
pub(super) fn check(root: &Root, certificate: &[u8], issuer: &[u8]) -> Result<(), Refusal> {
    let read = Certificate::read(certificate)?;
    let extension = read.timestamps().ok_or_else(|| wrong("is missing"))?;
    let list = der::only(extension, der::OCTETS)?.content;
    let timestamp = Timestamp::only(list)?;
    let signed = timestamp.signed(&without_timestamps(certificate)?, issuer)?;
    let milliseconds = i64::try_from(u64::from_be_bytes(timestamp.at)).map_err(|_| wrong("is of no time"))?;
    // Windows are in whole seconds; what lies within one must be within both of its ends.
    let (from, to) = (milliseconds.div_euclid(1000), milliseconds.saturating_add(999).div_euclid(1000));
    let signature = SignatureBytes::new(timestamp.signature.to_vec());
    let vouches = root.certificate_logs.iter().any(|log| {
        log.id == timestamp.log
            && log.window.contains(from)
            && log.window.contains(to)
            && VerificationKey::from_der(&log.key, timestamp.scheme)
                .is_ok_and(|key| key.verify(&signed, &signature).is_ok())
    });
    if vouches {
        Ok(())
    } else {
        Err(wrong("is signed by no log of certificates that the trust root had then"))
    }
}

impl<'a> Timestamp<'a> {
    /// The only one in a list.
    fn only(list: &'a [u8]) -> Result<Self, Refusal> {
        let mut list = Bytes(list);
        let mut inside = Bytes(list.prefixed()?);
        list.end()?;
        let mut single = Bytes(inside.prefixed()?);
        if !inside.0.is_empty() {
            return Err(Refusal::unsupported(
                "a certificate with more than one signed certificate timestamp",
            ));
        }
        if single.take(1)? != [0] {
            return Err(wrong("is of an unknown version"));
        }
        let log = single.take(32)?;
        let at = single.take(8)?.try_into().map_err(|_| wrong("is of no time"))?;
        let extensions = single.prefixed()?;
        // RFC 5246, 7.4.1.4.1: hash, then signature.
        let scheme = match single.take(2)? {
            [4, 3] => SigningScheme::EcdsaP256Sha256,
            [5, 3] => SigningScheme::EcdsaP384Sha384,
            [4, 1] => SigningScheme::RsaPkcs1Sha256,
            [5, 1] => SigningScheme::RsaPkcs1Sha384,
            [6, 1] => SigningScheme::RsaPkcs1Sha512,
            _ => return Err(wrong("is signed in an unknown way")),
        };
        let signature = single.prefixed()?;
        single.end()?;
        Ok(Timestamp { log, at, extensions, scheme, signature })
    }

    /// What the log signed: of version 1, a timestamp of a certificate, its entry a precertificate.
    fn signed(&self, tbs: &[u8], issuer: &[u8]) -> Result<Vec<u8>, Refusal> {
        let long = |_| wrong("is of a certificate that is too long");
        let length = u32::try_from(tbs.len()).map_err(long)?.to_be_bytes();
        let [0, length @ ..] = length else { return Err(wrong("is of a certificate that is too long")) };
        let extensions = u16::try_from(self.extensions.len()).map_err(long)?.to_be_bytes();
        let issuer = Sha256::digest(issuer);
        Ok([&[0, 0], &self.at[..], &[0, 1], &issuer, &length, tbs, &extensions, self.extensions].concat())
    }
}

/// Bytes as TLS writes them.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| wrong("ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// What follows its length in two bytes.
    fn prefixed(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.take(2)?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        self.take(length)
    }

    fn end(&self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(wrong("has something after it")) }
    }
}

fn wrong(why: &str) -> Refusal {
    Refusal::log(format!("the certificate's signed timestamp (SCT) {why}"))
}
