// SPDX-License-Identifier: AGPL-3.0-only
//! The restore drill with the finished program: a registry in use is backed up, lost, and comes back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use crate::administration::stella;
use crate::client::{Wire, get, post, put};
use crate::role::{OCI_MANIFEST, image, sha256};
use crate::server::{Server, eventually};

const IMAGES: usize = 1_000;
const PUSHERS: usize = 8;

fn blobs(number: usize) -> [Vec<u8>; 3] {
    let own = format!("{number} ").repeat(100 + number % 400);
    [
        format!("{{\"number\":{number}}}").into_bytes(),
        own.into_bytes(),
        format!("shared {}", number % 9).into_bytes(),
    ]
}

fn name(number: usize) -> String {
    format!("team/app{}", number % 7)
}

/// Pushes an image; gives its digest.
fn push(wire: &mut Wire, number: usize) -> String {
    let (name, blobs) = (name(number), blobs(number));
    let digests = blobs.each_ref().map(sha256);
    for (bytes, digest) in blobs.iter().zip(&digests) {
        post(format!("/v2/{name}/blobs/uploads/?digest={digest}")).body(bytes).on(wire).is(201);
    }
    let layers: Vec<_> = (1..3).map(|nth| (digests[nth].as_str(), blobs[nth].len())).collect();
    let manifest = image((&digests[0], blobs[0].len()), &layers).to_string();
    let tagged = put(format!("/v2/{name}/manifests/v{number}")).header("Content-Type", OCI_MANIFEST);
    tagged.body(&manifest).on(wire).is(201);
    sha256(manifest)
}

/// Pulls an image if it is there; then all of it must be.
fn pull(wire: &mut Wire, number: usize) -> Option<String> {
    let name = name(number);
    let manifest = get(format!("/v2/{name}/manifests/v{number}")).on(wire);
    if manifest.status == 404 {
        return None;
    }
    let manifest = manifest.is(200);
    for bytes in blobs(number) {
        let digest = sha256(&bytes);
        let blob = get(format!("/v2/{name}/blobs/{digest}")).on(wire).is(200);
        assert!(blob.body == bytes, "blob {digest} of image {number} is damaged");
    }
    let digest = sha256(&manifest.body);
    assert_eq!(manifest.must("docker-content-digest"), digest);
    Some(digest)
}

