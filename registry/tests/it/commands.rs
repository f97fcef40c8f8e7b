// SPDX-License-Identifier: AGPL-3.0-only
//! `stella tags`, `digest`, `inspect`, `copy` and `health` against `stella` itself: what they print, where,
//! and with which exit code they end.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{get, head, put};
use crate::role::{OCI_INDEX, OCI_MANIFEST, noise, sha256};
use crate::server::{Server, eventually};

/// The command line in a home of its own.
fn stella(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    command.args(arguments.split_whitespace()).env_clear().env("HOME", "/nowhere").stdin(Stdio::null());
    command
}

fn run(arguments: &str) -> Output {
    stella(arguments).output().unwrap()
}

#[track_caller]
fn ok(arguments: &str) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(arguments: &str, code: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments}: {output:?}");
    assert!(output.stdout.is_empty(), "what went wrong is told on stderr: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[track_caller]
fn json_of(arguments: &str) -> Value {
    serde_json::from_str(&ok(arguments)).unwrap()
}

/// Pushes a manifest, and gives its digest.
fn push_manifest(server: &Server, repository: &str, tag: Option<&str>, manifest: &Value) -> String {
    let bytes = manifest.to_string();
    let digest = sha256(&bytes);
    let media_type = manifest["mediaType"].as_str().unwrap();
    put(format!("/v2/{repository}/manifests/{}", tag.unwrap_or(&digest)))
        .header("Content-Type", media_type)
        .body(&bytes)
        .to(server)
        .is(201);
    digest
}

/// An image for an architecture, with labels and a layer of noise.
fn image(server: &Server, repository: &str, architecture: &str, layer: &[u8]) -> Value {
    let repo = server.repo(repository);
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Labels": {"maintainer": "me\u{1b}[2J"}},
    })
    .to_string();
    let config = json!({
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": repo.push_blob(&config), "size": config.len(),
    });
    let layer = json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": repo.push_blob(layer), "size": layer.len(),
    });
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]})
}

/// An index of two images, and an SBOM of it.
fn index(server: &Server, repository: &str) -> String {
    let mut entries = Vec::new();
    for (architecture, length) in [("amd64", 100_000), ("arm64", 2_000_000)] {
        let image = image(server, repository, architecture, &noise(length));
        let digest = push_manifest(server, repository, None, &image);
        entries.push(json!({
            "mediaType": OCI_MANIFEST, "digest": digest, "size": image.to_string().len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries,
        "annotations": {"org.example.k": "v"},
    });
    let digest = push_manifest(server, repository, Some("1"), &index);
    let empty = server.repo(repository).push_blob("{}");
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2});
    let sbom = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/spdx+json",
        "config": empty, "layers": [empty],
        "subject": {"mediaType": OCI_INDEX, "digest": digest, "size": index.to_string().len()},
    });
    push_manifest(server, repository, None, &sbom);
    digest
}

#[test]
fn tags_come_from_all_pages() {
    let server = Server::start();
    let app = format!("{}/app", server.address());
    let manifest = image(&server, "app", "amd64", b"layer");
    let digest = sha256(manifest.to_string());
    let mut all: Vec<_> = (0..2_050).map(|number| format!("t{number:05}")).collect();
    for tags in all.chunks(10) {
        let query = tags.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&");
        put(format!("/v2/app/manifests/{digest}?{query}"))
            .header("Content-Type", OCI_MANIFEST)
            .body(manifest.to_string())
            .to(&server)
            .is(201);
    }
    all.sort();
    assert_eq!(ok(&format!("tags {app}")).lines().collect::<Vec<_>>(), all);
    let answer = json_of(&format!("tags --output json {app}"));
    assert_eq!(answer, json!({"repository": app, "tags": all}));
    let error = fails(&format!("tags {}/absent", server.address()), 4);
    assert!(error.contains("error response from registry: name unknown"), "{error}");
    fails(&format!("tags {app}:t00000"), 2);
}

