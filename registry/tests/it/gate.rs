// SPDX-License-Identifier: AGPL-3.0-only
//! The gate as clients meet it: what a pusher is told, what readers get, when that changes. Signatures are made by
//! `stella sign`, whose server this is. Each theme has a file below.

mod ages;
mod allowances;
mod baseline;
mod commands;
mod denials;
mod disguises;
mod files;
mod impact;
mod late;
mod limits;
mod model;
mod names;
mod previews;
mod races;
mod red_team;
mod releases;
mod replays;
mod roles;
mod signer;
mod stores;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::access::Guarded;
use crate::client::{Answer, Request, get, head, post, put};
use crate::role::{OCI_MANIFEST, image, sha256};

/// Alice may do everything but see what is not released; ci pushes and signs; signer signs; reader and everyone pull.
pub(super) const ACCESS: &str = "[{allow: [pull, push, sign, delete], to: {subject: ci}}, {allow: [sign], to: {subject: signer}}, \
                                 {allow: [push, pull], to: {subject: nobody}}, {allow: all, to: {subject: alice}}, \
                                 {allow: [pull], to: everyone}]";
pub(super) const HOST: &str = "r.test";

/// A server with a gate, and a key pair.
pub(super) struct Gated {
    pub(super) guarded: Guarded,
}

/// A pushed image.
pub(super) struct Pushed {
    pub(super) digest: String,
    pub(super) layer: String,
    pub(super) config: String,
    pub(super) answer: Answer,
}

impl Gated {
    /// With a policy that demands a signature in `prod`, and these fields in its registry policy.
    pub(super) fn start(fields: &str) -> Self {
        Self::with(fields, &[])
    }

    pub(super) fn with(fields: &str, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("policies");
        fs::create_dir(&path).unwrap();
        for prefix in ["cosign", "other"] {
            let made = stella(folder.path(), &["generate-key-pair", "--output-key-prefix", prefix]);
            assert!(made.status.success(), "{made:?}");
        }
        fs::write(
            path.join("signed.yaml"),
            signed(&fs::read_to_string(folder.path().join("cosign.pub")).unwrap()),
        )
        .unwrap();
        fs::write(path.join("prod.yaml"), prod(fields)).unwrap();
        let paths = format!("[{}]", path.display());
        let settings = [
            ("STELLA_ACCESS", ACCESS),
            ("STELLA_POLICY__HOST", HOST),
            ("STELLA_POLICY__PATHS", paths.as_str()),
        ];
        let guarded = Guarded::in_folder(folder, &[&settings, env].concat());
        let login = json!({"auths": {guarded.server.address().to_string(): {"auth": BASE64_STANDARD.encode("signer:rengis")}}});
        fs::write(guarded.folder.path().join("config.json"), login.to_string()).unwrap();
        Gated { guarded }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.guarded.folder.path().join(name)
    }

    /// Changes the registry policy, and has it read.
    pub(super) fn policy(&self, fields: &str) {
        let before = self.epoch();
        // In one step: the server looks at its files by itself, too.
        fs::write(self.path("prod.yaml"), prod(fields)).unwrap();
        fs::rename(self.path("prod.yaml"), self.path("policies/prod.yaml")).unwrap();
        self.guarded.server.signal(rustix::process::Signal::HUP);
        let deadline = std::time::Instant::now() + crate::client::PATIENCE;
        while self.epoch() == before {
            assert!(std::time::Instant::now() < deadline, "{}", self.status());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub(super) fn status(&self) -> Value {
        self.send("alice", get("/api/stella/v1/policy/status")).is(200).json()
    }

    fn epoch(&self) -> u64 {
        self.status()["epoch"].as_u64().unwrap()
    }

    pub(super) fn send(&self, who: &str, request: Request) -> Answer {
        self.guarded.send(who, request)
    }

    pub(super) fn push_blob(&self, who: &str, repo: &str, bytes: impl AsRef<[u8]>) -> String {
        let digest = sha256(&bytes);
        let url = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
        self.send(who, post(url).body(bytes)).is(201);
        digest
    }

    /// Pushes an image as `ci`.
    pub(super) fn push(&self, repo: &str, tag: &str, salt: &str) -> Pushed {
        let config = self.push_blob("ci", repo, format!("{{\"salt\":\"{salt}\"}}"));
        let layer = self.push_blob("ci", repo, format!("layer {salt}"));
        let bytes = image((&config, salt.len() + 11), &[(&layer, salt.len() + 6)]).to_string();
        let request =
            put(format!("/v2/{repo}/manifests/{tag}")).header("Content-Type", OCI_MANIFEST).body(&bytes);
        let answer = self.send("ci", request).is(201);
        Pushed { digest: sha256(&bytes), layer, config, answer }
    }

    /// Signs as `signer`.
    pub(super) fn sign(&self, repo: &str, reference: &str, more: &[&str]) {
        let output = self.try_sign(repo, reference, more);
        assert!(output.status.success(), "{output:?}");
    }

    pub(super) fn try_sign(&self, repo: &str, reference: &str, more: &[&str]) -> Output {
        let colon = if reference.contains(':') { "@" } else { ":" };
        let image = format!("{}/{repo}{colon}{reference}", self.guarded.server.address());
        let arguments = ["sign", "--key", "cosign.key", "--allow-http-registry", &image];
        stella(self.guarded.folder.path(), &[&arguments[..], more].concat())
    }

    pub(super) fn pull(&self, repo: &str, reference: &str) -> Answer {
        self.send("reader", get(format!("/v2/{repo}/manifests/{reference}")))
    }

    pub(super) fn look(&self, who: &str, repo: &str, reference: &str) -> Answer {
        self.send(who, head(format!("/v2/{repo}/manifests/{reference}")))
    }

    /// A reader who is denied; gives the message.
    #[track_caller]
    #[expect(clippy::unused_self, reason = "reads as what is asked of the gate")]
    pub(super) fn denied(&self, answer: &Answer) -> String {
        assert_eq!(answer.status, 403, "{answer}");
        let errors = answer.json()["errors"].clone();
        assert_eq!(errors.as_array().unwrap().len(), 1, "one error: {answer}");
        assert_eq!(errors[0]["code"], "DENIED", "{answer}");
        assert_eq!(answer.must("content-type"), "application/json");
        assert_eq!(answer.must("cache-control"), "private, no-cache");
        assert_eq!(answer.must("vary"), "Authorization");
        assert!(!answer.must("stella-decision").is_empty());
        errors[0]["message"].as_str().unwrap().to_owned()
    }
}

pub(super) fn stella(folder: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("HOME", "/nowhere").env("COSIGN_PASSWORD", "secret").env("DOCKER_CONFIG", folder);
    command.output().unwrap()
}

fn signed(key: &str) -> String {
    let key: String = key.lines().flat_map(|line| ["\n        ", line]).collect();
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: signed}}\nspec:\n  images: \
         [{{glob: \"{HOST}/**\"}}]\n  authorities:\n  - name: us\n    key:\n      data: |{key}\n"
    )
}

fn prod(fields: &str) -> String {
    let fields = fields.split(';').filter(|field| !field.is_empty());
    let fields: String = fields.flat_map(|field| ["\n  ", field.trim()]).collect();
    format!(
        "apiVersion: policy.stella-ops.org/v1\nkind: RegistryPolicy\nmetadata: {{name: production}}\nspec:\n  repositories: \
         [\"prod/**\"]\n  transparency: ignored{fields}\n"
    )
}