/// Everything below a folder, less links.
fn below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(below(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn what_is_kept_is_for_nobody_else_on_the_machine() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = TempDir::new().unwrap();
    let (data, to) = (folder.path().join("data"), folder.path().join("backups"));
    let server = Server::on(&data, &[]);
    push(&mut server.connect(), 1);
    let outcome = stella(&data, &["backup", "create", to.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for folder in [&data, &to] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    // Keys and secrets are in the metadata, and in what is dumped of them.
    let secret = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        path.is_file() && (name.contains("sqlite") || name.contains("metadata") || name.contains("dump"))
    };
    for folder in [&data, &to] {
        let files: Vec<_> = below(folder).into_iter().filter(|path| secret(path)).collect();
        assert!(!files.is_empty(), "{}: {:?}", folder.display(), below(folder));
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
}

fn summary(said: &[Value]) -> &Value {
    &said.last().unwrap()["summary"]
}

fn lose(data: &Path) {
    for part in fs::read_dir(data.join("blobs")).unwrap().take(100) {
        fs::remove_dir_all(part.unwrap().path()).unwrap();
    }
    fs::write(data.join("metadata.sqlite"), "lost").unwrap();
}

#[test]
fn a_lost_registry_comes_back_from_a_backup_made_during_pushes() {
    let folder = TempDir::new().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let to = backup.to_str().unwrap();
    let mut server = Server::on(&data, &[]);
    let pushed = Mutex::new(BTreeMap::new());
    let count = || pushed.lock().unwrap().len();
    let (before, first, second) = std::thread::scope(|scope| {
        for pusher in 0..PUSHERS {
            let (server, pushed) = (&server, &pushed);
            scope.spawn(move || {
                let mut wire = server.connect();
                for number in (pusher..IMAGES).step_by(PUSHERS) {
                    let digest = push(&mut wire, number);
                    pushed.lock().unwrap().insert(number, digest);
                }
            });
        }
        eventually("some images are there", || count() >= IMAGES / 4);
        let first = stella(&data, &["backup", "create", to, "--json"]).is(0).json();
        let before = pushed.lock().unwrap().clone();
        let second = stella(&data, &["backup", "create", to, "--json"]).is(0).json();
        (before, first, second)
    });
    assert_eq!(count(), IMAGES);
    let (first, second) = (summary(&first), summary(&second));
    assert_eq!(first["copied"], first["blobs"]);
    let new = second["blobs"].as_u64().unwrap() - first["blobs"].as_u64().unwrap();
    assert_eq!(second["copied"], new, "only what is new is copied");

    server.kill();
    lose(&data);
    assert_ne!(stella(&data, &["gc"]).code, Some(0));

    let verified = stella_verify(to);
    assert!(verified.ends_with(": all is well\n"), "{verified}");
    let elsewhere = folder.path().join("elsewhere");
    let restored = stella(&elsewhere, &["backup", "restore", to, "--json"]).is(0).json();
    assert_eq!(summary(&restored)["snapshot"], second["snapshot"]);
    assert_eq!(summary(&restored)["damaged"], 0);
    let server = Server::on(&elsewhere, &[]);
    let mut wire = server.connect();
    let there: Vec<_> = (0..IMAGES).filter_map(|number| Some((number, pull(&mut wire, number)?))).collect();
    assert!(there.len() >= before.len());
    for (number, digest) in &there {
        assert_eq!(*digest, pushed.lock().unwrap()[number]);
    }
    let there: BTreeMap<_, _> = there.into_iter().collect();
    for (number, digest) in before {
        assert_eq!(there.get(&number), Some(&digest), "image {number} was acknowledged before the backup");
    }
    let clean = stella(&elsewhere, &["fsck"]).is(0).stdout;
    assert!(clean.ends_with("no faults\n"), "{clean}");
    // Pushes go on, and nothing is collected until somebody says so; nobody need find that out by chance.
    let log = server.log();
    assert!(log.contains("collection is off: the data was restored"), "{log}");
    let health = get("/healthz").to(&server).is(200).json();
    assert!(health["collection_waits"].as_str().unwrap().contains("stella gc --resume"), "{health}");
    push(&mut wire, IMAGES + 1);
    let off = stella(&elsewhere, &["gc"]).is(0).stdout;
    assert!(off.starts_with("nothing was collected: collection is off: the data was restored"), "{off}");
    let on = stella(&elsewhere, &["gc", "--resume"]).is(0).stdout;
    assert!(get("/healthz").to(&server).is(200).json()["collection_waits"].is_null());
    assert!(
        on.starts_with("collection was off and is on again\n") && on.contains("removed 0 manifests, 0 blobs"),
        "{on}"
    );
}

fn stella_verify(from: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stella"));
    let output = command.args(["backup", "verify", from]).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_damaged_blob_is_named_and_the_exit_code_is_6() {
    let folder = TempDir::new().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let to = backup.to_str().unwrap();
    let server = Server::on(&data, &[]);
    let image = server.repo("app").push_image("v1", "1");
    let blob = fs::read_dir(data.join("blobs"))
        .unwrap()
        .flat_map(|part| fs::read_dir(part.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .find(|file| sha256(fs::read(file).unwrap()) == image.layer)
        .unwrap();
    let good = fs::read(&blob).unwrap();
    fs::write(&blob, vec![b'x'; good.len()]).unwrap();
    let damaged = stella(&data, &["backup", "create", to]).is(6).stdout;
    assert!(
        damaged.contains(&format!("damaged: blob {}: its bytes have the digest", image.layer)),
        "{damaged}"
    );
    assert!(damaged.contains("1 blobs are damaged in the registry and MISSING"), "{damaged}");
    let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_stella"));
    let verified = verify.args(["backup", "verify", to]).env_clear().output().unwrap();
    assert_eq!(verified.status.code(), Some(6), "{verified:?}");
    let elsewhere = folder.path().join("elsewhere");
    stella(&elsewhere, &["backup", "restore", to]).is(6);
    let restored = Server::on(&elsewhere, &[]);
    let repo = restored.repo("app");
    assert!(repo.has_manifest("v1") && repo.has_blob(&image.config) && !repo.has_blob(&image.layer));
    let faults = stella(&elsewhere, &["fsck"]).is(6).stdout;
    assert!(faults.starts_with(&format!("content-file-missing {} at ", image.layer)), "{faults}");
    repo.push_blob(&good);
    stella(&elsewhere, &["fsck"]).is(0);
    assert!(repo.has_blob(&image.layer));
    // Mended, the next backup is whole.
    fs::write(&blob, good).unwrap();
    stella(&data, &["backup", "create", to]).is(0);
    stella_verify(to);
}