#[test]
fn a_digest_is_that_of_the_tag_or_of_a_platform() {
    let server = Server::start();
    let app = format!("{}/app", server.address());
    let digest = index(&server, "app");
    assert_eq!(ok(&format!("digest {app}:1")), format!("{digest}\n"));
    assert_eq!(json_of(&format!("digest -o json {app}:1"))["digest"], digest);
    let arm = ok(&format!("digest --platform linux/arm64/v8 {app}:1"));
    assert_eq!(ok(&format!("digest --platform linux/arm64 {app}@{}", arm.trim())), arm);
    let error = fails(&format!("digest --platform linux/s390x {app}:1"), 4);
    assert!(error.contains("there are images for: linux/amd64, linux/arm64"), "{error}");
    let error = fails(&format!("digest --platform linux/amd64 {app}@{}", arm.trim()), 4);
    assert!(error.contains("linux/arm64"), "{error}");
    let error = fails(&format!("digest {app}"), 4);
    assert!(
        error.contains(&format!("error: {app}: error response from registry: manifest unknown")),
        "{error}"
    );
}

#[test]
fn inspect_tells_what_an_image_is() {
    let server = Server::start();
    let app = format!("{}/app", server.address());
    let digest = index(&server, "app");
    let raw = get("/v2/app/manifests/1").to(&server).is(200).body;
    assert_eq!(run(&format!("inspect --raw {app}:1")).stdout, raw);
    let text = ok(&format!("inspect {app}:1"));
    for part in [&digest, OCI_INDEX, "org.example.k: v", "linux/arm64", "2.0 MB", "application/spdx+json"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let report = json_of(&format!("inspect -o json {app}:1"));
    assert_eq!(report["digest"], digest);
    assert_eq!(report["platforms"][1]["platform"], "linux/arm64");
    assert_eq!(report["referrers"][0]["artifact_type"], "application/spdx+json");
    // Of one image there is more to tell; nothing of it reaches the terminal as it is.
    let text = ok(&format!("inspect --platform linux/amd64 {app}:1"));
    for part in ["linux/amd64", "2026-01-02T03:04:05Z", "maintainer: me\\u{1b}[2J", "100.0 kB"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let report = json_of(&format!("inspect -o json --platform linux/amd64 {app}:1"));
    assert_eq!(report["labels"]["maintainer"], "me\u{1b}[2J");
    assert_eq!(report["layers"][0]["size"], 100_000);
}

#[test]
fn a_copy_within_a_registry_mounts_and_within_a_repository_only_tags() {
    let server = Server::start();
    let host = server.address();
    let digest = index(&server, "app");
    let copied = json_of(&format!("copy --output json {host}/app:1 {host}/other/app"));
    assert_eq!(copied["digest"], digest);
    assert_eq!((&copied["bytes"], &copied["mounted"]), (&json!(0), &copied["blobs"]["copied"]), "{copied}");
    assert_eq!(copied["manifests"], json!({"copied": 3, "existed": 0}));
    assert_eq!(head("/v2/other/app/manifests/1").to(&server).is(200).must("docker-content-digest"), digest);
    assert_eq!(get(format!("/v2/other/app/referrers/{digest}")).to(&server).json()["manifests"], json!([]));

    let tagged = json_of(&format!("copy --output json {host}/app:1 {host}/app:2"));
    assert_eq!(tagged["blobs"]["copied"], 0, "{tagged}");
    assert_eq!(head("/v2/app/manifests/2").to(&server).is(200).must("docker-content-digest"), digest);
    // By digest, without a tag.
    let target = ok(&format!("copy -r {host}/app@{digest} {host}/third"));
    assert!(target.starts_with(&format!("{host}/third@{digest}\n")), "{target}");
    let referrers = get(format!("/v2/third/referrers/{digest}")).to(&server).json();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1, "evidence goes along");
}

#[test]
fn a_copy_between_registries_tells_on_stderr_how_it_gets_on() {
    let (one, two) = (Server::start(), Server::start());
    let (from, to) = (one.address(), two.address());
    let digest = index(&one, "app");
    let output = run(&format!("copy -r {from}/app:1 {to}/mirror/app"));
    assert!(output.status.success(), "{output:?}");
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(out.starts_with(&format!("{to}/mirror/app:1@{digest}\ncopied 4 manifests and ")), "{out}");
    assert!(err.contains("copied   blob sha256:") && err.contains(&digest), "{err}");
    assert!(!err.contains('\u{1b}') && !err.contains('\r'), "bars are for terminals: {err:?}");
    assert!(out.ends_with("; with 1 piece of evidence\n") && !out.contains("were there"), "{out}");
    let again = ok(&format!("copy -q {from}/app:1 {to}/mirror/app"));
    assert!(
        again.ends_with("copied 0 manifests and 0 blobs, 0 B sent; 3 manifests and 4 blobs were there\n"),
        "{again}"
    );
    let quiet = run(&format!("copy -q -r {from}/app:1 {to}/quiet/app"));
    assert!(quiet.stderr.is_empty(), "{quiet:?}");
}

#[test]
fn damage_at_the_source_is_found_and_nothing_is_tagged() {
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    let app = format!("{}/app", server.address());
    let image = image(&server, "app", "amd64", &noise(500_000));
    push_manifest(&server, "app", Some("1"), &image);
    let layout = folder.path().join("layout");
    ok(&format!("copy {app}:1 oci:{}", layout.display()));
    let layer = image["layers"][0]["digest"].as_str().unwrap();
    let path = layout.join("blobs").join(layer.replace(':', "/"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1234] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = fails(&format!("copy -q oci:{} {}/copy:1", layout.display(), server.address()), 6);
    assert!(error.contains(layer) && error.contains("damaged"), "{error}");
    head("/v2/copy/manifests/1").to(&server).is(404);
    // The other way the damage is mended.
    ok(&format!("copy {app}:1 oci:{}", layout.display()));
    ok(&format!("copy oci:{} {}/copy", layout.display(), server.address()));
    head("/v2/copy/manifests/1").to(&server).is(200);
}

#[test]
fn health_tells_whether_a_server_is_ready() {
    let mut server = Server::start();
    let host = server.address().to_string();
    let text = ok(&format!("health {host}"));
    assert!(text.starts_with(&format!("http://{host}/ is ready")), "{text}");
    let answer = json_of(&format!("health --output json http://{host}"));
    assert_eq!((&answer["ready"], &answer["status"]), (&json!(true), &json!("ok")), "{answer}");
    // Without an argument: where the configuration says.
    let configured = stella("health").env("STELLA_LISTEN", &host).output().unwrap();
    assert!(configured.status.success(), "{configured:?}");
    // Which free port it got for its metrics is nowhere to be read, and the other one tells as much.
    let anywhere = ("STELLA_METRICS__LISTEN", "127.0.0.1:0");
    let beside = stella("health").env("STELLA_LISTEN", &host).env(anywhere.0, anywhere.1).output().unwrap();
    assert!(beside.status.success(), "{beside:?}");
    let nowhere = stella("health").env("STELLA_LISTEN", "127.0.0.1:0").output().unwrap();
    let error = String::from_utf8_lossy(&nowhere.stderr);
    assert!(nowhere.status.code() == Some(2) && error.contains("name the one that it says"), "{nowhere:?}");
    server.kill();
    let error = fails(&format!("health {host}"), 10);
    assert!(error.contains("cannot reach"), "{error}");
    fails("health ftp://localhost", 2);

    let full = Server::with(&[("STELLA_LIMITS__DISK_RESERVE", "1024TiB")]);
    let output = run(&format!("health --output json {}", full.address()));
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["ready"], false);
    assert!(answer["reason"].as_str().unwrap().contains("limits.disk_reserve"), "{answer}");
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(&format!("tags {closed}/app"), 10);
    fails("tags https://registry.test/app", 2);
    fails("digest registry.test/UPPER", 2);
    fails("copy oci:/nowhere registry.test/app", 4);
    fails("copy registry.test/a", 2);
    fails("digest --cacert /nowhere registry.test/app", 2);
    let json = run(&format!("tags --output json {closed}/app"));
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(told["exit"], 10, "{told}");
}

#[test]
fn an_interrupt_ends_a_command_at_once() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = stella(&format!("tags --plain-http {}/app", silent.local_addr().unwrap()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (_connection, _) = silent.accept().unwrap();
    // The handler is there before anything is sent, but not before this process is told so.
    let mut status = None;
    eventually("the command ends", || {
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(130));
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in ["tags", "digest", "inspect", "copy", "health"] {
        let help = ok(&format!("{command} --help"));
        assert!(help.contains("Examples:") && help.contains(&format!("stella {command}")), "{help}");
        let longest = help.lines().map(str::len).max().unwrap();
        assert!(longest <= 120, "{longest} columns: {help}");
    }
    assert!(ok("--help").contains("10  try again later"));
}
