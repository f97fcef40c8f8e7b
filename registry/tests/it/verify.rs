// SPDX-License-Identifier: AGPL-3.0-only
//! `stella verify`, `verify-attestation`, `verify-bundle`, `verify-blob` and `policy`: what they answer, where they print it,
//! and with which exit code they end. `cases` runs those from elsewhere; the others sign with `stella` itself.

mod cases;
mod images;
mod limits;
mod policies;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::server::Server;

/// A folder with a key pair, a file and a server.
struct Desk {
    server: Server,
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Desk { server: Server::start(), folder: TempDir::new().unwrap() };
        desk.ok("generate-key-pair");
        desk.ok("generate-key-pair --output-key-prefix other");
        desk.write("file", "hello\n");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        run(self.folder.path(), &arguments.split_whitespace().collect::<Vec<_>>())
    }

    #[track_caller]
    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A command that must fail so. Gives what it said; data is none.
    #[track_caller]
    fn fails(&self, arguments: &str, code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {output:?}");
        assert!(output.stdout.is_empty(), "what went wrong is told on stderr: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Pushes an image, and gives its name by tag and by digest.
    fn push(&self, repository: &str, tag: &str) -> [String; 2] {
        let repo = self.server.repo(repository);
        repo.push_image(tag, &format!("{repository}:{tag}"));
        let place = format!("{}/{repository}", self.server.address());
        [format!("{place}:{tag}"), format!("{place}@{}", repo.resolve(tag).unwrap())]
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder, arguments).output().unwrap()
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("HOME", "/nowhere").env("COSIGN_PASSWORD", "secret");
    command
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const KEY: &str = "--key cosign.pub --insecure-ignore-tlog";

#[test]
fn what_does_not_go_together_is_wrong_usage_and_asks_nobody() {
    let desk = Desk::new();
    let named = "--certificate-identity a --certificate-oidc-issuer b";
    for (arguments, words) in [
        ("verify r.test/a".to_owned(), "--key"),
        (format!("verify r.test/a {KEY} {named}"), "--key does not go"),
        ("verify r.test/a --certificate-identity a".to_owned(), "--certificate-oidc-issuer"),
        ("verify r.test/a --certificate-oidc-issuer a".to_owned(), "--certificate-identity"),
        (
            "verify r.test/a --certificate-identity-regexp ( --certificate-oidc-issuer b".to_owned(),
            "--certificate-identity-regexp",
        ),
        (format!("verify oci-layout: {KEY}"), "oci-layout:DIR"),
        (format!("verify-bundle --bundle missing {KEY} file"), "missing"),
        (format!("verify-bundle --bundle file {KEY} --staging file"), "--staging needs --trusted-root"),
        (format!("verify-bundle --bundle file {KEY} missing"), "missing"),
        (format!("verify-bundle --bundle file {KEY} sha256:00"), "sha256:00"),
        (format!("verify-bundle --bundle file {KEY} --trusted-root file file"), "file"),
        ("verify-bundle --bundle file --key missing file".to_owned(), "missing"),
        ("verify-bundle --bundle file --key cosign.key file".to_owned(), "private key"),
        (format!("verify-blob {KEY} file"), "--bundle"),
        (format!("verify-attestation {KEY} --type nothing r.test/a"), "--type"),
        (format!("verify-attestation {KEY} --type custom --policy file r.test/a"), "file: not Rego"),
        ("policy test --policy file oci-layout:x".to_owned(), "--repository"),
        ("policy check missing".to_owned(), "missing"),
        ("policy check file".to_owned(), "file:1:1"),
    ] {
        let said = desk.fails(&arguments, 2);
        assert!(said.contains(words), "{arguments}: {said}");
    }
}

#[test]
fn files_are_verified_with_bundles_and_signatures_and_the_code_says_what_is_wrong() {
    let desk = Desk::new();
    desk.write("changed", "hallo\n");
    desk.write("junk", "{\"mediaType\": 1}");
    desk.ok("sign-blob --key cosign.key --bundle bundle file");
    desk.ok("sign-blob --key cosign.key --bundle old --new-bundle-format=false file");
    desk.ok("sign-blob --key cosign.key --output-signature sig file");
    let digest = crate::role::sha256("hello\n");
    for arguments in [
        format!("verify-bundle --bundle bundle {KEY} file"),
        format!("verify-bundle --bundle bundle {KEY} {digest}"),
        format!("verify-blob --bundle bundle {KEY} file"),
        format!("verify-blob --bundle old {KEY} file"),
        format!("verify-blob --signature sig {KEY} file"),
    ] {
        let output = desk.run(&arguments);
        assert!(output.status.success() && output.stdout.is_empty(), "{arguments}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Verified OK"), "{output:?}");
    }
    let other = "--key other.pub --insecure-ignore-tlog";
    for (arguments, code, words) in [
        (format!("verify-bundle --bundle bundle {KEY} changed"), 7, "wrong-subject"),
        (format!("verify-blob --signature sig {KEY} changed"), 7, "bad-signature"),
        (format!("verify-bundle --bundle bundle {other} file"), 7, "bad-signature"),
        (format!("verify-blob --bundle old {other} file"), 7, "bad-signature"),
        (format!("verify-bundle --bundle junk {KEY} file"), 6, "malformed"),
        (format!("verify-bundle --bundle old {KEY} file"), 6, "malformed"),
        ("verify-bundle --bundle bundle --key cosign.pub file".to_owned(), 8, "--insecure-ignore-tlog"),
        (format!("verify-bundle --bundle bundle {KEY} --use-signed-timestamps file"), 8, "no-trusted-time"),
    ] {
        let said = desk.fails(&arguments, code);
        assert!(said.contains(words), "{arguments}: {said}");
    }
    // The public root, which nobody named, is told of; with a key alone it is not needed.
    let needs_root = desk.fails("verify-bundle --bundle bundle --key cosign.pub file", 8);
    assert!(needs_root.contains("public root"), "{needs_root}");
    let alone = desk.run(&format!("verify-bundle --bundle bundle {KEY} file"));
    assert!(!String::from_utf8_lossy(&alone.stderr).contains("root"), "{alone:?}");
}
