// SPDX-License-Identifier: AGPL-3.0-only
//! Whom a certificate is of: its only subject alternative name, who vouched for it, and Fulcio's other extensions. The
//! crates take the first name that they know; a certificate with two would then be two people's.

use std::collections::BTreeMap;

use crate::der::{self, Element};
use crate::refusal::Refusal;
use crate::x509::Certificate;

/// Fulcio's own kind of name, 1.3.6.1.4.1.57264.1.7.
const OTHER_NAME: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x07];
/// Extensions by their last number, under the names that cosign and sigstore-go give them. The first five are the older
/// ones for GitHub, whose values are bare texts.
const EXTENSIONS: [(u8, &str); 21] = [
    (2, "githubWorkflowTrigger"),
    (3, "githubWorkflowSHA"),
    (4, "githubWorkflowName"),
    (5, "githubWorkflowRepository"),
    (6, "githubWorkflowRef"),
    (9, "buildSignerURI"),
    (10, "buildSignerDigest"),
    (11, "runnerEnvironment"),
    (12, "sourceRepositoryURI"),
    (13, "sourceRepositoryDigest"),
    (14, "sourceRepositoryRef"),
    (15, "sourceRepositoryIdentifier"),
    (16, "sourceRepositoryOwnerURI"),
    (17, "sourceRepositoryOwnerIdentifier"),
    (18, "buildConfigURI"),
    (19, "buildConfigDigest"),
    (20, "buildTrigger"),
    (21, "runInvocationURI"),
    (22, "sourceRepositoryVisibilityAtSigning"),
    (23, "deploymentEnvironment"),
    (24, "tokenSubject"),
];

/// Whom a certificate is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) subject: String,
    /// Empty if it does not say.
    pub(super) issuer: String,
    pub(super) extensions: BTreeMap<String, String>,
}

pub(super) fn read(certificate: &Certificate<'_>) -> Result<Identity, Refusal> {
    let names = certificate.alternative_names()?;
    let [name] = names.as_slice() else {
        return Err(Refusal::malformed(format!(
            "the certificate has {} subject alternative names, not one",
            names.len()
        )));
    };
    let subject = match name.tag {
        // rfc822Name and uniformResourceIdentifier, IMPLICIT IA5String.
        0x81 | 0x86 => text(name.content)?,
        0xa0 => other_name(*name)?,
        _ => {
            return Err(Refusal::unsupported(
                "a subject that is neither an address, a URI nor Fulcio's other name",
            ));
        }
    };
    if subject.is_empty() {
        return Err(Refusal::malformed("the certificate's subject alternative name is empty"));
    }
    // The older extension holds bare text; the newer one decides wherever it is there.
    let issuer = match (certificate.fulcio(8), certificate.fulcio(1)) {
        (Some(value), _) => utf8(value)?,
        (None, Some(value)) => text(value)?,
        (None, None) => String::new(),
    };
    let mut extensions = BTreeMap::new();
    for (number, name) in EXTENSIONS {
        if let Some(value) = certificate.fulcio(number) {
            let value = if number < 8 { text(value)? } else { utf8(value)? };
            extensions.insert(name.to_owned(), value);
        }
    }
    Ok(Identity { subject, issuer, extensions })
}

fn other_name(name: Element<'_>) -> Result<String, Refusal> {
    let mut parts = name.inside();
    if parts.expect(der::OID)?.content != OTHER_NAME {
        return Err(Refusal::unsupported("a subject alternative name of an unknown kind"));
    }
    let value = parts.expect(der::context(0))?;
    parts.end()?;
    utf8(value.content)
}

fn utf8(bytes: &[u8]) -> Result<String, Refusal> {
    text(der::only(bytes, der::UTF8)?.content)
}

fn text(bytes: &[u8]) -> Result<String, Refusal> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Refusal::malformed("the certificate has a text that is not UTF-8"))
}
