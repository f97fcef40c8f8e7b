// SPDX-License-Identifier: AGPL-3.0-only
//! `stella init --require-signature`: what it writes is served as it is, and gives readers only what is signed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tempfile::TempDir;

use crate::access::basic;
use crate::administration::Outcome;
use crate::client::{get, post, put};
use crate::role::{OCI_MANIFEST, image, sha256};
use crate::server::Server;

fn stella(folder: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_clear();
    command.env("HOME", "/nowhere").env("COSIGN_PASSWORD", "secret").env("DOCKER_CONFIG", folder);
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn what_init_writes_is_served_and_enforced() {
    let folder = TempDir::new().unwrap();
    let init = ["init", "--require-signature", "prod/**"];
    // Without a person to ask it writes nothing.
    let asked = stella(folder.path(), &init).is(2);
    assert!(
        asked.stderr.contains("It will write:") && asked.stderr.contains("nothing was written"),
        "{asked:?}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    stella(folder.path(), &["init", "--require-signature", "Prod/[", "--yes"]).is(2);
    stella(folder.path(), &["init", "--yes"]).is(2);

    let said = stella(folder.path(), &[&init[..], &["--yes"]].concat()).is(0);
    assert!(said.stderr.contains("There is no data at "), "{said:?}");
    let mode = fs::metadata(folder.path().join("cosign.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let password = said.stdout.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert!(said.stdout.contains("docker push 127.0.0.1:5000/prod/app:1 "), "{said:?}");
    let config = folder.path().join("stella.yaml");
    assert!(said.stdout.contains(&format!("stella serve --config {}\n", config.display())), "{said:?}");
    let checked = stella(folder.path(), &["config", "check", "--config", "stella.yaml"]).is(0);
    assert!(checked.stdout.contains("valid"), "{checked:?}");
    stella(folder.path(), &["policy", "check", "policies"]).is(0);

    let data = folder.path().join("stella-data");
    let mut server = Server::configured(&data, &config, &[]);
    let ci =
        |request: crate::client::Request| request.header("Authorization", basic("ci", &password)).to(&server);
    let blob = |bytes: &str| {
        let digest = sha256(bytes);
        ci(post(format!("/v2/prod/app/blobs/uploads/?digest={digest}")).body(bytes)).is(201);
        digest
    };
    let manifest = image((&blob("{}"), 2), &[(&blob("layer"), 5)]).to_string();
    let pushed =
        ci(put("/v2/prod/app/manifests/1").header("Content-Type", OCI_MANIFEST).body(&manifest)).is(201);
    assert_eq!(pushed.must("stella-verdict"), "waiting");
    let pull = || get("/v2/prod/app/manifests/1").to(&server);
    // Anybody may pull what is released, and that is not.
    assert_eq!(pull().status, 401);
    let login = json!({"auths": {server.address().to_string(): {"auth": BASE64_STANDARD.encode(format!("ci:{password}"))}}});
    fs::write(folder.path().join("config.json"), login.to_string()).unwrap();
    let image = format!("{}/prod/app:1", server.address());
    stella(folder.path(), &["status", &image]).is(9);
    stella(folder.path(), &["sign", "--key", "cosign.key", &image]).is(0);
    let waited = stella(folder.path(), &["wait", &image]).is(0);
    assert_eq!(waited.stdout.trim(), sha256(&manifest));
    pull().is(200);
    server.terminate();
    server.ended();

    // A second one replaces nothing, and elsewhere tells what the new key would stop.
    let again = stella(folder.path(), &[&init[..], &["--yes"]].concat()).is(2);
    assert!(again.stderr.contains("is there already"), "{again:?}");
    let other = [&init[..], &["--dir", "other", "--data", "stella-data"]].concat();
    let told = stella(folder.path(), &other).is(2);
    assert!(told.stderr.contains("1 tag in ") && told.stderr.contains("prod/app:1"), "{told:?}");
    assert!(!folder.path().join("other").exists());
}

#[test]
fn what_stops_is_asked_of_the_server_that_runs() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("stella-data");
    let server = Server::on(&data, &[]);
    for repo in ["prod/app", "dev/app"] {
        let config = sha256("{}");
        post(format!("/v2/{repo}/blobs/uploads/?digest={config}")).body("{}").to(&server).is(201);
        let manifest = image((&config, 2), &[]).to_string();
        let url = format!("/v2/{repo}/manifests/1");
        put(url).header("Content-Type", OCI_MANIFEST).body(&manifest).to(&server).is(201);
    }
    let said = stella(folder.path(), &["init", "--require-signature", "prod/**", "--yes"]).is(0);
    assert!(said.stderr.contains("1 tag in ") && said.stderr.contains(": prod/app:1\n"), "{said:?}");
    // The same by hand, of a server that has no policies.
    let impact = ["policy", "impact", "--policy", "policies", "--host", "127.0.0.1:5000"];
    let by_hand = stella(folder.path(), &impact).is(0);
    assert!(by_hand.stdout.starts_with("prod/app:1  "), "{by_hand:?}");
    assert!(by_hand.stdout.ends_with("1 tag would stop\n"), "{by_hand:?}");
    assert!(stella(folder.path(), &impact[..4]).is(2).stderr.contains("policy.host"));
}
