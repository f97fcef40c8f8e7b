// SPDX-License-Identifier: AGPL-3.0-only
//! TLS as clients meet it: certificates by name, what is agreed on, who does not speak it, and certificates
//! that are exchanged while the server runs.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ProtocolVersion, version};
use stella_tests::{Authority, Issued};
use tempfile::TempDir;

use crate::client::{PATIENCE, Wire, get, post, put};
use crate::role::{noise, refused};
use crate::server::{Server, eventually};

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// A server with these certificates, and what is theirs.
struct Served {
    server: Server,
    authority: Authority,
    issued: Vec<Issued>,
    folder: TempDir,
}

impl Served {
    fn with(names: &[&[&str]], env: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new();
        let issued: Vec<_> = names.iter().map(|names| authority.issue(names)).collect();
        let entries: Vec<_> = issued
            .iter()
            .enumerate()
            .map(|(number, issued)| issued.write(folder.path(), &number.to_string()))
            .collect();
        let certificates = format!("[{}]", entries.join(", "));
        let env = [env, &[("STELLA_TLS__CERTIFICATES", certificates.as_str())]].concat();
        let server = Server::on(&folder.path().join("data"), &env);
        Self { server, authority, issued, folder }
    }

    /// The certificate that a client gets who asks for `name`; by an address nobody asks for a name.
    fn shown(&self, name: &str) -> Result<CertificateDer<'static>, String> {
        self.shown_to(&self.authority.client(&[HTTP1]), name)
    }

    fn shown_to(&self, client: &Arc<ClientConfig>, name: &str) -> Result<CertificateDer<'static>, String> {
        let mut channel = self.server.channel(client, name);
        let shaken = channel.shake().map_err(|error| error.to_string())?;
        Ok(shaken.peer_certificates().unwrap()[0].clone().into_owned())
    }

    fn scrape(&self) -> String {
        let wire = &mut Wire::through(self.server.channel(&self.authority.client(&[HTTP1]), "127.0.0.1"));
        String::from_utf8(get("/metrics").on(wire).is(200).body).unwrap()
    }
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()
}

#[test]
fn each_name_has_its_certificate() {
    let served = Served::with(
        &[&["127.0.0.1", "first.example"], &["*.wild.example"], &["exact.wild.example", "other.example"]],
        &[],
    );
    for (name, number) in [
        ("127.0.0.1", 0),
        ("first.example", 0),
        ("a.wild.example", 1),
        ("exact.wild.example", 2),
        ("other.example", 2),
    ] {
        assert_eq!(served.shown(name).unwrap(), der(&served.issued[number]), "{name}");
    }
    // Who asks for another name gets the first, and finds out.
    let told = served.shown("unknown.example").unwrap_err();
    assert!(told.contains("unknown.example") && told.contains("first.example"), "{told}");
}

#[test]
fn versions_and_protocols_are_agreed_on() {
    let served = Served::with(&[&["127.0.0.1"]], &[]);
    let strict = Served::with(&[&["127.0.0.1"]], &[("STELLA_TLS__MIN_VERSION", "1.3")]);
    let shake = |served: &Served, protocols: &[&[u8]], versions: &[_]| {
        let client = served.authority.client_of(protocols, versions);
        let mut channel = served.server.channel(&client, "127.0.0.1");
        let shaken = channel.shake().map_err(|error| error.to_string())?;
        Ok::<_, String>((shaken.protocol_version().unwrap(), shaken.alpn_protocol().map(Vec::from)))
    };
    let (old, new) = ([&version::TLS12], [&version::TLS13]);
    for (protocols, agreed) in [
        ([HTTP2, HTTP1].as_slice(), Some(HTTP2)),
        (&[HTTP1, HTTP2], Some(HTTP2)),
        (&[HTTP1], Some(HTTP1)),
        (&[b"x", HTTP1], Some(HTTP1)),
        (&[], None),
    ] {
        let agreed = agreed.map(Vec::from);
        for served in [&served, &strict] {
            let shaken = shake(served, protocols, new.as_slice()).unwrap();
            assert_eq!(shaken, (ProtocolVersion::TLSv1_3, agreed.clone()), "{protocols:?}");
        }
        let shaken = shake(&served, protocols, old.as_slice()).unwrap();
        assert_eq!(shaken, (ProtocolVersion::TLSv1_2, agreed), "{protocols:?}");
    }
    let told = shake(&served, &[b"x"], new.as_slice()).unwrap_err();
    assert!(told.contains("NoApplicationProtocol"), "{told}");
    let told = shake(&strict, &[HTTP1], old.as_slice()).unwrap_err();
    assert!(told.contains("ProtocolVersion"), "{told}");
    // Without ALPN it is HTTP/1.1.
    let mut wire = Wire::through(served.server.channel(&served.authority.client_of(&[], &new), "127.0.0.1"));
    get("/v2/").on(&mut wire).is(200);
    get("/v2/").on(&mut wire).is(200);
}

