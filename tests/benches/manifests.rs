// SPDX-License-Identifier: AGPL-3.0-only
//! Small requests: manifests by tag and by digest, what is there and what is not, and manifests that are pushed. nginx
//! serves files of the same bytes. docker-registry and distribution answer a push before it is on the disk.

use std::cell::Cell;
use std::fs;
use std::time::Duration;

use stella_tests::{digest, media_type};

use crate::content::{Image, Stamped};
use crate::load::{Ask, Limit, ask};
use crate::plan::Plan;
use crate::prepare::{self, request};
use crate::rounds::{Aim, Measure, Row, Spec, Tally, measure};
use crate::server::{Kind, Server};
use crate::wire::Talk;

const FAMILY: &str = "manifests";
const REPOSITORY: &str = "bench/manifests";
const ACCEPT: [(&str, &str); 1] = [("Accept", media_type::MANIFEST)];

/// How many manifests are asked for in turn, each with a tag of its own.
const MANIFESTS: u64 = 100;
/// Layers of each, which make it about as long as a usual one.
const LAYERS: u64 = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    GetByTag,
    GetByDigest,
    HeadManifest,
    HeadNoManifest,
    HeadBlob,
    HeadNoBlob,
    Put,
}

pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let cases = [
        (What::GetByTag, &[1, 16, 64][..]),
        (What::GetByDigest, &[1, 16, 64]),
        (What::HeadManifest, &[16]),
        (What::HeadNoManifest, &[16]),
        (What::HeadBlob, &[16]),
        (What::HeadNoBlob, &[16]),
        (What::Put, &[1, 16]),
    ];
    let cases: Vec<_> = cases
        .into_iter()
        .flat_map(|(what, clients)| clients.iter().map(move |&clients| (what, clients, what.name(clients))))
        .filter(|(_, _, name)| plan.wants(FAMILY, name))
        .collect();
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let servers = Server::start_all(plan, &[&Kind::REGISTRIES[..], &[Kind::Nginx]].concat())?;
    let content = Content::new();
    for server in &servers {
        content.fill(server)?;
    }
    let specs: Vec<_> = cases
        .iter()
        .map(|(what, clients, name)| {
            let content = &content;
            let spec = Spec::new(name.clone(), Measure::Requests, move |server, part| {
                content.ask(server, *what, *clients, plan.turn.mul_f64(part))
            });
            match (what, clients) {
                (What::GetByTag, 16) => spec.aim(Aim::Times(Kind::Nginx, 0.6)),
                (What::Put, 16) => spec.aim(Aim::Times(Kind::Distribution, 4.0)),
                _ => spec,
            }
            .without(&what.absent())
        })
        .collect();
    Ok(measure(plan, FAMILY, &servers, &specs))
}

impl What {
    fn name(self, clients: usize) -> String {
        let what = match self {
            Self::GetByTag => "GET by tag",
            Self::GetByDigest => "GET by digest",
            Self::HeadManifest => "HEAD of a manifest by tag",
            Self::HeadNoManifest => "HEAD of a tag that is not there",
            Self::HeadBlob => "HEAD of a blob",
            Self::HeadNoBlob => "HEAD of a blob that is not there",
            Self::Put => "PUT by tag, durable",
        };
        format!("{what}, {clients} client{}", if clients == 1 { "" } else { "s" })
    }

    fn absent(self) -> Vec<(Kind, String)> {
        match self {
            Self::Put => vec![(Kind::Nginx, "takes no manifests".to_owned())],
            _ => Vec::new(),
        }
    }
}

/// What all servers have.
struct Content {
    image: Image,
    /// A manifest's digest, and its bytes.
    manifests: Vec<(String, Vec<u8>)>,
    /// The number of the next manifest that nobody has pushed.
    next: Cell<u64>,
}

impl Content {
    fn new() -> Self {
        let image = Image::new(LAYERS);
        let stamped = image.manifests(None);
        let manifests = (0..MANIFESTS).map(|number| stamped.number(number));
        let manifests = manifests.map(|bytes| (digest(&bytes), bytes)).collect();
        Self { image, manifests, next: Cell::new(MANIFESTS) }
    }

