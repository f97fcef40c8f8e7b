// SPDX-License-Identifier: AGPL-3.0-only
//! A disk that is full, fails, turns read-only or goes away, on real file systems where the test
//! may mount them: nothing is acknowledged that is not kept, no wrong byte is served, and when the disk
//! is well again the server goes on without a restart.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::{Answer, delete, get, head, patch, post, put};
use crate::mounted::{KINDS, Mounted};
use crate::role::{OCI_MANIFEST, Repo, noise, refused, sha256};
use crate::server::{Server, eventually};

/// A small disk has a small reserve, and what is deleted goes soon.
const SMALL: [(&str, &str); 4] = [
    ("STELLA_LIMITS__DISK_RESERVE", "16MiB"),
    ("STELLA_COLLECTION__LEASE", "1s"),
    ("STELLA_COLLECTION__GRACE", "0s"),
    ("STELLA_COLLECTION__INTERVAL", "1s"),
];

fn ready(server: &Server) -> Answer {
    get("/readyz").to(server)
}

/// What `/readyz` says when it says no.
#[track_caller]
fn why_not_ready(server: &Server) -> String {
    String::from_utf8(ready(server).is(503).body).unwrap()
}

fn is_ready(server: &Server) -> bool {
    ready(server).status == 200
}

fn layer(number: usize) -> Vec<u8> {
    let mut layer = noise(2 << 20);
    layer[..8].copy_from_slice(&number.to_be_bytes());
    layer
}

/// An image whose config is `config`; its tag makes it one of its own.
fn document(tag: &str, config: &[u8]) -> Vec<u8> {
    let size = config.len();
    let config = sha256(config);
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"a/b","digest":"{config}","size":{size}}},"layers":[],"annotations":{{"tag":"{tag}"}}}}"#
    )
    .into_bytes()
}

fn put_image(repo: &Repo<'_>, tag: &str, config: &[u8]) -> String {
    let document = document(tag, config);
    repo.put_manifest(tag, OCI_MANIFEST, &document).is(201);
    sha256(&document)
}

#[track_caller]
fn no_pushes(repo: &Repo<'_>, upload: &str, config: &[u8]) {
    let digest = sha256(b"more");
    for answer in [
        post(repo.url("blobs/uploads/")).to(repo.server),
        post(repo.url(&format!("blobs/uploads/?digest={digest}"))).body(b"more").to(repo.server),
        patch(upload).body(b"more").to(repo.server),
        put(format!("{upload}?digest={digest}")).body(b"more").to(repo.server),
        repo.put_manifest("more", OCI_MANIFEST, document("more", config)),
    ] {
        let error = refused(&answer, 507, "DENIED");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("bytes free") || message.contains("no space"), "{message}");
    }
}

#[test]
fn below_the_reserve_pushes_are_refused_and_deletes_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::on(&data, &[("STELLA_LIMITS__DISK_RESERVE", "0")]);
    let repo = server.repo("app");
    let image = repo.push_image("v1", "one");
    let (lone, upload) = (repo.push_blob("lone"), repo.begin());
    drop(server);
    // More than any disk has.
    let server = Server::on(&data, &[("STELLA_LIMITS__DISK_RESERVE", "1024TiB")]);
    let repo = server.repo("app");
    no_pushes(&repo, &upload, b"{}");
    let mount = post(repo.url(&format!("blobs/uploads/?mount={lone}&from=app"))).to(&server);
    let message = refused(&mount, 507, "DENIED")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("1125899906842624") && message.contains("limits.disk_reserve"), "{message}");
    let why = why_not_ready(&server);
    assert!(why.contains("bytes free") && why.contains("limits.disk_reserve"), "{why}");
    get("/livez").to(&server).is(200);
    assert_eq!(repo.holds(&upload), 0);
    assert_eq!(get(repo.manifest("v1")).to(&server).is(200).body, image.bytes);
    head(repo.manifest("v1")).to(&server).is(200);
    assert_eq!(get(repo.blob(&lone)).to(&server).is(200).body, b"lone");
    delete(&upload).to(&server).is(204);
    delete(repo.blob(&lone)).to(&server).is(202);
    repo.delete_manifest("v1").is(202);
    repo.delete_manifest(&image.digest).is(202);
    let log = server.log();
    assert_eq!(log.matches("pushes are refused").count(), 1, "{log}");
}

