// SPDX-License-Identifier: AGPL-3.0-only
//! Another registry: Debian's `docker-registry` (distribution 2.8), over TLS with a CA of the test's own and
//! a password for its only user, or in plain HTTP with a token service. It has no referrers API, so its
//! clients keep such lists under tags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::client::find;
use crate::process::{Process, poll};
use crate::tokens::{ISSUER, SERVICE, Tokens};

/// A running registry of another make.
#[derive(Debug)]
pub struct Peer {
    _process: Process,
    host: String,
    ca: PathBuf,
    tokens: Option<Tokens>,
}

impl Peer {
    /// Its only user.
    pub const USER: &str = "ci";
    /// That user's password.
    pub const PASSWORD: &str = "s3cret";

    /// Starts it with its files in `folder`, over TLS and with a password.
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        certificates(folder);
        let (user, password) = (Self::USER, Self::PASSWORD);
        let script =
            format!(r#"print "{user}:", crypt("{password}", q($2y$05$abcdefghijklmnopqrstuu)), "\n""#);
        fs::write(folder.join("htpasswd"), run(Command::new("perl").args(["-e", &script]))).unwrap();
        let here = folder.display();
        let auth = format!("htpasswd: {{realm: peer, path: {here}/htpasswd}}");
        Self::begin(
            folder,
            &auth,
            &format!(", tls: {{certificate: {here}/srv.crt, key: {here}/srv.key}}"),
            None,
        )
    }

    /// Starts it in plain HTTP, with a token service that lets anyone pull, and its user push.
    pub fn with_tokens(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let tokens = Tokens::start(folder);
        let auth = format!(
            "token: {{realm: '{}', service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {}}}",
            tokens.realm(),
            tokens.certificate().display()
        );
        Self::begin(folder, &auth, "", Some(tokens))
    }

    fn begin(folder: &Path, auth: &str, tls: &str, tokens: Option<Tokens>) -> Self {
        let here = folder.display();
        let config = format!(
            "version: 0.1\n\
             storage: {{filesystem: {{rootdirectory: {here}/data}}, delete: {{enabled: true}}}}\n\
             auth: {{{auth}}}\n\
             http: {{addr: '127.0.0.1:0'{tls}}}\n"
        );
        fs::write(folder.join("config.yml"), config).unwrap();
        let mut command = Command::new(find("docker-registry").unwrap());
        command.env_clear().arg("serve").arg(folder.join("config.yml"));
        let mut process = Process::start("docker-registry", &mut command, &folder.join("log"));
        let host = poll("docker-registry to listen", Duration::from_secs(40), || {
            let said = process.said();
            assert!(process.ended().is_none(), "docker-registry ended at once:\n{said}");
            let (_, rest) = said.split_once("listening on ")?;
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
            Some(rest[..end].to_owned())
        });
        Self { _process: process, host, ca: folder.join("ca.crt"), tokens }
    }

    /// The scopes that its token service was asked for, a line for each time.
    pub fn scopes(&self) -> Vec<String> {
        self.tokens.as_ref().map(Tokens::asked).unwrap_or_default()
    }

    /// The host and port that it listens on.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The certificate of the CA that vouches for it.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// What `docker login` writes, with this password.
    pub fn docker_config(&self, password: &str) -> String {
        let auth = BASE64_STANDARD.encode(format!("{}:{password}", Self::USER));
        format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, self.host)
    }
}

fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder));
    };
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {ec} -days 30 -subj /CN=test-CA -addext basicConstraints=critical,CA:TRUE \
         -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.crt"
    ));
    openssl(&format!("req {ec} -subj /CN=registry.test -keyout srv.key -out srv.csr"));
    fs::write(folder.join("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        .unwrap();
    openssl(
        "x509 -req -in srv.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out srv.crt",
    );
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
