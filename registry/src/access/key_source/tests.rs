// SPDX-License-Identifier: AGPL-3.0-only
//! Keys from a file that changes, and from a server that is away, slow, large, or leads elsewhere.

use std::fs;
use std::sync::Mutex as StdMutex;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::access::forge::{Forge, jwks};

/// Nothing happens by itself within a test, and what a test waits for happens soon.
const SLOW: Pace = Pace {
    file: Duration::from_millis(5),
    url: Duration::from_hours(1),
    pause: Duration::from_hours(1),
    patience: Duration::from_secs(20),
    glance: Duration::from_secs(20),
};
const PATIENCE: Duration = Duration::from_hours(1);
const QUICK: Pace = Pace { url: Duration::from_millis(5), pause: Duration::ZERO, ..SLOW };

/// What a server does with a request.
#[derive(Clone)]
enum Answer {
    Whole(u16, String),
    Redirect(String),
    /// It hangs up.
    Away,
    /// It begins, and then nothing comes.
    Stalled,
}

/// A server on this machine that answers what it is told to.
struct Server {
    url: String,
    answer: Arc<StdMutex<Answer>>,
    asked: Arc<StdMutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (answer, asked) = (Arc::new(StdMutex::new(answer)), Arc::new(StdMutex::new(Vec::new())));
        let (answers, log) = (Arc::clone(&answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, log) = (Arc::clone(&answers), Arc::clone(&log));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap();
                    log.lock().unwrap().push(head.split(' ').nth(1).unwrap().to_owned());
                    let answer = answers.lock().unwrap().clone();
                    let text = match answer {
                        Answer::Whole(status, body) => {
                            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                        }
                        Answer::Redirect(to) => {
                            format!("HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                        }
                        Answer::Away => return,
                        Answer::Stalled => "HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{".to_owned(),
                    };
                    // The client may be gone.
                    let _gone = stream.write_all(text.as_bytes()).await;
                    let _gone = stream.read_u8().await;
                });
            }
        });
        Server { url, answer, asked }
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn source(&self, pace: Pace) -> Arc<KeySource> {
        let url = config::KeySource::try_from(self.url.clone()).unwrap();
        Arc::new(KeySource::with("test", &url, None, pace).unwrap())
    }
}

fn set(kids: &[&str]) -> Answer {
    Answer::Whole(200, text(kids))
}

fn text(kids: &[&str]) -> String {
    let forge = Forge::p256();
    jwks(kids.iter().map(|kid| forge.jwk(json!({"kid": kid}))))
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn until_fault(source: &KeySource) {
    until("a fault", || source.state.try_lock().is_ok_and(|state| state.fault.is_some())).await;
}

async fn fault(source: &KeySource) -> Option<String> {
    source.state.lock().await.fault.clone()
}

#[tokio::test]
async fn a_file_is_taken_over_when_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let open = || KeySource::with("test", &config::KeySource::File(path.clone()), None, SLOW);
    assert!(open().err().unwrap().contains("cannot read"));
    fs::write(&path, "{}").unwrap();
    assert!(open().err().unwrap().contains("it is no JWKS"));
    fs::write(&path, text(&["1"])).unwrap();
    let source = Arc::new(open().unwrap());
    assert!(source.has(Some("1")) && !source.has(Some("2")));
    let generation = source.generation();
    let watch = tokio::spawn(Arc::clone(&source).watch());
    let replace = |contents: &str| {
        let new = folder.path().join("new");
        fs::write(&new, contents).unwrap();
        fs::rename(new, &path).unwrap();
    };
    replace("{");
    until_fault(&source).await;
    assert!(
        source.has(Some("1")) && source.generation() == generation,
        "a file that is wrong changes nothing"
    );
    replace(&text(&["2"]));
    until("the new keys", || source.has(Some("2"))).await;
    assert!(!source.has(Some("1")), "a key that was taken away is gone");
    assert!(source.generation() > generation);
    let generation = source.generation();
    fs::remove_file(&path).unwrap();
    until_fault(&source).await;
    assert!(source.has(Some("2")) && source.generation() == generation);
    watch.abort();
}