    /// Puts everything onto a server, and looks whether it comes back as it was.
    fn fill(&self, server: &Server) -> anyhow::Result<()> {
        if server.kind == Kind::Nginx {
            let file = |name: &str, bytes: &[u8]| fs::write(server.data().join(name), bytes);
            for blob in self.image.blobs() {
                file(&blob.digest, &blob.bytes)?;
            }
            for ((digest, bytes), number) in self.manifests.iter().zip(0..) {
                file(&tag(number), bytes)?;
                file(digest, bytes)?;
            }
        } else {
            prepare::image(server.host(), REPOSITORY, &self.image)?;
        }
        let mut talk = Talk::open(server.host())?;
        for ((digest, bytes), number) in self.manifests.iter().zip(0..) {
            if server.kind != Kind::Nginx {
                prepare::manifest(&mut talk, REPOSITORY, &tag(number), bytes)?;
            }
            for reference in [&tag(number), digest] {
                prepare::expect(&mut talk, &manifest(server.kind, reference), &ACCEPT, bytes)?;
            }
        }
        Ok(())
    }

    /// Asks a server for one thing again and again.
    fn ask(&self, server: &Server, what: What, clients: usize, time: Duration) -> anyhow::Result<Tally> {
        let (kind, host, limit) = (server.kind, server.host(), Limit::Time(time));
        if what == What::Put {
            let request = self.put(host);
            let next = |out: &mut Vec<u8>| request.write(self.next.replace(self.next.get() + 1), out);
            return ask(Ask { host, clients, limit, next, status: 201, length: Some(0), bodiless: false });
        }
        let tags = (0..MANIFESTS).map(tag);
        let heads = |target: String| request("HEAD", host, &target, &ACCEPT);
        let gets = |target: String| request("GET", host, &target, &ACCEPT);
        let digests = self.manifests.iter().map(|(digest, _)| digest.as_str());
        let requests: Vec<_> = match what {
            What::GetByTag => tags.map(|tag| gets(manifest(kind, &tag))).collect(),
            What::GetByDigest => digests.map(|digest| gets(manifest(kind, digest))).collect(),
            What::HeadManifest => tags.map(|tag| heads(manifest(kind, &tag))).collect(),
            What::HeadNoManifest => tags.map(|tag| heads(manifest(kind, &format!("no-{tag}")))).collect(),
            What::HeadBlob => self.image.blobs().map(|known| heads(blob(kind, &known.digest))).collect(),
            What::HeadNoBlob => tags.map(|tag| heads(blob(kind, &digest(tag.as_bytes())))).collect(),
            What::Put => Vec::new(),
        };
        let mut requests = requests.iter().cycle();
        let next = |out: &mut Vec<u8>| out.extend(requests.next().into_iter().flatten());
        let missing = matches!(what, What::HeadNoManifest | What::HeadNoBlob);
        let length = self.manifests.first().map(|(_, bytes)| bytes.len() as u64);
        let bodiless = !matches!(what, What::GetByTag | What::GetByDigest);
        ask(Ask { host, clients, limit, next, status: if missing { 404 } else { 200 }, length, bodiless })
    }

    /// A request that pushes a manifest of its own by a tag of its own.
    fn put(&self, host: &str) -> Stamped {
        // The places that are to be numbered, in the path as in the body, hold zeros until then.
        let body =
            Image { layers: self.image.layers[..1].to_vec(), ..self.image.clone() }.manifests(None).number(0);
        let (target, length) = (manifest(Kind::Stella, &format!("t{:016x}", 0)), body.len());
        let headers = [("Content-Type", media_type::MANIFEST), ("Content-Length", &length.to_string())];
        Stamped::new([request("PUT", host, &target, &headers), body].concat())
    }
}

fn tag(number: u64) -> String {
    format!("v{number}")
}

fn manifest(kind: Kind, reference: &str) -> String {
    if kind == Kind::Nginx {
        format!("/{reference}")
    } else {
        format!("/v2/{REPOSITORY}/manifests/{reference}")
    }
}

fn blob(kind: Kind, digest: &str) -> String {
    if kind == Kind::Nginx { format!("/{digest}") } else { format!("/v2/{REPOSITORY}/blobs/{digest}") }
}
