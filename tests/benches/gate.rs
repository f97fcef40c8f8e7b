// SPDX-License-Identifier: AGPL-3.0-only
//! What the policy gate costs a reader, and how soon a signature releases a tag. One server has two repositories with the
//! same content: one whose images must be signed, and are, and one that no policy is about. The same token pulls from both,
//! in slices that alternate (`pairs.rs`), so that nothing differs but the gate. Policies by the thousand: `gate_many.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use stella_policy::{Descriptor, PrivateKey, Time, sign};
use stella_tests::{digest, media_type, noise};

use crate::content::{Blob, Image};
use crate::gate_many;
use crate::load::{Ask, Connections};
use crate::pairs::{self, Load, Pair};
use crate::plan::{MIB, Plan};
use crate::prepare::{self, request};
use crate::rounds::{Aim, Cell, Figures, Measure, Row, median, progress, said, sync};
use crate::server::{Kind, Server};
use crate::usage::precise;
use crate::wire::Talk;

pub(crate) const FAMILY: &str = "gate";
pub(crate) const HOST: &str = "r.test";
/// Of equal length: so are the requests.
const GATED: &str = "prod/app";
const FREE: &str = "free/app";
const CLIENTS: usize = 16;
/// Tags that a round signs one after another.
const SIGNED: u64 = 50;

const PASSWORD: &str = "correct horse battery staple";
const RULES: &str = "[{allow: [pull], to: {subject: reader}}, {allow: all, to: {subject: bench}}]";
/// Of bcrypt. What was proven is remembered.
const COST: u32 = 10;

pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let manifests = format!("manifest GET by tag, {CLIENTS} clients");
    let images = format!("image pull (manifest, config, layer of 1 MiB), {CLIENTS} clients");
    let release = "from a signature's PUT to its tag's release, 1 client".to_owned();
    let wanted = [&manifests, &images, &release].map(|name| plan.wants(FAMILY, name));
    let mut rows = Vec::new();
    if wanted != [false; 3] && plan.programs.iter().any(|program| program.kind == Kind::Stella) {
        let key = PrivateKey::generate()?;
        let policies = plan.folder.join("policies");
        fs::create_dir_all(&policies)?;
        write(&policies, "signed.yaml", &signed("signed", "**", &key))?;
        write(&policies, "prod.yaml", &enforced("prod/**", "enforce"))?;
        let server = start(plan, &policies)?;
        let content = Content::new(plan.sizes.smalls);
        content.fill(&server, &key)?;
        let reader = basic("reader");
        let token = token(&server, &reader)?;
        let all = [
            pair(&manifests, [FREE, GATED].map(|repo| content.manifests(&server, repo, &token))),
            pair(&images, [FREE, GATED].map(|repo| content.images(&server, repo, &token))),
        ];
        let pairs: Vec<_> = all.into_iter().zip(wanted).filter_map(|(pair, is)| is.then_some(pair)).collect();
        rows = pairs::measure(plan, FAMILY, &server, &pairs);
        if wanted[2] {
            rows.push(releases(plan, &server, &content, &key, (release, &reader)));
        }
    }
    rows.extend(gate_many::rows(plan));
    Ok(rows)
}

fn pair<'a>(name: &str, [plain, other]: [Load<'a>; 2]) -> Pair<'a> {
    Pair { name: name.to_owned(), measure: Measure::Gated, aims: vec![Aim::AtMost(1.03)], plain, other }
}

/// Starts our server with these policies.
pub(crate) fn start(plan: &Plan, policies: &Path) -> anyhow::Result<Server> {
    let users = plan.folder.join("gate-users");
    let hash = bcrypt::hash(PASSWORD, COST)?;
    fs::write(&users, format!("bench:{hash}\nreader:{hash}\n"))?;
    let (users, paths) = (users.display().to_string(), format!("[{}]", policies.display()));
    let settings = [
        ("STELLA_ACCESS", RULES),
        ("STELLA_AUTH__HTPASSWD", &users),
        ("STELLA_POLICY__HOST", HOST),
        ("STELLA_POLICY__PATHS", &paths),
    ];
    let program = plan.programs.iter().find(|program| program.kind == Kind::Stella);
    Server::start(plan, program.context("the registry itself is not among --servers")?, &settings)
}

pub(crate) fn basic(who: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{who}:{PASSWORD}")))
}

