// SPDX-License-Identifier: AGPL-3.0-only
//! What a token of `/token` is compared with: signing as many bytes with a key of the same kind (ES256), and nothing
//! else. Each core signs by itself, with a key of its own. The bare server is told to by a `GET`, so that it is started,
//! stopped, pinned and counted as every server is.
//!
//! And what stands between the two: a server on hyper, on the registry's runtime and with its settings, that answers each
//! request with a signature and as many bytes as `/token` does, and does nothing else. Nothing that answers requests over
//! HTTP with signatures can do more of them on the same cores. Another `GET` tells where it listens.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::rounds::Tally;
use crate::wire::{Talk, broken};

/// What the bare server answers with the address of its server on hyper.
pub(crate) const ADDRESS: &str = "/sign";

/// Has the bare server sign messages of `length` bytes for a while.
pub(crate) fn sign(host: &str, length: usize, time: Duration) -> anyhow::Result<Tally> {
    let target = Order { length, time }.target();
    let body = Talk::open(host)?.ask("GET", &target, &[], &[])?.must_be(200)?.body;
    let requests = str::from_utf8(&body)?.parse().context("the bare server did not sign")?;
    Ok(Tally { seconds: time.as_secs_f64(), requests, ..Tally::default() })
}

/// Where the bare server answers each request with a signature.
pub(crate) fn over_http(host: &str) -> anyhow::Result<String> {
    let body = Talk::open(host)?.ask("GET", ADDRESS, &[], &[])?.must_be(200)?.body;
    Ok(String::from_utf8(body)?)
}

/// Answers `GET /LENGTH/REST` with `REST` bytes and the signature of `LENGTH`, for ever.
pub(crate) async fn answer(listener: TcpListener) -> io::Result<()> {
    let key = Arc::new(key()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // The client sees that the connection is gone.
        tokio::spawn(connection(stream, Arc::clone(&key)));
    }
}

async fn connection(stream: TcpStream, key: Arc<EcdsaKeyPair>) {
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request: Request<Incoming>| {
        let response = signed(&request, &key);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10)).half_close(true);
    let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
}

fn signed(request: &Request<Incoming>, key: &EcdsaKeyPair) -> Response<Full<Bytes>> {
    let lengths = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
    let parsed = lengths.and_then(|(signed, rest)| Some((signed.parse().ok()?, rest.parse().ok()?)));
    let (message, rest): (usize, usize) = parsed.unwrap_or_default();
    let mut response = Response::default();
    match key.sign(&SystemRandom::new(), &vec![b'.'; message]) {
        Ok(signature) => {
            let mut body = ".".repeat(rest);
            BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut body);
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            *response.body_mut() = Full::from(body);
        }
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}

/// What the bare server is told: `/sign/LENGTH/MICROSECONDS`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    length: usize,
    time: Duration,
}

const PATH: &str = "/sign/";

impl Order {
    fn target(self) -> String {
        format!("{PATH}{}/{}", self.length, self.time.as_micros())
    }

    pub(crate) fn of(target: &str) -> Option<Self> {
        let (length, micros) = target.strip_prefix(PATH)?.split_once('/')?;
        Some(Self { length: length.parse().ok()?, time: Duration::from_micros(micros.parse().ok()?) })
    }

    /// Signs on all cores, and gives how many signatures there were.
    pub(crate) fn carry_out(self) -> io::Result<u64> {
        let cores = thread::available_parallelism()?.get();
        let keys = (0..cores).map(|_| key()).collect::<io::Result<Vec<_>>>()?;
        let message = vec![b'.'; self.length];
        let deadline = Instant::now() + self.time;
        thread::scope(|scope| {
            let start = |key| {
                let message = message.as_slice();
                scope.spawn(move || sign_until(deadline, &key, message))
            };
            let threads: Vec<_> = keys.into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| broken("a thread failed"))?).sum()
        })
    }
}

fn key() -> io::Result<EcdsaKeyPair> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).map_err(io::Error::other)?;
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).map_err(io::Error::other)
}

fn sign_until(deadline: Instant, key: &EcdsaKeyPair, message: &[u8]) -> io::Result<u64> {
    let random = SystemRandom::new();
    let mut count = 0;
    while Instant::now() < deadline {
        key.sign(&random, message).map_err(io::Error::other)?;
        count += 1;
    }
    Ok(count)
}
