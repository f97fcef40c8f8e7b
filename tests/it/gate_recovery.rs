// SPDX-License-Identifier: AGPL-3.0-only
//! The server is killed, or its disk loses power, while images are pushed, signed and released. What was acknowledged as
//! released is released afterwards and for ever; what waited is not readable. Long runs: `STELLA_CRASH_ROUNDS` and
//! `STELLA_CUT_ROUNDS`, as in `crash.rs` and `power.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use stella_policy::{Descriptor, PrivateKey, Time, sign};
use stella_tests::{
    Campaign, Connection, Disk, FileSystem, Request, Response, Server, digest, media_type, poll,
};
use tempfile::TempDir;

const WRITERS: usize = 3;
const RULES: &str = "[{allow: [pull], to: {subject: reader}}, {allow: all, to: {subject: ci}}]";
const PASSWORD: &str = "secret";
const CONFIG: &[u8] = b"{\"architecture\":\"amd64\"}";
const PATIENCE: Duration = Duration::from_secs(30);

/// How far an image has come, as its writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pushing,
    Waiting,
    Signing,
    Released,
}

#[derive(Debug)]
struct Image {
    number: usize,
    bytes: Vec<u8>,
    layer: String,
    state: State,
    /// Whether it was pushed again under a second tag, and released there at once.
    again: bool,
}

/// A client with a repository of its own, which does one thing after another.
#[derive(Debug)]
struct Writer {
    repo: String,
    images: Vec<Image>,
    begun: usize,
}

/// Policies, users, and a key to sign with.
struct Gate {
    key: PrivateKey,
    folder: TempDir,
}

impl Gate {
    fn new() -> Self {
        let folder = TempDir::with_prefix("stella-gate-").unwrap();
        let key = PrivateKey::generate().unwrap();
        let policies = folder.path().join("policies");
        fs::create_dir(&policies).unwrap();
        let signed = json!({
            "apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy", "metadata": {"name": "signed"},
            "spec": {
                "images": [{"glob": "r.test/**"}],
                "authorities": [{"name": "us", "key": {"data": key.public_pem()}}],
            },
        });
        fs::write(policies.join("signed.yaml"), signed.to_string()).unwrap();
        let enforced = json!({
            "apiVersion": "policy.stella-ops.org/v1", "kind": "RegistryPolicy", "metadata": {"name": "all"},
            "spec": {"repositories": ["**"], "transparency": "ignored"},
        });
        fs::write(policies.join("all.yaml"), enforced.to_string()).unwrap();
        let hash = bcrypt::hash(PASSWORD, 4).unwrap();
        fs::write(folder.path().join("users"), format!("ci:{hash}\nreader:{hash}\n")).unwrap();
        Gate { key, folder }
    }

    fn server(&self, data: Option<&Path>) -> Server {
        let place = |name: &str| self.folder.path().join(name).display().to_string();
        let (users, paths) = (place("users"), format!("[{}]", place("policies")));
        let settings = [
            ("STELLA_ACCESS", RULES),
            ("STELLA_AUTH__HTPASSWD", users.as_str()),
            ("STELLA_POLICY__HOST", "r.test"),
            ("STELLA_POLICY__PATHS", paths.as_str()),
            ("STELLA_LOG__LEVEL", "info,access=warn"),
        ];
        match data {
            Some(data) => Server::on(data, &settings),
            None => Server::with(&settings),
        }
    }

    /// The signature's bundle, and the manifest that attaches it.
    fn signature(&self, image: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let subject: stella_policy::Digest = digest(image).parse().unwrap();
        let statement = sign::sign_statement(&subject, &BTreeMap::new()).unwrap();
        let bundle = sign::statement_bundle(&self.key, &statement).unwrap();
        let (media_type, size) = (media_type::MANIFEST.to_owned(), image.len() as u64);
        let named = Descriptor { media_type, digest: subject, size, artifact_type: None, annotations: None };
        let manifest = sign::referrer(&named, &bundle, sign::SIGN_PREDICATE, Time(1_700_000_000)).unwrap();
        (bundle, manifest)
    }
}

