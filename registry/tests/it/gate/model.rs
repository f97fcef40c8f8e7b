// SPDX-License-Identifier: AGPL-3.0-only
//! A hundred clients push, sign, delete, change policies and pull at once, over HTTP. Each writes down when it asked and
//! when it was answered; `model/record.rs` says which answers some order of the changes explains, and no other may occur.
//! In the end nothing that is allowed is held back, and nothing else is readable.
//!
//! | variable | says |
//! | --- | --- |
//! | `STELLA_GATE_SECONDS` | how long they work; 12 if not set |
//! | `STELLA_GATE_SEED` | repeats the choices of a run that printed this seed; the threads' timing is not repeated |

mod client;
mod record;

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use stella_policy::{PrivateKey, sign};
use stella_tests::Rng;

use super::{ACCESS, Gated, HOST, prod};
use crate::access::Guarded;
use crate::client::get;
use crate::role::{OCI_INDEX, OCI_MANIFEST, image, sha256};
use crate::server::eventually;
use client::Client;
use record::{Event, Image, Policy, Record, Span, Thing};

const REPOS: usize = 3;
/// Images of a repository; one index more lists the first two.
const IMAGES: usize = 5;
const TAGS: usize = 4;
/// A hundred in all.
const ROLES: [(Role, usize); 5] =
    [(Role::Pusher, 22), (Role::Signer, 22), (Role::Deleter, 14), (Role::Changer, 2), (Role::Reader, 40)];

#[derive(Clone, Copy, Debug)]
enum Role {
    Pusher,
    Signer,
    Deleter,
    Changer,
    Reader,
}

/// What all clients know.
struct World {
    gated: Gated,
    keys: Vec<PrivateKey>,
    images: Vec<Image>,
    began: Instant,
    policies: Mutex<Vec<(Policy, Span)>>,
    /// Signatures that nobody has begun to delete.
    signatures: Mutex<Vec<Thing>>,
    over: AtomicBool,
}

#[test]
fn of_a_hundred_clients_at_once_no_reader_gets_what_is_not_allowed_and_no_release_is_lost() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("STELLA_GATE_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed"));
    let seconds = number("STELLA_GATE_SECONDS").unwrap_or(12);
    eprintln!("STELLA_GATE_SEED={seed}");
    let world = World::new();
    // Of forty who bring a new password at once from one place some are told to come again.
    for who in ["ci", "signer", "reader", "alice"] {
        world.gated.send(who, get("/v2/")).is(200);
    }
    let seeds = Rng::new(seed);
    let roles = ROLES.into_iter().flat_map(|(role, count)| std::iter::repeat_n(role, count));
    let events: Vec<_> = thread::scope(|scope| {
        let run = |(number, role): (usize, Role)| {
            let (world, rng) = (&world, seeds.part(number as u64));
            scope.spawn(move || {
                let wire = world.gated.guarded.server.connect();
                let mut client = Client { world, rng, wire, events: Vec::new() };
                while !world.over.load(Ordering::Relaxed) {
                    client.act(role);
                }
                client.events
            })
        };
        let threads: Vec<_> = roles.enumerate().map(run).collect();
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline && !threads.iter().any(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(100));
        }
        world.over.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    world.settle(events);
}

