// SPDX-License-Identifier: AGPL-3.0-only
//! The audit trail: a line for every change and every refused one, in order, in a file or in the log.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::administration::stella;
use crate::client::{Answer, delete, get, patch, post, put};
use crate::role::{OCI_MANIFEST, sha256};
use crate::server::{Server, eventually};

fn lines_in(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for so many lines.
fn lines(file: &Path, count: usize) -> Vec<Value> {
    eventually("the lines are written", || lines_in(file).len() >= count);
    let lines = lines_in(file);
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

fn start(folder: &TempDir, env: &[(&str, &str)]) -> Server {
    let file = folder.path().join("audit.log");
    let mut all = vec![("STELLA_AUDIT__FILE", file.to_str().unwrap())];
    all.extend_from_slice(env);
    Server::on(&folder.path().join("data"), &all)
}

#[test]
fn every_change_is_a_line_with_who_what_and_what_was_there_before() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, &[]);
    let repo = server.repo("team/app");
    let mut answers: Vec<Answer> = Vec::new();
    let blob = repo.push_blob(b"data");
    let (first, second) = (repo.draft_image("one"), repo.draft_image("two"));
    answers.push(repo.put_manifest("v1", OCI_MANIFEST, &first.bytes).is(201));
    let target = format!("{}?tag=v1&tag=v2", repo.manifest(&second.digest));
    answers.push(put(target).header("Content-Type", OCI_MANIFEST).body(&second.bytes).to(&server).is(201));
    let mount = format!("/v2/other/blobs/uploads/?mount={blob}&from=team/app");
    answers.push(post(mount).to(&server).is(201));
    let location = repo.begin();
    patch(&location).body("chunk").to(&server).is(202);
    answers.push(repo.close(&location, &sha256("chunk")).is(201));
    answers.push(delete(repo.begin()).to(&server).is(204));
    answers.push(repo.delete_manifest("v2").is(202));
    answers.push(repo.delete_manifest(&second.digest).is(202));
    answers.push(delete(repo.blob(&blob)).to(&server).is(202));
    // Refused ones too; reads are no changes.
    answers.push(repo.delete_manifest("v9").is(404));
    answers.push(put("/v2/Bad%22Name/manifests/v1").body("x").to(&server).is(400));
    get(repo.manifest("v1")).to(&server).is(404);
    let lines = lines(&folder.path().join("audit.log"), 5 + answers.len());
    assert_eq!((&lines[0]["action"], &lines[0]["digest"]), (&"blob.push".into(), &json!(blob)));
    let expected = [
        json!({"action": "manifest.put", "digest": first.digest, "tags": [{"tag": "v1"}], "status": 201}),
        json!({
            "action": "manifest.put", "digest": second.digest, "status": 201,
            "tags": [{"tag": "v1", "previous": first.digest}, {"tag": "v2"}],
        }),
        json!({"action": "blob.mount", "digest": blob, "from": "team/app", "repository": "other", "status": 201}),
        json!({"action": "blob.push", "digest": sha256("chunk"), "status": 201}),
        json!({"action": "upload.cancel", "status": 204}),
        json!({"action": "tag.delete", "tags": [{"tag": "v2", "previous": second.digest}], "status": 202}),
        json!({
            "action": "manifest.delete", "digest": second.digest, "status": 202,
            "tags": [{"tag": "v1", "previous": second.digest}],
        }),
        json!({"action": "blob.delete", "digest": blob, "status": 202}),
        json!({"action": "tag.delete", "tags": [{"tag": "v9"}], "status": 404}),
        json!({"action": "manifest.put", "repository": "Bad%22Name", "tags": [{"tag": "v1"}], "status": 400}),
    ];
    for ((line, expected), answer) in lines[5..].iter().zip(&expected).zip(&answers) {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key} of {line}");
        }
        if expected.get("repository").is_none() {
            assert_eq!(line["repository"], "team/app", "{line}");
        }
        assert_eq!(line["request_id"], answer.must("x-request-id"), "{line}");
        assert_eq!((&line["client"], &line["actor"]), (&"127.0.0.1".into(), &"".into()), "{line}");
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{line}");
    }
    let uploads: Vec<_> = lines.iter().filter(|line| line["upload"].is_string()).collect();
    assert_eq!(uploads.len(), 2, "{lines:#?}");
    let metrics = String::from_utf8(get("/metrics").to(&server).is(200).body).unwrap();
    assert!(metrics.contains(&format!("stella_audit_lines_total {}\n", lines.len())), "{metrics}");
}