fn by(who: &str, request: Request) -> Request {
    let login = BASE64_STANDARD.encode(format!("{who}:{PASSWORD}"));
    request.header("Authorization", &format!("Basic {login}"))
}

impl Writer {
    /// Works until the server does not answer as it should any more.
    fn work(&mut self, server: &str, gate: &Gate) {
        let _ended = self.try_work(server, gate);
    }

    fn try_work(&mut self, server: &str, gate: &Gate) -> io::Result<()> {
        let mut connection = Connection::try_open(server)?;
        let repo = self.repo.clone();
        let mut ask = |request: Request| -> io::Result<Response> {
            let answer = connection.exchange(&by("ci", request))?;
            let is_done = answer.status == 201;
            if is_done { Ok(answer) } else { Err(io::Error::other(format!("{}", answer.status))) }
        };
        let blob = |bytes: &[u8]| {
            let target = format!("/v2/{repo}/blobs/uploads/?digest={}", digest(bytes));
            Request::new("POST", &target).body(bytes)
        };
        let manifest = |reference: &str, bytes: &[u8]| {
            let target = format!("/v2/{repo}/manifests/{reference}");
            Request::new("PUT", &target).header("Content-Type", media_type::MANIFEST).body(bytes)
        };
        // On a disk that fails right after something was stored it is not judged, and nothing is said.
        let is_told = |answer: &Response, expected: &str| {
            let told = answer.header("stella-verdict");
            assert!(told.is_none_or(|told| told == expected), "{told:?} in {repo} instead of {expected}");
            told.is_some()
        };
        for bytes in [CONFIG, sign::EMPTY_CONFIG] {
            ask(blob(bytes))?;
        }
        loop {
            let number = self.begun;
            self.begun += 1;
            let layer = format!("layer {number} of {repo}").into_bytes();
            ask(blob(&layer))?;
            let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
            let bytes = json!({
                "schemaVersion": 2, "mediaType": media_type::MANIFEST,
                "config": descriptor(media_type::CONFIG, CONFIG), "layers": [descriptor(media_type::LAYER, &layer)],
            });
            let bytes = bytes.to_string().into_bytes();
            let (state, layer) = (State::Pushing, digest(&layer));
            self.images.push(Image { number, bytes: bytes.clone(), layer, state, again: false });
            let Some(image) = self.images.last_mut() else { continue };
            let reference = format!("{}?tag=v{number}&tag=latest", digest(&bytes));
            let answer = ask(manifest(&reference, &bytes))?;
            image.state = State::Waiting;
            is_told(&answer, "waiting");
            if number % 3 == 2 {
                continue;
            }
            let (bundle, signature) = gate.signature(&bytes);
            ask(blob(&bundle))?;
            image.state = State::Signing;
            ask(manifest(&digest(&signature), &signature))?;
            image.state = State::Released;
            if number.is_multiple_of(2) {
                let answer = ask(manifest(&format!("again{number}"), &bytes))?;
                image.again = is_told(&answer, "allowed");
            }
        }
    }

