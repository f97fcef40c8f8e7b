// SPDX-License-Identifier: AGPL-3.0-only
//! A certificate with its key, as they are read from their files, and everything that can be wrong with
//! them. Invariant: a [`Pair`] can be served: its key belongs to its first certificate, and that has names.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use stella_storage::Timestamp;
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use crate::config::CertificateFiles;

use super::{address, is_name_of};

/// Larger than any chain of certificates.
const LIMIT: u64 = 1 << 20;

/// What is wrong with a certificate or its key.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is larger than 1MiB", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is not PEM: {source}", path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error(
        "{} holds no certificate; it must begin with -----BEGIN CERTIFICATE-----{}",
        path.display(),
        if *is_key { ", but this is a private key: are `certificate` and `key` exchanged?" } else { "" }
    )]
    NoCertificate { path: PathBuf, is_key: bool },
    #[error("the certificate in {} cannot be read: {source}", path.display())]
    Certificate { path: PathBuf, source: x509_cert::der::Error },
    #[error(
        "the certificate in {} has no host names and no addresses (subjectAltName); clients look at nothing else",
        path.display()
    )]
    NoNames { path: PathBuf },
    #[error("{} holds no private key; it must have -----BEGIN PRIVATE KEY----- or the same with EC or RSA", path.display())]
    NoKey { path: PathBuf },
    #[error(
        "the private key in {path} is encrypted; write it without a passphrase: openssl pkey -in {path} -out NEW",
        path = path.display()
    )]
    Encrypted { path: PathBuf },
    #[error("the private key in {} cannot be used", path.display())]
    Key { path: PathBuf, source: rustls::Error },
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error(
        "the private key in {} belongs to certificate number {number} in {}; the server's own must be the first",
        key.display(),
        certificate.display()
    )]
    Order { certificate: PathBuf, key: PathBuf, number: usize },
}

/// What two files hold.
pub(super) struct Contents {
    certificate: io::Result<Vec<u8>>,
    key: io::Result<Vec<u8>>,
}

impl Contents {
    pub(super) fn read(files: &CertificateFiles) -> Self {
        Self { certificate: read(&files.certificate), key: read(&files.key) }
    }

    #[cfg(test)]
    pub(super) fn of(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { certificate: Ok(certificate.into()), key: Ok(key.into()) }
    }

