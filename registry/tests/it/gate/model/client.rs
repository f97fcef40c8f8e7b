// SPDX-License-Identifier: AGPL-3.0-only
//! What one of the hundred does, and what it writes down of that.

use stella_policy::sign::{self, Layer, LegacyManifest};
use stella_policy::{Descriptor, Time};
use stella_tests::Rng;

use super::record::{Asked, Event, Policy, Span, Thing};
use super::{HOST, Role, TAGS, World, signature_tag};
use crate::client::{Answer, Request, Wire, delete, get, head, put};
use crate::role::{OCI_MANIFEST, sha256};

/// One client.
pub(super) struct Client<'w> {
    pub(super) world: &'w World,
    pub(super) rng: Rng,
    pub(super) wire: Wire,
    pub(super) events: Vec<(Event, Span)>,
}

impl Client<'_> {
    pub(super) fn act(&mut self, role: Role) {
        match role {
            Role::Pusher => self.push(),
            Role::Signer => self.sign(),
            Role::Deleter => self.delete(),
            Role::Changer => self.change(),
            Role::Reader => self.read(),
        }
    }

    fn send(&mut self, who: &str, request: Request) -> (Answer, Span) {
        let request = self.world.gated.guarded.authorized(who, request);
        let start = self.world.now();
        let answer = request.on(&mut self.wire);
        (answer, Span { start, end: self.world.now() })
    }

    fn any_image(&mut self) -> usize {
        self.rng.index(self.world.images.len()).unwrap()
    }

    fn any_tag(&mut self) -> String {
        format!("t{}", self.rng.below(TAGS as u64))
    }

    fn push(&mut self) {
        let (number, tag) = (self.any_image(), self.any_tag());
        let image = &self.world.images[number];
        let reference = if self.rng.chance(80) { tag } else { image.digest.clone() };
        let target = format!("/v2/{}/manifests/{reference}", image.repo);
        let request = put(target).header("Content-Type", image.media_type).body(&image.bytes);
        let (answer, span) = self.send("ci", request);
        match answer.status {
            201 => self.events.push((Event::Came(Thing::Manifest(number)), span)),
            403 => self.events.push((Event::Refused(number), span)),
            // An index whose children are not here.
            400 | 404 if !image.children.is_empty() => {}
            _ => panic!("{answer}"),
        }
    }

    fn blob(&mut self, repo: &str, bytes: &[u8]) {
        let target = format!("/v2/{repo}/blobs/uploads/?digest={}", sha256(bytes));
        self.send("ci", crate::client::post(target).body(bytes)).0.is(201);
    }

    fn sign(&mut self) {
        let of = self.any_image();
        let image = &self.world.images[of];
        let subject: stella_policy::Digest = image.digest.parse().unwrap();
        let (repo, none) = (image.repo.clone(), std::collections::BTreeMap::new());
        if self.rng.chance(20) {
            let payload = sign::payload(&format!("{HOST}/{repo}"), &subject, &none).unwrap();
            let layer = Layer::signature(&self.world.keys[0], payload).unwrap();
            let mut manifest = LegacyManifest::default();
            manifest.add(&layer).unwrap();
            self.blob(&repo, &layer.bytes);
            self.blob(&repo, manifest.config());
            let target = format!("/v2/{repo}/manifests/{}", signature_tag(image));
            let request =
                put(target).header("Content-Type", manifest.media_type()).body(manifest.to_json().unwrap());
            let (answer, span) = self.send("ci", request);
            answer.is(201);
            self.events.push((Event::Came(Thing::Signature { of, key: 0, digest: None }), span));
            return;
        }
        let key = self.rng.index(self.world.keys.len()).unwrap();
        let statement = sign::sign_statement(&subject, &none).unwrap();
        let bundle = sign::statement_bundle(&self.world.keys[key], &statement).unwrap();
        let (media_type, size) = (image.media_type.to_owned(), image.bytes.len() as u64);
        let named = Descriptor { media_type, digest: subject, size, artifact_type: None, annotations: None };
        let manifest = sign::referrer(&named, &bundle, sign::SIGN_PREDICATE, Time(1_700_000_000)).unwrap();
        self.blob(&repo, sign::EMPTY_CONFIG);
        self.blob(&repo, &bundle);
        let digest = sha256(&manifest);
        let target = format!("/v2/{repo}/manifests/{digest}");
        let request = put(target).header("Content-Type", OCI_MANIFEST).body(&manifest);
        let (answer, span) = self.send("signer", request);
        if answer.status == 403 {
            // Its subject is on a list.
            self.events.push((Event::Refused(of), span));
            return;
        }
        answer.is(201);
        let thing = Thing::Signature { of, key, digest: Some(digest) };
        self.events.push((Event::Came(thing.clone()), span));
        self.world.signatures.lock().unwrap().push(thing);
    }

    fn delete(&mut self) {
        // More comes than goes.
        if self.rng.chance(50) {
            return self.read();
        }
        let number = self.any_image();
        let image = &self.world.images[number];
        let (thing, reference) = match self.rng.below(20) {
            0 => (Some(Thing::Manifest(number)), image.digest.clone()),
            1 => (Some(Thing::Signature { of: number, key: 0, digest: None }), signature_tag(image)),
            2 => (None, self.any_tag()),
            _ => {
                let mut signatures = self.world.signatures.lock().unwrap();
                let Some(index) = self.rng.index(signatures.len()) else { return };
                let thing = signatures.swap_remove(index);
                let Thing::Signature { digest: Some(digest), .. } = &thing else { return };
                let digest = digest.clone();
                (Some(thing), digest)
            }
        };
        let repo = match &thing {
            Some(Thing::Signature { of, .. }) => &self.world.images[*of].repo,
            _ => &image.repo,
        };
        let (answer, span) = self.send("ci", delete(format!("/v2/{repo}/manifests/{reference}")));
        match (answer.status, thing) {
            (202, Some(thing)) => self.events.push((Event::Went(thing), span)),
            (404, Some(Thing::Signature { digest: Some(digest), .. })) => panic!("{digest} was not here"),
            (202, None) | (404, _) => {}
            _ => panic!("{answer}"),
        }
    }

    fn change(&mut self) {
        let mut policy = Policy { off: self.rng.chance(10), count: 1, denied: Vec::new() };
        policy.count += usize::from(self.rng.chance(30));
        for _ in 0..self.rng.below(3) {
            let image = &self.world.images[self.any_image()];
            let layer = image.blobs.first().filter(|_| self.rng.chance(50));
            policy.denied.push(layer.unwrap_or(&image.digest).clone());
        }
        self.world.set_policy(policy);
        for _ in 0..10 {
            self.read();
        }
    }

    fn read(&mut self) {
        let (number, tag) = (self.any_image(), self.any_tag());
        let image = &self.world.images[number];
        let manifests = format!("/v2/{}/manifests", image.repo);
        let blob = self.rng.pick(&image.blobs);
        let (asked, request) = match (self.rng.below(10), blob) {
            (0..3, Some(blob)) => {
                (Asked::Blob(blob.clone()), get(format!("/v2/{}/blobs/{blob}", image.repo)))
            }
            (3..6, _) => (Asked::Tag, get(format!("{manifests}/{tag}"))),
            (6, _) => (Asked::Digest(number), head(format!("{manifests}/{}", image.digest))),
            _ => (Asked::Digest(number), get(format!("{manifests}/{}", image.digest))),
        };
        let (answer, span) = self.send("reader", request);
        let is_blob = matches!(asked, Asked::Blob(_));
        let got = answer.header("docker-content-digest").filter(|_| answer.status == 200 && !is_blob);
        let got = got.map(|digest| self.world.image(digest).unwrap());
        self.events.push((Event::Read(asked, answer.status, got), span));
    }
}
