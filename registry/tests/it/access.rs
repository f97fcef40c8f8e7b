// SPDX-License-Identifier: AGPL-3.0-only
//! Who may do what: rules, passwords, robots and tokens as clients meet them. Each theme has a file below; here is the
//! server they share, and the clients with their credentials.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use crate::administration::stella_with;
use crate::client::{Answer, Request, get, post, put};
use crate::role::{OCI_MANIFEST, image, sha256};
use crate::server::Server;

mod evidence;
mod examples;
mod existence;
mod passwords;
mod robots;
mod rules;
mod tags;
mod tokens;

/// A server with rules, and users whose passwords are their names backwards.
pub(crate) struct Guarded {
    pub(crate) server: Server,
    pub(crate) folder: TempDir,
}

/// Alice may do everything, ci may push to `dev`, reader reads `dev`, signer signs in `dev`; everyone reads `public`.
const RULES: &str = "[{deny: [delete], to: everyone, repositories: [prod/**]}, {allow: all, to: {subject: alice}}, \
                     {allow: [pull, push], to: {subject: ci}, repositories: [dev/**, dev]}, \
                     {allow: [pull], to: {subject: reader}, repositories: [dev/**, dev]}, \
                     {allow: [sign], to: {subject: signer}, repositories: [dev/**, dev]}, \
                     {allow: [pull], to: everyone, repositories: [public/**]}]";

impl Guarded {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(env: &[(&str, &str)]) -> Self {
        Self::in_folder(TempDir::new().unwrap(), env)
    }

    pub(crate) fn in_folder(folder: TempDir, env: &[(&str, &str)]) -> Self {
        let users = ["alice", "ci", "reader", "signer", "nobody"].map(|name| line(name, &backwards(name)));
        std::fs::write(folder.path().join("users"), users.concat()).unwrap();
        let users = folder.path().join("users");
        let settings = [("STELLA_ACCESS", RULES), ("STELLA_AUTH__HTPASSWD", users.to_str().unwrap())];
        let mut settings = [&settings, env].concat();
        if env.iter().any(|(name, _)| *name == "STELLA_ACCESS_FILE") {
            settings.retain(|(name, _)| *name != "STELLA_ACCESS");
        }
        let server = Server::on(&folder.path().join("data"), &settings);
        Guarded { server, folder }
    }

    pub(crate) fn users(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    /// Sends a request as somebody: a user, or `anonymous`.
    pub(crate) fn send(&self, who: &str, request: Request) -> Answer {
        self.authorized(who, request).to(&self.server)
    }

    #[expect(clippy::unused_self, reason = "reads as what is asked of the server")]
    pub(crate) fn authorized(&self, who: &str, request: Request) -> Request {
        if who == "anonymous" {
            request
        } else {
            request.header("Authorization", basic(who, &backwards(who)))
        }
    }

    /// Pushes an image as Alice; gives its digest and that of its layer.
    pub(crate) fn image(&self, repo: &str, tag: &str) -> (String, String) {
        let blob = |bytes: String| {
            let digest = sha256(&bytes);
            let target = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
            self.send("alice", post(target).body(&bytes)).is(201);
            (digest, bytes.len())
        };
        let ((config, config_len), (layer, layer_len)) =
            (blob(format!("{{\"of\":\"{repo}\"}}")), blob(format!("{repo} {tag}")));
        let manifest = image((&config, config_len), &[(&layer, layer_len)]).to_string();
        let target = format!("/v2/{repo}/manifests/{tag}");
        self.send("alice", put(target).header("Content-Type", OCI_MANIFEST).body(&manifest)).is(201);
        (sha256(manifest), layer)
    }

    /// A token of `/token` for somebody.
    pub(crate) fn token(&self, who: &str, scope: &str) -> String {
        let answer = self.send(who, get(format!("/token?service=stella-registry&scope={scope}"))).is(200);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Ends the server and starts it again on its data.
    pub(crate) fn restart(&mut self) {
        self.server.terminate();
        self.server.ended();
        let users = self.users();
        let settings = [("STELLA_ACCESS", RULES), ("STELLA_AUTH__HTPASSWD", users.to_str().unwrap())];
        self.server = Server::on(&self.folder.path().join("data"), &settings);
    }

    /// Runs a command beside the server, with its configuration.
    pub(crate) fn stella(&self, args: &[&str]) -> crate::administration::Outcome {
        let users = self.users();
        let env = [("STELLA_ACCESS", RULES), ("STELLA_AUTH__HTPASSWD", users.to_str().unwrap())];
        stella_with(&self.folder.path().join("data"), args, &env)
    }
}

pub(crate) fn backwards(name: &str) -> String {
    name.chars().rev().collect()
}

pub(crate) fn line(name: &str, password: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap())
}

pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

pub(crate) fn bearer(request: Request, token: &str) -> Request {
    request.header("Authorization", format!("Bearer {token}"))
}

/// What a token says.
pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