    /// Tells these contents from others, and gives nothing of a key away.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for read in [&self.certificate, &self.key] {
            read.as_ref().map_err(io::Error::kind).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The pair, or what is wrong with it.
    pub(super) fn judge(self, files: &CertificateFiles, provider: &CryptoProvider) -> Result<Pair, Fault> {
        let CertificateFiles { certificate: path, key: key_path } = files;
        let text = told(self.certificate, path)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|source| Fault::Pem { path: path.clone(), source })?;
        let Some(first) = chain.first() else {
            return Err(Fault::NoCertificate { path: path.clone(), is_key: has(&text, "PRIVATE KEY-----") });
        };
        let certificate = Certificate::from_der(first)
            .map_err(|source| Fault::Certificate { path: path.clone(), source })?;
        let Names { hosts, addresses } =
            Names::of(&certificate).map_err(|source| Fault::Certificate { path: path.clone(), source })?;
        if hosts.is_empty() && addresses.is_empty() {
            return Err(Fault::NoNames { path: path.clone() });
        }
        let validity = *certificate.tbs_certificate().validity();
        let key = key(&told(self.key, key_path)?, key_path)?;
        let key = match CertifiedKey::from_der(chain.clone(), key.clone_key(), provider) {
            Ok(key) => key,
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let (certificate, key_path) = (path.clone(), key_path.clone());
                let fits = |of: &CertificateDer<'static>| {
                    CertifiedKey::from_der(vec![of.clone()], key.clone_key(), provider).is_ok()
                };
                return Err(match chain.iter().position(fits) {
                    Some(place) => Fault::Order { certificate, key: key_path, number: place + 1 },
                    None => Fault::Mismatch { certificate, key: key_path },
                });
            }
            Err(source) => return Err(Fault::Key { path: key_path.clone(), source }),
        };
        Ok(Pair {
            key: Arc::new(key),
            file: path.clone(),
            hosts,
            addresses,
            begins: validity.not_before,
            expires: validity.not_after,
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn told(read: io::Result<Vec<u8>>, path: &Path) -> Result<Vec<u8>, Fault> {
    read.map_err(|source| match source.kind() {
        io::ErrorKind::FileTooLarge => Fault::TooLarge { path: path.to_owned() },
        _ => Fault::Read { path: path.to_owned(), source },
    })
}

/// The private key in a file's `text`.
fn key(text: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    if has(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(text, "Proc-Type: 4,ENCRYPTED") {
        return Err(Fault::Encrypted { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|source| match source {
        rustls::pki_types::pem::Error::NoItemsFound => Fault::NoKey { path: path.to_owned() },
        source => Fault::Pem { path: path.to_owned(), source },
    })
}

fn has(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|part| part == what.as_bytes())
}

/// What a certificate is for.
struct Names {
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Names {
    fn of(certificate: &Certificate) -> Result<Self, x509_cert::der::Error> {
        let (mut hosts, mut addresses) = (Vec::new(), Vec::new());
        let found = certificate.tbs_certificate().get_extension::<SubjectAltName>()?;
        for name in found.map(|(_, names)| names.0).unwrap_or_default() {
            match name {
                GeneralName::DnsName(name) if can_be_asked_for(name.as_str()) => {
                    hosts.push(name.as_str().to_ascii_lowercase());
                }
                GeneralName::IpAddress(bytes) => {
                    let bytes = bytes.as_bytes();
                    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                    addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)));
                }
                _ => {}
            }
        }
        Ok(Self { hosts, addresses })
    }
}

fn can_be_asked_for(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b))
}

/// A certificate that can be served.
#[derive(Debug)]
pub(super) struct Pair {
    key: Arc<CertifiedKey>,
    file: PathBuf,
    /// In lower case; one may begin with `*.`.
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
    begins: Time,
    expires: Time,
}

impl Pair {
    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Its host names.
    pub(super) fn names(&self) -> &[String] {
        &self.hosts
    }

    /// The first of its names, or of its addresses if it has no name.
    pub(super) fn name(&self) -> String {
        let address = || self.addresses.first().map(IpAddr::to_string);
        self.hosts.first().cloned().or_else(address).unwrap_or_default()
    }

    /// All that it is for, on one line.
    pub(super) fn names_text(&self) -> String {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        self.hosts.iter().cloned().chain(addresses).collect::<Vec<_>>().join(", ")
    }

    /// Whether a client that wants `host` will take it.
    pub(super) fn is_for(&self, host: &str) -> bool {
        match address(host) {
            Some(address) => self.addresses.contains(&address),
            None => self.hosts.iter().any(|name| is_name_of(name, host)),
        }
    }

    pub(super) fn expires(&self) -> Timestamp {
        moment(self.expires)
    }

    pub(super) fn expires_text(&self) -> String {
        self.expires.to_string()
    }

    /// Why clients will refuse it at the time `now`, if they will.
    pub(super) fn warning(&self, now: Timestamp) -> Option<String> {
        let (file, names) = (self.file.display(), self.names_text());
        if now > moment(self.expires) {
            Some(format!(
                "the certificate in {file} ({names}) expired on {}; clients refuse it",
                self.expires
            ))
        } else if now < moment(self.begins) {
            Some(format!(
                "the certificate in {file} ({names}) is not valid before {}; clients refuse it",
                self.begins
            ))
        } else {
            None
        }
    }
}

fn moment(time: Time) -> Timestamp {
    Timestamp(u64::try_from(time.to_unix_duration().as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
