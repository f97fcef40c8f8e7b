// SPDX-License-Identifier: AGPL-3.0-only
//! A token service as registries have it: it lets anyone pull, and the user of [`Peer`](crate::Peer) do what is
//! asked for, and signs that with a key that docker-registry trusts.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::peer::{Peer, run};

/// The name of the registry that its tokens are for.
pub(crate) const SERVICE: &str = "peer";
/// Who signs the tokens.
pub(crate) const ISSUER: &str = "tokens";

/// A running token service; it ends with the test.
#[derive(Debug)]
pub(crate) struct Tokens {
    realm: String,
    folder: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tokens {
    /// Starts it with its key in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let arguments =
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tokens -keyout token.key -out token.crt";
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let realm = format!("http://{}/token", listener.local_addr().unwrap());
        let tokens = Self { realm, folder: folder.to_owned(), asked: Arc::default() };
        let (folder, asked) = (tokens.folder.clone(), Arc::clone(&tokens.asked));
        thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| answer(&stream, &folder, &asked));
        });
        tokens
    }

    /// Where it is.
    pub(crate) fn realm(&self) -> &str {
        &self.realm
    }

    /// The certificate of its key.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("token.crt")
    }

    /// The scopes that it was asked for, a line for each time.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(stream: &TcpStream, folder: &Path, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let basic = format!(
        "authorization: Basic {}",
        BASE64_STANDARD.encode(format!("{}:{}", Peer::USER, Peer::PASSWORD))
    );
    let known = head.iter().any(|line| line.eq_ignore_ascii_case(&basic));
    let query =
        first.split(' ').nth(1).and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
    let decoded = query.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    let scopes: Vec<_> = decoded.split('&').filter_map(|pair| pair.strip_prefix("scope=")).collect();
    asked.lock().unwrap().push(scopes.join(" "));
    let access: Vec<Value> = scopes.iter().map(|scope| granted(scope, known)).collect();
    let body = json!({"token": token(folder, &json!(access)), "expires_in": 300}).to_string();
    let mut stream = stream;
    // Whoever asked may be gone.
    let _gone = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

/// What of `repository:NAME:ACTIONS` a token grants.
fn granted(scope: &str, known: bool) -> Value {
    let (resource, actions) = scope.rsplit_once(':').unwrap();
    let (kind, name) = resource.split_once(':').unwrap();
    let actions: Vec<_> = actions.split(',').filter(|action| known || *action == "pull").collect();
    json!({"type": kind, "name": name, "actions": actions})
}

#[expect(clippy::disallowed_methods, reason = "a token is valid now, by the registry's own clock")]
fn token(folder: &Path, access: &Value) -> String {
    let certificate = run(Command::new("openssl").args(["x509", "-in", "token.crt"]).current_dir(folder));
    let der: String = certificate.lines().filter(|line| !line.starts_with("---")).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
    let claims = json!({
        "iss": ISSUER, "aud": SERVICE, "sub": "", "jti": now.to_string(),
        "iat": now, "nbf": now - 10, "exp": now + 300, "access": access,
    });
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", encode(&head), encode(&claims));
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    fs::write(file.path(), &input).unwrap();
    let signed = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", "token.key"])
        .arg(file.path())
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(signed.status.success());
    format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signed.stdout))
}
