// SPDX-License-Identifier: AGPL-3.0-only
//! Which certificate a client gets: the one for the name it asks for (SNI), exactly or by a wildcard, else
//! the first. Where several have a name, as an ECDSA and an RSA one do, it is the first whose kind of
//! signature the client knows.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;

/// The certificates that are served, at any moment.
#[derive(Debug)]
pub(super) struct Served(ArcSwap<Table>);

impl Served {
    pub(super) fn new(table: Table) -> Self {
        Self(ArcSwap::from_pointee(table))
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.0.load_full()
    }

    /// Serves these from now on. Connections that are there stay as they are.
    pub(super) fn exchange(&self, table: Table) {
        self.0.store(Arc::new(table));
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.load();
        let pair = table.choose(hello.server_name(), hello.signature_schemes())?;
        Some(Arc::clone(pair.key()))
    }
}

/// Certificates by their names.
#[derive(Debug)]
pub(super) struct Table {
    pairs: Vec<Arc<Pair>>,
    /// Those that have a name, in their order; a wildcard's name begins with `*.`.
    by_name: HashMap<String, Vec<usize>>,
}

impl Table {
    pub(super) fn new(pairs: Vec<Arc<Pair>>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, pair) in pairs.iter().enumerate() {
            for name in pair.names() {
                by_name.entry(name.clone()).or_default().push(number);
            }
        }
        Self { pairs, by_name }
    }

    pub(super) fn pairs(&self) -> &[Arc<Pair>] {
        &self.pairs
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Pair> {
        let named = name.map(str::to_ascii_lowercase).and_then(|name| {
            let wildcard = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard()?))
        });
        let Some(named) = named else { return self.pairs.first().map(Arc::as_ref) };
        let mut candidates = named.iter().filter_map(|&number| self.pairs.get(number)).map(Arc::as_ref);
        let first = candidates.clone().next();
        candidates.find(|pair| pair.key().key.choose_scheme(schemes).is_some()).or(first)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;
    use crate::config::CertificateFiles;
    use crate::tls::pair::Contents;

    fn pair(names: &[&str], algorithm: &'static SignatureAlgorithm) -> Arc<Pair> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let contents = Contents::of(certificate.pem(), key.serialize_pem());
        let files = CertificateFiles { certificate: "c".into(), key: "k".into() };
        Arc::new(contents.judge(&files, &default_provider()).unwrap())
    }

    #[test]
    fn the_certificate_follows_the_name() {
        let ecdsa = &PKCS_ECDSA_P256_SHA256;
        let table = Table::new(vec![
            pair(&["first.example", "127.0.0.1"], ecdsa),
            pair(&["*.wild.example", "Upper.Example"], ecdsa),
            pair(&["exact.wild.example"], ecdsa),
        ]);
        let known = [SignatureScheme::ECDSA_NISTP256_SHA256];
        for (name, wanted) in [
            (None, "first.example"),
            (Some("first.example"), "first.example"),
            (Some("a.wild.example"), "*.wild.example"),
            (Some("A.WILD.example"), "*.wild.example"),
            (Some("upper.example"), "*.wild.example"),
            (Some("exact.wild.example"), "exact.wild.example"),
            (Some("wild.example"), "first.example"),
            (Some("a.b.wild.example"), "first.example"),
            (Some("*.wild.example"), "*.wild.example"),
            (Some("unknown"), "first.example"),
            (Some(""), "first.example"),
        ] {
            assert_eq!(table.choose(name, &known).unwrap().name(), wanted, "{name:?}");
        }
    }

    #[test]
    fn of_two_with_the_same_name_it_is_the_one_that_the_client_can_check() {
        let table = Table::new(vec![
            pair(&["a.example"], &PKCS_ED25519),
            pair(&["a.example"], &PKCS_ECDSA_P256_SHA256),
        ]);
        let chosen = |schemes: &[_]| {
            let pair = table.choose(Some("a.example"), schemes).unwrap();
            table.pairs().iter().position(|other| std::ptr::eq(&raw const **other, pair)).unwrap()
        };
        assert_eq!(chosen(&[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]), 0);
        assert_eq!(chosen(&[SignatureScheme::ECDSA_NISTP256_SHA256]), 1);
        // None fits: the handshake will say so.
        assert_eq!(chosen(&[SignatureScheme::RSA_PSS_SHA256]), 0);
    }
}
