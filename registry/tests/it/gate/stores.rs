// SPDX-License-Identifier: AGPL-3.0-only
//! Stores that were restored, damaged or repaired: what a tag says to have released is judged whenever it is read.

use std::fs;
use std::path::Path;

use super::signer::Referrer;
use super::{ACCESS, Gated, HOST, Pushed};
use crate::administration::stella_with;
use crate::client::get;
use crate::role::sha256;
use crate::server::Server;

impl Gated {
    fn stop(&mut self) {
        self.guarded.server.terminate();
        self.guarded.server.ended();
    }

    /// Serves some data with the policies of before.
    fn serve(&mut self, data: &Path) {
        let (users, paths) = (self.guarded.users(), format!("[{}]", self.path("policies").display()));
        let env = [
            ("STELLA_ACCESS", ACCESS),
            ("STELLA_AUTH__HTPASSWD", users.to_str().unwrap()),
            ("STELLA_POLICY__HOST", HOST),
            ("STELLA_POLICY__PATHS", paths.as_str()),
            // Damage is for readers to find.
            ("STELLA_SCRUB__RATE", "0"),
        ];
        self.guarded.server = Server::on(data, &env);
    }

    fn rows(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.guarded.server.data().join("metadata.sqlite")).unwrap()
    }

    /// Writes something else where these bytes are stored, as a blob or as a manifest.
    fn damage(&self, bytes: &[u8]) {
        let wrong = vec![b'x'; bytes.len()];
        let mut found = self.rows().execute("UPDATE kv SET v = ?1 WHERE v = ?2", (&wrong, bytes)).unwrap();
        for part in fs::read_dir(self.guarded.server.data().join("blobs")).unwrap() {
            for file in fs::read_dir(part.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                if fs::read(&path).unwrap() == bytes {
                    fs::write(path, &wrong).unwrap();
                    found += 1;
                }
            }
        }
        assert!(found > 0, "it is stored nowhere");
    }

    fn is_as_it_should(&self, signed: &Pushed, waits: &Pushed) {
        assert_eq!(self.pull("prod/app", "1").is(200).must("docker-content-digest"), signed.digest);
        self.pull("prod/app", &signed.digest).is(200);
        self.send("reader", get(format!("/v2/prod/app/blobs/{}", signed.layer))).is(200);
        for reference in ["2", &waits.digest] {
            self.denied(&self.pull("prod/app", reference));
        }
        self.denied(&self.send("reader", get(format!("/v2/prod/app/blobs/{}", waits.layer))));
    }
}

#[test]
fn a_restored_registry_gives_what_is_allowed_now_and_not_what_was() {
    let mut gated = Gated::start("");
    let signed = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let waits = gated.push("prod/app", "2", "two");
    gated.is_as_it_should(&signed, &waits);
    let (first, second) = (gated.path("first"), gated.path("second"));
    let data = gated.guarded.server.data().to_owned();
    let copy = |to: &Path| stella_with(&data, &["backup", "create", to.to_str().unwrap()], &[]).is(0);
    copy(&first);
    // In the second copy the signature is gone, and the other image was let through by no policy being there.
    let referrers = gated.send("ci", get(format!("/v2/prod/app/referrers/{}", signed.digest))).is(200).json();
    let signature = referrers["manifests"][0]["digest"].as_str().unwrap().to_owned();
    gated.send("ci", crate::client::delete(format!("/v2/prod/app/manifests/{signature}"))).is(202);
    gated.policy("pull: off");
    gated.push("prod/app", "2", "two");
    gated.pull("prod/app", "2").is(200);
    copy(&second);
    gated.policy("");
    for (backup, is_signed) in [(&first, true), (&second, false)] {
        gated.stop();
        let restored = backup.with_extension("restored");
        stella_with(&restored, &["backup", "restore", backup.to_str().unwrap()], &[]).is(0);
        gated.serve(&restored);
        if is_signed {
            gated.is_as_it_should(&signed, &waits);
        } else {
            for reference in ["1", "2", &signed.digest, &waits.digest] {
                gated.denied(&gated.pull("prod/app", reference));
            }
        }
        // It goes on from there.
        let new = gated.push("prod/app", "1", "three");
        gated.sign_at_home("prod/app", &new.digest);
        assert_eq!(gated.pull("prod/app", "1").is(200).must("docker-content-digest"), new.digest);
    }
}

impl Gated {
    /// Signs without the login of the first server.
    fn sign_at_home(&self, repo: &str, digest: &str) {
        self.refer(repo, &Referrer::new(&self.key(), digest));
    }
}

