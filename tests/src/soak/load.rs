// SPDX-License-Identifier: AGPL-3.0-only
//! A well-behaved client: it pushes, pulls, asks, tags, refers and deletes in repositories of its own, and
//! so knows what every answer must be. It keeps its connection as clients do, and opens a new one now and
//! then.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Shared;
use super::meter::Meter;
use crate::chaos::{Recipe, Rng, Wire};
use crate::content::media_type;
use crate::host::Host;
use crate::http::{Request, Response};
use crate::noise::digest;

/// Images of one client, over which it deletes the oldest.
const KEPT: usize = 40;
/// What a client thinks between two things that it does, at most: the machine is not to be full with them.
const THINKS: u64 = 20;

/// An image that the client has pushed.
struct Image {
    tag: String,
    bytes: Vec<u8>,
    digest: String,
    blobs: Vec<Recipe>,
}

pub(super) struct Client<'s> {
    repo: String,
    wire: Wire,
    rng: Rng,
    shared: &'s Shared,
    images: VecDeque<Image>,
    made: u64,
    alone: Meter,
    beside: Meter,
}

/// Something was not as it must be; it is counted already.
struct Failed;

impl<'s> Client<'s> {
    pub(super) fn new(number: usize, host: &Host, rng: Rng, shared: &'s Shared) -> Self {
        Self {
            repo: format!("soak/client-{number}"),
            wire: Wire::new(host),
            rng,
            shared,
            images: VecDeque::new(),
            made: 0,
            alone: Meter::default(),
            beside: Meter::default(),
        }
    }

    /// Works until the soak ends, and gives what it measured alone and beside disturbers.
    pub(super) fn run(mut self) -> (Meter, Meter) {
        while !self.shared.ended() {
            // A failure is counted; what comes after it is judged all the same.
            let _counted = self.act();
            if self.rng.chance(5) {
                self.wire.close();
            }
            thread::sleep(Duration::from_millis(self.rng.below(THINKS)));
        }
        (self.alone, self.beside)
    }

    fn act(&mut self) -> Result<(), Failed> {
        if self.images.len() > KEPT {
            return self.delete();
        }
        match self.rng.below(100) {
            0..25 => self.push(),
            25..50 => self.pull(),
            50..65 => self.ask(),
            65..75 => self.tag_again(),
            75..83 => self.refer(),
            83..88 => self.mount(),
            88..94 => self.lists(),
            _ => self.delete(),
        }
    }