#[test]
fn on_a_full_disk_everything_can_be_read_and_deleted_and_then_pushed_again() {
    let (mut mounted, mut gave_up) = (0, 0);
    for kind in KINDS {
        let Some(disk) = Mounted::new(kind, 160) else { continue };
        mounted += 1;
        let data = disk.path().join("data");
        let mut server = Server::on(&data, &SMALL);
        let repo = server.repo("app");
        let config = b"{}";
        let images: Vec<(String, String)> = (0..300)
            .map(|number| {
                repo.push_blob(config);
                (format!("v{number}"), put_image(&repo, &format!("v{number}"), config))
            })
            .collect();
        let big: Vec<(String, String)> = (0..20)
            .map(|number| {
                let layer = layer(number);
                repo.push_blob(&layer);
                (sha256(&layer), put_image(&repo, &format!("big-{number}"), &layer))
            })
            .collect();
        let upload = repo.begin();
        // Ended in order: a write-ahead log that is long already has room for deletes without the ballast.
        server.terminate();
        server.ended();
        server = Server::on(&data, &SMALL);
        let repo = server.repo("app");
        eventually("the server is ready", || is_ready(&server));
        disk.fill();
        let free = disk.free();
        println!("{kind}: {free} bytes free");
        let why = why_not_ready(&server);
        assert!(why.contains(&format!("{free} bytes free")) || why.contains("no space"), "{kind}: {why}");
        no_pushes(&repo, &upload, config);
        for (number, (digest, _)) in big.iter().enumerate() {
            assert!(get(repo.blob(digest)).to(&server).is(200).body == layer(number), "{kind}");
        }
        // Also a server that starts on a full disk can delete.
        for restart in [false, true] {
            if restart {
                server.kill();
                disk.fill();
                server = Server::on(&data, &SMALL);
            }
            let repo = server.repo("app");
            for (tag, digest) in images.iter().skip(usize::from(restart)).step_by(2) {
                head(repo.manifest(tag)).to(&server).is(200);
                repo.delete_manifest(tag).is(202);
                repo.delete_manifest(digest).is(202);
                get(repo.manifest(digest)).to(&server).is(404);
            }
            no_pushes(&repo, &upload, config);
            let log = server.log();
            let pieces = log.matches("gave up ballast").count();
            println!("{kind}: gave up {pieces} pieces of ballast");
            gave_up += pieces;
        }
        let repo = server.repo("app");
        let before = disk.free();
        for (_, digest) in &big {
            repo.delete_manifest(digest).is(202);
        }
        // Collection frees what the layers took, the ballast comes back, and the server is well again.
        eventually("collection has made room", || is_ready(&server));
        eventually("it goes on", || disk.free() > before + (16 << 20));
        assert_eq!(fs::metadata(data.join("ballast")).unwrap().len(), 16 << 20);
        repo.push_image("again", "again");
        // Whole: what was deleted on the full disk stays deleted.
        assert_eq!(repo.tags(), ["again"]);
    }
    // Some file systems find room for these deletes in blocks that they had set aside; not all of them do.
    assert!(mounted == 0 || gave_up > 0, "nothing here needed the ballast");
}