    /// Looks at everything, and takes what is found of what was under way.
    fn check(&mut self, server: &Server) {
        let repo = self.repo.clone();
        let ask =
            |who: &str, what: String| server.send(&by(who, Request::get(&format!("/v2/{repo}/{what}"))));
        // Of what was signed when the server ended, the first pass after the start releases the tags.
        let latest = self.images.iter().rev().find(|image| image.state == State::Released);
        let latest = latest.map_or(0, |image| image.number);
        for image in &mut self.images {
            let (number, digest) = (image.number, digest(&image.bytes));
            let is_here = ask("ci", format!("manifests/v{number}")).status == 200;
            match image.state {
                State::Pushing if is_here => image.state = State::Waiting,
                State::Pushing => continue,
                _ => assert!(is_here, "{repo} lost {number}, which was pushed"),
            }
            let names = [
                format!("manifests/v{number}"),
                format!("manifests/{digest}"),
                format!("blobs/{}", image.layer),
            ];
            if image.state == State::Signing {
                image.state = match ask("reader", format!("manifests/{digest}")).status {
                    200 => State::Released,
                    _ => State::Waiting,
                };
                if image.state == State::Released {
                    let tag = || (ask("reader", format!("manifests/v{number}")).status == 200).then_some(());
                    poll("what is allowed to be released", PATIENCE, tag);
                }
            }
            let again = image.again.then(|| format!("manifests/again{number}"));
            for name in names.into_iter().chain(again) {
                let answer = ask("reader", name.clone());
                let expected = if image.state == State::Released { 200 } else { 403 };
                assert_eq!(answer.status, expected, "{repo} {name} is {:?}", image.state);
            }
        }
        let released =
            self.images.iter().filter(|image| image.state == State::Released && image.number >= latest);
        let released: Vec<_> = released.map(|image| digest(&image.bytes)).collect();
        if !released.is_empty() {
            let answer = ask("reader", "manifests/latest".to_owned());
            let seen = answer.header("docker-content-digest").unwrap_or_default();
            assert!(
                answer.status == 200 && released.iter().any(|known| known == seen),
                "{repo}: {seen} is no release"
            );
        }
        self.images.retain(|image| image.state != State::Pushing);
    }
}

/// Lets writers work for a while, interrupts them, and looks at what is left, some times over.
fn campaign(
    gate: &Gate,
    server: &mut Server,
    (rounds, most): (usize, Duration),
    mut interrupt: impl FnMut(&mut Server),
) {
    let mut chance = Campaign::new();
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|number| Writer { repo: format!("prod/w{number}"), images: Vec::new(), begun: 0 })
        .collect();
    for _ in 0..rounds {
        let host = server.host().to_string();
        let time = most / 2 + chance.some_time(most / 2);
        thread::scope(|scope| {
            for writer in &mut writers {
                let host = &host;
                scope.spawn(move || writer.work(host, gate));
            }
            thread::sleep(time);
            interrupt(server);
        });
        server.start_again();
        poll("the server to be ready", PATIENCE, || {
            (server.send(&Request::get("/readyz")).status == 200).then_some(())
        });
        for writer in &mut writers {
            writer.check(server);
        }
    }
    let images = || writers.iter().flat_map(|writer| &writer.images);
    let count = |state| images().filter(|image| image.state == state).count();
    let (released, waiting) = (count(State::Released), count(State::Waiting));
    let again = images().filter(|image| image.again).count();
    eprintln!("{rounds} rounds: {released} released, {again} of them twice, and {waiting} waiting");
    assert!(released > rounds && again > 0 && waiting > 0, "too little happened");
    server.kill();
    let output = server.run(&["fsck"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_was_released_outlives_a_kill_and_what_waited_still_waits() {
    let gate = Gate::new();
    let mut server = gate.server(None);
    let rounds = Campaign::rounds("STELLA_CRASH_ROUNDS", 6);
    campaign(&gate, &mut server, (rounds, Duration::from_secs(2)), Server::kill);
}

fn power_is_cut(file_system: FileSystem) {
    let Some(disk) = Disk::new(file_system) else { return };
    let gate = Gate::new();
    let mut server = gate.server(Some(&disk.path().join("data")));
    let rounds = Campaign::rounds("STELLA_CUT_ROUNDS", 3);
    let mut disk = disk;
    campaign(&gate, &mut server, (rounds, Duration::from_secs(2)), |server| {
        disk.cut();
        thread::sleep(Duration::from_millis(5));
        server.kill();
        disk.power_on();
    });
}

#[test]
fn what_was_released_outlives_a_power_cut_on_xfs_and_what_waited_still_waits() {
    power_is_cut(FileSystem::Xfs);
}

#[test]
fn what_was_released_outlives_a_power_cut_on_ext4_and_what_waited_still_waits() {
    power_is_cut(FileSystem::Ext4);
}
