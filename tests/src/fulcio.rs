// SPDX-License-Identifier: AGPL-3.0-only
//! A certificate authority like Sigstore's Fulcio, made for one test: a root, an intermediate that may issue certificates
//! for code signing alone, and leaves that name a subject and who vouched for it.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::authority::Issued;

/// Fulcio's extensions begin so.
const FULCIO: [u64; 8] = [1, 3, 6, 1, 4, 1, 57264, 1];

/// An authority that nobody trusts by default.
#[derive(Debug)]
pub struct Fulcio {
    issuer: Issuer<'static, KeyPair>,
    root: String,
    intermediate: String,
}

impl Fulcio {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority("a root for a test", BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        let above = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let mut params = authority("an intermediate for a test", BasicConstraints::Constrained(0));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let intermediate: Certificate = params.signed_by(&key, &above).unwrap();
        Self { intermediate: intermediate.pem(), issuer: Issuer::new(params, key), root }
    }

    /// Its root, as PEM.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Its intermediate, as PEM.
    pub fn intermediate(&self) -> &str {
        &self.intermediate
    }

    /// Its intermediate and its root, as PEM.
    pub fn chain(&self) -> String {
        format!("{}{}", self.intermediate, self.root)
    }

    /// A certificate of `subject`, a URI, for whom `issuer` vouched.
    pub fn issue(&self, subject: &str, issuer: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        // Without a name the subject alternative name is critical, as Fulcio's are.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(subject.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = vec![extension(1, issuer.as_bytes().to_vec()), extension(8, utf8(issuer))];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

fn authority(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn extension(number: u64, content: Vec<u8>) -> CustomExtension {
    let oid: Vec<u64> = FULCIO.into_iter().chain([number]).collect();
    CustomExtension::from_oid_content(&oid, content)
}

/// An `UTF8String` in DER, of a text that is short.
fn utf8(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 128).unwrap();
    [&[0x0c, length], text.as_bytes()].concat()
}
