// SPDX-License-Identifier: AGPL-3.0-only
//! HTTP/2 with prior knowledge, as curl speaks it (skipped, and said so, where curl does not) and by hand.

use std::process::{Command, Output};

use tempfile::TempDir;

use crate::role::{noise, sha256};
use crate::server::Server;

/// Whether this machine's curl can be asked.
fn curl_speaks_http2() -> bool {
    let able = Command::new("curl")
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2"));
    if !able {
        eprintln!("skipped: there is no curl with HTTP/2 here");
    }
    able
}

fn curl(args: &[&str]) -> Output {
    let common = ["--http2-prior-knowledge", "--silent", "--show-error", "--max-time", "20"];
    Command::new("curl").args(common).args(args).output().unwrap()
}

#[test]
fn an_image_is_pushed_and_pulled_over_http2() {
    if !curl_speaks_http2() {
        return;
    }
    let server = Server::start();
    let repo = server.repo("team/app");
    let url = |path: String| format!("http://{}{path}", server.address());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("blob");
    // Larger than every window.
    let bytes = noise(24 << 20);
    std::fs::write(&file, &bytes).unwrap();
    let digest = sha256(&bytes);
    let data = format!("@{}", file.display());
    let push = url(repo.url(&format!("blobs/uploads/?digest={digest}")));
    let form = ["--write-out", "%{http_version} %{http_code}", "--output", "/dev/null"];
    let pushed = curl(&[form.as_slice(), &["--request", "POST", "--data-binary", &data, &push]].concat());
    assert_eq!(String::from_utf8_lossy(&pushed.stdout), "2 201", "{pushed:?}");
    let pulled = curl(&[&url(repo.blob(&digest))]);
    assert!(pulled.stdout == bytes);
    let head = curl(&["--head", &url(repo.blob(&digest))]);
    let head = String::from_utf8_lossy(&head.stdout).into_owned();
    assert!(head.contains(&format!("content-length: {}", bytes.len())), "{head}");
    assert!(head.contains(&format!("docker-content-digest: {digest}")), "{head}");
}

#[test]
fn a_refusal_is_readable_over_http2() {
    if !curl_speaks_http2() {
        return;
    }
    let server = Server::start();
    let url = format!("http://{}{}", server.address(), server.repo("team/app").manifest("v1"));
    let refused =
        curl(&["--write-out", " %{http_code}", "--request", "PUT", "--data-binary", "nonsense", &url]);
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("MANIFEST_INVALID") && said.ends_with(" 400"), "{refused:?}");
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn requests_share_one_http2_connection() {
    // By hand, because curl 7.88 cannot use such a connection twice.
    let server = Server::start();
    let mut wire = server.connect();
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    wire.send(frame(4, 0, 0, &[]));
    // Of the static table: GET, http; then the path, and no host.
    let head = [b"\x82\x86\x04\x06".as_slice(), b"/livez"].concat();
    let streams: Vec<u32> = (0..100).map(|number| 2 * number + 1).collect();
    for &stream in &streams {
        wire.send(frame(1, 5, stream, &head));
    }
    let mut answered = Vec::new();
    while answered.len() < streams.len() {
        let (start, payload) = wire.frame();
        match start[3] {
            0 if start[4] & 1 == 1 => {
                assert_eq!(payload, b"ok\n");
                answered.push(u32::from_be_bytes(start[5..].try_into().unwrap()));
            }
            // 200 is a byte of the static table.
            1 => assert_eq!(payload[0], 0x88),
            3 | 7 => panic!("reset: {start:?} {payload:?}"),
            _ => {}
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, streams);
}

#[test]
fn an_early_answer_is_whole_before_its_stream_is_closed() {
    for server in [Server::start(), Server::over_tls_http2(&[])] {
        let mut wire = server.connect();
        wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        wire.send(frame(4, 0, 0, &[]));
        // PUT as a literal, http, the path; more than the answer waits for.
        let path = "/v2/UPPER/manifests/1";
        let head = [b"\x02\x03PUT\x86\x04".as_slice(), &[u8::try_from(path.len()).unwrap()], path.as_bytes()]
            .concat();
        wire.send(frame(1, 4, 1, &head));
        for _ in 0..4 {
            wire.send(frame(0, 0, 1, &noise(16_000)));
        }
        let mut kinds = Vec::new();
        while kinds.last() != Some(&3) {
            let (start, payload) = wire.frame();
            if start[8] == 1 && start[3] != 8 {
                kinds.push(start[3]);
                match start[3] {
                    // 400 is a byte of the static table.
                    1 => assert_eq!(payload[0], 0x8c),
                    0 => assert!(
                        String::from_utf8_lossy(&payload).contains("NAME_INVALID") && start[4] & 1 == 1
                    ),
                    // NO_ERROR: the client need not send the rest.
                    3 => assert_eq!(payload, [0; 4]),
                    other => panic!("a frame of kind {other}"),
                }
            }
        }
        assert_eq!(kinds, [1, 0, 3]);
    }
}