    fn push(&mut self) -> Result<(), Failed> {
        self.made += 1;
        let mut blobs = Vec::new();
        let layers = 1 + self.rng.below(3);
        for layer in 0..=layers {
            let most = match (layer, self.rng.below(100)) {
                (0, _) => 2 << 10,
                (_, 0..60) => 32 << 10,
                (_, 60..98) => 512 << 10,
                _ => 8 << 20,
            };
            let len = usize::try_from(1 + self.rng.below(most)).unwrap_or(1);
            let (recipe, bytes) = Recipe::new(self.rng.next(), len);
            self.push_blob(&recipe.digest, &bytes)?;
            blobs.push(recipe);
        }
        let describe =
            |blob: &Recipe, kind: &str| json!({"mediaType": kind, "digest": blob.digest, "size": blob.len});
        let layers: Vec<_> = blobs[1..].iter().map(|blob| describe(blob, LAYER)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "config": describe(&blobs[0], "application/vnd.oci.image.config.v1+json"), "layers": layers,
        });
        let (tag, bytes) = (format!("t{}", self.made), manifest.to_string().into_bytes());
        let digest = digest(&bytes);
        self.put_manifest(&tag, &bytes)?;
        self.images.push_back(Image { tag, bytes, digest, blobs });
        Ok(())
    }

    fn push_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failed> {
        let post = Request::new("POST", &format!("/v2/{}/blobs/uploads/", self.repo));
        if bytes.len() < 1 << 20 && self.rng.chance(30) {
            self.sent("blob push", &post.query("digest", name).body(bytes), 201)?;
            return Ok(());
        }
        let mut location = self.sent("upload POST", &post, 202)?;
        let mut at = 0;
        if self.rng.chance(50) {
            let pieces = 1 + usize::try_from(self.rng.below(3)).unwrap_or(0);
            for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
                let to = at + piece.len();
                let patch = Request::new("PATCH", &location)
                    .header("Content-Type", "application/octet-stream")
                    .header("Content-Range", &format!("{at}-{}", to - 1));
                location = self.sent("blob push", &patch.body(piece), 202)?;
                at = to;
            }
        }
        let put = Request::new("PUT", &location).query("digest", name).body(&bytes[at..]);
        self.sent("blob push", &put.header("Content-Type", "application/octet-stream"), 201)?;
        Ok(())
    }

    /// Sends a request that is answered with a location, and gives that.
    fn sent(&mut self, kind: &'static str, request: &Request, status: u16) -> Result<String, Failed> {
        let response = self.must(kind, request, status)?;
        match response.header("location") {
            Some(location) => Ok(location.to_owned()),
            None => Err(self.fail(&response, "no location")),
        }
    }

    fn put_manifest(&mut self, reference: &str, bytes: &[u8]) -> Result<(), Failed> {
        let put = self.at("PUT", &format!("manifests/{reference}"));
        let put = put.header("Content-Type", media_type::MANIFEST).body(bytes);
        self.must("manifest PUT", &put, 201).map(drop)
    }

    fn pull(&mut self) -> Result<(), Failed> {
        let Some(which) = self.rng.index(self.images.len()) else { return Ok(()) };
        let image = &self.images[which];
        let reference = if self.rng.chance(50) { image.tag.clone() } else { image.digest.clone() };
        let response = self.must("manifest GET", &self.at("GET", &format!("manifests/{reference}")), 200)?;
        if response.body != self.images[which].bytes {
            return Err(self.fail(&response, "not the bytes that were pushed"));
        }
        for blob in self.images[which].blobs.clone() {
            let kind = if blob.len > 1 << 20 { "large blob GET" } else { "blob GET" };
            let response = self.must(kind, &self.at("GET", &format!("blobs/{}", blob.digest)), 200)?;
            if digest(&response.body) != blob.digest {
                return Err(self.fail(&response, "not the bytes of the digest"));
            }
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Failed> {
        let absent = digest(&self.rng.next().to_be_bytes());
        self.must("HEAD", &self.at("HEAD", &format!("blobs/{absent}")), 404)?;
        let Some(which) = self.rng.index(self.images.len()) else { return Ok(()) };
        let (tag, blob) = (self.images[which].tag.clone(), self.images[which].blobs[0].digest.clone());
        self.must("HEAD", &self.at("HEAD", &format!("manifests/{tag}")), 200)?;
        self.must("HEAD", &self.at("HEAD", &format!("blobs/{blob}")), 200)?;
        Ok(())
    }

    /// Moves a tag from image to image, and reads it.
    fn tag_again(&mut self) -> Result<(), Failed> {
        let Some(which) = self.rng.index(self.images.len()) else { return Ok(()) };
        let bytes = self.images[which].bytes.clone();
        self.put_manifest("latest", &bytes)?;
        let response = self.must("manifest GET", &self.at("GET", "manifests/latest"), 200)?;
        if response.body == bytes { Ok(()) } else { Err(self.fail(&response, "the tag did not move")) }
    }

    /// Pushes evidence for an image, and finds it.
    fn refer(&mut self) -> Result<(), Failed> {
        let Some(which) = self.rng.index(self.images.len()) else { return Ok(()) };
        let (subject, size) = (self.images[which].digest.clone(), self.images[which].bytes.len());
        let empty = b"{}";
        self.push_blob(&digest(empty), empty)?;
        self.made += 1;
        let config = json!({"mediaType": media_type::EMPTY, "digest": digest(empty), "size": empty.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST, "artifactType": "application/x.soak",
            "config": config, "layers": [config], "annotations": {"number": self.made.to_string()},
            "subject": {"mediaType": media_type::MANIFEST, "digest": subject, "size": size},
        });
        let bytes = manifest.to_string().into_bytes();
        let name = digest(&bytes);
        self.put_manifest(&name, &bytes)?;
        let response = self.must("referrers GET", &self.at("GET", &format!("referrers/{subject}")), 200)?;
        if String::from_utf8_lossy(&response.body).contains(&name) {
            Ok(())
        } else {
            Err(self.fail(&response, "the referrer is not listed"))
        }
    }

    /// Mounts a blob into a second repository, and reads it there.
    fn mount(&mut self) -> Result<(), Failed> {
        let Some(which) = self.rng.index(self.images.len()) else { return Ok(()) };
        let blob = self.images[which].blobs[0].digest.clone();
        let there = format!("/v2/{}/mounted", self.repo);
        let post = Request::new("POST", &format!("{there}/blobs/uploads/"));
        self.must("mount", &post.query("mount", &blob).query("from", &self.repo), 201)?;
        self.must("HEAD", &Request::new("HEAD", &format!("{there}/blobs/{blob}")), 200).map(drop)
    }

    fn lists(&mut self) -> Result<(), Failed> {
        self.must("ping", &Request::get("/v2/"), 200)?;
        self.must("catalog GET", &Request::get("/v2/_catalog?n=50"), 200)?;
        let Some(image) = self.images.back() else { return Ok(()) };
        let tag = format!("\"{}\"", image.tag);
        let response = self.must("tags GET", &self.at("GET", "tags/list"), 200)?;
        if String::from_utf8_lossy(&response.body).contains(&tag) {
            Ok(())
        } else {
            Err(self.fail(&response, "the tag is not listed"))
        }
    }

    /// Deletes the oldest image, which is gone at once.
    fn delete(&mut self) -> Result<(), Failed> {
        let Some(image) = self.images.pop_front() else { return Ok(()) };
        let what = format!("manifests/{}", image.digest);
        self.must("manifest DELETE", &self.at("DELETE", &what), 202)?;
        self.must("manifest GET", &self.at("GET", &format!("manifests/{}", image.tag)), 404).map(drop)
    }

    fn at(&self, method: &str, what: &str) -> Request {
        Request::new(method, &format!("/v2/{}/{what}", self.repo))
    }

    /// Sends a request that must be answered with `status`, and notes how long that took.
    fn must(&mut self, kind: &'static str, request: &Request, status: u16) -> Result<Response, Failed> {
        let disturbing = || self.shared.disturbing.load(Ordering::Relaxed);
        let before = disturbing();
        let began = Instant::now();
        let answer = self.wire.exchange(request);
        let took = began.elapsed();
        // What began in one turn and ended in the next says nothing.
        match (before, disturbing()) {
            (false, false) => self.alone.note(kind, took),
            (true, true) => self.beside.note(kind, took),
            _ => {}
        }
        match answer {
            Ok(response) if response.status == status => Ok(response),
            Ok(response) => Err(self.fail(&response, &format!("instead of {status}"))),
            Err(error) => Err(self.fail_to_answer(request, &error)),
        }
    }

    fn fail(&self, response: &Response, why: &str) -> Failed {
        let body: String = String::from_utf8_lossy(&response.body).chars().take(300).collect();
        self.shared.fail(format!("{}: {} {why}: {body}", response.what, response.status));
        Failed
    }

    fn fail_to_answer(&self, request: &Request, error: &io::Error) -> Failed {
        self.shared.fail(format!("{}: {error}", request.line()));
        Failed
    }
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