#[tokio::test]
async fn keys_stay_for_ever_while_their_issuer_is_away() {
    let server = Server::start(Answer::Away).await;
    let source = server.source(QUICK);
    assert!(source.keys().is_none(), "nobody waits for it at the start");
    let watch = tokio::spawn(Arc::clone(&source).watch());
    until("it is asked again and again", || server.asked() > 3).await;
    assert!(source.keys().is_none() && source.generation() == 0);
    server.answer(set(&["1"]));
    until("its keys", || source.has(Some("1"))).await;
    assert_eq!((source.generation(), fault(&source).await), (1, None));
    for bad in [
        Answer::Away,
        Answer::Whole(500, text(&["2"])),
        Answer::Whole(200, "<html>".into()),
        Answer::Whole(200, jwks([])),
    ] {
        server.answer(bad);
        let before = server.asked();
        until("it is asked again", || server.asked() > before + 2).await;
        assert!(source.has(Some("1")) && source.generation() == 1);
        assert!(fault(&source).await.is_some());
    }
    server.answer(set(&["2"]));
    until("the new keys", || source.has(Some("2"))).await;
    assert!(!source.has(Some("1")) && source.generation() == 2);
    let before = server.asked();
    until("it is asked again", || server.asked() > before + 2).await;
    assert_eq!(source.generation(), 2, "the same keys are not new ones");
    watch.abort();
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_at_once() {
    let server = Server::start(set(&["1"])).await;
    let source = server.source(Pace { pause: Duration::ZERO, ..SLOW });
    assert!(source.keys_for(Some("1")).await.unwrap().has(Some("1")), "also the first time");
    assert!(source.keys_for(Some("1")).await.is_some() && source.keys_for(None).await.is_some());
    assert_eq!(server.asked(), 1, "a known key is not looked for");
    server.answer(set(&["1", "2"]));
    assert!(source.keys_for(Some("2")).await.unwrap().has(Some("2")));
    assert_eq!((server.asked(), source.generation()), (2, 2));
}

#[tokio::test]
async fn many_unknown_keys_make_one_look() {
    let server = Server::start(set(&["1"])).await;
    let source = server.source(SLOW);
    let all = (0..500).map(|number| {
        let source = Arc::clone(&source);
        tokio::spawn(async move { source.keys_for(Some(&format!("kid{number}"))).await.is_some() })
    });
    for task in all.collect::<Vec<_>>() {
        assert!(task.await.unwrap(), "those who came later have waited for it too");
    }
    assert_eq!(server.asked(), 1);
    server.answer(Answer::Away);
    assert!(source.keys_for(Some("x")).await.unwrap().has(Some("1")));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn readers_do_not_wait_and_a_client_that_goes_takes_nothing_with_it() {
    let server = Server::start(Answer::Stalled).await;
    let source = server.source(SLOW);
    let waits = {
        let source = Arc::clone(&source);
        tokio::spawn(async move { source.keys_for(Some("1")).await.is_some() })
    };
    until("the look", || server.asked() == 1).await;
    assert!(source.keys().is_none(), "without waiting");
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    assert!(source.state.try_lock().is_err(), "the look goes on");
}

#[tokio::test]
async fn nobody_waits_long_for_an_issuer_that_is_slow() {
    let server = Server::start(set(&["1"])).await;
    let source = server.source(Pace { glance: Duration::from_millis(5), patience: PATIENCE, ..SLOW });
    source.look_now().await;
    // Its first look is long ago.
    source.looks().began = None;
    server.answer(Answer::Stalled);
    for kid in ["2", "3", "2"] {
        let keys = source.keys_for(Some(kid)).await.unwrap();
        assert!(!keys.has(Some(kid)), "refused by the keys that are there");
        assert_eq!(source.looks().under_way, 1, "while the look still goes on");
    }
    assert!(source.keys_for(Some("1")).await.unwrap().has(Some("1")), "a known key waits for nothing");
    until("one look for all", || server.asked() == 2).await;
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up() {
    let server = Server::start(Answer::Stalled).await;
    let source = server.source(Pace { patience: Duration::from_millis(50), ..SLOW });
    assert!(source.keys_for(Some("1")).await.is_none());
    assert!(fault(&source).await.unwrap().contains("cannot fetch"));
}

#[tokio::test]
async fn a_set_has_a_largest_size() {
    let sized = |size: usize| {
        let text = text(&["1"]);
        Answer::Whole(200, text.clone() + &" ".repeat(size - text.len()))
    };
    let server = Server::start(sized(MAX_SIZE + 1)).await;
    let source = server.source(Pace { pause: Duration::ZERO, ..SLOW });
    assert!(source.keys_for(Some("1")).await.is_none());
    let said = fault(&source).await.unwrap();
    assert!(said.starts_with("cannot fetch") && said.contains("256KiB"), "it is not read to its end");
    server.answer(sized(MAX_SIZE));
    assert!(source.keys_for(Some("1")).await.is_some());
}

#[tokio::test]
async fn a_redirect_leads_to_no_other_host() {
    let evil = Server::start(set(&["1"])).await;
    let server = Server::start(Answer::Redirect(evil.url.clone())).await;
    let source = server.source(Pace { pause: Duration::ZERO, ..SLOW });
    for to in [evil.url.clone(), evil.url.replace("127.0.0.1", "localhost"), "//127.0.0.2:1/keys".to_owned()]
    {
        server.answer(Answer::Redirect(to));
        assert!(source.keys_for(Some("1")).await.is_none());
        assert!(fault(&source).await.unwrap().contains("another host"));
    }
    assert_eq!(evil.asked(), 0);
    let before = server.asked();
    server.answer(Answer::Redirect("/elsewhere".to_owned()));
    assert!(source.keys_for(Some("1")).await.is_none());
    assert_eq!(
        server.asked() - before,
        MAX_REDIRECTS + 1,
        "on its own host it is followed, but not for ever"
    );
    assert_eq!(server.asked.lock().unwrap().last().unwrap(), "/elsewhere");
}

#[tokio::test]
async fn a_url_holds_no_secret() {
    for url in ["https://user@gitlab.example/keys", "https://user:secret@gitlab.example/keys"] {
        let url = config::KeySource::try_from(url.to_owned()).unwrap();
        let error = KeySource::open("test", &url, None).err().unwrap();
        assert!(error.contains("password") && !error.contains("secret"));
    }
}

/// A server with a certificate of its own CA. Gives its URL, and the CA in PEM.
async fn tls_server(body: String) -> (String, String) {
    let (ca, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&ca).unwrap();
    let issuer = rcgen::Issuer::new(params, ca);
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let text = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            // The client may be gone.
            let _gone = stream.write_all(text.as_bytes()).await;
            let _gone = stream.flush().await;
            let _gone = stream.read_u8().await;
        }
    });
    (format!("https://localhost:{port}/keys"), root.pem())
}

#[tokio::test]
async fn a_private_ca_is_trusted_where_it_is_named() {
    let (url, root) = tls_server(text(&["1"])).await;
    let url = config::KeySource::try_from(url).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, root).unwrap();
    let open = |ca: Option<&Path>| Arc::new(KeySource::with("test", &url, ca, SLOW).unwrap());
    assert!(open(Some(&path)).keys_for(Some("1")).await.is_some_and(|keys| keys.has(Some("1"))));
    let source = open(None);
    assert!(source.keys_for(Some("1")).await.is_none());
    assert!(fault(&source).await.unwrap().contains("certificate"));
}

#[tokio::test]
async fn a_ca_is_read_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let url = config::KeySource::try_from("https://gitlab.example/keys".to_owned()).unwrap();
    let open = || KeySource::open("test", &url, Some(&path)).map(drop);
    assert!(open().unwrap_err().contains("cannot read"));
    fs::write(&path, "no PEM").unwrap();
    assert!(open().unwrap_err().contains("no CA certificates"));
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["gitlab.example".to_owned()]).unwrap();
    fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    assert_eq!(open(), Ok(()));
}