#[test]
fn a_repaired_registry_releases_nothing_that_is_not_allowed() {
    let mut gated = Gated::start("");
    let signed = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let waits = gated.push("prod/app", "2", "two");
    // A tag that readers saw something else under before, which is no longer signed.
    let old = gated.push("prod/app", "3", "three");
    gated.sign_at_home("prod/app", &old.digest);
    gated.pull("prod/app", "3").is(200);
    let referrers = gated.send("ci", get(format!("/v2/prod/app/referrers/{}", old.digest))).is(200).json();
    let signature = referrers["manifests"][0]["digest"].as_str().unwrap().to_owned();
    gated.send("ci", crate::client::delete(format!("/v2/prod/app/manifests/{signature}"))).is(202);
    let bytes =
        |digest: &str| gated.send("alice", get(format!("/v2/prod/app/manifests/{digest}"))).is(200).body;
    let all = [&signed, &waits, &old].map(|pushed| bytes(&pushed.digest));
    gated.stop();
    // Every row beside the manifests' bytes that begins as those of manifests and tags do is lost.
    let rows = gated.rows();
    let keys: Vec<(Vec<u8>, Vec<u8>)> = {
        let mut statement = rows.prepare("SELECT k, v FROM kv").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    // Data that does not say its version is not served at all.
    let kinds = keys.iter().map(|(key, _)| key[0]).filter(|kind| *kind != b'm');
    let kinds: std::collections::BTreeSet<u8> = kinds.collect();
    drop(rows);
    let data = gated.guarded.server.data().to_owned();
    let whole = gated.path("whole.sqlite");
    fs::copy(data.join("metadata.sqlite"), &whole).unwrap();
    for kind in kinds {
        fs::copy(&whole, data.join("metadata.sqlite")).unwrap();
        for (key, value) in keys.iter().filter(|(key, _)| key[0] == kind) {
            if !all.contains(value) {
                gated.rows().execute("UPDATE kv SET v = x'ff' WHERE k = ?1", [key]).unwrap();
            }
        }
        let repair = stella_with(&data, &["fsck", "--repair"], &[]);
        if repair.code == Some(2) {
            // Nothing is served at all.
            continue;
        }
        gated.serve(&data);
        for reference in ["2", "3", &waits.digest, &old.digest] {
            let answer = gated.pull("prod/app", reference);
            assert!([403, 404, 500].contains(&answer.status), "{kind} {reference}: {answer}");
        }
        for layer in [&waits.layer, &old.layer] {
            let answer = gated.send("reader", get(format!("/v2/prod/app/blobs/{layer}")));
            assert!([403, 404, 500].contains(&answer.status), "{kind}: {answer}");
        }
        gated.stop();
    }
}

#[test]
fn a_damaged_signature_takes_nobody_elses_word_away_and_is_none() {
    let mut gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let key = gated.key();
    let signatures = [(); 3].map(|()| Referrer::new(&key, &pushed.digest));
    for signature in &signatures {
        gated.refer("prod/app", signature);
    }
    gated.pull("prod/app", "1").is(200);
    let data = gated.guarded.server.data().to_owned();
    // Of one the layer, of the next the manifest.
    for (number, damaged) in [&signatures[0].bundle, &signatures[1].manifest].into_iter().enumerate() {
        gated.stop();
        gated.damage(damaged);
        gated.serve(&data);
        gated.pull("prod/app", "1").is(200);
        let read = gated.pull("prod/app", &signatures[number].digest()).status;
        assert_eq!(
            read,
            if number == 0 { 200 } else { 500 },
            "what says so is not served once it is damaged itself"
        );
    }
    gated.stop();
    gated.damage(&signatures[2].bundle);
    gated.serve(&data);
    // None is left, and that is what readers are told: not that something failed.
    let message = gated.denied(&gated.pull("prod/app", "1"));
    assert!(message.contains("Fix: cosign sign"), "{message}");
    gated.refer("prod/app", &Referrer::new(&key, &pushed.digest));
    gated.pull("prod/app", "1").is(200);
}

#[test]
fn what_cannot_be_read_hides_no_other() {
    let mut gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let bytes = gated.send("alice", get("/v2/prod/app/manifests/1")).is(200).body;
    let listed = |note: &str| {
        serde_json::json!({
            "schemaVersion": 2, "mediaType": crate::role::OCI_INDEX, "annotations": {"note": note},
            "manifests": [{"mediaType": crate::role::OCI_MANIFEST, "digest": pushed.digest, "size": bytes.len()}],
        })
        .to_string()
    };
    // Of all that list it the last that is asked is signed, and the others cannot be read.
    let mut indexes: Vec<String> = (0..7).map(|number| listed(&number.to_string())).collect();
    indexes.sort_by_cached_key(|index| sha256(index));
    let last = indexes.pop().unwrap();
    gated.put("ci", "prod/app", &sha256(&last), &last).is(201);
    for index in &indexes {
        gated.put("ci", "prod/app", &sha256(index), index).is(201);
    }
    gated.sign_at_home("prod/app", &sha256(&last));
    // Other images with the same layer.
    let others: Vec<String> = (0..6)
        .map(|number| {
            let mut image: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            image["annotations"] = serde_json::json!({"note": number});
            image["annotations"]["note"] = number.to_string().into();
            image.to_string()
        })
        .collect();
    for other in &others {
        gated.put("ci", "prod/app", &sha256(other), other).is(201);
    }
    gated.pull("prod/app", &pushed.digest).is(200);
    let data = gated.guarded.server.data().to_owned();
    gated.stop();
    for bytes in indexes.iter().chain(&others) {
        gated.damage(bytes.as_bytes());
    }
    gated.serve(&data);
    gated.pull("prod/app", &pushed.digest).is(200);
    gated.send("reader", get(format!("/v2/prod/app/blobs/{}", pushed.layer))).is(200);
    gated.send("reader", get(format!("/v2/prod/app/blobs/{}", pushed.config))).is(200);
}

#[test]
fn a_damaged_document_is_no_attachment() {
    let mut gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let document = "{\"spdxVersion\": \"SPDX-2.3\", \"of\": \"something that is damaged\"}";
    let layer = gated.push_blob("ci", "prod/app", document);
    let empty = gated.push_blob("ci", "prod/app", "{}");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": crate::role::OCI_MANIFEST, "artifactType": "application/spdx+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": "application/spdx+json", "digest": layer, "size": document.len()}],
        "subject": {"mediaType": crate::role::OCI_MANIFEST, "digest": pushed.digest, "size": 7},
    })
    .to_string();
    gated.put("ci", "prod/app", &sha256(&manifest), &manifest).is(201);
    gated.pull("prod/app", &sha256(&manifest)).is(200);
    let data = gated.guarded.server.data().to_owned();
    gated.stop();
    gated.damage(document.as_bytes());
    gated.serve(&data);
    gated.denied(&gated.pull("prod/app", &sha256(&manifest)));
    gated.pull("prod/app", "1").is(200);
}