#[test]
fn plain_http_is_answered_with_where_to_go() {
    let server = Server::over_tls(&[]);
    let body = noise(8 << 20);
    for request in [get("/v2/"), post("/v2/team/app/blobs/uploads/").body(&body), put("/").chunked(&[&body])]
    {
        let mut wire = Wire::open(server.address());
        wire.send(request.bytes());
        let answer = wire.answer().is(400);
        assert_eq!(answer.must("content-type"), "text/plain; charset=utf-8");
        assert_eq!(
            String::from_utf8_lossy(&answer.body),
            "Client sent an HTTP request to an HTTPS server. Use https:// instead.\n"
        );
        assert!(wire.is_closed_within(PATIENCE));
    }
    get("/v2/").to(&server).is(200);
}

#[test]
fn garbage_is_no_handshake_and_harms_nobody() {
    let server = Server::over_tls(&[]);
    let hello = {
        // The first message of a real client.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = Authority::new().client(&[HTTP1]);
        std::thread::spawn(move || {
            let socket = std::net::TcpStream::connect(address).unwrap();
            let _no_server = stella_tests::Channel::tls(socket, &client, "127.0.0.1").shake().is_ok();
        });
        let mut buffer = vec![0; 16 << 10];
        let length = listener.accept().unwrap().0.read(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    };
    let mut garbage: Vec<Vec<u8>> = vec![
        vec![0],
        vec![22],
        b"\x16\x03\x01\xff\xff".to_vec(),
        b"\x80\x2e\x01\x00\x02".to_vec(),
        b"\x15\x03\x03\0\x02\x02\x28".to_vec(),
        b"ssh-2.0-x\r\n".to_vec(),
        noise(100_000),
        vec![0xff; 100_000],
    ];
    for seed in 0..64 {
        let mut broken = hello.clone();
        let at = (seed * 37) % broken.len();
        broken[at] ^= 1 << (seed % 8);
        garbage.push(broken);
        garbage.push(hello[..at].to_vec());
    }
    for bytes in garbage {
        let mut wire = Wire::open(server.address());
        // It may be cut off at any byte.
        let _cut = wire.try_send(&bytes);
        let _cut = wire.stream().shutdown(std::net::Shutdown::Write);
        assert!(wire.is_closed_within(PATIENCE), "{} bytes", bytes.len());
    }
    get("/v2/").to(&server).is(200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn a_slow_handshake_is_cut_off_and_nobody_waits_for_it() {
    let server =
        Server::over_tls(&[("STELLA_LIMITS__HEADER_TIMEOUT", "500ms"), ("STELLA_LOG__LEVEL", "debug")]);
    let mut silent: Vec<_> = ["", "\x16", "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03"]
        .iter()
        .map(|said| {
            let mut wire = Wire::open(server.address());
            wire.send(said);
            wire
        })
        .collect();
    get("/v2/").to(&server).is(200);
    assert!(silent.iter_mut().all(|wire| wire.is_closed_within(PATIENCE)));
    eventually("it is logged", || server.log().matches("handshake took too long").count() == 3);
}

#[test]
fn a_client_that_closes_its_half_gets_its_answer() {
    let server = Server::over_tls(&[]);
    for _ in 0..50 {
        let mut wire = server.connect();
        wire.send(get("/v2/").header("Connection", "close").bytes());
        wire.finish();
        wire.answer().is(200);
    }
}

#[test]
fn a_handshake_under_way_does_not_hold_the_end_up() {
    let mut server = Server::over_tls(&[]);
    let mut wire = Wire::open(server.address());
    wire.send("\x16\x03\x01");
    get("/v2/").to(&server).is(200);
    server.terminate();
    assert!(server.ended().success());
    assert!(!server.log().contains("cut off"), "{}", server.log());
}

/// Replaces a pair as an ACME client does it: each file at once, by another name.
fn replace(folder: &Path, number: usize, issued: &Issued) {
    issued.write(folder, "new");
    for kind in ["crt", "key"] {
        fs::rename(folder.join(format!("new.{kind}")), folder.join(format!("{number}.{kind}"))).unwrap();
    }
}

#[test]
fn certificates_are_exchanged_on_sighup_and_connections_stay() {
    let served = Served::with(&[&["127.0.0.1"], &["b.example"]], &[]);
    let mut open = Wire::through(served.server.channel(&served.authority.client(&[HTTP1]), "127.0.0.1"));
    get("/v2/").on(&mut open).is(200);
    let next = served.authority.issue(&["127.0.0.1", "new.example"]);
    replace(served.folder.path(), 0, &next);
    served.server.hang_up();
    eventually("the new one is served", || served.shown("127.0.0.1").unwrap() == der(&next));
    assert_eq!(served.shown("new.example").unwrap(), der(&next));
    assert_eq!(served.shown("b.example").unwrap(), der(&served.issued[1]));
    get("/v2/").on(&mut open).is(200);

    // The other one turns bad: it stays, and that is told.
    let path = served.folder.path().join("1.key");
    fs::write(&path, &next.key).unwrap();
    served.server.hang_up();
    let told = format!("the private key in {} does not belong to the certificate in", path.display());
    eventually("the bad pair is told of", || served.server.log().contains(&told));
    assert!(served.server.log().contains("the one from before is still served"));
    assert_eq!(served.shown("b.example").unwrap(), der(&served.issued[1]));
    assert_eq!(served.shown("127.0.0.1").unwrap(), der(&next));
    let figures = served.scrape();
    assert!(figures.contains("stella_certificate_reloads_total{result=\"failure\"} 1\n"), "{figures}");
    assert!(!figures.contains("stella_certificate_reloads_total{result=\"success\"} 0\n"), "{figures}");
    assert!(!served.server.log().contains("PRIVATE KEY"), "{}", served.server.log());
}

#[test]
fn certificates_are_exchanged_when_their_files_change() {
    let served = Served::with(&[&["127.0.0.1"]], &[]);
    let next = served.authority.issue(&["127.0.0.1"]);
    replace(served.folder.path(), 0, &next);
    eventually("the new one is served", || served.shown("127.0.0.1").unwrap() == der(&next));
    assert!(!served.server.log().contains("cannot reload"), "{}", served.server.log());

    // A directory that is exchanged as a whole, as Kubernetes does it, and then a file that goes away.
    let (one, two) = (served.folder.path().join("one"), served.folder.path().join("two"));
    let last = served.authority.issue(&["127.0.0.1"]);
    for (folder, issued) in [(&one, &next), (&two, &last)] {
        fs::create_dir(folder).unwrap();
        issued.write(folder, "pair");
    }
    let link = |to: &Path| {
        let link = served.folder.path().join("link");
        std::os::unix::fs::symlink(to, &link).unwrap();
        fs::rename(link, served.folder.path().join("current")).unwrap();
    };
    link(&one);
    for kind in ["crt", "key"] {
        let file = served.folder.path().join(format!("0.{kind}"));
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(format!("current/pair.{kind}"), file).unwrap();
    }
    link(&two);
    eventually("the third one is served", || served.shown("127.0.0.1").unwrap() == der(&last));
    fs::remove_file(two.join("pair.crt")).unwrap();
    eventually("the loss is told of", || served.server.log().contains("cannot reload a certificate"));
    assert!(served.server.log().contains("0.crt: No such file"), "{}", served.server.log());
    assert_eq!(served.shown("127.0.0.1").unwrap(), der(&last));
}

#[test]
fn metrics_tell_when_certificates_expire() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let entry = authority
        .issue_with(&["127.0.0.1", "a.example"], |params| params.not_after = rcgen::date_time_ymd(2099, 1, 1))
        .write(folder.path(), "a");
    let server =
        Server::on(&folder.path().join("data"), &[("STELLA_TLS__CERTIFICATES", &format!("[{entry}]"))]);
    let mut wire = Wire::through(server.channel(&authority.client(&[HTTP1]), "127.0.0.1"));
    let figures = String::from_utf8(get("/metrics").on(&mut wire).is(200).body).unwrap();
    assert!(
        figures.contains("stella_certificate_expiry_seconds{name=\"a.example\"} 4070908800\n"),
        "{figures}"
    );
    // Without TLS there is nothing to tell.
    let plain = get("/metrics").to(&Server::start()).is(200).body;
    assert!(!String::from_utf8(plain).unwrap().contains("stella_certificate"));
}

fn check(certificates: &str, env: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    command.args(arguments).env_clear().env("STELLA_TLS__CERTIFICATES", certificates);
    command.envs(env.iter().copied()).env("STELLA_DATA", "/nowhere/at/all");
    command.output().unwrap()
}

#[test]
fn a_bad_pair_stops_the_start_and_is_told_exactly() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    authority.issue(&["a.example"]).write(folder.path(), "a");
    authority.issue(&["b.example"]).write(folder.path(), "b");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let entry = |certificate: &str, key: &str| {
        format!("[{{certificate: {}, key: {}}}]", path(certificate), path(key))
    };
    let (a, b, gone) = (path("a.crt"), path("b.key"), path("gone.key"));
    for (certificates, expected) in [
        (
            entry("a.crt", "b.key"),
            format!("the private key in {b} does not belong to the certificate in {a}"),
        ),
        (entry("a.crt", "gone.key"), format!("cannot read {gone}: No such file or directory (os error 2)")),
    ] {
        let expected =
            format!("error: environment STELLA_TLS__CERTIFICATES: `tls.certificates`: {expected}\n");
        for arguments in [["config", "check"].as_slice(), &["serve"]] {
            let run = check(&certificates, &[], arguments);
            assert_eq!((run.status.code(), run.stdout.as_slice()), (Some(2), b"".as_slice()));
            assert_eq!(String::from_utf8_lossy(&run.stderr), expected);
        }
    }
}

#[test]
fn what_clients_will_refuse_is_warned_of() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let old = authority
        .issue_with(&["a.example"], |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
        .write(folder.path(), "a");
    let external = [("STELLA_EXTERNAL_URL", "https://registry.example")];
    let run = check(&format!("[{old}]"), &external, &["config", "check"]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "configuration is valid\n");
    let file = folder.path().join("a.crt");
    let expected = format!(
        "warning: the certificate in {} (a.example) expired on 2002-01-01T00:00:00Z; clients refuse it\n\
         warning: no certificate has the host of external_url, registry.example\n",
        file.display()
    );
    assert_eq!(String::from_utf8_lossy(&run.stderr), expected);

    let server =
        Server::on(&folder.path().join("data"), &[("STELLA_TLS__CERTIFICATES", &format!("[{old}]"))]);
    eventually("it is logged", || server.log().contains("(a.example) expired on 2002-01-01T00:00:00Z"));
}

#[test]
fn other_addresses_are_refused_with_tls_too() {
    let folder = TempDir::new().unwrap();
    let entry = Authority::new().issue(&["a.example"]).write(folder.path(), "a");
    let run = check(&format!("[{entry}]"), &[("STELLA_LISTEN", "0.0.0.0:5000")], &["serve"]);
    let told = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(told.contains("only this machine is served, also with TLS: use 127.0.0.1:5000"), "{told}");
    assert_eq!(run.status.code(), Some(2));
}

#[test]
fn a_large_blob_comes_whole_over_tls() {
    let server = Server::over_tls(&[]);
    let repo = server.repo("team/app");
    let bytes = noise(24 << 20);
    let digest = repo.push_blob(&bytes);
    let mut wire = server.connect();
    assert!(get(repo.blob(&digest)).on(&mut wire).is(200).body == bytes);
    refused(&get(repo.manifest("v1")).on(&mut wire), 404, "MANIFEST_UNKNOWN");
}
