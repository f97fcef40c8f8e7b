// SPDX-License-Identifier: AGPL-3.0-only
//! What changes while a pull is judged. Judging is made slow by junk, which lies between the signature that is read first
//! and the one that is read last; what is said of an image changes in between, at several moments of it.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stella_policy::{PrivateKey, sign};

use super::signer::Referrer;
use super::{Gated, HOST, Pushed};
use crate::client::{Answer, Wire, delete, get, put};
use crate::role::{OCI_MANIFEST, image, sha256};
use crate::server::eventually;

const JUNK: usize = 250;
/// At which parts of it something changes.
const MOMENTS: [f64; 4] = [0.2, 0.4, 0.6, 0.8];

/// An image that takes long to judge, and two keys that policies know.
struct Slow {
    gated: Gated,
    pushed: Pushed,
    keys: [PrivateKey; 2],
    takes: Duration,
}

/// A signature with so many bytes in it: the smallest are read first.
fn signature(key: &PrivateKey, digest: &str, more: usize) -> Referrer {
    let annotations = [("x".to_owned(), "y".repeat(more))].into();
    let statement = sign::sign_statement(&digest.parse().unwrap(), &annotations).unwrap();
    Referrer::with(sign::statement_bundle(key, &statement).unwrap(), digest)
}

impl Slow {
    fn start() -> Self {
        let gated = Gated::start("push: off; pull: off");
        let keys = [(); 2].map(|()| PrivateKey::generate().unwrap());
        let authority = |key: &PrivateKey| json!({"name": key.hint(), "key": {"data": key.public_pem()}});
        let policy = json!({
            "apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy", "metadata": {"name": "signed"},
            "spec": {"images": [{"glob": format!("{HOST}/**")}], "authorities": keys.each_ref().map(authority)},
        });
        std::fs::write(gated.path("signed.yaml"), policy.to_string()).unwrap();
        std::fs::rename(gated.path("signed.yaml"), gated.path("policies/signed.yaml")).unwrap();
        let pushed = gated.push("prod/app", "1", "one");
        let other = PrivateKey::generate().unwrap();
        let junk = signature(&other, &pushed.digest, 5_000);
        gated.push_blob("ci", "prod/app", "{}");
        gated.push_blob("ci", "prod/app", &junk.bundle);
        let mut wire = Wire::open(gated.guarded.server.address());
        for number in 0..JUNK {
            // Each is another one, so that each is read.
            let bundle = [&junk.bundle[..], " ".repeat(number).as_bytes()].concat();
            let blob = crate::client::post(format!("/v2/prod/app/blobs/uploads/?digest={}", sha256(&bundle)));
            gated.guarded.authorized("ci", blob.body(&bundle)).on(&mut wire).is(201);
            let junk = Referrer::with(bundle, &pushed.digest);
            let manifest = put(format!("/v2/prod/app/manifests/{}", junk.digest()));
            let manifest = manifest.header("Content-Type", OCI_MANIFEST).body(&junk.manifest);
            gated.guarded.authorized("ci", manifest).on(&mut wire).is(201);
        }
        let mut slow = Slow { gated, pushed, keys, takes: Duration::ZERO };
        slow.policy("count: 2");
        slow.judged_anew();
        let began = Instant::now();
        slow.gated.denied(&slow.pull());
        slow.takes = began.elapsed();
        slow
    }

    /// Sets a policy, and waits until nobody judges by it any more.
    fn policy(&self, fields: &str) {
        self.gated.policy(fields);
        eventually("all tags are judged", || self.gated.status()["pendingRecompute"] == 0);
    }

    fn pull(&self) -> Answer {
        self.gated.pull("prod/app", &self.pushed.digest)
    }

    fn pull_blob(&self) -> Answer {
        self.gated.send("reader", get(format!("/v2/prod/app/blobs/{}", self.pushed.layer)))
    }

    /// Says something of it that means nothing.
    fn judged_anew(&self) -> Referrer {
        let junk =
            Referrer::with(format!("{{\"at\": {:?}}}", Instant::now()).into_bytes(), &self.pushed.digest);
        self.refer(&junk);
        junk
    }

    /// Pulls image and layer, and does something in the midst of it.
    fn while_it_is_pulled(&self, moment: f64, act: impl FnOnce()) -> [Answer; 2] {
        thread::scope(|scope| {
            let pulls = [scope.spawn(|| self.pull()), scope.spawn(|| self.pull_blob())];
            thread::sleep(self.takes.mul_f64(moment));
            act();
            pulls.map(|pull| pull.join().unwrap())
        })
    }

    fn refer(&self, signature: &Referrer) {
        self.gated.put("ci", "prod/app", &signature.digest(), &signature.manifest).is(201);
    }

    fn delete(&self, signature: &Referrer) {
        let url = format!("/v2/prod/app/manifests/{}", signature.digest());
        self.gated.send("ci", delete(url)).is(202);
    }
}