#[test]
fn a_disk_without_a_reserve_fills_up_and_comes_back() {
    for kind in KINDS {
        let Some(disk) = Mounted::new(kind, 64) else { continue };
        let server = Server::on(
            &disk.path().join("data"),
            &[&SMALL[1..], &[("STELLA_LIMITS__DISK_RESERVE", "0")]].concat(),
        );
        let repo = server.repo("app");
        let kept = repo.push_image("kept", "kept");
        let upload = repo.begin();
        repo.chunk(&upload, 0, b"begun ").is(202);
        let piece = noise(4 << 20);
        let (mut held, mut chunk) = (6, repo.chunk(&upload, 6, &piece));
        while chunk.status == 202 {
            held += piece.len();
            chunk = repo.chunk(&upload, held, &piece);
        }
        refused(&chunk, 507, "DENIED");
        println!("{kind}: {held} bytes of 64 MiB were acknowledged, {} are free", disk.free());
        assert_eq!(usize::try_from(repo.holds(&upload)).unwrap(), held, "what was acknowledged is there");
        let whole = post(repo.url(&format!("blobs/uploads/?digest={}", sha256(&piece)))).body(&piece);
        refused(&whole.to(&server), 507, "DENIED");
        assert!(!repo.has_blob(&sha256(&piece)));
        assert_eq!(get(repo.blob(&kept.layer)).to(&server).is(200).body, b"layer kept");
        delete(&upload).to(&server).is(204);
        repo.delete_manifest(&kept.digest).is(202);
        get(repo.manifest("kept")).to(&server).is(404);
        eventually("collection has made room", || is_ready(&server));
        repo.push_image("again", "again");
    }
}

#[test]
fn a_data_directory_that_goes_away_is_noticed_and_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let (data, away) = (folder.path().join("data"), folder.path().join("away"));
    let server = Server::on(&data, &[]);
    let repo = server.repo("app");
    let image = repo.push_image("v1", "one");
    let upload = repo.begin();
    repo.chunk(&upload, 0, b"begun ").is(202);
    fs::rename(&data, &away).unwrap();
    gone(&repo, &upload, &image.bytes, "is gone");
    // Another one in its place, with everything in it but nothing of ours.
    copy(&away, &data);
    gone(&repo, &upload, &image.bytes, "replaced");
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    gone(&repo, &upload, &image.bytes, "is gone");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing is made in a folder that is not ours");
    fs::remove_dir(&data).unwrap();
    fs::rename(&away, &data).unwrap();
    back(&repo, &upload, &image.bytes);
}

