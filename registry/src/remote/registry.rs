// SPDX-License-Identifier: AGPL-3.0-only
//! One registry as a client sees it: how it is reached, and one request to it with all that belongs to it:
//! logging in, redirects, and trying again what may pass.
//!
//! Plain HTTP is spoken with this machine only, as docker does: a loopback address is tried over TLS first,
//! and over plain HTTP if it does not speak TLS (a certificate that is not trusted stays an error). Anywhere
//! else it takes `--plain-http`, or `--allow-http-registry`, which asks both in turn, as cosign does. What is shown to log in goes to the registry's own origin only, and no answer
//! leads from TLS to plain HTTP.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{Certificate, Client, Response, Url, redirect};
use tokio::time::{sleep, timeout};

use super::auth::{Auth, Scopes};
use super::credentials::CredentialStore;
use super::error::{Error, Result, is_transient};
use super::reference::{Host, ImageName};
use super::wire::{Patience, explain, tls_error, whole};

const USER_AGENT: &str = concat!("stella/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: u32 = 5;
/// More of an error than anyone reads.
pub(super) const MAX_ERROR: usize = 64 << 10;
/// How long a loopback address may take to show that it speaks TLS.
const PROBE: Duration = Duration::from_secs(5);
/// Where docker and podman keep the CAs of single registries.
const CERTIFICATES: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];

/// How registries are reached.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// CAs to trust beside the system's.
    pub(crate) cacert: Option<PathBuf>,
    /// Whether to speak plain HTTP.
    pub(crate) plain_http: bool,
    /// Whether to speak it, as with this machine, where a registry does not speak TLS.
    pub(crate) allow_http: bool,
    /// Where credentials are.
    pub(crate) credentials: CredentialStore,
    /// How long we wait.
    pub(crate) patience: Patience,
}

impl Options {
    /// The defaults in this environment.
    pub(crate) fn new(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        Options {
            cacert: None,
            plain_http: false,
            allow_http: false,
            credentials: CredentialStore::from_environment(environment),
            patience: Patience::default(),
        }
    }
}

/// A registry that we speak with.
pub(crate) struct Registry {
    pub(super) base: Url,
    client: Client,
    auth: Auth,
    pub(super) patience: Patience,
}

/// A request that can be repeated.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) scopes: Scopes,
}

impl Call {
    pub(super) fn new(method: Method, url: Url, scopes: Scopes) -> Self {
        Call { method, url, headers: HeaderMap::new(), body: None, scopes }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }
}

impl Registry {
    /// Prepares to speak with the registry of `name`.
    pub(crate) async fn connect(options: &Options, name: &ImageName) -> Result<Self> {
        let host = &name.host;
        let client = client(options, host.as_str(), host.is_loopback())?;
        let url = |scheme: &str| {
            let url = format!("{scheme}://{}/", host.api());
            url.parse::<Url>().map_err(|_| Error::Usage(format!("{host} is not a registry's host")))
        };
        let base = url(scheme(options, &client, host).await)?;
        let is_secure = base.scheme() == "https";
        let auth = Auth::new(host.clone(), name.repository.clone(), is_secure, options.credentials.clone());
        Ok(Registry { base, client, auth, patience: options.patience })
    }

