// SPDX-License-Identifier: AGPL-3.0-only
//! Traces as a collector gets them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use crate::client::{PATIENCE, get};
use crate::server::{Server, eventually};

/// What a collector was sent: heads and bodies.
struct Collector {
    address: SocketAddr,
    sent: Receiver<(String, Vec<u8>)>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sent) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, sender) = (BufReader::new(stream.unwrap()), sender.clone());
                std::thread::spawn(move || {
                    let mut head = String::new();
                    while stream.read_line(&mut head).unwrap() > 0 {
                        if !head.ends_with("\r\n\r\n") {
                            continue;
                        }
                        let length = head.lines().find_map(|line| {
                            line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
                        });
                        let mut body = vec![0; length.unwrap()];
                        stream.read_exact(&mut body).unwrap();
                        // The test may have seen enough.
                        let _heard = sender.send((std::mem::take(&mut head), body));
                        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                    }
                });
            }
        });
        Collector { address, sent }
    }
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn each_request_is_a_span_of_the_trace_that_it_came_with() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let mut server = Server::with(&[("STELLA_TRACING__OTLP", &endpoint), ("STELLA_LOG__LEVEL", "warn")]);
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    get("/v2/team/app/manifests/v1")
        .header("traceparent", format!("00-{trace}-{parent}-01"))
        .to(&server)
        .is(404);
    // The last ones are sent at the end.
    server.terminate();
    assert!(server.ended().success());
    let bytes = |text: &str| -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    let (head, body) = collector.sent.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    for part in [
        b"GET /v2/{name}/manifests/{reference}".as_slice(),
        b"http.response.status_code",
        b"service.name",
        b"stella",
        &bytes(trace),
        &bytes(parent),
    ] {
        assert!(contains(&body, part), "{:?} is missing", String::from_utf8_lossy(part));
    }
    assert_eq!(server.log(), "", "spans are not logged");
}

#[test]
fn a_collector_that_is_away_disturbs_nobody() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = Server::with(&[("STELLA_TRACING__OTLP", &format!("http://{gone}"))]);
    for _ in 0..50 {
        get("/v2/").to(&server).is(200);
    }
    eventually("it is ready", || get("/readyz").to(&server).status == 200);
    server.terminate();
    assert!(server.ended().success());
}