#[test]
fn a_disk_that_is_unmounted_is_noticed_and_taken_up_again() {
    // The other kind is gone for good with its last mount.
    let Some(disk) = Mounted::new("ext4", 64) else { return };
    let data = disk.path().join("data");
    let server = Server::on(&data, &SMALL);
    let repo = server.repo("app");
    let image = repo.push_image("v1", "one");
    let upload = repo.begin();
    repo.chunk(&upload, 0, b"begun ").is(202);
    let elsewhere = tempfile::tempdir().unwrap();
    disk.move_to(elsewhere.path());
    gone(&repo, &upload, &image.bytes, "is gone");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    disk.move_back(elsewhere.path());
    back(&repo, &upload, &image.bytes);
    let upload = repo.begin();
    // Nobody can look into a file system that is not mounted anywhere, whoever has its files open.
    disk.take_away();
    gone(&repo, &upload, &image.bytes, "is gone");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_turns_read_only_is_noticed() {
    let Some(disk) = Mounted::new("ext4", 64) else { return };
    let server = Server::on(&disk.path().join("data"), &SMALL);
    let repo = server.repo("app");
    let image = repo.push_image("v1", "one");
    let upload = repo.begin();
    repo.chunk(&upload, 0, b"begun ").is(202);
    // As after an error of the device.
    disk.remount("abort");
    let why = why_not_ready(&server);
    assert!(why.contains("read-only"), "{why}");
    nothing_is_acknowledged(&repo, &upload, &image.bytes);
    assert_eq!(get(repo.blob(&image.layer)).to(&server).is(200).body, b"layer one");
    assert_eq!(get(repo.manifest("v1")).to(&server).is(200).body, image.bytes);
}

#[test]
fn a_blob_that_cannot_be_read_never_looks_whole() {
    let server = Server::start();
    let repo = server.repo("app");
    let whole = noise(3 << 20);
    let digest = repo.push_blob(&whole);
    let path = blob_file(&server, whole.len());
    // A folder can be opened as a file can, and reading it is an error.
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(cut_or_refused(&repo, &digest, &whole));
    fs::remove_dir(&path).unwrap();
    // Nor may one that is cut.
    fs::write(&path, &whole[..2 << 20]).unwrap();
    assert!(cut_or_refused(&repo, &digest, &whole));
    fs::remove_file(&path).unwrap();
    assert!(cut_or_refused(&repo, &digest, &whole));
    fs::rename(&away, &path).unwrap();
    assert!(get(repo.blob(&digest)).to(&server).is(200).body == whole);
}

/// Whether a GET is a refusal, or breaks off before its announced end, with nothing wrong in it.
fn cut_or_refused(repo: &Repo<'_>, digest: &str, whole: &[u8]) -> bool {
    let mut wire = repo.server.connect();
    wire.send(get(repo.blob(digest)).bytes());
    match wire.try_answer_to("GET") {
        Ok(answer) => matches!(answer.status, 404 | 500..=599) && !whole.starts_with(&answer.body),
        Err(_) => true,
    }
}

/// The one file of a blob of this size.
fn blob_file(server: &Server, size: usize) -> PathBuf {
    let parts = fs::read_dir(server.data().join("blobs")).unwrap();
    let mut files = parts.flat_map(|part| fs::read_dir(part.unwrap().path()).unwrap());
    files
        .find(|file| file.as_ref().unwrap().metadata().unwrap().len() == size as u64)
        .unwrap()
        .unwrap()
        .path()
}

/// Every change is refused, and says so to the operator and to the client.
#[track_caller]
fn nothing_is_acknowledged(repo: &Repo<'_>, upload: &str, image: &[u8]) {
    let server = repo.server;
    for answer in [
        post(repo.url("blobs/uploads/")).to(server),
        post(repo.url(&format!("blobs/uploads/?digest={}", sha256(b"x")))).body(b"x").to(server),
        patch(upload).body(b"lost").to(server),
        put(format!("{upload}?digest={}", sha256(b"begun "))).to(server),
        repo.put_manifest("v2", OCI_MANIFEST, image),
        repo.delete_manifest("v1"),
        repo.delete_manifest(&sha256(image)),
        delete(upload).to(server),
    ] {
        assert!(matches!(answer.status, 500..=599), "{answer}");
        assert!(answer.json()["errors"][0]["message"].as_str().unwrap().len() > 10, "{answer}");
    }
}

#[track_caller]
fn gone(repo: &Repo<'_>, upload: &str, image: &[u8], why: &str) {
    // Twice: an engine that gave up its file must not make a new one.
    for _ in 0..2 {
        nothing_is_acknowledged(repo, upload, image);
        let said = why_not_ready(repo.server);
        assert!(said.contains(why), "{said:?} does not say {why:?}");
        let read = get(repo.manifest("v1")).to(repo.server);
        assert!(read.status >= 500 || read.body == image, "{read}");
        let layer = sha256(b"layer one");
        // Its file is not there, or is a copy.
        let right = || get(repo.blob(&layer)).to(repo.server).is(200).body == b"layer one";
        assert!(cut_or_refused(repo, &layer, b"layer one") || right());
    }
}

#[track_caller]
fn back(repo: &Repo<'_>, upload: &str, image: &[u8]) {
    eventually("the server is ready again", || is_ready(repo.server));
    assert_eq!(get(repo.manifest("v1")).to(repo.server).is(200).body, image);
    assert_eq!(get(repo.blob(&sha256(b"layer one"))).to(repo.server).is(200).body, b"layer one");
    assert_eq!(repo.tags(), ["v1"]);
    assert_eq!(repo.holds(upload), 6);
    repo.chunk(upload, 6, b"and done").is(202);
    repo.close(upload, &sha256(b"begun and done")).is(201);
    repo.push_image("after", "after");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
