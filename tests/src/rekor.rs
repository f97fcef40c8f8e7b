// SPDX-License-Identifier: AGPL-3.0-only
//! A transparency log for one test, which answers as Sigstore's Rekor does, version 1 and 2: each entry gets a promise (in
//! version 1), and a proof that it is in a tree of its own. It looks at no signature, and remembers nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A running log; it ends with the test.
#[derive(Debug)]
pub struct Rekor {
    log: Arc<Log>,
}

#[derive(Debug)]
struct Log {
    host: String,
    key: EcdsaKeyPair,
}

impl Rekor {
    /// Starts one with a key of its own.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let log = Arc::new(Log { host, key });
        let served = Arc::clone(&log);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&served);
                thread::spawn(move || log.answer(&stream));
            }
        });
        Self { log }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.log.host)
    }

    /// Its public key, as PEM.
    pub fn key(&self) -> String {
        let body = BASE64_STANDARD.encode(self.log.spki());
        let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

impl Log {
    fn spki(&self) -> Vec<u8> {
        self.key.public_key().as_der().unwrap().as_ref().to_vec()
    }

    fn id(&self) -> Vec<u8> {
        Sha256::digest(self.spki()).to_vec()
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
    }

    fn answer(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut lines = reader.by_ref().lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let length = head.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        // Whoever asked may be gone, here and below.
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let asked = serde_json::from_slice(&body).unwrap_or_default();
        let (status, more, said) = match first.split(' ').nth(1) {
            Some("/api/v1/log/entries") => {
                let (name, entry) = self.first(&entry_of(&asked));
                let place = format!("ETag: {name}\r\nLocation: /api/v1/log/entries/{name}\r\n");
                ("201 Created", place, json!({name: entry}))
            }
            Some("/api/v2/log/entries") => ("201 Created", String::new(), self.second(&entry2_of(&asked))),
            _ => ("404 Not Found", String::new(), json!({"code": 404, "message": first})),
        };
        let said = said.to_string();
        let mut stream = stream;
        let _gone = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\
             Connection: close\r\n\r\n{said}",
            said.len()
        );
    }

    /// What version 1 says of an entry, and under which name.
    #[expect(clippy::disallowed_methods, reason = "an entry is made now, by its reader's own clock")]
    fn first(&self, body: &Value) -> (String, Value) {
        let body = body.to_string();
        let leaf = leaf(&body);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let promised = json!({
            "body": BASE64_STANDARD.encode(&body),
            "integratedTime": now,
            "logID": hex::encode(self.id()),
            "logIndex": 7,
        });
        let promise = BASE64_STANDARD.encode(self.sign(&promised.to_string()));
        let mut entry = promised;
        entry["verification"] = json!({
            "signedEntryTimestamp": promise,
            "inclusionProof": {
                "checkpoint": self.checkpoint(" - 1", &leaf),
                "hashes": [],
                "logIndex": 0,
                "rootHash": hex::encode(&leaf),
                "treeSize": 1,
            },
        });
        (hex::encode(leaf), entry)
    }

    /// What version 2 says of one.
    fn second(&self, body: &Value) -> Value {
        let body = body.to_string();
        let leaf = leaf(&body);
        json!({
            "logIndex": "0",
            "logId": {"keyId": BASE64_STANDARD.encode(self.id())},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": BASE64_STANDARD.encode(&leaf),
                "treeSize": "1",
                "checkpoint": {"envelope": self.checkpoint("", &leaf)},
            },
            "canonicalizedBody": BASE64_STANDARD.encode(body),
        })
    }

    /// Of a tree with one leaf, which is its root. Logs are called after their host without its port.
    fn checkpoint(&self, tree: &str, leaf: &[u8]) -> String {
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        let note = format!("{name}{tree}\n1\n{}\n", BASE64_STANDARD.encode(leaf));
        let line = [&self.id()[..4], &self.sign(&note)].concat();
        format!("{note}\n\u{2014} {name} {}\n", BASE64_STANDARD.encode(line))
    }
}

fn leaf(body: &str) -> Vec<u8> {
    Sha256::digest([&[0], body.as_bytes()].concat()).to_vec()
}

fn hash(bytes: &[u8]) -> Value {
    json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes))})
}

fn decoded(text: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text.as_str().unwrap_or_default()).unwrap_or_default()
}

/// How version 1 keeps what is proposed.
fn entry_of(proposed: &Value) -> Value {
    let spec = &proposed["spec"];
    let kept = match proposed["kind"].as_str() {
        Some("hashedrekord") => json!({
            "data": {"hash": spec["data"]["hash"]},
            "signature": {
                "content": spec["signature"]["content"],
                "publicKey": {"content": spec["signature"]["publicKey"]["content"]},
            },
        }),
        Some("dsse") => {
            let content = &spec["proposedContent"];
            let text = content["envelope"].as_str().unwrap_or_default();
            let envelope: Value = serde_json::from_str(text).unwrap_or_default();
            json!({
                "envelopeHash": hash(text.as_bytes()),
                "payloadHash": hash(&decoded(&envelope["payload"])),
                "signatures": [
                    {"signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0]},
                ],
            })
        }
        _ => {
            let text = spec["content"]["envelope"].as_str().unwrap_or_default();
            let envelope: Value = serde_json::from_str(text).unwrap_or_default();
            json!({
                "content": {
                    "hash": hash(text.as_bytes()),
                    "payloadHash": hash(&decoded(&envelope["payload"])),
                },
                "publicKey": spec["publicKey"],
            })
        }
    };
    json!({"apiVersion": proposed["apiVersion"], "kind": proposed["kind"], "spec": kept})
}

/// How version 2 keeps what is proposed.
fn entry2_of(asked: &Value) -> Value {
    let asked = &asked["hashedRekordRequestV002"];
    let details = asked["signature"]["verifier"]["keyDetails"].as_str().unwrap_or_default();
    let algorithm = if details.ends_with("SHA_384") {
        "SHA2_384"
    } else if details.ends_with("SHA_512") || details.ends_with("ED25519_PH") {
        "SHA2_512"
    } else {
        "SHA2_256"
    };
    let data = json!({"algorithm": algorithm, "digest": asked["digest"]});
    let spec = json!({"hashedRekordV002": {"data": data, "signature": asked["signature"]}});
    json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": spec})
}