#[test]
fn evidence_that_was_never_there_at_once_does_not_add_up() {
    let slow = Slow::start();
    for moment in MOMENTS {
        // The first of two signers is read before the junk, the second after it; there is one of them at a time.
        let [first, second] =
            [(0, 0), (1, 9_000)].map(|(key, more)| signature(&slow.keys[key], &slow.pushed.digest, more));
        slow.gated.push_blob("ci", "prod/app", &first.bundle);
        slow.refer(&first);
        slow.refer(&second);
        let answers = slow.while_it_is_pulled(moment, || {
            slow.delete(&first);
            slow.gated.push_blob("ci", "prod/app", &second.bundle);
        });
        for answer in answers {
            slow.gated.denied(&answer);
        }
        slow.delete(&second);
    }
}

#[test]
fn policies_that_ended_before_evidence_came_allow_nothing_for_it() {
    let slow = Slow::start();
    for moment in MOMENTS {
        slow.policy("count: 1");
        let signature = signature(&slow.keys[0], &slow.pushed.digest, 9_000);
        slow.refer(&signature);
        let answers = slow.while_it_is_pulled(moment, || {
            // From here on two are asked for.
            slow.gated.policy("count: 2");
            slow.gated.push_blob("ci", "prod/app", &signature.bundle);
        });
        for answer in answers {
            slow.gated.denied(&answer);
        }
        slow.delete(&signature);
    }
}

#[test]
fn a_signature_that_goes_while_it_is_pulled_allows_nothing_afterwards() {
    let slow = Slow::start();
    slow.policy("count: 1");
    for moment in MOMENTS {
        let signature = signature(&slow.keys[0], &slow.pushed.digest, 9_000);
        slow.gated.push_blob("ci", "prod/app", &signature.bundle);
        slow.refer(&signature);
        slow.while_it_is_pulled(moment, || {
            slow.delete(&signature);
            slow.gated.denied(&slow.pull());
        });
        slow.gated.denied(&slow.pull());
        slow.gated.denied(&slow.pull_blob());
    }
}

#[test]
fn one_judgement_is_made_for_all_who_wait_for_it() {
    let slow = Slow::start();
    let count = || {
        let page = slow.gated.send("alice", get("/metrics")).is(200).body;
        let page = String::from_utf8(page).unwrap();
        let counts = page.lines().filter(|line| line.starts_with("stella_policy_judgement_seconds_count"));
        counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>()
    };
    let before = count();
    let junk = slow.judged_anew();
    // Where it takes long, who says something of it does not have it judged at once.
    if slow.takes > Duration::from_millis(300) {
        assert_eq!(count() - before, 1, "what was pushed, and not the image");
    } else {
        eventually("it is judged, now or in a moment", || count() - before == 2);
        // What goes has nothing judged.
        slow.delete(&junk);
    }
    let before = count();
    thread::scope(|scope| {
        let pulls: Vec<_> = (0..8).map(|_| scope.spawn(|| slow.pull())).collect();
        for pull in pulls {
            slow.gated.denied(&pull.join().unwrap());
        }
    });
    assert_eq!(count() - before, 1);
}

#[test]
fn a_tag_that_moves_while_it_is_pulled_gives_what_was_judged() {
    let gated = Gated::start("");
    let config = gated.push_blob("ci", "prod/app", "{}");
    // So large that its bytes are read by themselves.
    let large = |text: &str| -> String {
        let mut manifest: Value = image((&config, 2), &[]);
        manifest["annotations"] = json!({"x": text.repeat(70_000)});
        manifest.to_string()
    };
    let (good, bad) = (large("y"), large("n"));
    gated.put("ci", "prod/app", "1", &good).is(201);
    gated.sign("prod/app", "1", &[]);
    gated.pull("prod/app", "1").is(200);
    gated.put("ci", "prod/app", "1", &bad).is(201);
    assert!(gated.pull("prod/app", "1").is(200).body == good.as_bytes(), "what was released, not what waits");
    let deadline = Instant::now() + Duration::from_secs(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < deadline {
                for manifest in [&good, &bad] {
                    gated.put("ci", "prod/app", "1", manifest).is(201);
                }
                gated.send("ci", delete("/v2/prod/app/manifests/1")).is(202);
                gated.put("ci", "prod/app", "1", &bad).is(201);
            }
        });
        let mut counts = [0, 0];
        while Instant::now() < deadline {
            let answer = gated.pull("prod/app", "1");
            match answer.status {
                200 => {
                    assert_eq!(answer.must("docker-content-digest"), sha256(&good));
                    assert!(answer.body == good.as_bytes(), "its bytes are others");
                    counts[0] += 1;
                }
                403 | 404 => counts[1] += 1,
                _ => panic!("{answer}"),
            }
        }
        assert!(counts.iter().all(|count| *count > 0), "too little happened: {counts:?}");
    });
}