impl World {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        let keys: Vec<_> = (0..2).map(|_| PrivateKey::generate().unwrap()).collect();
        let authorities: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(number, key)| json!({"name": format!("key{number}"), "key": {"data": key.public_pem()}}))
            .collect();
        let signed = json!({
            "apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy", "metadata": {"name": "signed"},
            "spec": {"images": [{"glob": format!("{HOST}/**")}], "authorities": authorities},
        });
        fs::write(folder.path().join("policies/signed.yaml"), signed.to_string()).unwrap();
        fs::write(folder.path().join("policies/prod.yaml"), prod("")).unwrap();
        let paths = format!("[{}]", folder.path().join("policies").display());
        let settings = [
            ("STELLA_ACCESS", ACCESS),
            ("STELLA_POLICY__HOST", HOST),
            ("STELLA_POLICY__PATHS", paths.as_str()),
            ("STELLA_LOG__LEVEL", "warn,access=error"),
        ];
        let gated = Gated { guarded: Guarded::in_folder(folder, &settings) };
        let images = (0..REPOS).flat_map(|number| images(&gated, number)).collect();
        let began = Instant::now();
        let first =
            (Policy { count: 1, ..Policy::default() }, Span { start: Duration::ZERO, end: Duration::ZERO });
        let (policies, signatures) = (Mutex::new(vec![first]), Mutex::default());
        World { gated, keys, images, began, policies, signatures, over: AtomicBool::new(false) }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Once nobody does anything any more there is one state, and the server must be in it.
    fn settle(&self, events: Vec<(Event, Span)>) {
        self.set_policy(Policy { off: false, count: 1, denied: vec![self.images[0].digest.clone()] });
        let policies = self.policies.lock().unwrap().clone();
        let changes = policies.len();
        let mut record = Record::new(&self.images, policies, events);
        let gated = &self.gated;
        let mut wrong = record.wrong();
        // Of what came and went at once the server says what is left.
        let span = Span { start: self.now(), end: self.now() };
        for (number, image) in self.images.iter().enumerate() {
            let manifest = format!("/v2/{}/manifests/{}", image.repo, image.digest);
            let is_here = gated.send("alice", get(manifest)).status == 200;
            if is_here && !record.may_be(number, span.start) || !is_here && record.must_be(number, span.start)
            {
                wrong.push(format!("in the end the manifest {number} is here: {is_here}"));
            }
            let is_signed = gated.look("alice", &image.repo, &signature_tag(image)).status == 200;
            let signature = Thing::Signature { of: number, key: 0, digest: None };
            for (thing, is_here) in [(Thing::Manifest(number), is_here), (signature, is_signed)] {
                record.add(if is_here { Event::Came(thing) } else { Event::Went(thing) }, span);
            }
        }
        let now = self.now();
        let (mut allowed, mut released) = (0, 0);
        for (number, image) in self.images.iter().enumerate() {
            assert_eq!(record.may_read(number, now), record.must_read(number, now), "there is one end");
            let expected = match (record.must_be(number, now), record.must_read(number, now)) {
                (false, _) => 404,
                (true, false) => 403,
                (true, true) => 200,
            };
            allowed += usize::from(expected == 200);
            let answer = gated.pull(&image.repo, &image.digest);
            if answer.status != expected {
                wrong.push(format!("in the end {number} is not {expected}: {answer}"));
            }
        }
        let tags = (0..REPOS).flat_map(|repo| (0..TAGS).map(move |tag| (repo_name(repo), format!("t{tag}"))));
        for (repo, tag) in tags {
            let candidate = gated.look("alice", &repo, &tag);
            if candidate.status == 404 {
                continue;
            }
            let digest = candidate.must("docker-content-digest").to_owned();
            let number = self.image(&digest).unwrap();
            if record.must_read(number, now) {
                released += 1;
                eventually(&format!("{repo}:{tag} is released"), || {
                    let answer = gated.pull(&repo, &tag);
                    answer.status == 200 && answer.must("docker-content-digest") == digest
                });
            }
        }
        let counts = [200, 403, 404].map(|status| record.count(status));
        eprintln!(
            "{counts:?} answers to readers of 200, 403, 404; {changes} policies; in the end {allowed} of {} are allowed, and \
             {released} tags released",
            self.images.len()
        );
        assert!(
            wrong.is_empty(),
            "{} answers are wrong, such as:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n")
        );
        assert!(counts.iter().all(|count| *count > 20), "too little happened: {counts:?}");
    }

    fn image(&self, digest: &str) -> Option<usize> {
        self.images.iter().position(|image| image.digest == digest)
    }

    fn set_policy(&self, policy: Policy) -> Span {
        let mut policies = self.policies.lock().unwrap();
        // Named besides, so that no two of them are the same.
        let nonce = sha256(format!("policy {}", policies.len()));
        let denied: Vec<_> = policy.denied.iter().chain([&nonce]).collect();
        let pull = if policy.off { "off" } else { "enforce" };
        let fields = format!("denyDigests: {}; count: {}; pull: {pull}", json!(denied), policy.count);
        let start = self.now();
        self.gated.policy(&fields);
        let span = Span { start, end: self.now() };
        policies.push((policy, span));
        span
    }
}

fn repo_name(number: usize) -> String {
    format!("prod/m{number}")
}

fn signature_tag(image: &Image) -> String {
    sign::legacy_tag(&image.digest.parse().unwrap(), "sig")
}

/// Makes the images of a repository and pushes their blobs, of which some are of several.
fn images(gated: &Gated, number: usize) -> Vec<Image> {
    let repo = repo_name(number);
    let mut made: Vec<Image> = (0..IMAGES)
        .map(|number| {
            let blob = |text: String| (gated.push_blob("ci", &repo, &text), text.len());
            let config = blob(format!("{{\"of\":\"{repo} {number}\"}}"));
            let layers =
                [blob(format!("{repo} layer {number}")), blob(format!("{repo} shared {}", number / 2))];
            let named = layers.each_ref().map(|(digest, len)| (digest.as_str(), *len));
            let bytes = image((&config.0, config.1), &named).to_string();
            let blobs = layers.into_iter().chain([config]).map(|(digest, _)| digest).collect();
            let (digest, media_type) = (sha256(&bytes), OCI_MANIFEST);
            Image { repo: repo.clone(), digest, bytes, media_type, blobs, children: Vec::new() }
        })
        .collect();
    let listed: Vec<_> = made[..2]
        .iter()
        .map(|child| json!({"mediaType": OCI_MANIFEST, "digest": child.digest, "size": child.bytes.len()}))
        .collect();
    let bytes = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).to_string();
    let first = number * (IMAGES + 1);
    let (digest, media_type, children) = (sha256(&bytes), OCI_INDEX, vec![first, first + 1]);
    made.push(Image { repo, digest, bytes, media_type, blobs: Vec::new(), children });
    made
}