#[test]
fn without_a_file_the_lines_are_in_the_log() {
    let server = Server::with(&[("STELLA_LOG__FORMAT", "json"), ("STELLA_LOG__LEVEL", "warn,audit=info")]);
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    eventually("it is logged", || server.log().contains("manifest.put"));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("manifest.put")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["target"], &line["status"]), (&"audit".into(), &201.into()), "{line}");
    assert_eq!((&line["digest"], &line["repository"]), (&json!(image.digest), &"team/app".into()), "{line}");
    assert_eq!(line["tags"], r#"[{"tag":"v1"}]"#, "{line}");
    assert!(!log.contains("answered"), "{log}");
}

#[test]
fn a_file_that_was_renamed_is_begun_anew_on_sighup() {
    let folder = TempDir::new().unwrap();
    let (file, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let server = start(&folder, &[]);
    let repo = server.repo("team/app");
    repo.push_blob(b"one");
    lines(&file, 1);
    std::fs::rename(&file, &old).unwrap();
    server.reload();
    repo.push_blob(b"two");
    assert_eq!(lines(&file, 1)[0]["digest"], sha256("two"));
    assert_eq!(lines(&old, 1)[0]["digest"], sha256("one"));
}

#[test]
fn administration_and_collection_are_in_the_trail() {
    let folder = TempDir::new().unwrap();
    let env = [
        ("STELLA_COLLECTION__LEASE", "1s"),
        ("STELLA_COLLECTION__GRACE", "0s"),
        ("STELLA_COLLECTION__INTERVAL", "1s"),
    ];
    let server = start(&folder, &env);
    let file = folder.path().join("audit.log");
    server.repo("app").push_blob(b"12345");
    eventually("the server collects it", || {
        lines_in(&file).iter().any(|line| line["action"] == "collection" && line["outcome"]["files"] == 1)
    });
    stella(server.data(), &["gc", "--dry-run"]).is(0);
    stella(server.data(), &["fsck"]).is(0);
    let changes = |lines: &[Value]| -> Vec<Value> {
        lines.iter().filter(|line| line["client"] == "admin.sock").cloned().collect()
    };
    assert_eq!(changes(&lines_in(&file)), Vec::<Value>::new());
    stella(server.data(), &["gc"]).is(0);
    stella(server.data(), &["fsck", "--repair"]).is(0);
    stella(server.data(), &["backup", "create", folder.path().join("backup").to_str().unwrap()]).is(0);
    eventually("they are written", || changes(&lines_in(&file)).len() == 3);
    let lines = changes(&lines_in(&file));
    let actions: Vec<_> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["gc", "fsck.repair", "backup.create"]);
    let uid = format!("uid:{}", rustix::process::getuid().as_raw());
    for line in lines {
        assert_eq!(line["actor"], uid, "{line}");
        assert!(line["outcome"].is_object(), "{line}");
    }
}

#[test]
fn a_change_that_was_cut_off_is_told_as_one_whose_outcome_is_unknown() {
    let folder = TempDir::new().unwrap();
    let mut server = start(&folder, &[("STELLA_LIMITS__SHUTDOWN_TIMEOUT", "100ms")]);
    let repo = server.repo("team/app");
    let location = repo.begin();
    let mut wire = server.connect();
    let request = patch(&location).body("hello").bytes();
    wire.send(&request[..request.len() - 1]);
    eventually("the upload is under way", || repo.holds(&location) == 4);
    server.terminate();
    assert!(server.ended().success());
    let lines = lines(&folder.path().join("audit.log"), 1);
    assert_eq!((&lines[0]["action"], &lines[0]["status"]), (&"upload.append".into(), &499.into()));
}

#[test]
fn a_file_that_cannot_be_written_stops_no_push_and_is_counted() {
    let folder = TempDir::new().unwrap();
    let server = Server::on(&folder.path().join("data"), &[("STELLA_AUDIT__FILE", "/dev/full")]);
    let digest = server.repo("team/app").push_blob(b"one");
    let failed = "stella_audit_failures_total 1\n";
    let metrics = || String::from_utf8(get("/metrics").to(&server).is(200).body).unwrap();
    eventually("the failure is counted", || metrics().contains(failed));
    // The line is not lost: the log has it.
    assert!(server.log().contains("cannot write the audit file") && server.log().contains(&digest));
    let bad = folder.path().join("none/audit.log");
    let env = [("STELLA_AUDIT__FILE", bad.to_str().unwrap())];
    let output = crate::server::command(&folder.path().join("other"), &env).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("`audit.file`: cannot open"), "{said}");
}