/// A token for both repositories.
fn token(server: &Server, basic: &str) -> anyhow::Result<String> {
    let target =
        format!("/token?service=stella-registry&scope=repository:{GATED}:pull&scope=repository:{FREE}:pull");
    let answer =
        Talk::open(server.host())?.ask("GET", &target, &[("Authorization", basic)], &[])?.must_be(200)?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    Ok(format!("Bearer {}", answer["token"].as_str().context("no token")?))
}

/// A file appears as a whole.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let new = folder.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, folder.join(name))?)
}

/// A policy that wants a signature by `key`; JSON is YAML.
pub(crate) fn signed(name: &str, glob: &str, key: &PrivateKey) -> String {
    json!({
        "apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy", "metadata": {"name": name},
        "spec": {
            "images": [{"glob": format!("{HOST}/{glob}")}],
            "authorities": [{"name": "us", "key": {"data": key.public_pem()}}],
        },
    })
    .to_string()
}

pub(crate) fn enforced(glob: &str, pull: &str) -> String {
    json!({
        "apiVersion": "policy.stella-ops.org/v1", "kind": "RegistryPolicy", "metadata": {"name": "all"},
        "spec": {"repositories": [glob], "transparency": "ignored", "pull": pull},
    })
    .to_string()
}

/// A signature and the manifest that attaches it.
pub(crate) struct Signature {
    bundle: Blob,
    manifest: Vec<u8>,
}

impl Signature {
    pub(crate) fn of(key: &PrivateKey, manifest: &[u8]) -> anyhow::Result<Self> {
        let subject: stella_policy::Digest = digest(manifest).parse()?;
        let statement = sign::sign_statement(&subject, &BTreeMap::new())?;
        let bundle = sign::statement_bundle(key, &statement)?;
        let (media_type, size) = (media_type::MANIFEST.to_owned(), manifest.len() as u64);
        let named = Descriptor { media_type, digest: subject, size, artifact_type: None, annotations: None };
        let manifest = sign::referrer(&named, &bundle, sign::SIGN_PREDICATE, Time(1_700_000_000))?;
        Ok(Self { bundle: Blob::new(bundle), manifest })
    }

    /// Pushes what comes before the manifest.
    pub(crate) fn prepare(&self, talk: &mut Talk, repo: &str) -> std::io::Result<()> {
        push(talk, repo, &self.bundle)
    }

    pub(crate) fn put(&self, talk: &mut Talk, repo: &str) -> std::io::Result<()> {
        prepare::manifest(talk, repo, &digest(&self.manifest), &self.manifest)
    }
}

/// In one request.
pub(crate) fn push(talk: &mut Talk, repo: &str, blob: &Blob) -> std::io::Result<()> {
    let target = format!("/v2/{repo}/blobs/uploads/?digest={}", blob.digest);
    talk.ask("POST", &target, &[], &[&blob.bytes])?.must_be(201).map(drop)
}

struct Content {
    images: Vec<(Image, Vec<u8>)>,
}

impl Content {
    fn new(count: u64) -> Self {
        let image = |number| {
            let layer = Blob::new(noise(number, MIB));
            let image = Image { layers: vec![layer], ..Image::new(0) };
            let manifest = image.manifests(None).number(number);
            (image, manifest)
        };
        Self { images: (0..count).map(image).collect() }
    }

    /// Pushes and signs everything, and looks whether the reader gets it, or, before it is signed, does not.
    fn fill(&self, server: &Server, key: &PrivateKey) -> anyhow::Result<()> {
        let mut owner = Talk::open(server.host())?.with_credentials(Some(&basic("bench")));
        let mut reader = Talk::open(server.host())?.with_credentials(Some(&basic("reader")));
        for repo in [GATED, FREE] {
            push(&mut owner, repo, &Blob::new(sign::EMPTY_CONFIG.to_vec()))?;
            for ((image, manifest), number) in self.images.iter().zip(0..) {
                image.blobs().try_for_each(|blob| push(&mut owner, repo, blob))?;
                prepare::manifest(&mut owner, repo, &tag(number), manifest)?;
                let target = format!("/v2/{repo}/manifests/{}", tag(number));
                if repo == GATED {
                    reader.ask("GET", &target, &[ACCEPT], &[])?.must_be(403)?;
                }
                let signature = Signature::of(key, manifest)?;
                signature.prepare(&mut owner, repo)?;
                signature.put(&mut owner, repo)?;
                prepare::expect(&mut reader, &target, &[ACCEPT], manifest)?;
                for Blob { digest, bytes } in image.blobs() {
                    prepare::expect(&mut reader, &format!("/v2/{repo}/blobs/{digest}"), &[], bytes)?;
                }
            }
        }
        Ok(())
    }

