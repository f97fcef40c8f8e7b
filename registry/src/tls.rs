// SPDX-License-Identifier: AGPL-3.0-only
//! TLS: the handshake, and certificates that are exchanged while they serve.
//!
//! `tls/pair.rs` reads and judges a certificate with its key, `tls/names.rs` chooses by the name that a
//! client asks for. Here are the pairs as they are served. Invariant: what is served was found good; a
//! pair that has turned bad on disk changes nothing but the log and a counter. Files are watched by their
//! contents, because Kubernetes and ACME clients exchange symbolic links, not files.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use stella_storage::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{CertificateFiles, Config, ConfigError};

mod names;
mod pair;

use names::{Served, Table};
use pair::{Contents, Fault, Pair};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(3);

/// What clients may speak, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Shakes hands with clients, and looks after the certificates.
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    provider: Arc<CryptoProvider>,
    served: Arc<Served>,
    slots: Mutex<Vec<Slot>>,
    reloaded: AtomicU64,
    failed: AtomicU64,
}

/// One entry of `tls.certificates`.
struct Slot {
    files: CertificateFiles,
    pair: Arc<Pair>,
    /// The contents that were judged last.
    judged: u64,
    /// Contents that were found bad, but perhaps only half written.
    suspect: Option<u64>,
}

/// Who has come to a port that speaks TLS.
pub(crate) enum Accepted {
    /// A client that shook hands.
    Tls(Box<TlsStream<TcpStream>>),
    /// One that speaks plain HTTP. Nothing was read from it.
    PlainHttp(TcpStream),
}

/// What metrics tell.
pub(crate) struct TlsStats {
    /// Pairs that were read anew.
    pub(crate) reloaded: u64,
    /// Pairs that were found bad, so that the old ones are still served.
    pub(crate) failed: u64,
    /// The first name of each certificate that is served, and when the first of them expires that has it.
    pub(crate) expiries: BTreeMap<String, Timestamp>,
}

impl Tls {
    /// Reads and checks all certificates; `None` if the configuration has none.
    pub(crate) fn load(config: &Config) -> Result<Option<Self>, ConfigError> {
        if config.tls.certificates.is_empty() {
            return Ok(None);
        }
        let bad = |reason: String| ConfigError::BadValue {
            origin: config.origin("tls.certificates"),
            key: "tls.certificates".to_owned(),
            reason,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut slots = Vec::new();
        for files in config.tls.certificates.clone() {
            let contents = Contents::read(&files);
            let judged = contents.fingerprint();
            let pair = contents.judge(&files, &provider).map_err(|fault| bad(chain(&fault)))?;
            slots.push(Slot { files, pair: Arc::new(pair), judged, suspect: None });
        }
        let served = Arc::new(Served::new(table(&slots)));
        let mut agreed = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&config.tls.min_version.and_newer())
            .map_err(|error| bad(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as _);
        agreed.alpn_protocols = PROTOCOLS.map(Vec::from).to_vec();
        agreed.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| bad(error.to_string()))?;
        Ok(Some(Self {
            acceptor: TlsAcceptor::from(Arc::new(agreed)),
            provider,
            served,
            slots: Mutex::new(slots),
            reloaded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }))
    }

    /// What an operator should know though it hinders nothing: certificates that have expired or are not
    /// yet valid, and a host of `external_url` that none of them has.
    pub(crate) fn warnings(&self, config: &Config, now: Timestamp) -> Vec<String> {
        let table = self.served.table();
        let mut warnings: Vec<_> = table.pairs().iter().filter_map(|pair| pair.warning(now)).collect();
        if let Some(url) = config.external_url.as_ref().filter(|url| url.is_https())
            && !table.pairs().iter().any(|pair| pair.is_for(url.host()))
        {
            warnings.push(format!("no certificate has the host of external_url, {}", url.host()));
        }
        warnings
    }

    /// Shakes hands, unless the client speaks plain HTTP. Takes as long as the client does.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Accepted> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A handshake begins with 22, a request with the first letter of its method.
        if first[0].is_ascii_uppercase() {
            return Ok(Accepted::PlainHttp(stream));
        }
        Ok(Accepted::Tls(Box::new(self.acceptor.accept(stream).await?)))
    }

    /// Looks for changed files, for ever.
    pub(crate) async fn watch(&self, now: impl Fn() -> Timestamp) {
        loop {
            tokio::time::sleep(POLL).await;
            self.look(now(), false).await;
        }
    }

    /// Reads all files now, because an operator says that they have changed. Whether all are good.
    pub(crate) async fn reload(&self, now: Timestamp) -> bool {
        self.look(now, true).await
    }

    /// Takes over what has changed. What is bad is told of once it is asked for, or stays bad for a while:
    /// a certificate and its key are seldom written at the same moment.
    async fn look(&self, now: Timestamp, asked: bool) -> bool {
        let mut slots = self.slots.lock().await;
        let (mut changed, mut good) = (false, true);
        for slot in slots.iter_mut() {
            let (files, provider) = (slot.files.clone(), Arc::clone(&self.provider));
            let (judged, files_of_job) = (slot.judged, files.clone());
            let read = tokio::task::spawn_blocking(move || {
                let contents = Contents::read(&files_of_job);
                let fingerprint = contents.fingerprint();
                let again = asked || fingerprint != judged;
                (fingerprint, again.then(|| contents.judge(&files_of_job, &provider)))
            });
            let Ok((fingerprint, pair)) = read.await else { continue };
            let suspect = slot.suspect.take();
            match pair {
                None => {}
                Some(Ok(pair)) => {
                    if fingerprint != slot.judged {
                        tracing::info!(
                            certificate = %files.certificate.display(),
                            names = pair.names_text(),
                            expires = pair.expires_text(),
                            "certificate reloaded"
                        );
                    }
                    if let Some(warning) = pair.warning(now) {
                        tracing::warn!("{warning}");
                    }
                    self.reloaded.fetch_add(1, Ordering::Relaxed);
                    *slot = Slot { files, pair: Arc::new(pair), judged: fingerprint, suspect: None };
                    changed = true;
                }
                Some(Err(_)) if !asked && suspect != Some(fingerprint) => slot.suspect = Some(fingerprint),
                Some(Err(fault)) => {
                    tracing::error!(
                        error = chain(&fault),
                        "cannot reload a certificate; the one from before is still served"
                    );
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    slot.judged = fingerprint;
                    good = false;
                }
            }
        }
        if changed {
            self.served.exchange(table(&slots));
        }
        good
    }

    /// Figures for metrics.
    pub(crate) fn stats(&self) -> TlsStats {
        let table = self.served.table();
        let mut expiries = BTreeMap::new();
        for pair in table.pairs() {
            let first = expiries.entry(pair.name()).or_insert_with(|| pair.expires());
            *first = pair.expires().min(*first);
        }
        TlsStats {
            reloaded: self.reloaded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            expiries,
        }
    }
}

fn table(slots: &[Slot]) -> Table {
    Table::new(slots.iter().map(|slot| Arc::clone(&slot.pair)).collect())
}

/// A fault with its causes, on one line.
fn chain(fault: &Fault) -> String {
    let mut text = fault.to_string();
    let mut source = std::error::Error::source(fault);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether a name of a certificate, which may begin with `*.`, is for `host`.
fn is_name_of(name: &str, host: &str) -> bool {
    let rest = |host: &str| host.split_once('.').map(|(_, rest)| rest.to_owned());
    name == host || name.strip_prefix("*.").is_some_and(|name| rest(host).as_deref() == Some(name))
}

/// A host that is an address.
fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}