    /// Learns how to log in, if there is a login, so that it is shown from the first request on.
    pub(super) async fn introduce(&self) -> Result<()> {
        if !self.auth.has_login().await? {
            return Ok(());
        }
        let url = self.base.join("v2/").map_err(|error| Error::Failed(error.to_string()))?;
        let authority = self.base.authority();
        let response = timeout(self.patience.idle, self.client.get(url).send())
            .await
            .map_err(|_| Error::transient(format!("{authority} does not answer")))?
            .map_err(|error| explain(error, &format!("cannot reach {authority}")))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.auth.meet(&response).await;
        }
        Ok(())
    }

    /// Sends a request until there is an answer that is neither a 401 that logging in mends, nor a redirect,
    /// nor of the kind that passes.
    pub(super) async fn send(&self, call: &Call) -> Result<Response> {
        let mut failures = 0;
        loop {
            let error = match self.once(call).await {
                Ok(response) if is_transient(response.status()) => self.refusal(response).await,
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            failures += 1;
            match self.patience.after(failures, &error) {
                Some(pause) => {
                    tracing::debug!(%error, failures, "trying again");
                    sleep(pause).await;
                }
                None => return Err(error),
            }
        }
    }

    /// Sends a request, and reads its answer, which is small. Gives the answer's head and body.
    pub(super) async fn exchange(&self, call: &Call, limit: usize) -> Result<Exchange> {
        let mut failures = 0;
        loop {
            let response = self.send(call).await?;
            if !response.status().is_success() && response.status() != StatusCode::NOT_MODIFIED {
                return Err(self.refusal(response).await);
            }
            let (headers, url) = (response.headers().clone(), response.url().clone());
            let error = match whole(response, limit, &self.patience).await {
                Ok(body) => return Ok(Exchange { headers, url, body }),
                Err(error) => error,
            };
            failures += 1;
            match self.patience.after(failures, &error) {
                Some(pause) => sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    /// What an answer that is no success says.
    pub(super) async fn refusal(&self, response: Response) -> Error {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = whole(response, MAX_ERROR, &self.patience).await.unwrap_or_default();
        let error = Error::of_answer(status, &headers, &body);
        match (status, error) {
            (StatusCode::UNAUTHORIZED, Error::Auth(message)) => {
                Error::Auth(format!("{message}; {}", self.auth.advice().await))
            }
            (_, error) => error,
        }
    }

    async fn once(&self, call: &Call) -> Result<Response> {
        let mut url = call.url.clone();
        let mut redirects = 0;
        let mut learned = false;
        loop {
            let shown = self.shown(&url, &call.scopes).await?;
            let mut request =
                self.client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
            if let Some(shown) = &shown {
                request = request.header(header::AUTHORIZATION, shown.clone());
            }
            let mut limit = self.patience.idle;
            if let Some(body) = &call.body {
                // What is sent takes its time too: at least 16 KiB a second.
                limit += Duration::from_secs(body.len() as u64 / (16 << 10));
                request = request.body(body.clone());
            }
            let response = timeout(limit, request.send())
                .await
                .map_err(|_| Error::transient(format!("{} does not answer", self.base.authority())))?
                .map_err(|error| explain(error, &format!("cannot reach {}", self.base.authority())))?;
            match response.status() {
                StatusCode::UNAUTHORIZED if !learned && self.is_ours(&url) => {
                    learned = true;
                    let (client, patience) = (&self.client, &self.patience);
                    if !self.auth.learn(client, patience, &response, &call.scopes, shown.as_ref()).await? {
                        return Err(self.refusal(response).await);
                    }
                }
                StatusCode::UNAUTHORIZED => return Err(self.refusal(response).await),
                status if is_redirect(status, call) => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        return Err(Error::Failed(format!("more than {MAX_REDIRECTS} redirects")));
                    }
                    url = location(&response)?;
                }
                _ => return Ok(response),
            }
        }
    }

    /// Sends a body that cannot be repeated, of exactly `length` bytes. `sent` counts what has left us: while
    /// that moves there is no limit of time.
    pub(super) async fn stream(
        &self,
        call: &Call,
        body: reqwest::Body,
        length: u64,
        sent: Arc<AtomicU64>,
    ) -> Result<Response> {
        let shown = self.shown(&call.url, &call.scopes).await?;
        let mut request = self.client.request(call.method.clone(), call.url.clone());
        request = request.headers(call.headers.clone()).header(header::CONTENT_LENGTH, length).body(body);
        if let Some(shown) = shown {
            request = request.header(header::AUTHORIZATION, shown);
        }
        let mut sending = std::pin::pin!(request.send());
        let mut before = sent.load(Ordering::Relaxed);
        loop {
            match timeout(self.patience.idle, sending.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => {
                    return Err(explain(error, &format!("cannot send to {}", self.base.authority())));
                }
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now == before {
                        return Err(Error::transient(format!(
                            "{} takes no more bytes",
                            self.base.authority()
                        )));
                    }
                    before = now;
                }
            }
        }
    }

    async fn shown(&self, url: &Url, scopes: &Scopes) -> Result<Option<HeaderValue>> {
        if self.is_ours(url) {
            self.auth.header(&self.client, &self.patience, scopes).await
        } else {
            Ok(None)
        }
    }

    /// Whether a URL is of the registry itself, and so may see what we log in with.
    pub(super) fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

/// An answer that was read to its end.
pub(super) struct Exchange {
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) body: Bytes,
}

fn is_redirect(status: StatusCode, call: &Call) -> bool {
    let reads = call.method == Method::GET || call.method == Method::HEAD;
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => reads,
        _ => false,
    }
}

/// Where an answer points, absolute or relative to what was asked; never from TLS to plain HTTP.
pub(super) fn location(response: &Response) -> Result<Url> {
    let wrong = |why: &str| Error::Failed(format!("the answer's Location {why}"));
    let text = response.headers().get(header::LOCATION).ok_or_else(|| wrong("is missing"))?;
    let text = text.to_str().map_err(|_| wrong("is not text"))?;
    let url = response.url().join(text).map_err(|_| wrong("is no URL"))?;
    match (response.url().scheme(), url.scheme()) {
        ("https", "http") => Err(wrong("leads from TLS to plain HTTP; set the registry's external URL")),
        (_, "http" | "https") => Ok(url),
        _ => Err(wrong("is not on the web")),
    }
}

/// Whether to speak TLS with a host.
pub(super) async fn scheme(options: &Options, client: &Client, host: &Host) -> &'static str {
    let may_be_plain = host.is_loopback() || options.allow_http;
    if options.plain_http || (may_be_plain && !speaks_tls(client, host).await) { "http" } else { "https" }
}

/// Whether a host speaks TLS, trusted or not.
async fn speaks_tls(client: &Client, host: &Host) -> bool {
    match timeout(PROBE, client.get(format!("https://{host}/v2/")).send()).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => matches!(tls_error(&error), Some(rustls::Error::InvalidCertificate(_))),
        Err(_) => false,
    }
}

pub(super) fn client(options: &Options, host: &str, loopback: bool) -> Result<Client> {
    let mut extra = Vec::new();
    if let Some(path) = &options.cacert {
        extra.extend(certificates(path)?);
    }
    for folder in CERTIFICATES {
        for path in folder_of(&Path::new(folder).join(host)) {
            extra.extend(certificates(&path)?);
        }
    }
    let builder = || {
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http2_adaptive_window(true)
            .connect_timeout(options.patience.idle);
        // A proxy cannot reach this machine's own addresses.
        if loopback { builder.no_proxy() } else { builder }
    };
    // Where the system has no CAs at all, plain HTTP and our own CAs still work.
    let built = builder().tls_certs_merge(extra.clone()).build();
    built
        .or_else(|_| builder().tls_certs_only(extra).build())
        .map_err(|error| explain(error, "cannot prepare TLS"))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    let wrong =
        |why: String| Error::Usage(format!("cannot read CA certificates from {}: {why}", path.display()));
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("it is not PEM".to_owned()))?;
    if found.is_empty() { Err(wrong("it holds no certificate in PEM".to_owned())) } else { Ok(found) }
}

/// The `*.crt` files of a folder, if there is one.
fn folder_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
    files.sort();
    files
}