    fn manifests<'a>(&self, server: &'a Server, repo: &str, token: &str) -> Load<'a> {
        let length = self.images.first().map(|(_, manifest)| manifest.len() as u64);
        self.load(server, token, length, |number, _| vec![format!("/v2/{repo}/manifests/{}", tag(number))])
    }

    /// A manifest and its blobs, and then those of the next image.
    fn images<'a>(&self, server: &'a Server, repo: &str, token: &str) -> Load<'a> {
        self.load(server, token, None, |number, image| {
            let blobs = image.blobs().map(|blob| format!("/v2/{repo}/blobs/{}", blob.digest));
            [format!("/v2/{repo}/manifests/{}", tag(number))].into_iter().chain(blobs).collect()
        })
    }

    /// Asks for the same of each image, over and over.
    fn load<'a>(
        &self,
        server: &'a Server,
        token: &str,
        length: Option<u64>,
        targets: impl Fn(u64, &Image) -> Vec<String>,
    ) -> Load<'a> {
        let host = server.host();
        let targets = self.images.iter().zip(0..).flat_map(|((image, _), number)| targets(number, image));
        let headers = [ACCEPT, ("Authorization", token)];
        let requests: Vec<_> = targets.map(|target| request("GET", host, &target, &headers)).collect();
        let connections = Connections::default();
        Box::new(move |limit| {
            let mut requests = requests.iter().cycle();
            let next = |out: &mut Vec<u8>| out.extend(requests.next().into_iter().flatten());
            connections.ask(Ask { host, clients: CLIENTS, limit, next, status: 200, length, bodiless: false })
        })
    }
}

const ACCEPT: (&str, &str) = ("Accept", media_type::MANIFEST);

fn tag(number: u64) -> String {
    format!("v{number}")
}

/// Signs tags that wait, one after another. The release is part of the PUT, and the next request must see it.
fn releases(
    plan: &Plan,
    server: &Server,
    content: &Content,
    key: &PrivateKey,
    (name, reader): (String, &str),
) -> Row {
    let mut figures = Vec::new();
    let cell = loop {
        match release(server, content, key, reader, figures.len() as u64) {
            Ok(found) => {
                progress(&format!("{FAMILY}: {name}, round {}: {}", figures.len() + 1, said(&found)));
                figures.push(found);
            }
            Err(error) => break Cell::Failed(format!("{error:#}")),
        }
        if figures.len() >= plan.rounds {
            break Cell::Figures(figures);
        }
    };
    let (family, measure, aims) = (FAMILY, Measure::Until, vec![Aim::AtMost(5.0)]);
    Row { family, name, measure, aims, cells: vec![(server.kind, cell)] }
}

fn release(
    server: &Server,
    content: &Content,
    key: &PrivateKey,
    reader: &str,
    round: u64,
) -> anyhow::Result<Figures> {
    let mut owner = Talk::open(server.host())?.with_credentials(Some(&basic("bench")));
    let mut reader = Talk::open(server.host())?.with_credentials(Some(reader));
    let (image, _) = content.images.first().context("no image")?;
    let stamped = image.manifests(None);
    let mut took = Vec::new();
    for number in 0..SIGNED {
        // None that was signed before.
        let manifest = stamped.number(1 << 32 | round << 16 | number);
        let (name, target) = ("waiting", format!("/v2/{GATED}/manifests/waiting"));
        prepare::manifest(&mut owner, GATED, name, &manifest)?;
        let signature = Signature::of(key, &manifest)?;
        signature.prepare(&mut owner, GATED)?;
        if number == 0 {
            sync(server)?;
        }
        let began = Instant::now();
        signature.put(&mut owner, GATED)?;
        prepare::expect(&mut reader, &target, &[ACCEPT], &manifest)?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let middle = median(&took).context("nothing was signed")?;
    let last = took.last().copied().unwrap_or_default();
    Ok(vec![(Measure::Until.name(), middle), ("most_ms", last), ("signatures", precise(SIGNED))])
}
